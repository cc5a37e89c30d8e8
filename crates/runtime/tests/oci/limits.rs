//! Limits are the kernel's, and usage is read back.

use mizzen_runtime::driver::{ContainerState, Driver};
use mizzen_runtime::spec::Resources;

use crate::world::{World, eventually, world};

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

fn group_file(world: &World, controller: &str, below: &str, file: &str) -> String {
    let path = format!("/sys/fs/cgroup/{controller}/{}/burstable/podp{below}/{file}", world.config.cgroup_root);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}")).trim().to_owned()
}

async fn files_of_the_cgroup() {
    let world = world();
    let mut pod = world.pod("p");
    pod.resources = Resources { cpu_shares: Some(512), memory_limit_bytes: Some(64 << 20), ..Resources::default() };
    world.driver.start_sandbox(pod).await.unwrap();
    let mut spec =
        world.container("a1", "cat /sys/fs/cgroup/memory/memory.limit_in_bytes; cat /proc/self/cgroup; sleep 100");
    spec.resources = Resources {
        cpu_shares: Some(102),
        cpu_quota_us: Some(50_000),
        cpu_period_us: Some(100_000),
        memory_limit_bytes: Some(32 << 20),
        pids_limit: Some(99),
        ..Resources::default()
    };
    world.start(spec).await.unwrap();
    for (controller, below, file, value) in [
        ("cpu", "", "cpu.shares", "512"),
        ("memory", "", "memory.limit_in_bytes", "67108864"),
        ("cpu", "/a1", "cpu.shares", "102"),
        ("cpu", "/a1", "cpu.cfs_quota_us", "50000"),
        ("memory", "/a1", "memory.limit_in_bytes", "33554432"),
        ("pids", "/a1", "pids.max", "99"),
    ] {
        assert_eq!(group_file(&world, controller, below, file), value, "{file}");
    }
    let log = eventually("the log", || async { Some(world.log("p", "a1")).filter(|l| l.contains("memory:")) }).await;
    assert!(log.starts_with("33554432\n"), "{log}");
    assert!(log.contains(":memory:/\n"), "the container sees the root of its cgroups: {log}");
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
        assert_eq!(group_file(&world, "memory", "/a1", "memory.limit_in_bytes"), limit.to_string());
    }
    let resources = Resources { cpu_shares: Some(77), ..Resources::default() };
    world.driver.update("p", None, resources).await.unwrap();
    assert_eq!(group_file(&world, "cpu", "", "cpu.shares"), "77");
    let sandbox = world.driver.sandbox("p").await.unwrap();
    let now = &sandbox.containers[0].spec.resources;
    assert_eq!((now.memory_limit_bytes, now.pids_limit), (Some(128 << 20), Some(50)));
}

async fn sub_groups_are_removed() {
    let world = world();
    let mut spec = world.container(
        "a1",
        "mkdir -p /sys/fs/cgroup/memory/x/y && echo 0 > /sys/fs/cgroup/memory/x/y/cgroup.procs && sleep 100",
    );
    spec.security.privileged = true;
    world.start(spec).await.unwrap();
    let made = format!("/sys/fs/cgroup/memory/{}/burstable/podp/a1/x/y", world.config.cgroup_root);
    eventually("the group", || async { std::path::Path::new(&made).exists().then_some(()) }).await;
    world.driver.kill("p", "a1").await.unwrap();
    world.exited("p", "a1").await;
    world.driver.remove_container("p", "a1").await.unwrap();
    assert!(!std::path::Path::new(&made).parent().unwrap().parent().unwrap().exists());
}
