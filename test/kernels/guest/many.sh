# How many devices one loader has at a time, where root may raise the limit of open files: whoever ran this may not.

many() {
	devices=$(cat /devices)
	sysctl -w net.ipv4.tcp_max_syn_backlog=4096 net.core.somaxconn=4096
	{
		/eproxy/bin/bench connections --rows tc --counts "$devices" --keep-alive 10m --idle 30s --sample 200
		echo $? >/tmp/code
	} 2>&1 | tee /dev/console # each count takes minutes
	return "$(cat /tmp/code)"
}

# sweep has the sweeper look at the connections of 100,000 devices, each of which is said to need it.
sweep() {
	cd /eproxy/internal/bpf && ./bpf.test -test.v -test.run '^TestManyConnections$' || return
	grep -o 'the sweeper has looked.*' /tmp/out >/tmp/detail
}

try "connected devices" many
try "sweep" sweep
