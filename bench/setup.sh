#!/bin/sh
# Installs what only the bench needs, from Debian's packages: ./setup.sh wrk nginx
# Needs root. No service is started, now or at the next boot: the bench runs nginx itself, with its own configuration.
set -eu

policy=/usr/sbin/policy-rc.d # what Debian's packages ask before they start a service
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' INT TERM
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
had_nginx=$(command -v nginx || true)
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "$@"
if [ -z "$had_nginx" ] && command -v systemctl >/dev/null; then
    systemctl disable --quiet nginx.service || true # the package enables it
fi
