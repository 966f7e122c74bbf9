package top

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	tea "github.com/charmbracelet/bubbletea"
)

// column is one of the table's; order compares by it, the largest first, what is not known last.
type column struct {
	name  string
	width int // negative: aligned to the left
	text  func(Row) string
	value func(Row) float64 // nil: it is no number
}

var columns = []column{
	{"KIND", -8, func(r Row) string { return r.Kind }, nil},
	{"NAME", -20, func(r Row) string { return r.Name }, nil},
	{"POD", -21, func(r Row) string { return r.Pod }, nil},
	number("RATE/S", 10, 1, func(r Row) float64 { return r.Rate }),
	number("INFLIGHT", 8, 0, func(r Row) float64 { return r.InFlight }),
	number("WAITING", 7, 0, func(r Row) float64 { return r.Waiting }),
	number("P50_US", 9, 0, func(r Row) float64 { return r.P50 }),
	number("P99_US", 9, 0, func(r Row) float64 { return r.P99 }),
	number("KERNEL%", 7, 1, func(r Row) float64 { return r.Share }),
	number("ERRORS/S", 8, 1, func(r Row) float64 { return r.Errors }),
	number("CPU%", 6, 2, func(r Row) float64 { return r.CPU }),
}

func number(name string, width, digits int, value func(Row) float64) column {
	return column{name, width, func(r Row) string {
		if v := value(r); !math.IsNaN(v) {
			return fmt.Sprintf("%.*f", digits, v)
		}
		return "-"
	}, value}
}

// cell is a text in a column, cut to its width.
func (c column) cell(s string) string {
	w := max(c.width, -c.width)
	if r := []rune(s); len(r) > w {
		s = string(r[:w-1]) + "~"
	}
	return fmt.Sprintf("%*s", c.width, s)
}

// by sorts rows by a column: numbers with the largest first and what is not known last, texts as they are.
func (c column) by(rows []Row) {
	if c.value == nil {
		slices.SortStableFunc(rows, func(a, b Row) int { return cmp.Compare(c.text(a), c.text(b)) })
		return
	}
	known := func(v float64) float64 {
		if math.IsNaN(v) {
			return math.Inf(-1)
		}
		return v
	}
	slices.SortStableFunc(rows, func(a, b Row) int { return cmp.Compare(known(c.value(b)), known(c.value(a))) })
}

// Screen is the live table.
type Screen struct {
	take  func(context.Context) (*Snapshot, error) // reads the metrics
	every time.Duration
	ctx   context.Context

	before  *Snapshot // nil: there is none yet
	rows    []Row
	err     error // of the latest reading
	paused  bool
	sort    int // column; -1: by kind and name
	filter  string
	typing  bool // the filter
	top     int  // first row that is shown
	width   int
	height  int
	reading bool
}

// NewScreen shows what take reads, once in a while, until ctx ends or the user wants no more.
func NewScreen(ctx context.Context, every time.Duration, take func(context.Context) (*Snapshot, error)) *Screen {
	return &Screen{ctx: ctx, every: every, take: take, sort: -1, width: 80, height: 24}
}

type (
	taken struct {
		s   *Snapshot
		err error
	}
	tick struct{}
)

// Init reads the metrics for the first time.
func (s *Screen) Init() tea.Cmd { return s.read() }

// read reads the metrics, unless that is under way.
func (s *Screen) read() tea.Cmd {
	if s.reading {
		return nil
	}
	s.reading = true
	return func() tea.Msg {
		x, err := s.take(s.ctx)
		return taken{x, err}
	}
}

// Update follows keys, the terminal's size, and what was read.
func (s *Screen) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch m := msg.(type) {
	case tea.WindowSizeMsg:
		s.width, s.height = m.Width, m.Height
	case tea.KeyMsg:
		return s, s.key(m)
	case tick:
		return s, s.read()
	case taken:
		s.reading = false
		s.follow(m)
		return s, tea.Tick(s.every, func(time.Time) tea.Msg { return tick{} })
	}
	return s, nil
}

// follow takes over what was read. While it is paused what is shown stays, and so does what it is compared with.
func (s *Screen) follow(m taken) {
	s.err = m.err
	if m.err != nil || s.paused {
		return
	}
	if s.before != nil {
		s.rows = Between(s.before, m.s)
	}
	s.before = m.s
}

// key does what a key stands for.
func (s *Screen) key(k tea.KeyMsg) tea.Cmd {
	if s.typing {
		s.edit(k)
		return nil
	}
	switch k.String() {
	case "q", "ctrl+c", "esc":
		return tea.Quit
	case "p", " ":
		s.paused = !s.paused
	case "s":
		if s.sort++; s.sort == len(columns) {
			s.sort = -1
		}
	case "/":
		s.typing = true
	case "down", "j":
		s.top++
	case "up", "k":
		s.top--
	}
	return nil
}

// edit changes the filter.
func (s *Screen) edit(k tea.KeyMsg) {
	switch k.Type {
	case tea.KeyEnter:
		s.typing = false
	case tea.KeyEsc:
		s.typing, s.filter = false, ""
	case tea.KeyBackspace:
		if r := []rune(s.filter); len(r) > 0 {
			s.filter = string(r[:len(r)-1])
		}
	case tea.KeyRunes, tea.KeySpace:
		s.filter += string(k.Runes)
	}
}

// shown are the rows that the filter leaves, in their order.
func (s *Screen) shown() []Row {
	var out []Row
	for _, r := range s.rows {
		if strings.Contains(r.Kind+" "+r.Name+" "+r.Pod, s.filter) {
			out = append(out, r)
		}
	}
	if s.sort >= 0 {
		columns[s.sort].by(out)
	}
	return out
}

// View is the whole screen: no line longer, and no more of them, than there is room for.
func (s *Screen) View() string {
	rows := s.shown()
	room := max(s.height-3, 0)
	s.top = max(min(s.top, len(rows)-room), 0)
	lines := []string{s.head(len(rows)), s.line(func(c column) string { return c.name })}
	for _, r := range rows[s.top:min(s.top+room, len(rows))] {
		lines = append(lines, s.line(func(c column) string { return c.text(r) }))
	}
	for i, l := range lines {
		if r := []rune(l); len(r) > s.width {
			lines[i] = string(r[:s.width])
		}
	}
	return strings.Join(lines[:min(len(lines), max(s.height, 1))], "\n")
}

// head says what is shown and which keys there are.
func (s *Screen) head(rows int) string {
	by := "kind"
	if s.sort >= 0 {
		by = columns[s.sort].name
	}
	state := "live"
	switch {
	case s.err != nil:
		line, _, _ := strings.Cut(s.err.Error(), "\n")
		return "cannot read: " + line
	case s.typing:
		return "filter (enter, esc): " + s.filter
	case s.paused:
		state = "paused"
	case s.rows == nil:
		state = "reading"
	}
	return fmt.Sprintf("%s, %d rows, sorted by %s, filter %q   q quit  p pause  s sort  / filter  up, down", state, rows, by, s.filter)
}

func (s *Screen) line(text func(column) string) string {
	cells := make([]string, len(columns))
	for i, c := range columns {
		cells[i] = c.cell(text(c))
	}
	return strings.Join(cells, "  ")
}
