//! Volumes: where they land, what they let through, and that nothing leaves the root.

use std::os::unix::fs::symlink;
use std::path::Path;

use mizzen_runtime::driver::{Driver, DriverError};
use mizzen_runtime::spec::{Mount, MountSource, Propagation};

use crate::world::{World, world};

crate::tests![
    binds_and_tmpfs,
    read_only_volumes,
    links_do_not_lead_outside,
    kernel_file_systems_cannot_be_covered,
    images_cannot_redirect_proc,
    image_volumes,
    layers_stack,
    propagation,
    dev_shm_is_the_pods,
];

fn bind(source: &Path, destination: &str) -> Mount {
    Mount {
        source: MountSource::Bind(source.to_owned()),
        destination: destination.to_owned(),
        read_only: false,
        recursive_read_only: false,
        propagation: Propagation::Private,
    }
}

fn volume(world: &World, name: &str) -> std::path::PathBuf {
    let path = world.directory.path().join(name);
    std::fs::create_dir(&path).unwrap();
    std::fs::write(path.join("file"), name).unwrap();
    path
}

async fn binds_and_tmpfs() {
    let world = world();
    let (one, two) = (volume(&world, "one"), volume(&world, "two"));
    let mut spec = world.container("a1", "cat /data/file /data/sub/deep/file /etc/single; echo new > /data/new; stat -c %a /mem; df -k /mem | tail -1 | awk '{print $2}'");
    let tmpfs = MountSource::Tmpfs { size_bytes: Some(1 << 20), mode: 0o1777 };
    spec.mounts = vec![
        bind(&one, "/data"),
        bind(&two, "/data/sub/deep"),
        bind(&two.join("file"), "/etc/single"),
        Mount { source: tmpfs, ..bind(&one, "/mem") },
    ];
    let (_, log) = world.run(spec).await;
    assert_eq!(log, "onetwotwo1777\n1024\n");
    assert_eq!(std::fs::read_to_string(one.join("new")).unwrap(), "new\n");
    let mut missing = world.container("a2", "true");
    missing.mounts = vec![bind(Path::new("/nowhere/at/all"), "/data")];
    match world.start(missing).await {
        Err(DriverError::Create { step, message }) => {
            assert_eq!(
                (step.as_str(), message.as_str()),
                ("mount /nowhere/at/all at /data", "no such file or directory")
            );
        }
        other => panic!("{other:?}"),
    }
}

async fn read_only_volumes() {
    let world = world();
    let one = volume(&world, "one");
    let mut spec = world.container("a1", "exec 2>&1; touch /a/x; touch /b/x; cat /a/file");
    spec.mounts = vec![
        Mount { read_only: true, ..bind(&one, "/a") },
        Mount { recursive_read_only: true, read_only: true, ..bind(&one, "/b") },
    ];
    let (_, log) = world.run(spec).await;
    assert_eq!(log, "touch: /a/x: Read-only file system\ntouch: /b/x: Read-only file system\none\n");
}

async fn links_do_not_lead_outside() {
    let world = world();
    let (one, outside) = (volume(&world, "one"), volume(&world, "outside"));
    symlink(&outside, world.root.join("absolute")).unwrap();
    symlink("../../../../../../../../../../../../../../../../", world.root.join("up")).unwrap();
    symlink("/proc/1/root", world.root.join("magic")).unwrap();
    symlink("/proc/self/fd/3", world.root.join("fd")).unwrap();
    let mut spec = world.container("a1", "cat /absolute/a/file; cat /up/b/file; cat /c/file; cat /dangling/file; ls /");
    symlink("/not/yet/there", world.root.join("dangling")).unwrap();
    spec.mounts = ["/absolute/a", "/up/b", "/../../../c", "/dangling"].map(|to| bind(&one, to)).to_vec();
    let (_, log) = world.run(spec).await;
    assert!(log.starts_with("oneoneoneone"), "{log}");
    assert!(!outside.join("a").exists() && !Path::new("/b").exists() && !Path::new("/not").exists());
    symlink("../run/none/resolv.conf", world.root.join("etc/resolv.conf")).unwrap();
    let mut file = world.container("a4", "cat /etc/resolv.conf; ls /run/none");
    file.mounts = vec![bind(&one.join("file"), "/etc/resolv.conf")];
    assert_eq!(world.run(file).await.1, "oneresolv.conf\n");
    for to in ["/magic/x", "/fd/x", "relative"] {
        let mut spec = world.container("a2", "true");
        spec.mounts = vec![bind(&one, to)];
        assert!(matches!(world.start(spec).await, Err(DriverError::Create { .. })), "{to}");
    }
    // A volume that a container fills with links is no way out for the next mount into it (subPath and nested mounts).
    symlink("/etc", one.join("etc-link")).unwrap();
    let mut spec = world.container("a3", "ls /etc");
    spec.mounts = vec![bind(&one, "/data"), bind(&outside, "/data/etc-link")];
    let (_, log) = world.run(spec).await;
    assert_eq!(log, "file\n", "the link leads to the container's own /etc");
    assert!(Path::new("/etc/passwd").exists());
}

/// CVE-2023-27561, CVE-2025-52881 and their like.
async fn kernel_file_systems_cannot_be_covered() {
    let world = world();
    let one = volume(&world, "one");
    symlink("/proc/self", world.root.join("self")).unwrap();
    for to in ["/proc/self/attr", "/proc/sys/kernel", "/self/attr", "/proc", "/proc/1/../sys", "/proc/self/exe"] {
        let mut spec = world.container("a1", "true");
        spec.mounts = vec![bind(&one, to)];
        let result = world.start(spec).await;
        assert!(matches!(result, Err(DriverError::Create { .. })), "{to}: {result:?}");
    }
    let mut spec = world.container("a1", "cat /proc/meminfo");
    spec.mounts = vec![bind(&one.join("file"), "/proc/meminfo")];
    assert_eq!(world.run(spec).await.1, "one\n");
}

/// CVE-2019-16884, CVE-2021-30465, CVE-2025-31133: `/proc`, `/sys` and `/dev` of the image as links.
async fn images_cannot_redirect_proc() {
    for name in ["proc", "sys", "dev"] {
        let world = world();
        std::fs::create_dir(world.root.join("elsewhere")).unwrap();
        symlink("elsewhere", world.root.join(name)).unwrap();
        let result = world.start(world.container("a1", "true")).await;
        assert!(matches!(result, Err(DriverError::Create { .. })), "{name}: {result:?}");
    }
}

async fn image_volumes() {
    let world = world();
    let (one, two) = (volume(&world, "one"), volume(&world, "two"));
    std::fs::create_dir(two.join("sub")).unwrap();
    std::fs::write(two.join("sub/only"), "in two\n").unwrap();
    symlink("/../../../../etc", two.join("escape")).unwrap();
    let image = |layers: &[&Path], sub: Option<&str>| MountSource::Image {
        image_id: layers.iter().map(|p| p.to_str().unwrap()).collect::<Vec<_>>().join(":"),
        sub_path: sub.map(str::to_owned),
    };
    let mut spec = world.container(
        "a1",
        "exec 2>&1; ls /single /both /part | tr '\\n' ' '; cat /both/file; echo; touch /single/x /both/x /part/x",
    );
    spec.mounts = vec![
        Mount { source: image(&[&one], None), ..bind(&one, "/single") },
        Mount { source: image(&[&one, &two], None), ..bind(&one, "/both") },
        Mount { source: image(&[&one, &two], Some("sub")), ..bind(&one, "/part") },
    ];
    let (_, log) = world.run(spec).await;
    let denied = ["/single/x", "/both/x", "/part/x"].map(|f| format!("touch: {f}: Read-only file system\n")).concat();
    assert_eq!(log, format!("/both: escape file sub  /part: only  /single: file one\n{denied}"));
    let mut spec = world.container("a2", "ls /out");
    spec.mounts = vec![Mount { source: image(&[&two], Some("escape")), ..bind(&one, "/out") }];
    assert!(matches!(world.start(spec).await, Err(DriverError::Create { .. })), "a link of an image led outside of it");
}

async fn layers_stack() {
    let world = world();
    let top = volume(&world, "top,with:odd\\name");
    let mut spec = world.container("a1", "exec 2>&1; cat /file; echo changed > /bin/added; rm /file; ls /file");
    // The test's image store splits at ':', so only the other characters can be in a name here.
    let renamed = world.directory.path().join("top,with\\odd name");
    std::fs::rename(top, &renamed).unwrap();
    spec.image_id = format!("{}:{}", renamed.display(), world.root.display());
    let (_, log) = world.run(spec).await;
    assert!(log.starts_with("top,with:odd\\namels: /file: No such file"), "{log}");
    assert!(renamed.join("file").exists() && !world.root.join("bin/added").exists(), "a layer was written to");
}

async fn propagation() {
    let world = world();
    let shared = volume(&world, "shared");
    // Made a shared mount, in a mount namespace that is the whole test's: the host's.
    let run = |args: &[&str]| assert!(std::process::Command::new("mount").args(args).status().unwrap().success());
    let path = shared.to_str().unwrap();
    run(&["--bind", path, path]);
    run(&["--make-shared", path]);
    struct Unmount(std::path::PathBuf);
    impl Drop for Unmount {
        fn drop(&mut self) {
            while rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH).is_ok() {}
        }
    }
    let _guard = Unmount(shared.clone());
    for name in ["late", "inner"] {
        std::fs::create_dir(shared.join(name)).unwrap();
    }
    let mut spec = world.container("a1", "sleep 100");
    spec.mounts = vec![
        bind(&shared, "/private"),
        Mount { propagation: Propagation::HostToContainer, ..bind(&shared, "/follow") },
        Mount { propagation: Propagation::Bidirectional, ..bind(&shared, "/both") },
    ];
    spec.security.privileged = true;
    world.start(spec).await.unwrap();
    run(&["-t", "tmpfs", "late", shared.join("late").to_str().unwrap()]);
    std::fs::write(shared.join("late/seen"), "").unwrap();
    let script = "ls /private/late /follow/late /both/late | tr '\\n' ' '; mount -t tmpfs x /both/inner && touch /both/inner/up; mount -t tmpfs y /follow/late && touch /follow/late/down";
    let (_, text) = world.exec("a1", script).await;
    assert_eq!(text, "/both/late: seen  /follow/late: seen  /private/late: ");
    assert!(shared.join("inner/up").exists(), "a mount of the container did not reach the host");
    assert!(!shared.join("late/down").exists(), "a mount of the container reached the host unasked");
    for name in ["inner", "late"] {
        rustix::mount::unmount(shared.join(name), rustix::mount::UnmountFlags::DETACH).unwrap();
    }
    world.driver.remove_sandbox("p").await.unwrap();
}

async fn dev_shm_is_the_pods() {
    let world = world();
    world.start(world.container("a1", "echo shared > /dev/shm/x; sleep 100")).await.unwrap();
    let (_, log) = world
        .run(world.container(
            "a2",
            "while ! cat /dev/shm/x 2>/dev/null; do sleep 0.01; done; df -k /dev/shm | tail -1 | awk '{print $2}'",
        ))
        .await;
    assert_eq!(log, "shared\n65536\n");
}
