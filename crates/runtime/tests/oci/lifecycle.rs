//! Shims that die, drivers that are replaced, and what is left behind.

use std::sync::Arc;

use mizzen_runtime::driver::{ContainerState, Driver, DriverError, DriverEvent};
use mizzen_runtime::oci::Oci;

use crate::world::{Directories, World, eventually, world};

crate::tests![
    containers_die_with_their_shim,
    even_those_that_forbid_it,
    a_new_driver_adopts,
    exits_while_no_driver_listens_are_known,
    lost_shims_are_found_on_adoption,
    failed_sandboxes_leave_nothing,
    starting_twice_is_once,
    hundred_pods_at_once,
];

fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

fn kill_shim(pid: u32) {
    assert_eq!(unsafe { libc::kill(pid as i32, libc::SIGKILL) }, 0);
}

async fn pid_of(world: &World, id: &str) -> u32 {
    match world.state("p", id).await {
        Some(ContainerState::Running { pid, .. }) => pid,
        other => panic!("{id} does not run: {other:?}"),
    }
}

async fn containers_die_with_their_shim() {
    let mut world = world();
    world.start(world.container("a1", "sleep 1000 & sleep 1000")).await.unwrap();
    let pid = pid_of(&world, "a1").await;
    let shim = world.driver.sandbox("p").await.unwrap().shim_pid;
    kill_shim(shim);
    eventually("the container to die", || async { (!is_alive(pid)).then_some(()) }).await;
    assert_eq!(world.events.recv().await, Some(DriverEvent::SandboxLost { pod_uid: "p".to_owned() }));
    assert!(!is_alive(shim), "the shim was not waited for");
    assert!(matches!(world.driver.sandbox("p").await, Err(DriverError::NoSandbox { .. })));
    // The pod can be started again at once, in place of the lost one.
    let (code, _) = world.run(world.container("a1", "exit 5")).await;
    assert_eq!(code, 5);
    world.driver.remove_sandbox("p").await.unwrap();
}

/// Shared PID namespaces and the host's have no init of the container's own; and a container may clear its death signal
/// (a set-user-id program does). The driver kills by cgroup then.
async fn even_those_that_forbid_it() {
    for (share, host) in [(true, false), (false, true)] {
        let mut world = world();
        let mut pod = world.pod("p");
        (pod.share_process_namespace, pod.host_pid) = (share, host);
        world.driver.start_sandbox(pod).await.unwrap();
        world.start(world.container("a1", "(setsid sleep 1234 &) ; sleep 1000")).await.unwrap();
        let first = pid_of(&world, "a1").await;
        let group = world.group("pids", "a1").join("cgroup.procs");
        let pids = eventually("two processes", || async {
            let list: Vec<u32> = std::fs::read_to_string(&group).ok()?.lines().filter_map(|l| l.parse().ok()).collect();
            (list.len() >= 2).then_some(list)
        })
        .await;
        assert!(pids.contains(&first));
        kill_shim(world.driver.sandbox("p").await.unwrap().shim_pid);
        assert_eq!(world.events.recv().await, Some(DriverEvent::SandboxLost { pod_uid: "p".to_owned() }));
        for pid in pids {
            eventually("all processes to die", || async { (!is_alive(pid)).then_some(()) }).await;
        }
    }
}

async fn a_new_driver_adopts() {
    let world = world();
    world.start(world.container("a1", "echo one; sleep 1000")).await.unwrap();
    let before = world.driver.sandbox("p").await.unwrap();
    let second = Oci::new(world.config.clone(), Arc::new(Directories)).unwrap();
    assert_eq!(second.adopt().await.unwrap(), vec![before.clone()]);
    assert_eq!(second.adopt().await.unwrap().len(), 1, "adopting again finds the same");
    let third = Oci::new(world.config.clone(), Arc::new(Directories)).unwrap();
    assert_eq!(
        third.start_sandbox(world.pod("p")).await.unwrap(),
        before,
        "a running pod is adopted, not started again"
    );
    let mut events = second.events();
    second.signal("p", "a1", 9).await.unwrap();
    assert_eq!(events.recv().await, Some(DriverEvent::Container { pod_uid: "p".to_owned() }));
    second.remove_sandbox("p").await.unwrap();
}

async fn exits_while_no_driver_listens_are_known() {
    let world = world();
    world.start(world.container("a1", "sleep 0.1; exit 9")).await.unwrap();
    let pid = pid_of(&world, "a1").await;
    let World { driver, config, directory, .. } = &world;
    // The first driver's links end with it; the world's own handle is replaced by a look through a new one.
    let _ = (driver, directory);
    eventually("the container to exit", || async { (!is_alive(pid)).then_some(()) }).await;
    let second = Oci::new(config.clone(), Arc::new(Directories)).unwrap();
    let found = second.adopt().await.unwrap();
    let ContainerState::Exited { code, started_at, finished_at, .. } = found[0].containers[0].state else {
        panic!("{found:?}")
    };
    assert_eq!(code, 9);
    assert!(finished_at > started_at);
}

async fn lost_shims_are_found_on_adoption() {
    let world = world();
    let sandbox = world.driver.start_sandbox(world.pod("p")).await.unwrap();
    world.start(world.container("a1", "sleep 1000")).await.unwrap();
    let second = Oci::new(world.config.clone(), Arc::new(Directories)).unwrap();
    kill_shim(sandbox.shim_pid);
    eventually("the shim to end", || async { (!is_alive(sandbox.shim_pid)).then_some(()) }).await;
    assert_eq!(second.adopt().await.unwrap(), vec![]);
    assert_eq!(second.events().recv().await, Some(DriverEvent::SandboxLost { pod_uid: "p".to_owned() }));
    second.remove_sandbox("p").await.unwrap();
    assert!(!world.config.run_directory.join("p").exists());
}

async fn failed_sandboxes_leave_nothing() {
    let mut world = world();
    for (name, value) in
        [("kernel.hostname", "x"), ("net.../../kernel/hostname", "x"), ("net.core.nope", "1"), ("vm.swappiness", "1")]
    {
        let mut pod = world.pod("p");
        pod.sysctls.insert(name.to_owned(), value.to_owned());
        let result = world.driver.start_sandbox(pod).await;
        assert!(matches!(result, Err(DriverError::Create { .. })), "{name}: {result:?}");
        assert!(!world.config.run_directory.join("p").exists());
    }
    for uid in ["", "..", "a/b", ".hidden"] {
        assert!(world.driver.start_sandbox(world.pod(uid)).await.is_err(), "{uid:?}");
    }
    assert!(world.events.try_recv().is_err(), "a failed start is no event");
    let mut pod = world.pod("p");
    pod.sysctls.insert("net.core.somaxconn".to_owned(), "321".to_owned());
    pod.sysctls.insert("kernel.shm_rmid_forced".to_owned(), "1".to_owned());
    world.driver.start_sandbox(pod).await.unwrap();
    let (_, log) = world.run(world.container("a1", "cat /proc/sys/net/core/somaxconn")).await;
    assert_eq!(log, "321\n");
}

async fn starting_twice_is_once() {
    let world = world();
    let first = world.driver.start_sandbox(world.pod("p")).await.unwrap();
    assert_eq!(world.driver.start_sandbox(world.pod("p")).await.unwrap(), first);
    world.start(world.container("a1", "sleep 1000")).await.unwrap();
    assert!(matches!(world.start(world.container("a1", "true")).await, Err(DriverError::Create { .. })));
    assert!(matches!(world.driver.remove_container("p", "a1").await, Err(DriverError::Create { .. })));
    world.driver.kill("p", "a1").await.unwrap();
    world.exited("p", "a1").await;
    world.driver.remove_container("p", "a1").await.unwrap();
    world.driver.remove_container("p", "a1").await.unwrap();
    assert_eq!(world.state("p", "a1").await, None);
}

async fn hundred_pods_at_once() {
    let world = world();
    let starts = (0..100).map(|n| {
        let (driver, uid) = (Arc::clone(&world.driver), format!("p{n}"));
        let (pod, container) = (world.pod(&uid), world.container("a1", "sleep 1000"));
        async move {
            driver.start_sandbox(pod).await.expect("sandbox");
            driver.start_container(&uid, container).await.expect("container");
            driver.remove_sandbox(&uid).await.expect("removal");
        }
    });
    futures_util::future::join_all(starts).await;
    assert_eq!(std::fs::read_dir(&world.config.run_directory).unwrap().count(), 0);
}
