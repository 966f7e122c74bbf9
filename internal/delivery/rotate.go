package delivery

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// rotation bounds a file of dead letters.
type rotation struct {
	size int64 // bytes beyond which a new file is begun; 0: never
	keep int   // files of before, the newest of which ends with .1
}

// rotate begins a new file if the one that there is would grow beyond its bound. One that is not regular is left alone.
func (f *letterFile) rotate(more int64, r rotation) error {
	if r.size == 0 {
		return nil
	}
	st, err := os.Stat(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || !st.Mode().IsRegular() || st.Size() == 0 || st.Size()+more <= r.size {
		return err
	}
	for i := r.keep - 1; i >= 1; i-- {
		if err := os.Rename(numbered(f.path, i), numbered(f.path, i+1)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := os.Rename(f.path, numbered(f.path, 1)); err != nil {
		return err
	}
	f.unnamed = append(f.unnamed, filepath.Dir(f.path))
	return nil
}

// numbered is the name of a file of before.
func numbered(path string, i int) string { return fmt.Sprintf("%s.%d", path, i) }
