//! Terminals, attach, standard input, logs.

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use mizzen_runtime::driver::{ContainerState, Driver, ExecSpec};

use crate::world::{eventually, read_until, world};

crate::tests![
    exec_with_a_terminal,
    container_with_a_terminal,
    attach_copies_and_feeds,
    standard_input_closes_once,
    a_stuck_reader_is_let_go,
    logs_are_reopened,
    long_output_is_whole,
    exec_is_killed,
];

fn write(fd: &OwnedFd, text: &str) {
    assert_eq!(rustix::io::write(fd, text.as_bytes()).unwrap(), text.len());
}

fn resize(fd: &OwnedFd, rows: u16, columns: u16) {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    assert_eq!(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) }, 0);
}

async fn exec_with_a_terminal() {
    let world = world();
    world.start(world.container("a1", "sleep 100")).await.unwrap();
    let spec = ExecSpec { args: vec!["sh".to_owned()], tty: true, stdin: true };
    let exec = world.driver.exec("p", "a1", spec).await.unwrap();
    assert!(exec.streams.stdout.is_none());
    let terminal = exec.streams.terminal.unwrap();
    resize(&terminal, 33, 44);
    write(&terminal, "tty; stty size; echo $TERM; echo $((6*7))\n");
    let text = read_until(&terminal, |t| t.contains("42\r\n")).await;
    assert!(text.contains("/dev/pts/0\r\n33 44\r\nxterm\r\n"), "{text:?}");
    write(&terminal, "sh -c 'echo go; exec sleep 50'\n");
    read_until(&terminal, |t| t.contains("\r\ngo\r\n")).await;
    write(&terminal, "\x03exit 6\n");
    assert_eq!(exec.exit.await, Ok(6));
}

async fn container_with_a_terminal() {
    let world = world();
    let mut spec =
        world.container("a1", "tty; read x; echo got $x; stty size; test -c /dev/console && echo console; read y");
    (spec.tty, spec.stdin) = (true, true);
    world.start(spec).await.unwrap();
    let streams = world.driver.attach("p", "a1", true).await.unwrap();
    let (stdin, stdout, terminal) = (streams.stdin.unwrap(), streams.stdout.unwrap(), streams.terminal.unwrap());
    assert!(streams.stderr.is_none());
    resize(&terminal, 11, 22);
    write(&stdin, "input\n");
    let text = read_until(&stdout, |t| t.contains("console\r\n")).await;
    assert!(text.contains("got input\r\n11 22\r\n"), "{text:?}");
    assert!(world.raw_log("p", "a1").contains("/dev/pts/0\r\n"));
    write(&stdin, "\x04");
    assert!(matches!(world.exited("p", "a1").await, ContainerState::Exited { code: 1, .. }));
}

async fn attach_copies_and_feeds() {
    let world = world();
    let mut spec = world.container("a1", "while read x; do echo out $x; echo err $x >&2; done; echo end");
    spec.stdin = true;
    world.start(spec).await.unwrap();
    let (first, second) =
        (world.driver.attach("p", "a1", true).await.unwrap(), world.driver.attach("p", "a1", true).await.unwrap());
    write(first.stdin.as_ref().unwrap(), "1\n");
    for streams in [&first, &second] {
        assert_eq!(read_until(streams.stdout.as_ref().unwrap(), |t| t.ends_with('\n')).await, "out 1\n");
        assert_eq!(read_until(streams.stderr.as_ref().unwrap(), |t| t.ends_with('\n')).await, "err 1\n");
    }
    drop(first);
    write(second.stdin.as_ref().unwrap(), "2\n");
    assert_eq!(read_until(second.stdout.as_ref().unwrap(), |t| t.ends_with('\n')).await, "out 2\n");
    world.driver.signal("p", "a1", 9).await.unwrap();
    assert_eq!(read_until(second.stdout.as_ref().unwrap(), |_| false).await, "", "the end was not passed on");
    assert_eq!(world.raw_log("p", "a1").lines().count(), 4);
    world.exited("p", "a1").await;
    assert!(world.driver.attach("p", "a1", true).await.is_err(), "attached to an exited container");
}

async fn standard_input_closes_once() {
    let world = world();
    let mut spec = world.container("a1", "cat; echo closed");
    (spec.stdin, spec.stdin_once) = (true, true);
    world.start(spec).await.unwrap();
    // One who only watches does not close it by leaving.
    let watching = world.driver.attach("p", "a1", false).await.unwrap();
    assert!(watching.stdin.is_none());
    drop(watching);
    let mut streams = world.driver.attach("p", "a1", true).await.unwrap();
    let stdin = streams.stdin.take().unwrap();
    write(&stdin, "text\n");
    drop(stdin);
    assert_eq!(read_until(streams.stdout.as_ref().unwrap(), |_| false).await, "text\nclosed\n");
    world.exited("p", "a1").await;
    // Without stdin, reading it ends at once.
    assert_eq!(world.run(world.container("a2", "cat; echo nothing")).await.1, "nothing\n");
}

async fn a_stuck_reader_is_let_go() {
    let world = world();
    world
        .start(world.container("a1", "sleep 0.2; head -c 3000000 /dev/zero | tr '\\0' x; echo; echo all"))
        .await
        .unwrap();
    let stuck = world.driver.attach("p", "a1", true).await.unwrap();
    // Other calls are answered meanwhile.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(world.exec("a1", "echo alive").await.1, "alive\n");
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !world.raw_log("p", "a1").ends_with("F all\n") {
        assert!(std::time::Instant::now() < deadline, "a reader that does not read holds up its container");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    drop(stuck);
}

async fn logs_are_reopened() {
    let world = world();
    world.start(world.container("a1", "i=0; while :; do echo $i; i=$((i+1)); sleep 0.01; done")).await.unwrap();
    let path = world.directory.path().join("logs/p/main/a1.log");
    eventually("lines", || async { (world.raw_log("p", "a1").lines().count() > 3).then_some(()) }).await;
    let old = path.with_extension("old");
    std::fs::rename(&path, &old).unwrap();
    world.driver.reopen_log("p", "a1").await.unwrap();
    eventually("lines in the new file", || async { (world.raw_log("p", "a1").lines().count() > 3).then_some(()) })
        .await;
    let all = std::fs::read_to_string(&old).unwrap() + &world.raw_log("p", "a1");
    let numbers: Vec<usize> = all.lines().map(|l| l.rsplit(' ').next().unwrap().parse().unwrap()).collect();
    assert!(numbers.iter().copied().eq(0..numbers.len()), "lines were lost or doubled: {numbers:?}");
}

async fn long_output_is_whole() {
    let world = world();
    let (code, log) =
        world.run(world.container("a1", "seq 1 200000; head -c 100000 /dev/zero | tr '\\0' y; echo; echo last")).await;
    assert_eq!(code, 0);
    let raw = world.raw_log("p", "a1");
    assert_eq!(raw.lines().filter(|l| l.contains(" stdout P ")).count(), 100_000 / (16 << 10));
    assert!(log.ends_with("last\n") && log.contains("\n199999\n200000\n"));
    assert_eq!(log.matches('y').count(), 100_000);
}

async fn exec_is_killed() {
    let world = world();
    world.start(world.container("a1", "sleep 100")).await.unwrap();
    let spec = ExecSpec { args: vec!["sleep".to_owned(), "100".to_owned()], tty: false, stdin: false };
    let exec = world.driver.exec("p", "a1", spec).await.unwrap();
    world.driver.kill_exec("p", &exec.id).await.unwrap();
    assert_eq!(exec.exit.await, Ok(137));
    world.driver.kill_exec("p", &exec.id).await.unwrap();
    // The end of the container is the end of what runs in it.
    let spec = ExecSpec { args: vec!["sleep".to_owned(), "100".to_owned()], tty: false, stdin: false };
    let exec = world.driver.exec("p", "a1", spec).await.unwrap();
    world.driver.kill("p", "a1").await.unwrap();
    assert_eq!(exec.exit.await, Ok(137));
}
