package datapath

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf/link"
)

// detached is a link whose interface is gone.
type detached struct{ link.Link }

func (detached) Info() (*link.Info, error) { return &link.Info{}, nil }
func (detached) Close() error              { return nil }

// TestEachFailureIsReported: what fails when interfaces are gone is reported
// one by one, each in a line: a line is what the log and its rate limit know it by.
func TestEachFailureIsReported(t *testing.T) {
	d := &Datapath{dir: t.TempDir(), attached: make(map[string]attachment)}
	for _, name := range []string{"tc_pod_in-a", "tc_pod_out-a"} {
		if err := os.MkdirAll(filepath.Join(d.dir, "links", name, "cannot be removed"), 0o700); err != nil {
			t.Fatal(err)
		}
		d.attached[name] = attachment{ifname: "a", link: detached{}}
	}
	_, errs := d.ForgetGone()
	if len(errs) != 2 {
		t.Errorf("%d failures are reported, want 2", len(errs))
	}
	for _, err := range errs {
		if strings.Contains(err.Error(), "\n") {
			t.Errorf("%q has several lines", err)
		}
	}
}
