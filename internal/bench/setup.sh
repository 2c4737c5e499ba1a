#!/usr/bin/env bash
# Fetches what the service is held against: PostgreSQL with pgbench, and smtp-source and smtp-sink of
# Debian's package postfix, which are unpacked into the user's cache folder and neither installed nor
# configured. Where smtp-source can't be had, the benchmark has a yardstick of its own; where PostgreSQL
# can't, it leaves its rows out. So neither is a failure.
set -euo pipefail
bash "$(dirname "$0")/../pgcluster/setup.sh"
folder="${XDG_CACHE_HOME:-$HOME/.cache}/mailkeep-bench/postfix"
for program in "$(command -v smtp-source || true)" /usr/sbin/smtp-source "$folder/usr/sbin/smtp-source"; do
  if [ -x "$program" ]; then exit; fi
done
without() {
  echo "without smtp-source, mail rows are measured against a bare loop: $1" >&2
  exit 0
}
command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || without "this is not Debian"
download=$(mktemp -d)
trap 'rm -rf "$download"' EXIT
cd "$download"
get() { apt-get download -qq postfix; }
if ! get 2>/dev/null; then
  if [ "$(id -u)" != 0 ]; then without "apt-get can't download postfix"; fi
  apt-get update -qq && get || without "apt-get can't download postfix"
fi
mkdir -p "$(dirname "$folder")"
rm -rf "$folder"
dpkg-deb --extract postfix_*.deb unpacked
mv unpacked "$folder"
