# Those that mizzen is measured beside: nginx with files, kube-apiserver with etcd. Sourced after lib.sh.
nginx_pid= etcd_pid= kube_pid=

# A certificate authority and a certificate for 127.0.0.1.
certificates() {
    [ -e "$work/ca.pem" ] && return
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$work/ca.key" -out "$work/ca.pem" \
        -days 2 -subj /CN=bench 2>/dev/null
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$work/tls.key" -out "$work/tls.csr" \
        -subj /CN=127.0.0.1 2>/dev/null
    printf 'subjectAltName=IP:127.0.0.1,IP:10.97.0.1,DNS:kubernetes\nextendedKeyUsage=serverAuth\n' >"$work/tls.ext"
    openssl x509 -req -in "$work/tls.csr" -CA "$work/ca.pem" -CAkey "$work/ca.key" -CAcreateserial -days 2 \
        -extfile "$work/tls.ext" -out "$work/tls.pem" 2>/dev/null
}

# rival_kubeconfig PORT [TOKEN]: `load` speaks to this server from now on.
rival_kubeconfig() {
    kubeconfig=$work/rival.kubeconfig
    cat >"$kubeconfig" <<END
apiVersion: v1
kind: Config
current-context: c
contexts: [{name: c, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: 'https://127.0.0.1:$1', certificate-authority: $work/ca.pem}}]
users: [{name: u, user: {${2:+token: $2}}}]
END
}

# start_nginx FILE...: serves copies of the files from memory-backed pages with one worker a core.
start_nginx() {
    certificates
    mkdir -p "$work/www"
    cp "$@" "$work/www"
    cat >"$work/nginx.conf" <<END
daemon off; worker_processes auto; pid $work/nginx.pid; error_log $work/nginx.log;
events { worker_connections 4096; }
http {
    access_log off; keepalive_requests 100000000; tcp_nodelay on; sendfile off; output_buffers 4 256k;
    open_file_cache max=10; types { application/json json; }
    client_body_temp_path $work/nginx-t; proxy_temp_path $work/nginx-t; fastcgi_temp_path $work/nginx-t;
    uwsgi_temp_path $work/nginx-t; scgi_temp_path $work/nginx-t;
    server {
        listen 127.0.0.1:8443 ssl; root $work/www;
        ssl_certificate $work/tls.pem; ssl_certificate_key $work/tls.key; ssl_protocols TLSv1.3; ssl_buffer_size 16k;
    }
}
END
    # Workers run as another user; the folder is ours alone otherwise.
    chmod 755 "$work" "$work/www"
    chmod 644 "$work"/www/*
    nsenter --net=/proc/$holder/ns/net nginx -p "$work" -c "$work/nginx.conf" 2>"$work/nginx.err" &
    nginx_pid=$!
    rival_kubeconfig 8443
    await "nginx" "$nginx_pid" /object.json
}

stop_nginx() {
    end "$nginx_pid"
    nginx_pid=
}

# await WHAT PID PATH: until the server answers.
await() {
    local deadline=$((SECONDS + 60))
    until inside python3 "$bench/fetch.py" "$kubeconfig" "$3" >/dev/null 2>&1; do
        if ! kill -0 "$2" 2>/dev/null || [ $SECONDS -gt $deadline ]; then
            echo "$1 does not answer:" >&2
            tail -5 "$work"/*.err >&2
            return 1
        fi
        sleep 0.1
    done
}

start_kube() {
    local token=bench-$RANDOM$RANDOM
    certificates
    rm -rf "$work/etcd"
    openssl ecparam -name prime256v1 -genkey -noout -out "$work/sa.key" 2>/dev/null
    echo "$token,bench,bench,system:masters" >"$work/tokens"
    chmod 700 "$work"
    nsenter --net=/proc/$holder/ns/net "${ETCD:-etcd}" --data-dir "$work/etcd" --listen-client-urls http://127.0.0.1:2379 \
        --advertise-client-urls http://127.0.0.1:2379 --listen-peer-urls http://127.0.0.1:2380 >"$work/etcd.err" 2>&1 &
    etcd_pid=$!
    nsenter --net=/proc/$holder/ns/net "$KUBE_APISERVER" --etcd-servers http://127.0.0.1:2379 --secure-port 8444 \
        --tls-cert-file "$work/tls.pem" --tls-private-key-file "$work/tls.key" --client-ca-file "$work/ca.pem" \
        --token-auth-file "$work/tokens" --authorization-mode Node,RBAC --service-cluster-ip-range 10.97.0.0/16 \
        --service-account-issuer https://kubernetes.default.svc --service-account-key-file "$work/sa.key" \
        --service-account-signing-key-file "$work/sa.key" --advertise-address 192.168.98.1 >"$work/kube.err" 2>&1 &
    kube_pid=$!
    rival_kubeconfig 8444 "$token"
    await "kube-apiserver" "$kube_pid" /readyz
    # Its own controllers make these a moment later.
    await "kube-apiserver" "$kube_pid" /api/v1/namespaces/kube-public
    await "kube-apiserver" "$kube_pid" /api/v1/namespaces/default
}

stop_kube() {
    memory "kube-apiserver and etcd, after the requests" "$kube_pid" "$etcd_pid"
    end "$kube_pid"
    end "$etcd_pid"
    kube_pid= etcd_pid=
    rm -rf "$work/etcd"
}

cleanup() {
    for pid in $nginx_pid $kube_pid $etcd_pid; do end "$pid"; done
}
