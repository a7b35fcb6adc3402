#!/bin/sh
# Installs Debian packages of servers without starting any: servers.sh PACKAGE..
# Tests start their own, and a service that somebody wants is theirs to start.
set -eu
export DEBIAN_FRONTEND=noninteractive

# A repository that doesn't answer need not be the one that has them.
apt-get update || echo "apt-get update failed; trying with the lists that are here" >&2

# Debian asks this program whether a service may be started; 101 is no. Somebody's own stays.
policy=/usr/sbin/policy-rc.d
if ! [ -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 1' HUP INT TERM
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "$@"
