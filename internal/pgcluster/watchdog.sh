# Waits until the process that started it is gone, however it went: then the other end of the input is
# closed. Kills the servers whose data are below the folder $1, with all of their children, and removes
# the folder.
trap '' HUP INT TERM
read -r _

# children prints the processes that have the parent $1: each is in a session of its own.
children() {
  for stat in /proc/[0-9]*/stat; do
    { read -r pid _ _ parent _ <"$stat"; } 2>/dev/null || continue
    if [ "$parent" = "$1" ]; then echo "$pid"; fi
  done
}

# stop sends SIGSTOP and waits until it has come, so that no more children are started.
stop() {
  kill -STOP "$1" || return
  for try in 1 2 3 4 5 6 7 8 9; do
    { read -r _ _ state _ <"/proc/$1/stat"; } 2>/dev/null || return
    if [ "$state" = T ]; then return; fi
    sleep 0.01
  done
}

for file in $(grep -lasF -- "$1/" /proc/[0-9]*/cmdline); do
  server=${file#/proc/}
  server=${server%/cmdline}
  case $(tr '\0' ' ' 2>/dev/null <"$file") in
  *" -D $1/"*) stop "$server" && kill -KILL $(children "$server") "$server" ;;
  esac
done 2>/dev/null

for file in "$1"/*/data/postmaster.pid; do # its shared memory outlives a server that was killed
  segment=$(sed -n '7s/.* //p' "$file") && [ -n "$segment" ] && ipcrm -m "$segment"
done 2>/dev/null

for try in 1 2 3 4 5 6 7 8 9; do
  rm -rf "$1" && break # what is dying may still write
  sleep 0.1
done 2>/dev/null
