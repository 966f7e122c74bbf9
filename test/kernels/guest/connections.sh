# As many devices as a node may have, connected at once: what each takes, and what the machine does for all of them.
# A process of this machine may have so many files as it likes, others have a limit.

connections() {
	ulimit -n 1000000 || return
	for n in $(tr , ' ' </counts); do
		last=$n
	done
	cd /eproxy && bin/bench connections --rows tc --counts "$(cat /counts)" --idle 30s || return
	grep -q "^tc .* $last devices: connected" /tmp/out || return
	tail -n 1 /tmp/out >/tmp/detail
}

try connections connections
