package instances

import (
	"errors"
	"log/slog"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"eproxy/internal/cgroup"
)

// TestRulesAreMadeAgain: whoever flushes the ruleset of nftables does not let instances loose for long, and is told of
// in the log.
func TestRulesAreMadeAgain(t *testing.T) {
	uplink(t)
	w := newWorld(t)
	stop := w.run("f", says("1"))
	w.found("f", 1)
	if out, err := exec.Command("nft", "delete", "table", "ip", table(w.id)).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	until(t, "rules again", func() bool { there, err := w.r.network.filtered(); return there && err == nil })
	if !strings.Contains(w.log.String(), "somebody has removed the rules for instances") {
		t.Error("nothing in the log")
	}
	stop()
	w.close()
}

// TestSweepKills: what a killed loader left running, because it saw to it that it does not die with it, is killed before
// the rules that confine it go.
func TestSweepKills(t *testing.T) {
	uplink(t)
	groups, err := cgroup.Find()
	if err != nil {
		t.Fatal(err)
	}
	const id = "test-left"
	g := groups.At(top, id, "1")
	if err := g.Make(cgroup.Limits{}); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill() }()
	if err := g.Add(cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	r := New(Options{ID: id, Dir: t.TempDir(), Addresses: testAddresses, Logger: slog.New(slog.DiscardHandler)})
	err = <-ended
	if e, ok := errors.AsType[*exec.ExitError](err); !ok || e.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("ended with %v", err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	left(t, id)
}
