//! What a container can do, seen from inside.

use mizzen_runtime::driver::{ContainerState, Driver, DriverError, ExecSpec};
use mizzen_runtime::spec::{Seccomp, User, UserName};

use mizzen_runtime::oci::Oci;

use crate::world::{Directories, World, eventually, finish, inside, world};

crate::tests![
    capabilities,
    system_calls,
    profiles_from_files,
    masked_and_read_only,
    read_only_root,
    users,
    privileged,
    namespaces_are_its_own,
    nothing_of_the_host_is_open,
    devices_are_refused,
    the_shim_binary_cannot_be_written,
    rlimits_and_oom_score,
    user_namespaces,
];

async fn caps(
    world: &World,
    id: &str,
    change: impl FnOnce(&mut mizzen_runtime::spec::ContainerSpec),
) -> (String, String, String) {
    let mut spec = world.container(id, "grep -E '^Cap(Bnd|Eff|Inh)' /proc/self/status");
    change(&mut spec);
    let (_, log) = world.run(spec).await;
    let find = |name: &str| log.lines().find_map(|l| l.strip_prefix(name)).unwrap_or("?").trim().to_owned();
    (find("CapBnd:"), find("CapEff:"), find("CapInh:"))
}

async fn capabilities() {
    let world = world();
    let zero = "0000000000000000".to_owned();
    let usual = "00000000a80425fb".to_owned();
    assert_eq!(caps(&world, "a1", |_| {}).await, (usual.clone(), usual.clone(), zero.clone()));
    let admin = "00000000a80435fb".to_owned();
    let add = |s: &mut mizzen_runtime::spec::ContainerSpec| s.security.capabilities_add = vec!["NET_ADMIN".to_owned()];
    assert_eq!(caps(&world, "a2", add).await, (admin.clone(), admin, zero.clone()));
    let only = "0000000000000001".to_owned();
    let result = caps(&world, "a3", |s| {
        s.security.capabilities_drop = vec!["ALL".to_owned()];
        s.security.capabilities_add = vec!["CHOWN".to_owned()];
    });
    assert_eq!(result.await, (only.clone(), only, zero.clone()));
    // A user other than root keeps none, but may get those of the bounding set from set-user-id programs.
    assert_eq!(caps(&world, "a4", |s| s.user.user = UserName::Id(33)).await, (usual, zero.clone(), zero));
    let mut wrong = world.container("a5", "true");
    wrong.security.capabilities_add = vec!["FLY".to_owned()];
    assert!(matches!(world.start(wrong).await, Err(DriverError::Create { .. })));
    // An exec has what the container has.
    world.start(world.container("a6", "sleep 100")).await.unwrap();
    let (_, text) = world.exec("a6", "grep CapEff /proc/self/status; grep Seccomp: /proc/self/status").await;
    assert_eq!(text, "CapEff:\t00000000a80425fb\nSeccomp:\t2\n");
}

async fn system_calls() {
    let world = world();
    let script = "exec 2>&1; unshare -m true; echo $?; mount -t tmpfs x /tmp; echo $?; grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status";
    let (_, log) = world.run(world.container("a1", script)).await;
    assert!(log.contains("unshare: unshare(0x20000): Operation not permitted\n1\n"), "{log}");
    assert!(log.contains("NoNewPrivs:\t0\nSeccomp:\t2\n"), "{log}");
    let mut admin = world.container("a2", script);
    admin.security.capabilities_add = vec!["SYS_ADMIN".to_owned()];
    let (_, log) = world.run(admin).await;
    assert!(log.starts_with("0\n0\n"), "{log}");
    let mut free = world.container("a3", script);
    free.security.seccomp = Seccomp::Unconfined;
    free.security.no_new_privileges = true;
    assert!(world.run(free).await.1.contains("NoNewPrivs:\t1\nSeccomp:\t0\n"));
    let mut both = world.container("a4", script);
    both.security.no_new_privileges = true;
    both.user.user = UserName::Id(33);
    assert!(world.run(both).await.1.contains("NoNewPrivs:\t1\nSeccomp:\t2\n"));
}

async fn profiles_from_files() {
    let world = world();
    let file = world.directory.path().join("profile.json");
    let text = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":28}]}"#;
    std::fs::write(&file, text).unwrap();
    let mut spec = world.container("a1", "mkdir /tmp/x");
    spec.security.seccomp = Seccomp::Profile(file.clone());
    let (code, log) = world.run(spec).await;
    assert_eq!((code, log.as_str()), (1, "mkdir: can't create directory '/tmp/x': No space left on device\n"));
    std::fs::write(&file, "{").unwrap();
    let mut spec = world.container("a2", "true");
    spec.security.seccomp = Seccomp::Profile(file);
    assert!(matches!(world.start(spec).await, Err(DriverError::Create { .. })));
}

async fn masked_and_read_only() {
    let world = world();
    let script = "exec 2>&1; cat /proc/timer_list | wc -c; ls /sys/firmware | wc -l; cat /proc/keys | wc -c; \
        (echo 1 > /proc/sys/kernel/panic) 2>&1; (echo 1 > /proc/irq/default_smp_affinity) 2>&1; \
        (mkdir GROUP/x) 2>&1; (echo -1 > GROUP/cgroup.procs) 2>&1; (echo x > /sys/kernel/uevent_helper) 2>&1; ls /dev | tr '\\n' ' '; umount /proc/keys 2>&1";
    let group = inside("memory");
    let here = |text: &str| text.replace("GROUP", group.to_str().unwrap());
    let (_, log) = world.run(world.container("a1", &here(script))).await;
    let expected = "0\n0\n0\n\
        sh: can't create /proc/sys/kernel/panic: Read-only file system\n\
        sh: can't create /proc/irq/default_smp_affinity: Read-only file system\n\
        mkdir: can't create directory 'GROUP/x': Read-only file system\n\
        sh: can't create GROUP/cgroup.procs: Read-only file system\n\
        sh: can't create /sys/kernel/uevent_helper: Read-only file system\n\
        fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero umount: can't unmount /proc/keys: Operation not permitted\n";
    assert_eq!(log, here(expected));
    let mut spec = world.container("a2", "head -c 9 /proc/timer_list >/dev/null && echo readable; touch /proc/sys/x");
    spec.security.unmasked_proc = true;
    assert!(world.run(spec).await.1.starts_with("readable\n"));
}

async fn read_only_root() {
    let world = world();
    let mut spec = world.container("a1", "exec 2>&1; touch /x; mkdir /tmp/y; touch /dev/shm/z && echo shm; pwd");
    spec.security.read_only_root = true;
    spec.cwd = "/made/for/it".to_owned();
    let (_, log) = world.run(spec).await;
    assert_eq!(
        log,
        "touch: /x: Read-only file system\nmkdir: can't create directory '/tmp/y': Read-only file system\nshm\n/made/for/it\n"
    );
}

async fn users() {
    let world = world();
    let image = |text: &str| User { user: UserName::Image(text.to_owned()), ..User::default() };
    for (id, user, expected) in [
        ("a1", image(""), "0 0 0 /root\n"),
        ("a2", image("web"), "33 34 34 77 /home/web\n"),
        ("a3", image("12:13"), "12 13 13 /\n"),
        (
            "a4",
            User { user: UserName::Id(33), gid: Some(5), additional_gids: vec![9], strict_groups: true },
            "33 5 5 9 /home/web\n",
        ),
    ] {
        let mut spec = world.container(id, "echo $(id -u) $(id -g) $(id -G) $HOME; echo out > /dev/stdout");
        spec.user = user;
        let (code, log) = world.run(spec).await;
        assert_eq!((code, log), (0, expected.to_owned() + "out\n"), "{id}");
    }
    let mut spec = world.container("a5", "true");
    spec.user = image("ghost");
    match world.start(spec).await {
        Err(DriverError::Create { message, .. }) => {
            assert_eq!(message, "unable to find user ghost: no matching entries in passwd file");
        }
        other => panic!("{other:?}"),
    }
    // An endless or odd passwd file is no passwd file.
    std::fs::remove_file(world.root.join("etc/passwd")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", world.root.join("etc/passwd")).unwrap();
    let (code, _) = world.run(world.container("a6", "true")).await;
    assert_eq!(code, 0);
}

async fn privileged() {
    let world = world();
    let script = "mount -t tmpfs x /tmp && echo mounted; head -c 4 /proc/timer_list | wc -c; \
        ls /dev/vda /dev/loop-control /dev/kmsg 2>/dev/null | head -1; mkdir GROUP/x && rmdir GROUP/x && echo groups";
    let mut spec = world.container("a1", &script.replace("GROUP", inside("pids").to_str().unwrap()));
    spec.security.privileged = true;
    let (_, log) = world.run(spec).await;
    assert!(log.starts_with("mounted\n4\n/dev/") && log.ends_with("groups\n"), "{log}");
}

async fn namespaces_are_its_own() {
    let world = world();
    let script = "for n in net ipc uts pid mnt cgroup; do readlink /proc/self/ns/$n; done; ls /sys/class/net; ls -d /proc/[0-9]* | wc -l";
    let (_, log) = world.run(world.container("a1", script)).await;
    for name in ["net", "ipc", "uts", "pid", "mnt", "cgroup"] {
        let host = std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        assert!(!log.contains(host.to_str().unwrap()), "{name} is the host's");
    }
    assert!(log.contains("\nlo\n") && !log.contains("eth0"), "{log}");
    // Containers of a pod share network, IPC and host name; with a shared PID namespace, processes too.
    let mut pod = world.pod("q");
    (pod.share_process_namespace, pod.host_network) = (true, true);
    let sandbox = world.driver.start_sandbox(pod).await.unwrap();
    assert_eq!(sandbox.network_namespace, None);
    world.driver.start_container("q", world.container("b1", "sleep 4321")).await.unwrap();
    let script = "ps -o pid,args | grep -c 'sleep [4]321'; readlink /proc/self/ns/net; cat /proc/1/comm; ls /proc/1/root 2>&1; kill -9 1; sleep 0.1; cat /proc/1/comm";
    world.driver.start_container("q", world.container("b2", script)).await.unwrap();
    world.exited("q", "b2").await;
    let host = std::fs::read_link("/proc/self/ns/net").unwrap();
    let expected = format!("1\n{}\npause\nls: /proc/1/root: Permission denied\npause\n", host.display());
    assert_eq!(world.log("q", "b2"), expected);
    // With the right to trace, PID 1's root can be looked at: it is empty.
    let mut tracer = world.container("b3", "ls /proc/1/root/ | wc -l; ls -l /proc/1/fd | grep -c socket");
    tracer.security.capabilities_add = vec!["ALL".to_owned()];
    world.driver.start_container("q", tracer).await.unwrap();
    world.exited("q", "b3").await;
    assert_eq!(world.log("q", "b3"), "0\n1\n");
    let exec = mizzen_runtime::driver::ExecSpec {
        args: vec!["sh".into(), "-c".into(), "ps | grep -c '[s]leep 4321'".into()],
        tty: false,
        stdin: false,
    };
    let exec = world.driver.exec("q", "b1", exec).await.unwrap();
    assert_eq!(crate::world::finish(exec).await, (0, "1\n".to_owned()));
}

/// CVE-2024-21626 and its like: no descriptor, directory or environment of shim and driver reaches the program.
async fn nothing_of_the_host_is_open() {
    let world = world();
    let script = "ls /proc/self/fd | tr '\\n' ' '; env | sort; echo $PPID; cat /proc/1/oom_score_adj";
    let (_, log) = world.run(world.container("a1", script)).await;
    assert_eq!(log, "0 1 2 3 HOME=/root\nPATH=/bin\nPWD=/\nSHLVL=1\n0\n0\n");
    let mut signals = world.container("a4", "");
    signals.args = ["grep", "-E", "^Sig(Blk|Ign|Pnd)", "/proc/self/status"].map(str::to_owned).to_vec();
    let zero = "0000000000000000";
    let expected = format!("SigPnd:\t{zero}\nSigBlk:\t{zero}\nSigIgn:\t{zero}\n");
    assert_eq!(world.run(signals).await.1, expected, "signals are blocked or ignored");
    world.start(world.container("a2", "sleep 100")).await.unwrap();
    let (_, text) = world.exec("a2", "ls /proc/self/fd | tr '\\n' ' '").await;
    assert_eq!(text, "0 1 2 3 ");
    for fd in 3..12 {
        let mut spec = world.container("a3", "true");
        spec.cwd = format!("/proc/self/fd/{fd}");
        let result = world.start(spec).await;
        assert!(result.is_err(), "a container works in descriptor {fd} of the shim");
    }
}

async fn devices_are_refused() {
    let world = world();
    let script = "mknod /tmp/kmsg c 1 11 && (head -c 1 /tmp/kmsg) 2>&1; mknod /tmp/n c 1 3 && echo x > /tmp/n && echo fine; ls -l /dev/fuse2 /dev/one";
    let mut spec = world.container("a1", script);
    spec.devices = vec![mizzen_runtime::spec::Device {
        host_path: "/dev/full".into(),
        container_path: "/dev/one".to_owned(),
        permissions: "r".to_owned(),
    }];
    let (_, log) = world.run(spec).await;
    assert!(log.starts_with("head: /tmp/kmsg: Operation not permitted\nfine\n"), "{log}");
    assert!(log.contains("1,   7") && log.contains("/dev/one"), "{log}");
}

/// CVE-2019-5736: a container that makes the runtime execute it through `/proc/self/exe` finds that on a read-only mount.
async fn the_shim_binary_cannot_be_written() {
    let mut world = world();
    // A copy of its own: this very program is busy as long as the test runs.
    let program = world.directory.path().join("shim");
    std::fs::copy("/proc/self/exe", &program).unwrap();
    world.config.shim_program = program.clone();
    let driver = Oci::new(world.config.clone(), std::sync::Arc::new(Directories)).unwrap();
    let sandbox = driver.start_sandbox(world.pod("p")).await.unwrap();
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
    let exe = format!("/proc/{}/exe", sandbox.shim_pid);
    let exe = rustix::fs::open(exe, flags, rustix::fs::Mode::empty()).unwrap();
    driver.remove_sandbox("p").await.unwrap();
    let again = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&exe));
    let error = std::fs::OpenOptions::new().write(true).open(again).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EROFS), "{error}");
}

async fn rlimits_and_oom_score() {
    let world = world();
    let mut spec = world.container("a1", "ulimit -n; ulimit -H -n; cat /proc/self/oom_score_adj");
    spec.rlimits = vec![("RLIMIT_NOFILE".to_owned(), 100, 200)];
    spec.resources.oom_score_adj = Some(321);
    assert_eq!(world.run(spec).await.1, "100\n200\n321\n");
    let mut low = world.container("a2", "true");
    low.resources.oom_score_adj = Some(-998);
    assert_eq!(world.run(low).await.0, 0, "lowering may be refused, never fatal");
    let mut wrong = world.container("a3", "true");
    wrong.rlimits = vec![("RLIMIT_NOPE".to_owned(), 1, 1)];
    assert!(matches!(world.start(wrong).await, Err(DriverError::Create { .. })));
}

/// Root inside is nobody outside, files keep their owners on disk, and the pod's network is its own.
async fn user_namespaces() {
    let world = world();
    let directory = world.directory.path().join("volume");
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join("theirs"), "").unwrap();
    std::os::unix::fs::chown(directory.join("theirs"), Some(33), Some(34)).unwrap();
    for (pod_name, share) in [("p", false), ("q", true)] {
        let mut pod = world.pod(pod_name);
        pod.user_namespace = Some(mizzen_runtime::spec::IdRange { first: 1_000_000, length: 65_536 });
        pod.share_process_namespace = share;
        world.driver.start_sandbox(pod).await.unwrap();
        let script = "cat /proc/self/uid_map; touch /volume/mine /etc/mine; stat -c '%u:%g' /volume/mine /volume/theirs /etc/passwd; \
            mount -t tmpfs none /tmp 2>&1; ip link set lo down && echo net; echo x > /dev/null && echo null; \
            cat /proc/sysrq-trigger 2>&1; sleep 1000";
        let id = if share { "b1" } else { "a1" };
        let mut spec = world.container(id, script);
        spec.security.capabilities_add = vec!["NET_ADMIN".to_owned()];
        spec.mounts.push(mizzen_runtime::spec::Mount {
            source: mizzen_runtime::spec::MountSource::Bind(directory.clone()),
            destination: "/volume".to_owned(),
            read_only: false,
            recursive_read_only: false,
            propagation: mizzen_runtime::spec::Propagation::Private,
        });
        let container = world.driver.start_container(pod_name, spec).await.unwrap();
        let ContainerState::Running { pid, .. } = container.state else { panic!() };
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        assert!(status.contains("Uid:\t1000000\t1000000"), "{status}");
        use std::os::unix::fs::MetadataExt;
        let mine = directory.join("mine");
        eventually("the container's log", || async { world.log(pod_name, id).contains("null").then_some(()) }).await;
        let log = world.log(pod_name, id);
        assert!(log.contains("0:0\n33:34\n0:0\n") && log.contains("net\nnull\n"), "{log}");
        assert!(log.contains("permission denied") || log.contains("Operation not permitted"), "no mounts: {log}");
        assert_eq!(std::fs::metadata(&mine).unwrap().uid(), 0, "on disk it is root's");
        let args = ["sh", "-c", "id -u; stat -c %u /proc/1 /volume/theirs; cat /proc/self/uid_map"];
        let exec = ExecSpec { args: args.map(str::to_owned).to_vec(), tty: false, stdin: false };
        let (code, text) = finish(world.driver.exec(pod_name, id, exec).await.unwrap()).await;
        assert_eq!(code, 0, "{text}");
        let words: Vec<&str> = text.split_whitespace().collect();
        assert_eq!(words, ["0", "0", "33", "0", "1000000", "65536"], "{text}");
        std::fs::remove_file(&mine).unwrap();
        world.driver.remove_sandbox(pod_name).await.unwrap();
    }
}
