# What is tried where everything must work.

doctor() {
	/eproxy/bin/loader doctor || return
	echo "nothing is missing" >/tmp/detail
}

demo() {
	cd /eproxy && bin/demo --duration 3s --rate 200 || return
	grep -o 'taken in the kernel .*%' /tmp/out | tr -s ' ' >/tmp/detail
}

# gotest DIR BINARY ARGS...: a Go test binary; the detail counts its tests, or names those that failed.
gotest() {
	cd "$1" || return
	shift
	"$@" -test.v && echo "$(grep -c '^--- PASS' /tmp/out) tests" >/tmp/detail && return
	grep '^--- FAIL' /tmp/out | cut -d' ' -f3 | xargs echo failed: >/tmp/detail
	return 1
}

try doctor doctor
try demo demo
try internal/bpf gotest /eproxy/internal/bpf ./bpf.test
try test/netns gotest /eproxy/test/netns ./netns.test -test.run "$(cat /netns)"
