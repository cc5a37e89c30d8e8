#!/usr/bin/env bash
# Measures a release build of mizzen with apiload (../shared/bench/apiload), three runs, in a network namespace of its own.
# Usage: docs/bench/api.sh [RUNS]. Prints one block a run; everything it starts is stopped again.
set -euo pipefail
cd "$(dirname "$0")/../.."
runs=${1:-3}
apiload=${APILOAD:-target/apiload/release/apiload}
if [ ! -x "$apiload" ]; then
    CARGO_TARGET_DIR=target/apiload cargo build --release --manifest-path ../shared/bench/apiload/Cargo.toml
fi
mizzen=${MIZZEN:-}
if [ -z "$mizzen" ]; then
    cargo build --release --package mizzen
    mizzen=$(find target -path '*release/mizzen' -type f | head -1)
fi
work=$(mktemp -d /var/tmp/mizzen-bench.XXXXXX)
unshare --net sleep 7200 &
holder=$!
inside() { nsenter --net=/proc/$holder/ns/net "$@"; }
server=
halt() {
    if [ -n "$server" ]; then
        kill "$server" 2>/dev/null || true
        wait "$server" || true
        server=
    fi
}
stop() {
    halt
    inside "$mizzen" down --purge --data-dir "$work/data" >/dev/null
}
trap 'stop || true; kill $holder 2>/dev/null; rm -rf "$work"' EXIT
sleep 0.2
inside ip link set lo up
inside ip link add lan type bridge
inside ip addr add 192.168.98.1/24 dev lan
inside ip link set lan up
start() {
    local began ended
    began=$(date +%s%N)
    nsenter --net=/proc/$holder/ns/net "$mizzen" up --data-dir "$work/data" >"$work/log" 2>&1 &
    server=$!
    until grep -q '^ready in' "$work/log" 2>/dev/null; do sleep 0.005; done
    ended=$(date +%s%N)
    echo "start ($1): $(((ended - began) / 1000000)) ms from exec until pods are taken"
}
load() { inside env KUBECONFIG="$work/data/admin.kubeconfig" "$apiload" "$@"; }
memory() { awk -v what="$1" '/VmRSS/ {printf "memory (%s): %.1f MiB\n", what, $2 / 1024}' "/proc/$server/status"; }
cpu() { awk '{print $14 + $15}' "/proc/$server/stat"; }
idle() {
    local before
    sleep 60
    before=$(cpu)
    sleep 60
    echo "idle over 60 s: $(($(cpu) - before)) ticks of 10 ms"
    memory "30,000 objects, idle"
}
python3 docs/bench/image.py "$work/image"
for run in $(seq "$runs"); do
    echo "== run $run, load average $(cut -d' ' -f1 /proc/loadavg)"
    start "empty data dir"
    inside "$mizzen" image load "$work/image" --data-dir "$work/data" >/dev/null
    load pod-start --image bench:1 --runs 50
    load deployment --image bench:1 --replicas 50
    load create-configmaps --count 5000 --clients 1
    load create-configmaps --count 20000 --clients 16
    load create-configmaps --count 40000 --clients 64
    load get --path /api/v1/namespaces/default --count 100000 --clients 16
    stop
    start "empty data dir"
    memory "empty, just started"
    load create-configmaps --count 10000 --clients 16
    load list --path /api/v1/namespaces/default/configmaps --runs 20
    load watch-fanout --watchers 1000 --writes 40
    load --namespace kube-public create-configmaps --count 12000 --clients 16
    memory "22,000 ConfigMaps of 1 KiB"
    load --namespace kube-system create-configmaps --count 8000 --clients 16 >/dev/null
    halt
    start "30,000 objects"
    if [ "$run" = "$runs" ]; then idle; fi
    stop
done
