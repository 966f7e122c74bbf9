package parking

import (
	"errors"
	"sync"
	"time"

	"eproxy/internal/abi"
	"eproxy/internal/bpf"
)

// room is the memory for messages that wait. It grows when the programs ask for more; they ask
// once, until they are told how much there is.
type room struct {
	grow func(entry uint32) error   // sees to it that this entry has memory
	tell func(entries uint32) error // tells the programs that so many entries have
	rest func()                     // lets some time pass

	mu      sync.Mutex
	entries uint32 // that have memory
}

// more sees to it that n messages more can wait, up to abi.ParkedMax. Where memory is short the programs
// are told only after a while: else each message that comes would ask again.
func (r *room) more(n uint32) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var short error
	for end := min(r.entries+n, abi.ParkedMax); r.entries < end && short == nil; {
		if short = r.grow(r.entries); short == nil {
			r.entries++
		}
	}
	if short != nil {
		r.rest()
	}
	return errors.Join(short, r.tell(r.entries))
}

// initRoom makes the room that is there beforehand.
func (t *Queues) initRoom() error {
	t.room.grow = t.Memory.Parked.Grow
	t.room.tell = func(entries uint32) error {
		_, err := t.control(bpf.EproxyParkOpPARK_OP_ROOM, bpf.EproxyParkArgs{Number: entries})
		return err
	}
	t.room.rest = func() {
		select {
		case <-t.ctx.Done():
		case <-time.After(time.Second):
		}
	}
	return t.room.more(abi.ParkedRoom)
}

// MoreRoom gives the programs the memory that they have asked for. It waits for the kernel.
func (t *Queues) MoreRoom() {
	if err := t.room.more(abi.ParkedRoom); err != nil {
		t.Often.Warn("no memory for more messages that wait", err.Error(), "error", err)
	}
}
