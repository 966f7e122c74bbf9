package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"eproxy/internal/config"
	"eproxy/internal/control"
	"eproxy/internal/edit"
	"eproxy/internal/upstream"
)

// change is a change that an operator waits for.
type change struct {
	control.Change
	done chan error
}

// Change makes an operator's change between two reloads; control.Changer.
func (n *node) Change(ctx context.Context, c control.Change) error {
	x := change{c, make(chan error, 1)}
	select {
	case n.changes <- x:
		return <-x.done // it is under way: how it ends is to be known
	case <-ctx.Done():
		return ctx.Err()
	}
}

// change makes an operator's change in the running configuration, and if it is to be saved
// the same one in the file, whatever else may have been changed there. An error means
// that neither has changed.
func (n *node) change(file string, c control.Change) error {
	e, err := n.editOf(c)
	if err != nil {
		return err
	}
	cfg, err := edited(file, n.file.Text(), e)
	if err != nil {
		return err
	}
	var saved *pending
	if c.Save {
		if saved, err = prepareSave(file, e); err != nil {
			return err
		}
		defer saved.discard()
	}
	before := n.file
	if err := n.adopt(c, cfg); err != nil {
		return err
	}
	if saved != nil {
		if err := saved.commit(); err != nil {
			if back := n.adopt(c, before); back != nil {
				return fmt.Errorf("%w; and the running configuration is changed nevertheless: %w", err, back)
			}
			return err
		}
	}
	n.log.Info("changed by an operator", "verb", c.Verb, "function", c.Function, "pod", c.Pod, "topic", c.Topic, "saved", c.Save)
	return nil
}

// editOf is what a change changes in a configuration.
func (n *node) editOf(c control.Change) (edit.Change, error) {
	switch c.Verb {
	case control.PodsAdd:
		return edit.AddPod(c.Function, c.Pod), nil
	case control.PodsDrain:
		if !n.knows(c.Function, c.Pod) {
			return nil, fmt.Errorf("function %s has no pod %s", c.Function, c.Pod)
		}
		return edit.DrainPod(c.Function, c.Pod), nil
	case control.PodsDelete:
		return edit.DeletePod(c.Function, c.Pod), nil
	case control.RoutesAdd:
		return edit.AddRoute(c.Topic, c.Function), nil
	case control.RoutesDelete:
		return edit.DeleteRoute(c.Topic), nil
	case control.FunctionsPause, control.FunctionsResume:
		return edit.PauseFunction(c.Function, c.Verb == control.FunctionsPause), nil
	}
	return nil, fmt.Errorf("the verb %q is not known", c.Verb)
}

// knows says whether a function has a pod, whoever names it.
func (n *node) knows(function, pod string) bool {
	a, err := netip.ParseAddrPort(pod)
	return err == nil && slices.ContainsFunc(n.life.Pods(), func(p upstream.Pod) bool { return p.ID == upstream.ID{Function: function, Address: a} })
}

// adopt has a configuration in force that a change has made of the one before. Where
// only pods are concerned nothing else is touched.
func (n *node) adopt(c control.Change, file *config.Config) error {
	if c.Verb == control.RoutesAdd || c.Verb == control.RoutesDelete {
		return n.install(file)
	}
	cfg, before := n.resources.Apply(file), n.cfg
	n.pods.Follow(cfg)
	n.cfg = cfg
	err := n.followPods()
	if err != nil {
		n.cfg = before
		n.undo()
	} else {
		n.file = file
	}
	n.pods.Keep(n.cfg)
	return err
}

// edited is the configuration that a change makes of a text.
func edited(file string, text []byte, e edit.Change) (*config.Config, error) {
	out, err := edit.Apply(text, e)
	if err != nil {
		return nil, err
	}
	return config.Parse(file, out, config.NeedInterfaces)
}

// pending is a file that is written and not in its place yet.
type pending struct{ from, to string }

// prepareSave writes a changed configuration beside its file, with the same owner and
// permissions, synced.
func prepareSave(file string, e edit.Change) (*pending, error) {
	to, err := filepath.EvalSymlinks(file)
	if err != nil {
		return nil, fmt.Errorf("save: %w", err)
	}
	text, err := os.ReadFile(to)
	if err != nil {
		return nil, fmt.Errorf("save: %w", err)
	}
	cfg, err := edited(file, text, e)
	if err != nil {
		return nil, fmt.Errorf("save: %w", err)
	}
	p := &pending{from: to + ".new", to: to}
	if err := p.write(cfg.Text()); err != nil {
		p.discard()
		return nil, fmt.Errorf("save: %w", err)
	}
	return p, nil
}

// write writes the file beside its place.
func (p *pending) write(text []byte) error {
	info, err := os.Stat(p.to)
	if err != nil {
		return err
	}
	if err := os.Remove(p.from); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err // what a save left that was interrupted
	}
	f, err := os.OpenFile(p.from, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(text); err != nil {
		return err
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); ok && (int(owner.Uid) != os.Geteuid() || int(owner.Gid) != os.Getegid()) {
		if err := f.Chown(int(owner.Uid), int(owner.Gid)); err != nil {
			return err
		}
	}
	if err := f.Chmod(info.Mode().Perm()); err != nil {
		return err
	}
	return f.Sync()
}

// commit renames the file into its place.
func (p *pending) commit() error {
	if err := os.Rename(p.from, p.to); err != nil {
		return fmt.Errorf("save: %w", err)
	}
	return nil
}

// discard removes the file if it is not in its place.
func (p *pending) discard() { _ = os.Remove(p.from) }
