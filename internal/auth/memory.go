package auth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"sync"
)

// remembered is how many logins are remembered at least, if there were so many; at
// most twice as many are.
const remembered = 1 << 15

// fingerprint stands for a user name with a password hash and a password. Who does
// not have this process's key can neither make one nor get anything out of it.
type fingerprint [sha256.Size]byte

// memory remembers who logged in, and none of the passwords. It forgets the
// oldest half when it is full.
type memory struct {
	key        [sha256.Size]byte
	mu         sync.Mutex
	young, old map[fingerprint]struct{}
}

func newMemory() *memory {
	m := &memory{young: make(map[fingerprint]struct{})}
	_, _ = rand.Read(m.key[:]) // never fails
	return m
}

// fingerprint covers the password hash, so that one that a reload replaced is
// found no more.
func (m *memory) fingerprint(username, hash string, password []byte) fingerprint {
	mac := hmac.New(sha256.New, m.key[:])
	for _, part := range [][]byte{[]byte(username), []byte(hash), password} {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(part)))
		mac.Write(n[:])
		mac.Write(part)
	}
	return fingerprint(mac.Sum(nil))
}

// choose picks one of n for a user that does not exist, always the same one, so
// that it takes as long as some user would, and nobody knows which.
func (m *memory) choose(username string, n int) int {
	f := m.fingerprint(username, "", nil)
	return int(binary.BigEndian.Uint64(f[:]) % uint64(n))
}

func (m *memory) has(f fingerprint) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.young[f]; ok {
		return true
	}
	_, ok := m.old[f]
	if ok {
		m.remember(f)
	}
	return ok
}

func (m *memory) add(f fingerprint) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.remember(f)
}

func (m *memory) remember(f fingerprint) {
	if len(m.young) == remembered {
		m.old, m.young = m.young, make(map[fingerprint]struct{})
	}
	m.young[f] = struct{}{}
}
