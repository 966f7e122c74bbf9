package doctor

import (
	"fmt"
	"os"
	"strings"
)

// statsFile is the sysctl kernel.bpf_stats_enabled.
const statsFile = "/proc/sys/kernel/bpf_stats_enabled"

// statistics says whether the kernel measures what programs cost. Off is as good as on: nothing needs it.
func statistics(file string) Feature {
	const what = "program statistics"
	b, err := os.ReadFile(file)
	if err != nil {
		return Feature{what, Degraded, fmt.Sprintf("the kernel does not measure programs: %v", err)}
	}
	if strings.TrimSpace(string(b)) == "0" {
		return Feature{what, Used, "off (sysctl kernel.bpf_stats_enabled): eproxy_program_seconds_total stands still, unless somebody asks, as mapsctl top --programs does"}
	}
	return Feature{what, Used, "on (sysctl kernel.bpf_stats_enabled): each run of a program pays for two readings of the clock"}
}
