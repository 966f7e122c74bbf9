package config

// Persistence is where sessions outlive the program.
type Persistence struct {
	Dir   string // absolute path; empty: they do not
	Bytes int64  // of records, beyond which no more are taken
}

// defaultPersistence is Persistence.Bytes where the file does not say it.
const defaultPersistence = 1 << 30

// persistence reads where sessions are kept.
func (b *builder) persistence(r *rawPersistence) {
	const path = "$.persistence"
	if r == nil {
		return
	}
	p := Persistence{Dir: b.absolute(path+".dir", "persistence.dir", r.Dir), Bytes: b.bytes(path+".bytes", r.Bytes, defaultPersistence)}
	if r.Dir == "" {
		b.fail(path, "persistence: dir is missing, the directory where sessions are kept")
	}
	b.cfg.Persistence = p
}
