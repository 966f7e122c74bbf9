package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"eproxy/internal/edit"
)

// pending is a file that is written and not in its place yet; without a place there is
// nothing to save.
type pending struct {
	from, to string
	before   []byte // the text that it was made of
}

// prepareSave writes a changed configuration beside its file, with the same owner and
// permissions, synced. There is nothing to write where the file says so already.
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
	if errors.Is(err, edit.ErrPresent) {
		return &pending{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("save: %w", err)
	}
	p := &pending{from: to + ".new", to: to, before: text}
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

// errChanged means that somebody else has written the file since it was read.
var errChanged = errors.New("was changed by somebody else meanwhile, try again")

// commit renames the file into its place, if that still has the text that the file was
// made of: what an editor has saved since must not be lost.
func (p *pending) commit() error {
	if p.to == "" {
		return nil
	}
	now, err := os.ReadFile(p.to)
	if err == nil && !bytes.Equal(now, p.before) {
		err = fmt.Errorf("%s %w", p.to, errChanged)
	}
	if err == nil {
		err = os.Rename(p.from, p.to)
	}
	if err != nil {
		return fmt.Errorf("save: %w", err)
	}
	return nil
}

// sync has the disk know the file's new place.
func (p *pending) sync() error {
	if p.to == "" {
		return nil
	}
	d, err := os.Open(filepath.Dir(p.to))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// discard removes the file if it is not in its place.
func (p *pending) discard() {
	if p.from != "" {
		_ = os.Remove(p.from)
	}
}
