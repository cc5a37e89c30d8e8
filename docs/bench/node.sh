#!/usr/bin/env bash
# The node: starts, pods, Deployments, memory and CPU at rest. Usage: docs/bench/node.sh [RUNS]; SMALL=1 tries it out.
. "$(dirname "$0")/lib.sh"
runs=${1:-3}

# rest WHAT: CPU over a minute in which nobody asks for anything, after one to settle.
rest() {
    local seconds=60 before
    if [ -n "${SMALL:-}" ]; then seconds=2; fi
    sleep $seconds
    before=$(cpu "$server")
    sleep $seconds
    echo "CPU over $seconds s ($1): $(($(cpu "$server") - before)) ticks of 10 ms"
    memory "$1" "$server"
}

python3 "$bench/image.py" "$work/image"
for run in $(seq "$runs"); do
    heading "run $run"
    start "empty data dir"
    inside "$mizzen" image load "$work/image" --data-dir "$work/data" >/dev/null
    rest "empty, idle"
    load pod-start --image bench:1 --runs 50
    load deployment --image bench:1 --replicas 50
    # The first Deployment pays for what is read into memory; the second shows the steady state.
    load deployment --image bench:1 --replicas 50
    load --namespace kube-public create-configmaps --count "$(count 22000)" --clients 16 >/dev/null
    memory "22,000 ConfigMaps of 1 KiB" "$server"
    load --namespace kube-system create-configmaps --count "$(count 8000)" --clients 16 >/dev/null
    halt
    start "30,000 objects"
    rest "30,000 objects, idle"
    stop
done
