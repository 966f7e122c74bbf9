// Command proactive plays traces and made-up loads to policies that decide when
// functions sleep, and writes what each of them did: a table and a drawing.
package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sync/errgroup"

	"eproxy/internal/cliutil"
	"eproxy/internal/predict"
	"eproxy/internal/simulate"
)

func main() {
	cliutil.Main(&cli.App{
		Name:  "proactive",
		Usage: "when to be awake: policies side by side, in simulated time",
		Flags: []cli.Flag{
			&cli.DurationFlag{Name: "lambda", Value: predict.DefaultLambda, Usage: "idle time that one cold start is worth"},
			&cli.Uint64Flag{Name: "seed", Value: 1, Usage: "of the made-up loads, and of the moments that a trace does not give"},
			&cli.PathFlag{Name: "traces", Value: "traces", Usage: "directory of the traces"},
			&cli.PathFlag{Name: "out", Value: "results", Usage: "directory to write table.md and policies.svg to"},
		},
		Action: run,
	})
}

func run(c *cli.Context) error {
	costs := predict.Costs{Lambda: c.Duration("lambda"), Start: simulate.Start}
	if err := costs.Check(); err != nil {
		return cliutil.Usagef("--%v", err)
	}
	traces, err := read(c.Path("traces"), c.Uint64("seed"))
	if err != nil {
		return err
	}
	loads := append(slices.Clone(traces), simulate.Synthetic(c.Uint64("seed"))...)
	var table bytes.Buffer
	out := io.MultiWriter(&table, c.App.Writer)
	fmt.Fprintf(out, "# Policies, one instance a function\n\nWritten by `make bench-proactive`: lambda %v, a start takes %v, seed %d. docs/PREDICTION.md explains the columns.\n",
		costs.Lambda, costs.Start, c.Uint64("seed"))
	sleeping := sleep(loads, costs)
	classes := classesOf(sleeping)
	for _, class := range classes {
		simulate.WriteTable(out, class, sleeping)
	}
	fmt.Fprint(out, "\n## Memory for some\n\nAll functions of Azure on one node, with a part of the memory that all of them take together.\n\n")
	simulate.WriteBudgets(out, budgets(azure(traces), costs))
	fmt.Fprint(out, "\n## Many instances, one call in progress each\n\n")
	simulate.WriteScaling(out, scale(append(simulate.Concurrent(traces), simulate.SyntheticConcurrent(c.Uint64("seed"))...), costs))
	fmt.Fprint(out, "\n## Lambda\n\n")
	simulate.WriteLambda(out, classes, sweep(loads, costs))
	return write(c.Path("out"), table.Bytes(), classes, sleeping)
}

// write writes the files.
func write(dir string, table []byte, classes []string, all []*simulate.Summary) error {
	var drawing bytes.Buffer
	if err := simulate.WriteSVG(&drawing, classes, all, []string{"selector", "hazard", "last value", "seasonal"}); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "policies.svg"), drawing.Bytes(), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "table.md"), table, 0o644)
}

func read(dir string, seed uint64) ([]*simulate.Function, error) {
	devices, err := simulate.LoRaWAN(filepath.Join(dir, "campusiot", "lorawan.csv.gz"))
	if err != nil {
		return nil, err
	}
	functions, err := simulate.Azure(filepath.Join(dir, "azure2019", "minutes.csv.gz"), seed)
	return append(devices, functions...), err
}

// each calls f for every function, several at a time, and gives the results in
// order.
func each(functions []*simulate.Function, f func(*simulate.Function) simulate.Result) []simulate.Result {
	results := make([]simulate.Result, len(functions))
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i := range functions {
		g.Go(func() error {
			results[i] = f(functions[i])
			return nil
		})
	}
	_ = g.Wait() // none of them fails
	return results
}

// summaries are by class, in the order in which classes come.
func summaries(policy string, functions []*simulate.Function, results []simulate.Result, costs predict.Costs) (all []*simulate.Summary) {
	var classes []string
	by := make(map[string][]simulate.Result)
	for i, f := range functions {
		if !slices.Contains(classes, f.Class) {
			classes = append(classes, f.Class)
		}
		by[f.Class] = append(by[f.Class], results[i])
	}
	for _, class := range classes {
		all = append(all, simulate.Summarise(class, policy, by[class], costs))
	}
	return all
}

// sleep is all policies with all loads.
func sleep(loads []*simulate.Function, costs predict.Costs) (all []*simulate.Summary) {
	for _, p := range simulate.Policies(costs) {
		results := each(loads, func(f *simulate.Function) simulate.Result { return simulate.Sleep(f, p) })
		for _, s := range summaries(p.Name, loads, results, costs) {
			s.Reference = p.Reference
			all = append(all, s)
		}
		if p.Name == "KEDA" {
			all = append(all, summaries("Knative", loads, each(loads, knativeSleep), costs)...)
		}
	}
	return all
}

// knativeConcurrency is Knative's target where a container's is not limited, and
// the share of it that is aimed at.
const knativeConcurrency = 100

// knativeSleep is Knative's decider with a function that any one instance can
// serve.
func knativeSleep(f *simulate.Function) simulate.Result {
	k := newKnative(predict.TargetUtilisation*knativeConcurrency, knativeConcurrency)
	return simulate.Scale(f, f.Arrivals, k, simulate.Setup{PerInstance: knativeConcurrency, Start: simulate.Start})
}

// sweep is the selector and the hazard rule with several values of lambda.
func sweep(loads []*simulate.Function, costs predict.Costs) (all []simulate.Swept) {
	for _, lambda := range []time.Duration{time.Minute, 5 * time.Minute, 10 * time.Minute, time.Hour} {
		c := predict.Costs{Lambda: lambda, Start: costs.Start}
		for _, p := range simulate.Policies(c)[:2] {
			results := each(loads, func(f *simulate.Function) simulate.Result { return simulate.Sleep(f, p) })
			for _, s := range summaries(p.Name, loads, results, c) {
				all = append(all, simulate.Swept{Lambda: lambda, Summary: s})
			}
		}
	}
	return all
}

// scale is Knative's decider, the same rules of ours, and these above the floor.
func scale(loads []*simulate.Function, costs predict.Costs) (all []*simulate.Summary) {
	for _, start := range []time.Duration{time.Second, 10 * time.Second} {
		setup := simulate.Setup{PerInstance: 1, Start: start}
		costs := predict.Costs{Lambda: costs.Lambda, Start: start}
		for _, f := range loads {
			for _, row := range []struct {
				name   string
				scaler simulate.Autoscaler
			}{
				{"Knative's decider", newKnative(predict.TargetUtilisation, 1)},
				{"KPA rules", simulate.Reactive{KPA: predict.NewKPA(predict.TargetUtilisation)}},
				{"KPA rules above the floor", simulate.NewFloored(setup)},
			} {
				r := simulate.Scale(f, f.Calls, row.scaler, setup)
				if floored, ok := row.scaler.(simulate.Floored); ok {
					r.Expected = floored.Coverage()
				}
				s := simulate.Summarise(fmt.Sprintf("%s, starts take %v", f.Name, start), row.name, []simulate.Result{r}, costs)
				all = append(all, s)
			}
		}
	}
	return all
}

// azure are the functions of the trace that has their memory.
func azure(traces []*simulate.Function) []*simulate.Function {
	return slices.DeleteFunc(slices.Clone(traces), func(f *simulate.Function) bool { return f.Class == "LoRaWAN" })
}

// budgets is what becomes of functions that share a node.
func budgets(functions []*simulate.Function, costs predict.Costs) (rows []simulate.BudgetRow) {
	total := 0.0
	for _, f := range functions {
		total += f.Memory
	}
	for _, share := range []float64{1, 0.5, 0.25, 0.1} {
		for _, p := range simulate.Policies(costs) {
			if p.Name != "selector" && p.Name != "fixed 10 min" && p.Name != "fixed 60 min" {
				continue
			}
			for _, order := range []struct {
				name    string
				victims predict.Victims
			}{
				{"greedy-dual", predict.NewEviction()}, {"longest unused", simulate.NewLongestUnused()},
			} {
				rows = append(rows, simulate.BudgetRow{Share: share, Policy: p.Name, Order: order.name,
					Budgeted: simulate.Budget(functions, p, share*total, order.victims)})
			}
		}
	}
	return rows
}

func classesOf(all []*simulate.Summary) (classes []string) {
	for _, s := range all {
		if !slices.Contains(classes, s.Class) {
			classes = append(classes, s.Class)
		}
	}
	return classes
}
