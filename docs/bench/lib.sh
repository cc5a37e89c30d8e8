# What the benchmarks share: a network namespace, a folder, a release build, a server in it; all gone at the end. Sourced.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
bench=docs/bench
apiload=${APILOAD:-}
if [ -z "$apiload" ]; then
    CARGO_TARGET_DIR=target/apiload cargo build --release --manifest-path ../shared/bench/apiload/Cargo.toml
    apiload=$(find target/apiload -path '*release/apiload' -type f | head -1)
fi
mizzen=${MIZZEN:-}
if [ -z "$mizzen" ]; then
    cargo build --release --package mizzen
    mizzen=$(find "${CARGO_TARGET_DIR:-target}" -path '*release/mizzen' -type f | head -1)
fi
# With SMALL set, a hundredth of the work: to try a script, not to measure.
if [ -n "${SMALL:-}" ]; then
    count() { echo $(($1 / 100 > 0 ? $1 / 100 : 1)); }
else
    count() { echo "$1"; }
fi
work=$(mktemp -d /var/tmp/mizzen-bench.XXXXXX)
unshare --net sleep 14400 &
holder=$!
inside() { nsenter --net=/proc/$holder/ns/net "$@"; }
server=
finish() {
    # Each step for itself: what is left of one must not keep the next from being taken away.
    stop || true
    if declare -F cleanup >/dev/null; then cleanup || true; fi
    kill $holder 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT
until [ "$(readlink /proc/$holder/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.01; done
inside ip link set lo up
inside ip link add lan type bridge
inside ip addr add 192.168.98.1/24 dev lan
inside ip link set lan up

# Ends a process of ours and waits for it.
end() {
    kill "$1" 2>/dev/null || true
    wait "$1" 2>/dev/null || true
}
halt() {
    if [ -n "$server" ]; then
        end "$server"
        server=
    fi
}
stop() {
    halt
    inside "$mizzen" down --purge --data-dir "$work/data" >/dev/null
}
# start WHAT: mizzen, and how long until it takes pods.
start() {
    local began ended
    began=$(date +%s%N)
    nsenter --net=/proc/$holder/ns/net "$mizzen" up --data-dir "$work/data" >"$work/log" 2>&1 &
    server=$!
    until grep -q '^ready in' "$work/log" 2>/dev/null; do
        kill -0 "$server" || { cat "$work/log"; return 1; }
        sleep 0.005
    done
    ended=$(date +%s%N)
    echo "start ($1): $(((ended - began) / 1000000)) ms from exec until pods are taken"
}
kubeconfig=$work/data/admin.kubeconfig
load() { inside env KUBECONFIG="$kubeconfig" "$apiload" "$@"; }
# memory WHAT PID...: resident memory of processes.
memory() {
    local what=$1
    shift
    for pid in "$@"; do cat "/proc/$pid/status"; done | awk -v what="$what" '/VmRSS/ {kib += $2} END {printf "memory (%s): %.1f MiB\n", what, kib / 1024}'
}
cpu() { awk '{print $14 + $15}' "/proc/$1/stat"; }
heading() { echo "== $*, load average $(cut -d' ' -f1 /proc/loadavg)"; }
