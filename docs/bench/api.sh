#!/usr/bin/env bash
# Requests: mizzen beside nginx that serves the same bytes over TLS to the same client, and beside kube-apiserver with etcd
# where KUBE_APISERVER (and ETCD, if it is not on the path) name them. One subject after the other in each run, so that
# ratios come from one run. Usage: docs/bench/api.sh [RUNS]; SMALL=1 tries it out.
. "$(dirname "$0")/lib.sh"
. "$bench/rivals.sh"
runs=${1:-3}

# requests [FOLDER]: what every API server is asked to do; FOLDER keeps the bytes that it answered with. `default` holds 10,000 ConfigMaps when they are listed.
requests() {
    load --namespace kube-public create-configmaps --count "$(count 3000)" --clients 1
    load --namespace kube-public create-configmaps --count "$(count 20000)" --clients 16
    load --namespace kube-public create-configmaps --count "$(count 20000)" --clients 64
    load create-configmaps --count "$(count 10000)" --clients 16 >/dev/null
    object=$(inside python3 "$bench/fetch.py" "$kubeconfig" /api/v1/namespaces/default/configmaps?limit=1 first)
    load get --path "$object" --count "$(count 100000)" --clients 16
    load list --path /api/v1/namespaces/default/configmaps --runs 20
    if [ -n "${1:-}" ]; then
        inside python3 "$bench/fetch.py" "$kubeconfig" "$object" >"$1/object.json"
        inside python3 "$bench/fetch.py" "$kubeconfig" /api/v1/namespaces/default/configmaps >"$1/list.json"
    fi
    load watch-fanout --watchers "$(count 1000)" --writes 40
}

for run in $(seq "$runs"); do
    heading "run $run: mizzen"
    start "empty data dir"
    requests "$work"
    stop
    if command -v nginx >/dev/null; then
        heading "run $run: nginx"
        start_nginx "$work/object.json" "$work/list.json"
        load get --path /object.json --count "$(count 100000)" --clients 16
        load list --path /list.json --runs 20
        stop_nginx
    else
        echo "skipped: nginx is not installed (Debian package nginx-light)"
    fi
    if [ -n "${KUBE_APISERVER:-}" ]; then
        heading "run $run: kube-apiserver and etcd"
        start_kube
        requests
        stop_kube
    else
        echo "skipped: KUBE_APISERVER names no kube-apiserver"
    fi
    kubeconfig=$work/data/admin.kubeconfig
done
