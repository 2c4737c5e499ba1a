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
install() { DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "$1"; }
apt-get update -qq && install postgresql-common || without "apt-get can't install postgresql-common"
sed -i 's/^#\?create_main_cluster *=.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf
install postgresql || without "apt-get can't install postgresql"
