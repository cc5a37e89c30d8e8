//! How long a sandbox, a container's start and an exec take: `cargo run --release -p mizzen-runtime --example start_bench`.
//!
//! Needs root and busybox-static. Times are from the driver's call to its answer, which comes when the program has been
//! executed. Prints medians, and the fastest and slowest of the middle nine tenths.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mizzen_runtime::driver::{Driver, ExecSpec};
use mizzen_runtime::oci::{Config, ImageLayers, LayersError, Oci};
use mizzen_runtime::spec::{ContainerSpec, PodSpec, Resources, Security, User};

const ROUNDS: usize = 50;

struct OneImage(PathBuf);

impl ImageLayers for OneImage {
    fn layers(&self, _image_id: &str) -> Result<Vec<PathBuf>, LayersError> {
        Ok(vec![self.0.clone()])
    }
}

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1).peekable();
    if args.peek().is_some_and(|arg| arg == "shim") {
        return mizzen_runtime::shim::shim_main(args.skip(1));
    }
    let directory = std::env::temp_dir().join(format!("mizzen-bench-{}", std::process::id()));
    let image = directory.join("image");
    let config = Config::for_data_dir(&directory);
    std::fs::create_dir_all(image.join("bin")).expect("image directory");
    std::fs::copy("/bin/busybox", image.join("bin/busybox")).expect("busybox-static is needed");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    runtime.block_on(measure(&config, &directory, &image));
    Oci::clean_up(&config).expect("clean up");
    std::fs::remove_dir_all(directory).expect("remove the bench directory");
    ExitCode::SUCCESS
}

async fn measure(config: &Config, directory: &Path, image: &Path) {
    let driver = Oci::new(config.clone(), Arc::new(OneImage(image.to_owned()))).expect("driver");
    for idle in [Duration::ZERO, Duration::from_millis(100)] {
        let (mut sandboxes, mut starts, mut execs, mut removals) = (vec![], vec![], vec![], vec![]);
        for _ in 0..ROUNDS {
            tokio::time::sleep(idle).await;
            time(&mut sandboxes, driver.start_sandbox(pod(directory))).await.expect("sandbox");
            tokio::time::sleep(idle).await;
            time(&mut starts, driver.start_container("p", container("a1"))).await.expect("container");
            tokio::time::sleep(idle).await;
            let spec = ExecSpec { args: vec!["/bin/busybox".into(), "true".into()], tty: false, stdin: false };
            let exec = time(&mut execs, driver.exec("p", "a1", spec)).await.expect("exec");
            exec.exit.await.expect("exit code");
            time(&mut removals, driver.remove_sandbox("p")).await.expect("removal");
        }
        println!("{} ms idle before each", idle.as_millis());
        for (name, times) in
            [("sandbox", sandboxes), ("container", starts), ("exec", execs), ("removal of both", removals)]
        {
            println!("  {name:16} {}", summary(times));
        }
    }
}

async fn time<T>(times: &mut Vec<Duration>, work: impl Future<Output = T>) -> T {
    let begin = Instant::now();
    let value = work.await;
    times.push(begin.elapsed());
    value
}

fn summary(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |tenth: usize| times[(times.len() - 1) * tenth / 20].as_secs_f64() * 1000.0;
    format!("{:7.2} ms   ({:.2} - {:.2})", at(10), at(1), at(19))
}

fn pod(directory: &Path) -> PodSpec {
    PodSpec {
        uid: "p".to_owned(),
        namespace: "default".to_owned(),
        name: "p".to_owned(),
        hostname: "p".to_owned(),
        cgroup: "podp".to_owned(),
        resources: Resources::default(),
        host_network: false,
        host_pid: false,
        host_ipc: false,
        user_namespace: None,
        share_process_namespace: false,
        sysctls: [].into(),
        log_directory: directory.join("logs"),
        annotations: [].into(),
    }
}

fn container(id: &str) -> ContainerSpec {
    ContainerSpec {
        id: id.to_owned(),
        name: "main".to_owned(),
        attempt: 0,
        image_id: "image".to_owned(),
        args: ["/bin/busybox", "sleep", "1000"].map(str::to_owned).to_vec(),
        env: vec!["PATH=/bin".to_owned()],
        cwd: "/".to_owned(),
        user: User::default(),
        mounts: vec![],
        devices: vec![],
        resources: Resources { memory_limit_bytes: Some(64 << 20), pids_limit: Some(100), ..Resources::default() },
        security: Security::default(),
        tty: false,
        stdin: false,
        stdin_once: false,
        log_path: format!("{id}.log").into(),
        stop_signal: 15,
        rlimits: vec![],
    }
}
