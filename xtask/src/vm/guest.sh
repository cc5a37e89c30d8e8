#!/bin/sh
# What the virtual machine runs once the host's file system is its root (read-only): mizzen's tests on cgroup v2.
# Arguments: the folder of the kernel's modules, the mizzen binary, the list of tests. `/init` of the initramfs starts it.
modules=$1 mizzen=$2 tests=$3

# Modules come when the kernel asks for them, as on any Debian; words after the first are modules it does not have.
serve_modules() {
    {
        echo '#!/bin/sh'
        for refused in "$@"; do echo "case \"\$*\" in *$refused) exit 1 ;; esac"; done
        echo "exec /usr/sbin/modprobe -d $modules \"\$@\""
    } >/run/modprobe
    chmod 755 /run/modprobe
    echo /run/modprobe >/proc/sys/kernel/modprobe
}

failed=0
fail() {
    echo "FAILED: $*"
    failed=1
}

# One line that names the feature, exit code 1.
lacks() {
    said=$(timeout 20 "$mizzen" up --data-dir /tmp/lacks --listen 127.0.0.1:7443 2>&1)
    code=$?
    case "$code $(echo "$said" | wc -l) $said" in
        "1 1 mizzen: this kernel lacks $1"*) echo "ok: $said" ;;
        *) fail "without $1: exit code $code: $said" ;;
    esac
}

ip link set lo up
echo machine >/proc/sys/kernel/hostname
for controller in cpu memory pids cpuset io; do
    grep -qw $controller /sys/fs/cgroup/cgroup.controllers || fail "the kernel has no $controller controller on cgroup v2"
done
grep -q ' cgroup ' /proc/mounts && fail "cgroup v1 is mounted"

echo /bin/false >/proc/sys/kernel/modprobe
lacks 'bridge devices'
serve_modules overlay
lacks 'the overlay file system'
serve_modules

while read -r line; do
    echo "--- $line"
    # A test that finds something missing says so and passes; here nothing may be missing.
    {
        sh -c "$line" </dev/null
        echo $? >/tmp/code
    } 2>&1 | tee /tmp/output
    [ "$(cat /tmp/code)" = 0 ] || fail "$line"
    grep -q '^skipped: ' /tmp/output && fail "tests were skipped: $line"
done <"$tests"
echo "vm: result $failed"
