package doctor

import "testing"

func TestOpenFiles(t *testing.T) {
	for _, c := range []struct {
		limit        uint64
		each, wanted int
		state, want  string
	}{
		{20000, 1, 16384, Used, "20000 (RLIMIT_NOFILE): room for 17952 clients"},
		{20000, 2, 16384, Degraded, "20000 (RLIMIT_NOFILE): room for 8976 clients, limits.connections are 16384"},
		{1024, 1, 0, Used, "1024 (RLIMIT_NOFILE): room for 768 clients"},
	} {
		if f := openFilesOf(c.limit, c.each, c.wanted); f.State != c.state || f.Detail != c.want {
			t.Errorf("limit %d, %d each, %d wanted: %+v", c.limit, c.each, c.wanted, f)
		}
	}
}
