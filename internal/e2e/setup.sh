#!/usr/bin/env bash
# Installs what the tests need: PostgreSQL, and for those in this folder Debian's Chromium and curl, and the
# packages of the lock file. Node.js 20.11 or newer with npm must be there.
set -euo pipefail
cd "$(dirname "$0")"
bash ../pgcluster/setup.sh
missing=()
[ -x /usr/bin/chromium ] || missing+=(chromium)
command -v curl >/dev/null || missing+=(curl)
if [ "$(id -u)" = 0 ]; then # who else can't have a disk to break
  command -v mkfs.ext4 >/dev/null || missing+=(e2fsprogs)
fi
if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" != 0 ]; then
    echo "the tests need ${missing[*]}: as root, apt-get install ${missing[*]}" >&2
    exit 1
  fi
  apt-get update
  apt-get install --yes --no-install-recommends "${missing[@]}"
fi
if ! command -v npm >/dev/null; then
  echo "the tests need Node.js 20.11 or newer with npm" >&2
  exit 1
fi
npm ci
