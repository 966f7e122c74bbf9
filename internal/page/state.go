package page

// State is how a function is that the process runs instances of, or scales.
type State struct {
	Function  string `json:"-"`
	Name      string `json:"name"`      // as docs/FUNCTIONS.md has it: ready, frozen, paged-out, stopped
	Instances int    `json:"instances"` // that there are
	Most      int    `json:"most"`      // that there may be
	Policy    string `json:"policy"`    // by which it is kept or stopped; empty: none is needed
	Reason    string `json:"reason"`    // of the state
	// The next message is expected between these, by Unix time in seconds; both 0: nothing is expected.
	NextFrom float64 `json:"next_from"`
	NextTo   float64 `json:"next_to"`
}

// States says where the states of functions come from: each reading asks for them, in a goroutine of the page's. It does nothing without a page.
func (p *Page) States(of func() []State) {
	if p != nil {
		p.feed.states.Store(&of)
	}
}
