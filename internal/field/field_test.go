package field

import "testing"

func TestReservedNames(t *testing.T) {
	for _, name := range []string{"Expect", "upgrade", "TE", "Trailer", "Keep-Alive", "Proxy-Connection", "Connection", "Date",
		"Transfer-Encoding", "Content-Length", "Content-Type", "HOST", "Http2-Settings", "ce-id", "Ce-Anything", "X-Mqtt-Qos", "x-mqtt-username"} {
		if Reserved(name) == "" {
			t.Errorf("%s may be set", name)
		}
	}
	for _, name := range []string{"X-Team", "Authorization", "Accept", "Content-Encoding", "TEs", "X-Upgrade", "Dated"} {
		if why := Reserved(name); why != "" {
			t.Errorf("%s: %s", name, why)
		}
	}
}

func TestNamesAndValuesOfFields(t *testing.T) {
	for s, want := range map[string]bool{"X-Team": true, "x_~!": true, "": false, "a b": false, "a:": false, "ä": false, "a\r": false, "a/b": false, `"a"`: false} {
		if ValidName(s) != want {
			t.Errorf("name %q: %v", s, !want)
		}
	}
	for s, want := range map[string]bool{"": true, "a\tb c": true, "ä": true, "a\x00": false, "a\nb": false, "a\rb": false, "\x7f": false, "\x1b[0m": false} {
		if ValidValue(s) != want {
			t.Errorf("value %q: %v", s, !want)
		}
	}
	for s, want := range map[string]bool{"": true, "a b": true, " a": false, "a\t": false} {
		if Trimmed(s) != want {
			t.Errorf("trimmed %q: %v", s, !want)
		}
	}
}
