// Package pindir owns the directory that eproxy's maps, programs and links are
// pinned in: DIR/mark, DIR/maps, DIR/progs, DIR/links. It touches a directory
// only if that is on a bpf file system and is eproxy's own: it carries the mark
// (the pinned map mark), or holds exactly what the version before the mark
// pinned. Symbolic links are never followed.
package pindir
