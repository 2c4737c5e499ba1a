# Waits until the process that started it is gone, however it went: then the other end of the input is
# closed. Kills the servers whose data are below the folders $1 and so on, with all of their children, and
# removes the folders.
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

# clear ends what is below a folder, and the folder.
clear() {
  for file in $(grep -lasF -- "$1/" /proc/[0-9]*/cmdline); do
    server=${file#/proc/}
    server=${server%/cmdline}
    case $(tr '\0' ' ' <"$file") in
    *" -D $1/"*) stop "$server" && kill -KILL $(children "$server") "$server" ;;
    esac
  done
  for file in "$1"/*/data/postmaster.pid; do # its shared memory outlives a server that was killed
    segment=$(sed -n '7s/.* //p' "$file") && [ -n "$segment" ] && ipcrm -m "$segment"
  done
  for try in 1 2 3 4 5 6 7 8 9; do
    rm -rf "$1" && break # what is dying may still write
    sleep 0.1
  done
}

for folder; do clear "$folder"; done 2>/dev/null
