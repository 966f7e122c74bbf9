package datapath

import (
	"os"
	"path/filepath"
	"slices"
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

// asked is a link that counts how often the kernel is asked about it.
type asked struct {
	detached
	times *int
}

func (a asked) Info() (*link.Info, error) {
	*a.times++
	return &link.Info{}, nil
}

// TestInterfacesThatStandAreNotAskedAbout: a thousand pods come and go without a question about each of them.
func TestInterfacesThatStandAreNotAskedAbout(t *testing.T) {
	const loopback, none = 1, 1 << 30
	times := 0
	d := &Datapath{dir: t.TempDir(), attached: make(map[string]attachment), sites: make(map[site]bool)}
	for name, at := range map[string]site{"in-lo": {"tc_pod_in", loopback}, "out-lo": {"tc_pod_out", loopback}, "in-a": {"tc_pod_in", none}} {
		d.attached[name], d.sites[at] = attachment{at, asked{times: &times}, name[len(name)-1:]}, true
	}
	if err := d.AttachPod(loopback); err != nil {
		t.Error(err)
	}
	gone, errs := d.ForgetGone()
	if !slices.Equal(gone, []string{"a"}) || len(errs) > 0 {
		t.Errorf("gone: %v, %v, want a", gone, errs)
	}
	if times != 1 {
		t.Errorf("the kernel was asked about %d links, want that of the missing interface alone", times)
	}
	if d.attachedTo("tc_pod_in", none) || !d.attachedTo("tc_pod_in", loopback) {
		t.Errorf("attached: %v", d.sites)
	}
}
