# What is tried where the programs cannot run.

cat >/tmp/eproxy.yaml <<END
interfaces: [eth0]
functions:
  - {name: temp, url: "http://temp.local/ingest", pods: ["127.0.0.1:8080"]}
routes:
  - {topic: "sensors/+/temp", function: temp}
END
ip link add eth0 type veth peer name eth1

# doctor names each missing feature with the Linux that has it.
doctor() {
	! /eproxy/bin/loader doctor || return
	for feature in "sk_buff fields" "control locks" "TCX"; do
		grep -E "^$feature +missing +.*of Linux 6\.[0-9]+$" /tmp/out || return
	done
	grep -E '^programs +missing +need what is missing above$' /tmp/out || return
	echo "missing: sk_buff fields, control locks, TCX" >/tmp/detail
}

# run is refused in one line that says what is missing and what to do.
refused() {
	! /eproxy/bin/loader run --config /tmp/eproxy.yaml >/tmp/said 2>&1 || return
	[ "$(wc -l </tmp/said)" = 1 ] || return
	grep 'lacks .*sk_buff fields, control locks, TCX .*run userspace-fallback --config /tmp/eproxy.yaml' /tmp/said
}

# a device's message reaches the function through the fallback, and its PUBACK the device.
fallback() {
	nc -ll -p 8080 -e /bin/sh /guest/function.sh &
	function=$!
	/eproxy/bin/userspace-fallback --config /tmp/eproxy.yaml >/tmp/log 2>&1 &
	server=$!
	until grep -q msg=serving /tmp/log && netstat -ltn | grep -q :8080; do
		kill -0 $server || return
		sleep 0.1
	done
	mosquitto_pub -h 127.0.0.1 -q 1 -i dev-1 -t sensors/7/temp -m 21.5 -d
	published=$?
	kill $server $function
	cat /tmp/log /tmp/body
	[ $published = 0 ] && grep -q '^21.5$' /tmp/body && echo "published, answered, acknowledged" >/tmp/detail
}

try doctor doctor
try "loader run" refused
try fallback fallback
