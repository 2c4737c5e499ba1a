#!/usr/bin/env bash
# Installs Debian's postgresql if there is no PostgreSQL: only its programs, no cluster and no service. Where
# they can't be had, what needs them says so.
set -euo pipefail
for program in "$(command -v postgres || true)" /usr/lib/postgresql/*/bin/postgres; do
  if [ -x "$program" ]; then exit; fi
done
without() {
  echo "there is no PostgreSQL: $1" >&2
  exit 0
}
command -v apt-get >/dev/null || without "this is not Debian"
[ "$(id -u)" = 0 ] || without "as root, apt-get install postgresql"
apt-get update -qq || without "apt-get can't update"
# Tests and benchmark start clusters of their own: none is to be made and started by the package. This says
# so while it is installed, whatever the administrator's own file says, and that stays as it is.
no_cluster=/etc/postgresql-common/createcluster.d/mailkeep.conf
mkdir -p "$(dirname "$no_cluster")"
trap 'rm -f "$no_cluster"' EXIT
echo "create_main_cluster = false" >"$no_cluster"
DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends postgresql || without "apt-get can't install postgresql"
