#!/bin/sh
# Installs the Debian packages that are missing, if any.
set -eu
missing=
for p in "$@"; do
	dpkg -s "$p" 2>/dev/null | grep -q '^Status: install ok installed' || missing="$missing $p"
done
[ -z "$missing" ] && exit 0
if [ "$(id -u)" != 0 ]; then
	echo "Debian packages are missing; install them as root: apt-get install$missing" >&2
	exit 1
fi
echo "installing:$missing"
apt-get update -q >/dev/null
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing >/dev/null
