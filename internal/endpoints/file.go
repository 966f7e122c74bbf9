package endpoints

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// maxFile is how long a file of pods may be, in bytes.
const maxFile = 1 << 20

// file is a list of pods that somebody else writes: JSON or YAML, ["10.2.0.2:8080"]
// or {"pods": ["10.2.0.2:8080"]}.
type file struct {
	path string
	dirs *directories
}

func (f file) String() string { return "file " + f.path }

// rereadEvery is how often the file is read without a reason: a symbolic link on
// the way to it may lead out of the directory that is watched.
const rereadEvery = 30 * time.Second

// follow watches the file's directory: the file may be replaced, by a rename or by
// a symbolic link on the way to it, and neither need be there yet.
func (f file) follow(ctx context.Context, found func([]Pod), failed func(error)) {
	for {
		err := f.watch(ctx, found, failed)
		if ctx.Err() != nil {
			return
		}
		failed(err)
		if !sleep(ctx, retryMin) {
			return
		}
	}
}

// watch reads the file whenever its directory changes, for as long as there is one.
func (f file) watch(ctx context.Context, found func([]Pod), failed func(error)) error {
	l, err := f.dirs.enter(f.path)
	if err != nil {
		return err
	}
	defer f.dirs.leave(l)
	for {
		l.linked.Store(f.linked()) // before it is read: what changes afterwards is an event
		if pods, err := f.read(ctx); err != nil {
			failed(err)
		} else {
			found(anonymous(pods))
		}
		if err := l.await(ctx); err != nil {
			return err
		}
	}
}

// linked says whether the file is a symbolic link.
func (f file) linked() bool {
	info, err := os.Lstat(f.path)
	return err == nil && info.Mode()&os.ModeSymlink != 0
}

// await waits until the file may have changed.
func (l *look) await(ctx context.Context) error {
	late := time.NewTimer(rereadEvery)
	defer late.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-late.C:
	case <-l.news:
	case err := <-l.gone:
		return err
	}
	return nil
}

// read reads the file. A file that is only half written is an error: what is said
// by one that can be read counts, and no part of it.
func (f file) read(ctx context.Context) ([]netip.AddrPort, error) {
	b, err := f.whole(func() bool { return sleep(ctx, settled) })
	if err != nil {
		return nil, err
	}
	pods, err := parsePods(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.path, err)
	}
	return pods, nil
}

// A list in brackets says where it ends. One in YAML's block form does not, and a port that is cut is another port: such
// a file is read until it stays the same for settled, at most settleTries times.
const (
	settled     = 100 * time.Millisecond
	settleTries = 20
)

// whole is what is in the file when nobody is seen to write it. pause lets some time pass; false: there is none.
func (f file) whole(pause func() bool) ([]byte, error) {
	var before []byte
	for range settleTries {
		b, err := f.bytes()
		if err != nil || bracketed(b) || before != nil && bytes.Equal(b, before) {
			return b, err
		}
		before = b
		if !pause() {
			return nil, context.Canceled
		}
	}
	return nil, fmt.Errorf("%s: is written all the time", f.path)
}

// bracketed says whether a file that ends too early cannot be read.
func bracketed(b []byte) bool {
	b = bytes.TrimSpace(b)
	return len(b) == 0 || b[0] == '[' || b[0] == '{'
}

// bytes is what is in the file now.
func (f file) bytes() ([]byte, error) {
	h, err := os.Open(f.path)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	b, err := io.ReadAll(io.LimitReader(h, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxFile {
		return nil, fmt.Errorf("%s: is longer than %d bytes", f.path, maxFile)
	}
	return b, nil
}

var errForm = errors.New(`must be a list of pods, as ["10.2.0.2:8080"], or {"pods": [...]}`)

// parsePods reads a list of pods; JSON is YAML. The empty file is none: an empty
// list says that there are no pods.
func parsePods(b []byte) ([]netip.AddrPort, error) {
	var root yaml.Node
	if err := yaml.Unmarshal(b, &root); err != nil {
		return nil, fmt.Errorf("%w: %s", errForm, strings.TrimPrefix(err.Error(), "yaml: ")) // which has the line
	}
	if len(root.Content) != 1 {
		return nil, errForm
	}
	list := root.Content[0]
	if list.Kind == yaml.MappingNode {
		if len(list.Content) != 2 || list.Content[0].Value != "pods" {
			return nil, errForm
		}
		list = list.Content[1]
	}
	if list.Kind != yaml.SequenceNode {
		return nil, errForm
	}
	if len(list.Content) > maxPods {
		return nil, errTooMany
	}
	pods := []netip.AddrPort{}
	for _, n := range list.Content {
		if n.Kind != yaml.ScalarNode {
			return nil, fmt.Errorf("line %d: %w", n.Line, errForm)
		}
		a, err := netip.ParseAddrPort(n.Value)
		if err == nil {
			a, err = pod(a.Addr(), a.Port())
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: pod %.60q: must be address:port, as 10.2.0.2:8080 or [fd00::2]:8080", n.Line, n.Value)
		}
		pods = append(pods, a)
	}
	return tidy(pods), nil
}
