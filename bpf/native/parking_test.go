//go:build cgo

package native

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// lines are the queues' lines of clients: each has one for either address family.
const (
	queues   = 3
	families = 2
	lines    = queues * families
)

// ipv6 is the bit of a client's name that says its family.
const ipv6 = 1 << 31

// lineOf is the line of a client in a queue.
func lineOf(q int, client uint32) int { return q*families + int(client>>31) }

// parkModel is what waits as lists: of each line the clients in the order of their turns.
type parkModel struct {
	table *Table
	p     Parking
	q     [queues]Queue
	turns [lines][]*parkClient
	count [queues]int       // with those that are admitted only
	born  uint32            // messages that were admitted
	out   map[uint32]parked // admitted or popped, not in a list
	used  int
	now   uint32
}

type parkClient struct {
	client   uint32
	messages []parked
}

type parked struct {
	number, client, since uint32
	order                 uint32 // of its admission
	queue                 int
	popped                bool
}

func (m *parkModel) do(q int, op ParkOp, client, n, ms uint32) uint32 {
	return m.table.Park(&m.p, &m.q[q], op, client, n, ms)
}

func (m *parkModel) client(q int, client uint32) *parkClient {
	for _, c := range m.turns[lineOf(q, client)] {
		if c.client == client {
			return c
		}
	}
	return nil
}

// admit checks that there is room exactly as the bounds say.
func (m *parkModel) admit(q int, client uint32) error {
	free, limit := ParkedMax-1-m.used, int(m.p.limit)
	room := m.count[q] < free && m.used+1 < limit && m.count[q] < int(m.q[q].most)
	if c := m.client(q, client); c != nil && len(c.messages) >= free-m.count[q] {
		room = false
	}
	n := m.do(q, ParkAdmit, client, 0, 0)
	if (n != 0) != room {
		return fmt.Errorf("admitted as %d; room %v", n, room)
	}
	if n == 0 {
		return nil
	}
	if _, ok := m.out[n]; ok || n >= uint32(limit) {
		return fmt.Errorf("number %d is in use, or has no memory", n)
	}
	for _, turns := range m.turns {
		for _, c := range turns {
			if slices.ContainsFunc(c.messages, func(p parked) bool { return p.number == n }) {
				return fmt.Errorf("number %d waits already", n)
			}
		}
	}
	m.born++
	m.out[n] = parked{number: n, client: client, queue: q, order: m.born}
	m.count[q]++
	m.used++
	return nil
}

// insert puts a message among its client's others, by age.
func (c *parkClient) insert(p parked) {
	i := len(c.messages)
	for i > 0 && c.messages[i-1].order > p.order {
		i--
	}
	c.messages = slices.Insert(c.messages, i, p)
}

func (m *parkModel) push(p parked) {
	delete(m.out, p.number)
	p.since = m.now
	m.do(p.queue, ParkPush, p.client, p.number, p.since)
	c := m.client(p.queue, p.client)
	if c == nil {
		c = &parkClient{client: p.client}
		l := lineOf(p.queue, p.client)
		m.turns[l] = append(m.turns[l], c)
	}
	c.insert(p)
}

// back: the message is its client's again, whose turn is the next one.
func (m *parkModel) back(p parked) {
	delete(m.out, p.number)
	m.do(p.queue, ParkBack, p.client, p.number, 0)
	p.popped = false
	l, c := lineOf(p.queue, p.client), m.client(p.queue, p.client)
	if c == nil {
		c = &parkClient{client: p.client}
	} else {
		m.turns[l] = slices.DeleteFunc(m.turns[l], func(o *parkClient) bool { return o == c })
	}
	m.turns[l] = slices.Insert(m.turns[l], 0, c)
	c.insert(p)
	m.count[p.queue]++
}

func (m *parkModel) pop(l int) error {
	q, family := l/families, uint32(l%families)*ipv6
	n, want := m.do(q, ParkPop, family, 0, 0), parked{}
	if len(m.turns[l]) > 0 {
		c := m.turns[l][0]
		want = c.messages[0]
		c.messages = c.messages[1:]
		m.turns[l] = m.turns[l][1:]
		if len(c.messages) > 0 {
			m.turns[l] = append(m.turns[l], c)
		}
		want.popped = true
		m.out[want.number] = want
		m.count[q]--
	}
	if n != want.number {
		return fmt.Errorf("popped %d of line %d, want %d of client %d", n, l, want.number, want.client)
	}
	return nil
}

// old checks that a message that waits so long is found, if not at once then when asked as often as there are clients.
func (m *parkModel) old(l int, before uint32) error {
	any := slices.ContainsFunc(m.turns[l], func(c *parkClient) bool { return int32(c.messages[0].since-before) <= 0 })
	found := false
	for range len(m.turns[l]) + 1 {
		if found = m.do(l/families, ParkOld, uint32(l%families)*ipv6, 0, before) != 0; found {
			break
		}
	}
	if found != any {
		return fmt.Errorf("old ones: %v, want %v", found, any)
	}
	if !any { // as many turns have passed as the program has looked at
		return m.adopt(l)
	}
	if err := m.adopt(l); err != nil {
		return err
	}
	if c := m.turns[l][0]; int32(c.messages[0].since-before) > 0 {
		return fmt.Errorf("the turn is client %d's, whose message is not old", c.client)
	}
	return nil
}

// adopt lets the turns follow the program's, which must be the same ones in the same cyclic order.
func (m *parkModel) adopt(l int) error {
	turns := m.turns[l]
	if len(turns) == 0 {
		return nil
	}
	first := uint32(m.p.clients[m.q[l/families].first_turn[l%families]].client)
	i := slices.IndexFunc(turns, func(c *parkClient) bool { return c.client == first })
	if i < 0 {
		return fmt.Errorf("the turn is client %d's, who has no message", first)
	}
	m.turns[l] = append(slices.Clone(turns[i:]), turns[:i]...)
	return nil
}

// disorder is how many messages processors have in their hands before they put one where it belongs.
const disorder = 8

// oldOut is one of the oldest messages that are in no list.
func (m *parkModel) oldOut(r *rand.Rand) (parked, bool) {
	out := slices.SortedFunc(maps.Values(m.out), func(a, b parked) int { return int(a.order) - int(b.order) })
	if len(out) == 0 {
		return parked{}, false
	}
	return out[r.IntN(min(len(out), disorder))], true
}

func (m *parkModel) step(r *rand.Rand, clients uint32) error {
	l := r.IntN(lines)
	q := l / families
	m.now += r.Uint32N(3)
	p, some := m.oldOut(r)
	n := r.IntN(16)
	if len(m.out) > 3*disorder { // nobody has more
		n = 6 + r.IntN(4)
	}
	switch {
	case n < 6:
		return m.admit(q, r.Uint32N(clients)*3|uint32(l%families)*ipv6)
	case n < 10 && some && !p.popped:
		m.push(p)
	case n < 10 && some && r.IntN(4) == 0:
		m.back(p)
	case n < 10 && some:
		delete(m.out, p.number)
		m.used--
		m.do(p.queue, ParkFree, 0, p.number, 0)
	case n == 10 && some && !p.popped:
		delete(m.out, p.number)
		m.used--
		m.count[p.queue]--
		m.do(p.queue, ParkCancel, 0, p.number, 0)
	case n == 12 && m.q[q].most < ParkedMax && r.IntN(8) == 0: // fewer may wait now than do, or more
		m.q[q].most = u32(uint32(m.count[q]) + r.Uint32N(40) - min(20, uint32(m.count[q])))
	case n == 11:
		return m.old(l, m.now-r.Uint32N(50))
	default:
		return m.pop(l)
	}
	return nil
}

// runParking does random things with few and with many clients, and checks each.
func runParking(table *Table, seed uint64, steps int) error {
	r := rand.New(rand.NewPCG(seed, 3))
	m := &parkModel{table: table, out: map[uint32]parked{}, now: uint32(seed) * 0x40000000}
	limits := []int{40, 256, ParkedMax}
	for q := range m.q {
		m.q[q].ids = 1<<32 - 500 // their ages wrap, too
	}
	ParkLimit(&m.p, limits[seed%3])
	for q := range m.q {
		m.q[q].most = u32([]uint32{ParkedMax, 30}[seed/2%2])
	}
	clients := []uint32{2, 20, 100, 1}[seed/3%4]
	for i := range steps {
		if i == steps/2 {
			ParkLimit(&m.p, ParkedMax)
		}
		// a flood: more comes than goes
		if seed%2 == 0 && i%2 == 0 {
			if err := m.admit(0, 3*r.Uint32N(clients)); err != nil {
				return fmt.Errorf("step %d: %w", i, err)
			}
			if p, some := m.oldOut(r); some && !p.popped {
				m.push(p)
			}
		}
		if err := m.step(r, clients); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
		for q := range m.q {
			if int(m.q[q].count) != m.count[q] || int(m.p.used) != m.used {
				return fmt.Errorf("step %d: queue %d has %d messages, want %d; %d used, want %d", i, q, int(m.q[q].count), m.count[q], int(m.p.used), m.used)
			}
		}
	}
	for l := range m.turns { // nothing is lost
		for len(m.turns[l]) > 0 {
			if err := m.pop(l); err != nil {
				return fmt.Errorf("at the end: %w", err)
			}
		}
	}
	return nil
}

// TestParking compares parking.h with the model: order per client, turns, bounds, no loss, no number twice.
func TestParking(t *testing.T) {
	for seed := range uint64(24) {
		if err := runParking(Own(), seed, 12000); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
	}
}

// plantedParking are mistakes that the model must find.
var plantedParking = []struct{ name, old, new string }{
	{"queue takes all that is free", "if (q->count >= free || ", "if (!free || "},
	{"queue takes more than it may", " || q->count >= *(volatile __u32 *)&q->most)", ")"},
	{"queue takes one more than it may", "q->count >= *(volatile __u32 *)&q->most", "q->count > *(volatile __u32 *)&q->most"},
	{"client takes all that its queue may have", "park_client(p, k)->count >= free - q->count", "park_client(p, k)->count >= free"},
	{"number without memory", "p->fresh + 1 < p->limit && ", ""},
	{"youngest first", "parking_insert(p, park_client(p, k), n, false);", "parking_insert(p, park_client(p, k), n, true);"},
	{"young one last, whoever is younger", "if (!before || park_younger(p, n, before))", "if (1)"},
	{"what is put back first, whoever is older", "if (!after || !park_younger(p, n, after))", "if (1)"},
	{"older neighbour not known", "	*park_previous(p, n) = before;\n", "	*park_previous(p, n) = PARK_NONE;\n"},
	{"older neighbour known that has left", "		*park_previous(p, c->first) = PARK_NONE;\n", ""},
	{"age by a counter that does not wrap", "return (__s32)(p->order[n & (PARKED_MAX - 1)] - p->order[than & (PARKED_MAX - 1)]) > 0;", "return p->order[n & (PARKED_MAX - 1)] > p->order[than & (PARKED_MAX - 1)];"},
	{"a client's turn lasts while it has messages", "PARK_NONE;\n\t\tparking_turn(p, q, k, false);", "PARK_NONE;\n\t\tparking_turn(p, q, k, true);"},
	{"what is put back goes to the end", "		parking_turn_over(p, q, k, park_family(client));\n		parking_turn(p, q, k, true);\n	} else {", "	} else {"},
	{"what is put back gives no turn to a client that had gone", "k = parking_enter(p, q, client, true);", "k = parking_enter(p, q, client, false);"},
	{"one line for both families", "return client >> 31;", "return 0;"},
	{"family of the next turn not looked at", "	k = q->first_turn[f];\n	if (!k)\n		return PARK_NONE;\n	parking_turn_over", "	k = q->first_turn[f] ? q->first_turn[f] : q->first_turn[!f];\n	if (!k)\n		return PARK_NONE;\n	parking_turn_over"},
	{"last turn not told of one that is over", "		q->last_turn[f] = c->turn_before;\n}", "		;\n}"},
	{"neighbour's turn not told of one that is over", "		park_client(p, c->turn_before)->turn = c->turn;\n", "		;\n"},
	{"client stays in its bucket", "\t\t*bucket = c->after;", "\t\t;"},
	{"neighbour in the bucket not told", "\tif (c->after)\n\t\tpark_client(p, c->after)->before = c->before;\n", ""},
	{"cancelled message counts", "\tq->count--;\n\tparking_free(p, n);", "\tparking_free(p, n);"},
	{"old by a clock that does not wrap", "(__s32)(p->since_ms[n & (PARKED_MAX - 1)] - before_ms) <= 0", "p->since_ms[n & (PARKED_MAX - 1)] <= before_ms"},
}

// TestParkingMistakesAreFound shows that the model finds mistakes.
func TestParkingMistakesAreFound(t *testing.T) {
	for _, p := range plantedParking {
		t.Run(p.name, func(t *testing.T) {
			table, err := build(t.TempDir(), "parking.h", p.old, p.new)
			if err != nil {
				t.Fatal(err)
			}
			for seed := range uint64(24) {
				if err := runParking(table, seed, 12000); err != nil {
					t.Logf("found with seed %d: %v", seed, err)
					return
				}
			}
			t.Fatal("not found")
		})
	}
}
