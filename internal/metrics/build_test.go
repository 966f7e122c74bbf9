package metrics

import (
	"testing"

	"eproxy/internal/buildinfo"
)

func TestBuildIsReported(t *testing.T) {
	families, err := New().Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	i := buildinfo.Get()
	want := map[string]string{"version": i.Version, "revision": i.Revision, "goversion": i.GoVersion}
	for _, f := range families {
		if f.GetName() != "eproxy_build_info" {
			continue
		}
		m := f.GetMetric()
		if len(m) != 1 || m[0].GetGauge().GetValue() != 1 || len(m[0].GetLabel()) != len(want) {
			t.Fatalf("%v", f)
		}
		for _, l := range m[0].GetLabel() {
			if want[l.GetName()] != l.GetValue() {
				t.Errorf("%s is %q, want %q", l.GetName(), l.GetValue(), want[l.GetName()])
			}
		}
		return
	}
	t.Error("no eproxy_build_info")
}
