//go:build cgo

package native

/*
#cgo CFLAGS: -O2 -Wall -Wextra -Wno-unused-function -Wno-unused-parameter -Wno-unknown-pragmas -I${SRCDIR}
#cgo LDFLAGS: -ldl
#include <dlfcn.h>
#include <stdlib.h>
#include "shim.h"

static const struct shim *own_table(void)
{
	return &shim_table;
}

static const struct shim *open_table(const char *path)
{
	void *h = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	const struct shim *(*f)(void);

	if (!h)
		return NULL;
	f = (const struct shim *(*)(void))dlsym(h, "eproxy_shim");
	return f ? f() : NULL;
}
*/
import "C"

import (
	"fmt"
	"unsafe"
)

// Table is one compiled copy of conn.h.
type Table struct{ t *C.struct_shim }

// Own returns the headers as they are in the source tree.
func Own() *Table { return &Table{t: (*C.struct_shim)(unsafe.Pointer(C.own_table()))} }

// Open loads a copy from a shared object that defines eproxy_shim. It is never
// unloaded.
func Open(path string) (*Table, error) {
	p := C.CString(path)
	defer C.free(unsafe.Pointer(p))
	t := C.open_table(p)
	if t == nil {
		return nil, fmt.Errorf("open %s: %s", path, C.GoString(C.dlerror()))
	}
	return &Table{t: (*C.struct_shim)(unsafe.Pointer(t))}, nil
}
