package simulate

import (
	"compress/gzip"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"time"
)

// defaultMemory is what functions get whose traces do not say, MB.
const defaultMemory = 128

// maxCallsPerMinute bounds what one field of a trace can make.
const maxCallsPerMinute = 1_000_000

// rows calls f with each row of a gzipped file of comma-separated values but
// the head, which it returns. An error names file and line.
func rows(file string, f func(head, row []string) error) error {
	r, err := os.Open(file)
	if err != nil {
		return err
	}
	defer r.Close()
	z, err := gzip.NewReader(r)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	c := csv.NewReader(z)
	line := 1
	head, err := c.Read()
	for err == nil {
		var row []string
		line++
		if row, err = c.Read(); err == nil {
			err = f(head, row)
		}
	}
	if errors.Is(err, io.EOF) && head != nil {
		return nil
	}
	return fmt.Errorf("%s, line %d: %w", file, line, err)
}

// LoRaWAN reads uplinks: unix_ms, device, fcnt. Each device is a function.
func LoRaWAN(file string) ([]*Function, error) {
	byDevice := make(map[string]*Function)
	var all []*Function
	err := rows(file, func(head, row []string) error {
		if len(head) < 2 || head[0] != "unix_ms" || head[1] != "device" {
			return errors.New("the head is not unix_ms,device,fcnt")
		}
		ms, err := strconv.ParseInt(row[0], 10, 64)
		if err != nil || ms < 0 || ms > 1e13 {
			return fmt.Errorf("unix_ms is %q", row[0])
		}
		f := byDevice[row[1]]
		if f == nil {
			f = &Function{Name: row[1], Class: "LoRaWAN", Work: 10 * time.Millisecond, Memory: defaultMemory}
			byDevice[row[1]] = f
			all = append(all, f)
		}
		f.Arrivals = append(f.Arrivals, time.Duration(ms)*time.Millisecond)
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, f := range all {
		slices.Sort(f.Arrivals)
		f.splitAtMedian()
	}
	return all, nil
}

// azureColumns come before the minutes.
const azureColumns = 5

// Azure reads calls by the minute. When within its minute a call came is not
// known: it is drawn, so that nothing can be learnt that the trace does not
// say. The first of each minute is an arrival.
func Azure(file string, seed uint64) ([]*Function, error) {
	var all []*Function
	err := rows(file, func(head, row []string) error {
		if len(head) <= azureColumns || head[0] != "function" || head[1] != "trigger" {
			return errors.New("the head is not function,trigger,duration_ms_p50,duration_ms_p99,memory_mb and minutes")
		}
		f, err := azureFunction(head, row, rand.New(rand.NewPCG(seed, uint64(len(all)))))
		if err == nil && len(f.Arrivals) > 0 {
			all = append(all, f)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

func azureFunction(head, row []string, random *rand.Rand) (*Function, error) {
	f := &Function{Name: row[0], Class: "Azure, others"}
	if slices.Contains([]string{"queue", "event", "storage"}, row[1]) {
		f.Class = "Azure, queue, event, storage"
	}
	work, err := strconv.ParseFloat(row[2], 64)
	if err != nil || work < 0 || work > 1e9 {
		return nil, fmt.Errorf("duration_ms_p50 is %q", row[2])
	}
	f.Work = time.Duration(work * float64(time.Millisecond))
	if f.Memory, err = strconv.ParseFloat(row[4], 64); err != nil || f.Memory <= 0 || f.Memory > 1e9 {
		return nil, fmt.Errorf("memory_mb is %q", row[4])
	}
	var minutes [2]int64
	for i, h := range []string{head[azureColumns], head[len(head)-1]} {
		if minutes[i], err = strconv.ParseInt(h, 10, 32); err != nil {
			return nil, fmt.Errorf("minute is %q", h)
		}
	}
	for i, field := range row[azureColumns:] {
		calls, err := strconv.Atoi(field)
		if err != nil || calls < 0 || calls > maxCallsPerMinute {
			return nil, fmt.Errorf("calls are %q", field)
		}
		begin := time.Duration(minutes[0]+int64(i)) * time.Minute
		f.addMinute(begin, calls, random)
	}
	f.Split = time.Duration(minutes[0]+minutes[1]+1) * time.Minute / 2
	f.End = time.Duration(minutes[1]+1) * time.Minute
	return f, nil
}

func (f *Function) addMinute(begin time.Duration, calls int, random *rand.Rand) {
	if calls == 0 {
		return
	}
	at := len(f.Calls)
	for range calls {
		f.Calls = append(f.Calls, begin+time.Duration(random.Int64N(int64(time.Minute))))
	}
	slices.Sort(f.Calls[at:])
	f.Arrivals = append(f.Arrivals, begin+time.Duration(random.Int64N(int64(time.Minute))))
}
