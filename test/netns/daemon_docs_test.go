package netns

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"eproxy/test/lib/lab"
	"eproxy/test/lib/markdown"
)

// TestShownCommandsWork runs what the documents show, line by line, with the
// configuration that they show, on a node whose /sys/fs/bpf is its own. Only the
// addresses of the pods are the lab's. What make and go do is not tried here; that
// the targets and tests exist, test/docs sees.
func TestShownCommandsWork(t *testing.T) {
	var names []string
	for _, pattern := range []string{"../../*.md", "../../docs/*.md", "../../examples/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, found...)
	}
	readme, err := markdown.Read("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	ran := 0
	for _, name := range names {
		d, err := markdown.Read(name)
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Base(name) != "CHANGELOG.md" && len(shown(d)) > 0 {
			t.Run(filepath.Base(name), func(t *testing.T) { newWalk(t, readme).through(d) })
			ran++
		}
	}
	if ran == 0 {
		t.Error("no document shows a command")
	}
}

// builds are commands for which this test is not the place.
var builds = regexp.MustCompile(`^([A-Z_]+=\S+ )*(make|go) `)

// shown are the commands of a document's blocks that can be run here.
func shown(d *markdown.Document) []markdown.Span {
	var out []markdown.Span
	for _, b := range d.Blocks {
		if b.Lang != "sh" || b.Mark == markdown.NotRun {
			continue
		}
		for _, s := range b.Commands() {
			if !builds.MatchString(s.Text) {
				out = append(out, s)
			}
		}
	}
	return out
}

// configuration is the first whole one that a document shows.
func configuration(d *markdown.Document) string {
	for _, b := range d.Blocks {
		if b.Lang == "yaml" && b.Mark == "" {
			return b.Text
		}
	}
	return ""
}

// walk is somebody who does what a document says.
type walk struct {
	t       *testing.T
	lab     *lab.Lab
	pods    *recorder
	host    int    // the process whose mount namespace the node's commands share
	dir     string // with bin and eproxy.yaml
	serving *lab.Process
}

func newWalk(t *testing.T, readme *markdown.Document) *walk {
	w := &walk{t: t, lab: newLab(t), pods: newRecorder(), dir: t.TempDir()}
	w.pods.serveGo(t, w.lab, false, ok, nil)
	abs, err := filepath.Abs(bin)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(abs, filepath.Join(w.dir, "bin")); err != nil {
		t.Fatal(err)
	}
	w.configure(configuration(readme))
	w.mount()
	return w
}

// configure writes eproxy.yaml, with the lab's pods in place of others.
func (w *walk) configure(text string) {
	pods := []lab.Role{lab.Pod0, lab.Pod1}
	n := 0
	text = regexp.MustCompile(`\b\d+\.\d+\.\d+\.\d+:8080\b`).ReplaceAllStringFunc(text, func(string) string {
		n++
		return lab.PodAddr(pods[n%2], false).String() + ":8080"
	})
	if err := os.WriteFile(filepath.Join(w.dir, "eproxy.yaml"), []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// mount gives the node's commands a BPF file system of their own.
func (w *walk) mount() {
	cmd := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c", "mount -t bpf bpf /sys/fs/bpf && echo ready && exec sleep infinity")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.lab.Start(lab.Node, cmd); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		w.t.Fatalf("mount: %q, %v", line, err)
	}
	w.host = cmd.Process.Pid
}

// command is a shell's line, on the node, where the binaries are found with and
// without bin/ before their names.
func (w *walk) command(line string) *exec.Cmd {
	script := fmt.Sprintf("cd %q && PATH=%q:$PATH && exec %s", w.dir, filepath.Join(w.dir, "bin"), line)
	return exec.Command("nsenter", "--mount", fmt.Sprintf("--target=%d", w.host), "sh", "-c", script)
}

// serves are the commands that go on until they are stopped.
var serves = regexp.MustCompile(`(^| )(bin/)?(loader run|userspace-fallback)\b`)

// do runs a line.
func (w *walk) do(line string) {
	w.t.Helper()
	if serves.MatchString(line) {
		w.stop()
		p, err := w.lab.StartServing(lab.Node, w.command(line))
		if err != nil {
			w.t.Fatalf("%s: %v", line, err)
		}
		w.serving = p
		w.t.Cleanup(func() { w.stop() })
		w.publish()
		return
	}
	cmd := w.command(line)
	var out []byte
	err := w.lab.Do(lab.Node, func() (err error) { out, err = cmd.CombinedOutput(); return err })
	if err != nil || len(out) == 0 {
		w.t.Errorf("%s: %v: %s", line, err, out)
	}
	w.t.Logf("$ %s\n%s", line, out)
}

// publish sees whether what serves does.
func (w *walk) publish() {
	w.t.Helper()
	before, _ := w.pods.all()
	out, err := w.lab.Run(context.Background(), lab.Dev, "mosquitto_pub", "-h", lab.NodeV4.String(), "-t", "sensors/7/temp", "-m", "21", "-q", "1")
	if err != nil {
		w.t.Fatalf("mosquitto_pub: %v: %s", err, out)
	}
	w.pods.wait(w.t, len(before)+1)
}

// stop ends what serves.
func (w *walk) stop() {
	w.t.Helper()
	if w.serving == nil {
		return
	}
	if err := w.serving.Stop(); err != nil {
		w.t.Errorf("stop: %v\n%s", err, w.serving.Log())
	}
	w.serving = nil
}

// through does what a document says: its blocks first, then what its prose names,
// while the loader of the blocks runs; at last what takes the loader's place.
func (w *walk) through(d *markdown.Document) {
	if own := configuration(d); own != "" {
		w.configure(own)
	}
	for _, s := range shown(d) {
		w.do(s.Text)
	}
	var later []string
	for _, line := range named(d) {
		if serves.MatchString(line) || strings.HasPrefix(line, "loader unload") {
			later = append(later, line)
			continue
		}
		w.do(line)
	}
	w.reload()
	for _, line := range later {
		w.stop()
		w.do(line)
	}
}

// reload sends SIGHUP to the loader.
func (w *walk) reload() {
	w.t.Helper()
	if w.serving == nil {
		return
	}
	done := w.serving.Expect("msg=reloaded")
	if err := w.serving.Signal(syscall.SIGHUP); err != nil {
		w.t.Fatal(err)
	}
	if err := done(); err != nil {
		w.t.Error(err)
	}
}

// blank is a word that stands for others.
var blank = regexp.MustCompile(`^<|^[A-Z][A-Z.]*$`)

// named are the command lines that a document's prose names, as far as they can be
// run as they are; those that read a configuration read eproxy.yaml.
func named(d *markdown.Document) []string {
	var out []string
	for _, s := range d.Spans {
		words := strings.Fields(s.Text)
		program := strings.TrimPrefix(words[0], "bin/")
		if len(words) == 1 || !slices.Contains([]string{"loader", "mapsctl", "userspace-fallback"}, program) || slices.ContainsFunc(words, blank.MatchString) {
			continue
		}
		for _, line := range markdown.Alternatives(words) {
			if program == "loader" && slices.Contains([]string{"check", "run", "doctor"}, line[1]) && !slices.Contains(line, "--config") {
				line = append(line, "--config", "eproxy.yaml")
			}
			out = append(out, strings.Join(line, " "))
		}
	}
	return out
}
