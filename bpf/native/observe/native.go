//go:build cgo

// Package observe compiles the observer's context-free headers for this host,
// to compare them with net/http.
package observe

/*
#cgo CFLAGS: -O2 -Wall -Wextra -Wno-unused-function -Wno-unused-parameter -Wno-sign-compare -I${SRCDIR} -I${SRCDIR}/../../observe
#cgo LDFLAGS: -ldl
#include <dlfcn.h>
#include <stdlib.h>
#include "shim.h"

static const struct shim *own_table(void) { return &shim_table; }

static const struct shim *open_table(const char *path)
{
	void *h = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	const struct shim *(*f)(void);

	if (!h)
		return NULL;
	f = (const struct shim *(*)(void))dlsym(h, "eproxy_shim");
	return f ? f() : NULL;
}

static void call_feed(const struct shim *t, struct stream *s, const __u8 *b, __u32 len, int response,
		      struct found *f)
{
	t->feed(s, b, len, response, f);
}

static int call_place(const struct shim *t, struct stream *s, __u32 seq, __u32 len, __u32 *front)
{
	return t->place(s, seq, len, front);
}

static __u32 call_bucket(const struct shim *t, __u64 ns) { return t->bucket(ns); }
*/
import "C"

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"unsafe"
)

// Table is the functions of the headers, or of a copy of them.
type Table struct{ p *C.struct_shim }

// Own are the functions as the programs have them.
func Own() *Table { return &Table{C.own_table()} }

// Planted are the functions of a copy of the headers with a text replaced.
func Planted(dir, header, old, new string) (*Table, error) {
	text, err := os.ReadFile("../../observe/" + header)
	if err != nil {
		return nil, err
	}
	if n := strings.Count(string(text), old); n != 1 {
		return nil, fmt.Errorf("%q is %d times in %s", old, n, header)
	}
	for _, sub := range []string{"abi", "pure", "observe"} {
		if err := os.CopyFS(filepath.Join(dir, sub), os.DirFS(filepath.Join("../..", sub))); err != nil {
			return nil, err
		}
	}
	shim, err := os.ReadFile("shim.h")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "observe", "shim.h"), shim, 0o600); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "observe", header), []byte(strings.Replace(string(text), old, new, 1)), 0o600); err != nil {
		return nil, err
	}
	src, lib := filepath.Join(dir, "table.c"), filepath.Join(dir, "table.so")
	if err := os.WriteFile(src, []byte("#include \"observe/shim.h\"\nconst struct shim *eproxy_shim(void) { return &shim_table; }\n"), 0o600); err != nil {
		return nil, err
	}
	if out, err := exec.Command("gcc", "-O2", "-shared", "-fPIC", "-o", lib, src).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	name := C.CString(lib)
	defer C.free(unsafe.Pointer(name))
	t := C.open_table(name)
	if t == nil {
		return nil, fmt.Errorf("%s cannot be opened", lib)
	}
	return &Table{t}, nil
}

// Stream is one direction of a connection.
type Stream struct {
	table    *Table
	s        C.struct_stream
	response bool
}

// NewStream is one whose next byte has a sequence number.
func (t *Table) NewStream(response bool, seq uint32) *Stream {
	return &Stream{t, C.struct_stream{next: C.__u32(seq)}, response}
}

// Found is what the bytes so far contained.
type Found struct {
	Begun, Ended, Informed int
	Last                   int    // event that ended the scan; 0: none
	Status                 int    // of the latest response
	Used                   int    // bytes of this piece that were scanned
	Ends                   []int  // where in the piece messages ended
	Heads                  []bool // whether each request was to HEAD
}

// Feed scans a piece of the stream.
func (s *Stream) Feed(b []byte) Found {
	f := (*C.struct_found)(C.calloc(1, C.sizeof_struct_found))
	defer C.free(unsafe.Pointer(f))
	if len(b) == 0 {
		return Found{}
	}
	in := C.CBytes(b)
	defer C.free(in)
	C.call_feed(s.table.p, &s.s, (*C.__u8)(in), C.__u32(len(b)), b2i(s.response), f)
	s.s.next += C.__u32(len(b))
	out := Found{Begun: int(f.begun), Ended: int(f.ended), Informed: int(f.informed), Last: int(f.last), Status: int(s.s.status), Used: int(f.used)}
	for i := range min(int(f.ended), len(f.ends)) {
		out.Ends = append(out.Ends, int(f.ends[i]))
	}
	return out
}

// Segment scans a segment with a sequence number. It returns false if what is missing before it matters.
func (s *Stream) Segment(seq uint32, b []byte) (Found, bool) {
	var front C.__u32
	if C.call_place(s.table.p, &s.s, C.__u32(seq), C.__u32(len(b)), &front) == 0 {
		return Found{}, false
	}
	return s.Feed(b[front:]), true
}

// Bucket is the histogram's bucket of a duration in nanoseconds.
func (t *Table) Bucket(ns uint64) int { return int(C.call_bucket(t.p, C.__u64(ns))) }

func b2i(b bool) C.int {
	if b {
		return 1
	}
	return 0
}
