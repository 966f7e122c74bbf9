package config

// defaultSpool is Spool.Bytes where the file does not say it.
const defaultSpool = 1 << 30

// spool reads where a function's messages wait on disk. It needs a dead letter: what it has is acknowledged, and must not be
// dropped where the function refuses it.
func (b *builder) spool(path string, r *rawFunction) *Spool {
	q := r.Queue.Spool
	if q == nil {
		return nil
	}
	s := &Spool{Dir: b.absolute(path+".dir", "queue.spool.dir", q.Dir), Bytes: b.bytes(path+".bytes", q.Bytes, defaultSpool)}
	switch {
	case q.Dir == "":
		b.fail(path, "function %q: queue.spool: dir is missing, the directory where messages wait", r.Name)
	case r.DeadLetter == nil:
		b.fail(path, "function %q: queue.spool needs a dead_letter: what is in it is acknowledged, and goes there if the function refuses it", r.Name)
	}
	return s
}
