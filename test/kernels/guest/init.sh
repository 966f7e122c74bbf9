# The first process of the emulated machine: prepares it, tries the cases, says
# what came out on the serial line, powers off.
/usr/bin/busybox mkdir -p /bin /proc /sys /dev /run /tmp /var/run /etc
/usr/bin/busybox --install -s /bin
# /usr/bin first: ip is the real one
export PATH=/usr/bin:/bin HOME=/tmp
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t bpf bpf /sys/fs/bpf
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
for m in /modules/*.ko; do insmod "$m"; done
# what functions that the loader runs need, whose user is nobody
chmod 755 /
mount -t cgroup2 cgroup /sys/fs/cgroup
printf "root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n" >/etc/passwd
printf "root:x:0:\nnogroup:x:65534:\n" >/etc/group
ip link set lo up
# The suite wants every program of its tests to be there; the tests that run here use none of these.
for p in node npm python3 gunicorn uvicorn php tshark tcpdump; do ln -s busybox /usr/bin/$p; done
mkdir -p /eproxy/test/netns/node/node_modules/mqtt

now() { cut -d' ' -f1 /proc/uptime; }

# try NAME COMMAND...: one case. Its last line of output is the detail, unless it leaves one in /tmp/detail.
try() {
	name=$1
	shift
	rm -f /tmp/detail
	began=$(now)
	if "$@" >/tmp/out 2>&1; then verdict=ok; else verdict=FAILED; fi
	seconds=$(echo "$(now) $began" | awk '{ printf "%.0f", $1 - $2 }')
	echo "=== $name"
	cat /tmp/out
	[ -f /tmp/detail ] || tail -n 1 /tmp/out >/tmp/detail
	echo "@result|$name|$verdict|$seconds|$(head -n 1 /tmp/detail)"
}

# shellcheck source=/dev/null
. "/guest/$(cat /cases).sh"
echo @end
poweroff -f
