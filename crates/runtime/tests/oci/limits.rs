//! Limits are the kernel's, and usage is read back.

use mizzen_runtime::driver::{ContainerState, Driver};
use mizzen_runtime::spec::Resources;

use crate::world::{World, eventually, inside, is_v2, world};

crate::tests![memory, processes, files_of_the_cgroup, usage_is_measured, updates_hold, sub_groups_are_removed];

async fn memory() {
    let world = world();
    let mut spec = world.container("a1", "x=; while :; do x=\"$x$(head -c 1000000 /dev/zero | tr '\\0' x)\"; done");
    spec.resources.memory_limit_bytes = Some(16 << 20);
    world.start(spec).await.unwrap();
    let state = world.exited("p", "a1").await;
    assert!(matches!(state, ContainerState::Exited { code: 137, oom_killed: true, .. }), "{state:?}");
}

async fn processes() {
    let world = world();
    let mut spec = world.container("a1", "for i in 1 2 3 4 5 6 7 8 9; do sleep 5 & done; echo unreached");
    spec.resources.pids_limit = Some(4);
    let (code, log) = world.run(spec).await;
    assert_ne!(code, 0);
    assert!(log.contains("can't fork"), "{log}");
}

/// A file of a group: its name and value on v1 and on v2.
struct Kept {
    controller: &'static str,
    v1: (&'static str, &'static str),
    v2: (&'static str, &'static str),
}

const fn kept(controller: &'static str, v1: (&'static str, &'static str), v2: (&'static str, &'static str)) -> Kept {
    Kept { controller, v1, v2 }
}

fn check(world: &World, below: &str, kept: &Kept) {
    let (file, value) = if is_v2() { kept.v2 } else { kept.v1 };
    let path = world.group(kept.controller, below).join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    assert_eq!(text.trim(), value, "{}", path.display());
}

async fn files_of_the_cgroup() {
    let world = world();
    let mut pod = world.pod("p");
    pod.resources = Resources { cpu_shares: Some(512), memory_limit_bytes: Some(64 << 20), ..Resources::default() };
    world.driver.start_sandbox(pod).await.unwrap();
    let limit = inside("memory").join(if is_v2() { "memory.max" } else { "memory.limit_in_bytes" });
    let mut spec = world.container("a1", &format!("cat {}; cat /proc/self/cgroup; sleep 100", limit.display()));
    spec.resources = Resources {
        cpu_shares: Some(102),
        cpu_quota_us: Some(50_000),
        cpu_period_us: Some(100_000),
        memory_limit_bytes: Some(32 << 20),
        pids_limit: Some(99),
        ..Resources::default()
    };
    world.start(spec).await.unwrap();
    for (below, kept) in [
        ("", kept("cpu", ("cpu.shares", "512"), ("cpu.weight", "20"))),
        ("", kept("memory", ("memory.limit_in_bytes", "67108864"), ("memory.max", "67108864"))),
        ("a1", kept("cpu", ("cpu.shares", "102"), ("cpu.weight", "4"))),
        ("a1", kept("cpu", ("cpu.cfs_quota_us", "50000"), ("cpu.max", "50000 100000"))),
        ("a1", kept("memory", ("memory.limit_in_bytes", "33554432"), ("memory.max", "33554432"))),
        ("a1", kept("pids", ("pids.max", "99"), ("pids.max", "99"))),
    ] {
        check(&world, below, &kept);
    }
    let own = if is_v2() { "0::/\n" } else { ":memory:/\n" };
    let log = eventually("the log", || async { Some(world.log("p", "a1")).filter(|l| l.contains(own)) }).await;
    assert!(log.starts_with("33554432\n"), "{log}");
}

async fn usage_is_measured() {
    let world = world();
    world.start(world.container("a1", "i=0; while [ $i -lt 50000 ]; do i=$((i+1)); done; sleep 100")).await.unwrap();
    let usage = eventually("cpu time to be used", || async {
        world.driver.usage("p", Some("a1")).await.ok().filter(|u| u.cpu_nanos > 1_000_000 && u.rss_bytes > 0)
    })
    .await;
    assert!(usage.working_set_bytes <= usage.memory_bytes && usage.memory_bytes > 0 && usage.pids >= 1, "{usage:?}");
    let pod = world.driver.usage("p", None).await.unwrap();
    assert!(pod.cpu_nanos >= usage.cpu_nanos && pod.memory_bytes > 0, "{pod:?}");
    assert!(world.driver.usage("p", Some("ff")).await.is_err());
}

async fn updates_hold() {
    let world = world();
    let mut spec = world.container("a1", "sleep 100");
    spec.resources.memory_limit_bytes = Some(64 << 20);
    spec.resources.pids_limit = Some(50);
    world.start(spec).await.unwrap();
    for limit in [32_i64 << 20, 128 << 20] {
        let resources = Resources { memory_limit_bytes: Some(limit), ..Resources::default() };
        world.driver.update("p", Some("a1"), resources).await.unwrap();
        let file = if is_v2() { "memory.max" } else { "memory.limit_in_bytes" };
        let now = std::fs::read_to_string(world.group("memory", "a1").join(file)).unwrap();
        assert_eq!(now.trim(), limit.to_string());
    }
    let resources = Resources { cpu_shares: Some(77), ..Resources::default() };
    world.driver.update("p", None, resources).await.unwrap();
    check(&world, "", &kept("cpu", ("cpu.shares", "77"), ("cpu.weight", "3")));
    let sandbox = world.driver.sandbox("p").await.unwrap();
    let now = &sandbox.containers[0].spec.resources;
    assert_eq!((now.memory_limit_bytes, now.pids_limit), (Some(128 << 20), Some(50)));
}

async fn sub_groups_are_removed() {
    let world = world();
    let group = inside("memory");
    let script = format!("mkdir -p {0}/x/y && echo 0 > {0}/x/y/cgroup.procs && sleep 100", group.display());
    let mut spec = world.container("a1", &script);
    spec.security.privileged = true;
    world.start(spec).await.unwrap();
    let made = world.group("memory", "a1").join("x/y");
    eventually("the group", || async { made.exists().then_some(()) }).await;
    world.driver.kill("p", "a1").await.unwrap();
    world.exited("p", "a1").await;
    world.driver.remove_container("p", "a1").await.unwrap();
    assert!(!world.group("memory", "a1").exists());
}
