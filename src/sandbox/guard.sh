# Ends the server of one sandbox and removes its directory, once its owner says so or has died.
#
# $1: the directory. Standard input, line by line: the pid of what runs there now; `stop`; `keep`.
# The owner alone holds the other end, so the end of the file means that it is dead, however it died.

trap '' HUP INT QUIT TERM TSTP
# Its tools are the system's, whatever the owner's search path is.
PATH=${PATH:+$PATH:}/usr/bin:/bin

directory=$1
data=$directory/data
case $directory in
    */howdah-sandbox-*/*) exit 2 ;;
    */howdah-sandbox-*) ;;
    *) exit 2 ;;
esac

told=
while IFS= read -r word; do
    case $word in
        keep) exit 0 ;;
        stop) break ;;
        *) told=$word ;;
    esac
done

# Whether pid $1 is the server of this sandbox: a pid may have passed on to another program by now.
# An ended process that its parent has not noticed has no command line, and so counts as gone.
runs() {
    if [ -d /proc/self ]; then
        command=$(tr '\000' ' ' <"/proc/$1/cmdline")
    else
        command=$(ps -p "$1" -o command=)
    fi
    case $command in
        *"$data"*) return 0 ;;
        *) return 1 ;;
    esac
}

# Waits for pid $1 to end, $2 times 0.05 s.
gone() {
    left=$2
    while runs "$1"; do
        [ "$left" -gt 0 ] || return 1
        left=$((left - 1))
        sleep 0.05
    done
}

# PostgreSQL's fast shutdown, then its immediate one, then what cannot be refused.
end() {
    runs "$1" || return
    kill -INT "$1"
    gone "$1" 100 && return
    kill -QUIT "$1"
    gone "$1" 40 && return
    kill -KILL "$1"
    gone "$1" 20
}

# The server may have been restarted by someone else: its own pid file has the last word.
found=
if [ -f "$data/postmaster.pid" ]; then
    IFS= read -r found <"$data/postmaster.pid"
fi
for pid in "$told" "$found"; do
    case $pid in
        '' | 0 | 1 | *[!0-9]*) ;;
        *) end "$pid" ;;
    esac
done

# The children of a killed server write for a moment longer.
left=20
while [ -e "$directory" ] && [ "$left" -gt 0 ]; do
    rm -rf -- "$directory" && break
    left=$((left - 1))
    sleep 0.05
done
[ ! -e "$directory" ]
