package conntable

// key is one use of an entry.
type key struct{ index, gen uint32 }

// Copied finds the device that a copy for subscribers is of, also one that has gone since, and counts it as read; nil: it is of a loader that
// has ended. It is called once for each, in the order in which the programs have made them.
func (t *Devices) Copied(index, gen uint32) *Device {
	t.mu.Lock()
	defer t.mu.Unlock()
	d := t.live[index]
	if d == nil || d.gen != gen {
		if d = t.owed[key{index, gen}]; d == nil {
			return nil
		}
	}
	d.copied++
	if d.released.Load() && d.copied == d.made {
		delete(t.owed, key{index, gen})
	}
	return d
}

// part ends the use of an entry by a device, which is kept as long as copies of its messages are still to be read; t.mu is held, and nothing more
// is taken.
func (t *Devices) part(d *Device) {
	d.made = t.kernel.copies(d.index)
	d.released.Store(true)
	if d.copied != d.made {
		t.owed[key{d.index, d.gen}] = d
	}
}

// Copies is how many copies for subscribers the programs have made of the client's messages, modulo 2^32; broker.Graft.
func (d *Device) Copies() uint32 {
	n := d.table.kernel.copies(d.index)
	if d.released.Load() { // the entry may be another's
		return d.made
	}
	return n
}
