package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"

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
// that neither has changed, unless it wraps control.ErrChanged.
func (n *node) change(file string, c control.Change) error {
	e, err := n.editOf(c)
	if err != nil {
		return err
	}
	cfg, err := edited(file, n.file.Text(), e)
	if c.Save && isSo(c.Verb, err) {
		return n.saveAlone(file, c, e, err)
	}
	if err != nil {
		return err
	}
	saved := &pending{}
	if c.Save {
		if saved, err = prepareSave(file, e); err != nil {
			return err
		}
		defer saved.discard()
	}
	before := n.file
	if err := n.adopt(cfg); err != nil {
		return err
	}
	if err := saved.commit(); err != nil {
		if back := n.adopt(before); back != nil {
			return fmt.Errorf("%w: %w; the file is as it was: %w", control.ErrChanged, back, err)
		}
		return err
	}
	n.changed(file, c, saved)
	return nil
}

// changed ends a change that is in force and, if it was to be, in the file.
func (n *node) changed(file string, c control.Change, saved *pending) {
	if err := saved.sync(); err != nil {
		n.log.Warn("a saved change may be lost if the power fails now", "file", file, "error", err)
	}
	n.log.Info("changed by an operator", "verb", c.Verb, "function", c.Function, "pod", c.Pod, "topic", c.Topic, "saved", c.Save)
}

// isSo says whether a change was refused because what it asks for is in force already.
func isSo(verb string, err error) bool {
	return errors.Is(err, edit.ErrPresent) || errors.Is(err, edit.ErrAbsent) && (verb == control.PodsDelete || verb == control.RoutesDelete)
}

// saveAlone writes a change that is in force already into the file, as after one that was tried without --save; so is what it
// is refused with if the file says so, too.
func (n *node) saveAlone(file string, c control.Change, e edit.Change, so error) error {
	saved, err := prepareSave(file, e)
	if err != nil && isSo(c.Verb, err) || err == nil && saved.to == "" {
		return so
	}
	if err != nil {
		return err
	}
	defer saved.discard()
	if err := saved.commit(); err != nil {
		return err
	}
	n.changed(file, c, saved)
	return nil
}

// editOf is what a change changes in a configuration.
func (n *node) editOf(c control.Change) (edit.Change, error) {
	switch c.Verb {
	case control.PodsAdd:
		return edit.AddPod(c.Function, c.Pod, n.knows(c.Function, c.Pod)), nil
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
func (n *node) adopt(file *config.Config) error {
	cfg, before := n.resources.Apply(file), n.cfg
	if !samePlan(before, cfg) { // by this change, or by resources that have changed since
		return n.install(file)
	}
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

// samePlan says whether two configurations differ in nothing that the routes or the
// functions' requests are made of: only in which pods there are, and which of them are to
// get messages.
func samePlan(a, b *config.Config) bool {
	plan := func(fn *config.Function) config.Function {
		out := *fn
		out.Pods, out.Identities, out.Places, out.Hosts, out.Drain, out.Paused = nil, nil, nil, nil, nil, false
		return out
	}
	return slices.EqualFunc(a.Functions, b.Functions, func(x, y *config.Function) bool { return reflect.DeepEqual(plan(x), plan(y)) }) &&
		slices.EqualFunc(a.Routes, b.Routes, func(x, y *config.Route) bool { return reflect.DeepEqual(x, y) })
}

// edited is the configuration that a change makes of a text.
func edited(file string, text []byte, e edit.Change) (*config.Config, error) {
	out, err := edit.Apply(text, e)
	if err != nil {
		return nil, err
	}
	return config.Parse(file, out, config.NeedInterfaces)
}
