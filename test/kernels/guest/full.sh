# What is tried where everything must work.

doctor() {
	/eproxy/bin/loader doctor || return
	echo "nothing is missing" >/tmp/detail
}

demo() {
	cd /eproxy && bin/demo --duration 3s --rate 40 || return
	grep -q 'all are frozen' /tmp/out || { echo "functions do not sleep" >/tmp/detail && return 1; }
	grep -o 'taken in the kernel .*%' /tmp/out | tr -s ' ' >/tmp/detail
}

# gotest DIR BINARY: all tests of a Go test binary, or those that $tests names. The detail counts them, or names those that failed.
gotest() {
	cd "$1" || return
	"./$2" -test.v -test.run "${tests:+^($(echo "$tests" | tr ' ' '|'))\$}" || {
		grep '^--- FAIL' /tmp/out | cut -d' ' -f3 | xargs echo failed: >/tmp/detail
		return 1
	}
	for t in $tests; do
		grep -q "^--- PASS: $t " /tmp/out || {
			echo "there is no $t" >/tmp/detail
			return 1
		}
	done
	echo "$(grep -c '^--- PASS' /tmp/out) tests" >/tmp/detail
}

try doctor doctor
try demo demo
tests='' try internal/bpf gotest /eproxy/internal/bpf bpf.test
export EPROXY_OBJECT=bounded
tests='' try "internal/bpf, bounded" gotest /eproxy/internal/bpf bpf.test
unset EPROXY_OBJECT
tests=$(cat /netns) try test/netns gotest /eproxy/test/netns netns.test
