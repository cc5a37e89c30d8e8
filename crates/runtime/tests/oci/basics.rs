//! Running, exiting, logging, exec.

use mizzen_runtime::driver::{ContainerState, Driver, DriverError, DriverEvent, ExecSpec};

use crate::world::{finish, world};

crate::tests![runs_and_exits, signals_end_containers, exec_runs_inside, missing_commands, removal_is_complete];

async fn runs_and_exits() {
    let mut world = world();
    let (code, log) = world.run(world.container("a1", "echo out; echo err >&2; hostname; pwd; exit 7")).await;
    assert_eq!(code, 7);
    assert_eq!(log, "out\nerr\nhost-p\n/\n");
    assert!(world.raw_log("p", "a1").contains("Z stderr F err\n"));
    assert_eq!(world.events.recv().await, Some(DriverEvent::Container { pod_uid: "p".to_owned() }));
}

async fn signals_end_containers() {
    let world = world();
    world.start(world.container("a1", "trap 'exit 3' TERM; while :; do sleep 0.05; done")).await.unwrap();
    world.driver.signal("p", "a1", 15).await.unwrap();
    assert!(matches!(world.exited("p", "a1").await, ContainerState::Exited { code: 3, signal: None, .. }));
    world.start(world.container("a2", "sleep 100")).await.unwrap();
    world.driver.kill("p", "a2").await.unwrap();
    let state = world.exited("p", "a2").await;
    assert!(matches!(state, ContainerState::Exited { code: 137, signal: Some(9), oom_killed: false, .. }), "{state:?}");
    world.driver.kill("p", "a2").await.unwrap();
}

async fn exec_runs_inside() {
    let world = world();
    world.start(world.container("a1", "sleep 100")).await.unwrap();
    let (code, text) =
        world.exec("a1", "echo hi; ls /proc/1/root >/dev/null && cat /proc/1/cmdline | tr '\\0' ' '; exit 4").await;
    assert_eq!((code, text.as_str()), (4, "hi\nsleep 100 "));
    let args = vec!["cat".to_owned()];
    let mut exec = world.driver.exec("p", "a1", ExecSpec { args, tty: false, stdin: true }).await.unwrap();
    let stdin = exec.streams.stdin.take().unwrap();
    rustix::io::write(&stdin, b"to cat").unwrap();
    drop(stdin);
    assert_eq!(finish(exec).await, (0, "to cat".to_owned()));
}

async fn missing_commands() {
    let world = world();
    for (args, expected) in [
        (vec!["nope"], "exec: \"nope\": executable file not found in $PATH"),
        (vec!["/bin/nope"], "exec: \"/bin/nope\": stat /bin/nope: no such file or directory"),
        (vec!["/etc"], "exec: \"/etc\": is a directory"),
        (vec!["/etc/passwd"], "exec: \"/etc/passwd\": permission denied"),
    ] {
        let mut spec = world.container("b1", "");
        spec.args = args.into_iter().map(str::to_owned).collect();
        match world.start(spec).await {
            Err(DriverError::Start { message }) => assert_eq!(message, expected),
            other => panic!("{other:?}"),
        }
    }
    world.start(world.container("a1", "sleep 100")).await.unwrap();
    let spec = ExecSpec { args: vec!["nope".to_owned()], tty: false, stdin: false };
    assert!(matches!(world.driver.exec("p", "a1", spec).await, Err(DriverError::Start { .. })));
}

async fn removal_is_complete() {
    let world = world();
    world.start(world.container("a1", "sleep 100 & sleep 100")).await.unwrap();
    world.driver.remove_sandbox("p").await.unwrap();
    world.driver.remove_sandbox("p").await.unwrap();
    assert!(matches!(world.driver.sandbox("p").await, Err(DriverError::NoSandbox { .. })));
    assert!(!world.config.run_directory.join("p").exists());
    assert!(!world.group("memory", "").exists());
}
