package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
)

// result is one thing that was tried, in the words of guest/init.sh.
type result struct{ kernel, name, verdict, seconds, detail string }

// parseResult reads "@result|name|verdict|seconds|detail".
func parseResult(line string) (result, bool) {
	f := strings.SplitN(strings.TrimRight(line, "\r"), "|", 5)
	if len(f) != 5 || f[0] != "@result" {
		return result{}, false
	}
	return result{name: f[1], verdict: f[2], seconds: f[3], detail: f[4]}, true
}

// isEnd: the machine has tried everything.
func isEnd(line string) bool { return strings.TrimRight(line, "\r") == "@end" }

// progress says at once what has come out: the machine is slow.
func progress(r result) {
	fmt.Fprintf(os.Stderr, "%s: %s: %s (%s s)\n", r.kernel, r.name, r.verdict, r.seconds)
}

// printResults prints a table and returns how many are not ok.
func printResults(w io.Writer, results []result) (bad int) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "KERNEL\tTRIED\tRESULT\tSECONDS\tDETAIL")
	for _, r := range results {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\n", r.kernel, r.name, r.verdict, r.seconds, r.detail)
		if r.verdict != "ok" {
			bad++
		}
	}
	tw.Flush()
	return bad
}
