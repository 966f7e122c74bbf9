package main

import (
	"encoding/binary"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"eproxy/internal/pinned"
)

// sample has some of the devices send a message each, one after the other, and says how many are acknowledged, and in the kernel path how many of
// its connections are armed.
func (b *bench) sample(row string, f *fleet) (string, error) {
	n := min(b.c.Int("sample"), len(f.fds))
	if n == 0 {
		return "", nil
	}
	var maps *pinned.Maps
	if !slices.Contains([]string{rowGateway, rowPlain, "fallback"}, row) {
		var err error
		if maps, err = pinned.Open(b.lab.BPFFS()); err != nil {
			return "", err
		}
		defer maps.Close()
	}
	before, err := takenOf(maps)
	if err != nil {
		return "", err
	}
	for i := range n {
		if err := f.publish(i * len(f.fds) / n); err != nil {
			return "", err
		}
	}
	said := fmt.Sprintf("; %d sent a message, which was acknowledged", n)
	if maps == nil {
		return said, nil
	}
	taken, err := takenOf(maps)
	if err != nil {
		return "", err
	}
	open, err := openOf(maps)
	return fmt.Sprintf("%s, %d of them in the kernel path, in which %d connections are", said, taken-before, open), err
}

// takenOf is how many messages the programs have taken so far; nil: there are no programs.
func takenOf(m *pinned.Maps) (n uint64, err error) {
	if m == nil {
		return 0, nil
	}
	routes, err := m.Routes()
	for _, r := range routes {
		n += r.Stats.Taken[0] + r.Stats.Taken[1]
	}
	return n, err
}

// openOf is how many connections the programs take messages of.
func openOf(m *pinned.Maps) (n int, err error) {
	flows, err := m.Flows()
	for _, f := range flows {
		if f.State == "open" && !f.Stopped {
			n++
		}
	}
	return n, err
}

// publish has device i send a message, QoS 1, and waits for its PUBACK.
func (f *fleet) publish(i int) error {
	const id = 7
	name := topic(i)
	b := []byte{0x32, byte(2 + len(name) + 2 + 4)}
	b = binary.BigEndian.AppendUint16(b, uint16(len(name)))
	b = append(append(b, name...), 0, id)
	b = append(b, "21.5"...)
	if _, err := unix.Write(f.fds[i], b); err != nil {
		return fmt.Errorf("device %d: PUBLISH: %w", i, err)
	}
	var ack [4]byte
	if n, err := read(f.fds[i], ack[:]); err != nil || n != len(ack) || ack != [4]byte{0x40, 2, 0, id} {
		return fmt.Errorf("device %d: PUBACK %x: %w", i, ack[:max(n, 0)], err)
	}
	return nil
}
