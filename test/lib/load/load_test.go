package load

import (
	"testing"
	"time"
)

func TestSmallestShare(t *testing.T) {
	second := func(n ...int) []int { // a tenth of each second's answers in each slice
		var s []int
		for _, v := range n {
			for range 10 {
				s = append(s, v/10)
			}
		}
		return s
	}
	for name, c := range map[string]struct {
		answers [][]int
		want    float64
	}{
		"equal":                   {[][]int{second(100, 200), second(100, 200)}, 1},
		"less":                    {[][]int{second(100, 100), second(100, 300)}, 0.5},
		"none":                    {[][]int{second(100, 0), second(100, 100)}, 0},
		"none for less than that": {[][]int{append(make([]int, 5), second(100)...), append(second(100), make([]int, 5)...)}, 2.0 / 3},
		"shorter than the span":   {[][]int{{1, 2}, {0, 0}}, 1},
		"nothing at all":          {[][]int{second(0), second(0)}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			r := Result{answers: c.answers}
			if got := r.SmallestShare(time.Second); got < c.want-1e-9 || got > c.want+1e-9 {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}
