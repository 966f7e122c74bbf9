package pool

import "container/list"

// lines are those that wait for a place, by client: clients have one after another their turn, with what has
// waited longest of them, however much each of them has.
type lines struct {
	waiting  list.List // *line, of those with turns; the next one first
	byClient map[string]*line
	n        int // turns
}

// line is what one client has waiting, the oldest first.
type line struct {
	client string
	turns  list.List // of *turn
	at     *list.Element
}

// Len is how many turns there are.
func (q *lines) Len() int { return q.n }

// front is the turn that comes next; there must be one.
func (q *lines) front() *turn {
	return q.waiting.Front().Value.(*line).turns.Front().Value.(*turn)
}

// push puts a turn behind its client's others.
func (q *lines) push(t *turn) {
	l := q.byClient[t.client]
	if l == nil {
		if q.byClient == nil {
			q.byClient = make(map[string]*line)
		}
		l = &line{client: t.client}
		l.at = q.waiting.PushBack(l)
		q.byClient[t.client] = l
	}
	t.line, t.at = l, l.turns.PushBack(t)
	q.n++
}

// remove takes a turn out. Its client's next one comes when the others have had theirs.
func (q *lines) remove(t *turn) {
	l := t.line
	if l.turns.Front() == t.at {
		q.waiting.MoveToBack(l.at)
	}
	l.turns.Remove(t.at)
	t.line, t.at = nil, nil
	q.n--
	if l.turns.Len() == 0 {
		q.waiting.Remove(l.at)
		delete(q.byClient, l.client)
	}
}

// round calls f with a turn of each client, the oldest that suits, until it returns false or so many were looked at; f may
// take that one out.
func (q *lines) round(looks int, suits, f func(*turn) bool) (all bool) {
	var next *list.Element
	for e, n := q.waiting.Front(), q.waiting.Len(); n > 0; e, n = next, n-1 {
		next = e.Next()
		for at := e.Value.(*line).turns.Front(); at != nil; at = at.Next() {
			if looks--; looks < 0 {
				return false
			}
			if t := at.Value.(*turn); suits(t) {
				if !f(t) {
					return false
				}
				break
			}
		}
	}
	return true
}
