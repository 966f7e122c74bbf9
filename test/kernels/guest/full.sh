# What is tried where everything must work.

doctor() {
	/eproxy/bin/loader doctor || return
	echo "nothing is missing" >/tmp/detail
}

demo() {
	cd /eproxy && bin/demo --duration 3s --rate 200 || return
	grep -o 'taken in the kernel .*%' /tmp/out | tr -s ' ' >/tmp/detail
}

bpf_suite() {
	cd /eproxy/internal/bpf && ./bpf.test -test.v || return
	echo "$(grep -c '^--- PASS' /tmp/out) tests" >/tmp/detail
}

netns_suite() {
	cd /eproxy/test/netns && ./netns.test -test.v -test.run "$(cat /netns)"
}

try doctor doctor
try demo demo
try internal/bpf bpf_suite
try test/netns netns_suite
