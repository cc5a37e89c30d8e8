//! `mizzen up`: server, controllers, scheduler and agent in one process.
//!
//! The parts are opened in the order in which they need each other and stopped in the reverse order. Containers are not
//! stopped: their shims go on, and the next start adopts them.

mod authority;
mod control_plane;
mod network;
mod node;

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use mizzen_server::pki::{self, Pki};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cli::UpArgs;
use crate::error::{CommandError, Result};
use crate::instance::Instance;
use crate::logging;
use crate::settings::{CLUSTER_DOMAIN, Settings};
use control_plane::ControlPlane;

/// How long parts may take to stop before they are left behind.
const STOP_MAX: Duration = Duration::from_millis(1800);
/// How long the node may take to become ready before a hint is printed.
const READY_HINT: Duration = Duration::from_secs(20);

/// Runs until a signal, or until a part fails.
pub fn run(args: &UpArgs) -> Result<()> {
    let settings = Settings::read(args)?;
    logging::start(&settings.log_level, settings.log_format)?;
    // Clearing huge pages for small objects costs a fifth of the writes under load. A kernel that cannot tell is as good.
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "transparent huge pages stay as they are");
    }
    allow_open_files();
    check_machine()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(serve(settings));
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}

/// Raises the limit on open files as far as it may be: each connection is one, and the usual 1,024 would be all of them.
fn allow_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, "the limit on open files stays as it is");
    }
}

/// Everything that can be told before something is changed.
fn check_machine() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Err(CommandError::NotRoot { command: "up" }.into());
    }
    for (feature, outcome) in mizzen_net::required_features().into_iter().chain(mizzen_runtime::required_features()) {
        if let Err(reason) = outcome {
            return Err(CommandError::Kernel { feature: feature.into(), reason }.into());
        }
    }
    Ok(())
}

async fn serve(settings: Settings) -> Result<()> {
    let began = Instant::now();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    std::fs::create_dir_all(&settings.data_dir).map_err(CommandError::file("creating", &settings.data_dir))?;
    let instance = Instance::of(&settings.data_dir);
    let control_plane = ControlPlane::open(&settings)?;
    let listener = listen(&settings).await?;
    let addresses = node::addresses(&settings);
    let pki = Arc::new(open_pki(&settings, &addresses)?);
    let shutdown = CancellationToken::new();
    let mut parts: JoinSet<Result<&'static str>> = JoinSet::new();
    let running = control_plane.start(&settings, &pki, listener, addresses[0], &shutdown, &mut parts).await?;
    write_kubeconfig(&settings, &pki)?;
    println!(
        "mizzen {} · API at {} · data in {}",
        env!("CARGO_PKG_VERSION"),
        settings.local_server(),
        settings.data_dir.display()
    );
    println!("kubeconfig written to {0}; use it with: export KUBECONFIG={0}", settings.kubeconfig.display());
    node::start(&settings, &instance, &pki, &running, addresses, &shutdown, &mut parts)?;
    parts.spawn(renew_certificates(Arc::clone(&pki), shutdown.clone()));
    let announce = announce_ready(running.clone(), settings.node_name.clone(), began);
    tokio::pin!(announce);
    let mut announced = false;
    let outcome = loop {
        tokio::select! {
            _ = terminate.recv() => break Ok(()),
            _ = interrupt.recv() => break Ok(()),
            Some(ended) = parts.join_next() => break part_ended(ended),
            () = &mut announce, if !announced => announced = true,
        }
    };
    println!("stopping; containers keep running (`mizzen down` stops them)");
    shutdown.cancel();
    let all_ended = async { while parts.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_MAX, all_ended).await.is_err() {
        tracing::warn!("some parts did not stop in time and are left behind");
        parts.abort_all();
    }
    running.close().await;
    outcome
}

async fn listen(settings: &Settings) -> Result<TcpListener> {
    let address = settings.listen;
    TcpListener::bind(address).await.map_err(|source| match source.kind() {
        std::io::ErrorKind::AddrInUse => CommandError::AddressInUse { address }.into(),
        _ => CommandError::Listen { address, source }.into(),
    })
}

fn open_pki(settings: &Settings, addresses: &[std::net::IpAddr]) -> Result<Pki> {
    let options = pki::Options {
        dir: settings.data_dir.join("pki"),
        node_name: settings.node_name.clone(),
        service_address: settings.service_cidr.nth(1).into(),
        addresses: addresses.to_vec(),
        names: Vec::new(),
        cluster_domain: CLUSTER_DOMAIN.into(),
    };
    Ok(Pki::open(&options, Timestamp::now())?)
}

fn write_kubeconfig(settings: &Settings, pki: &Pki) -> Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let path = &settings.kubeconfig;
    let failed = |e| CommandError::file("writing", path)(e);
    let temporary = path.with_extension("tmp");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(failed)?;
    file.write_all(pki.admin_kubeconfig(&settings.local_server()).as_bytes())
        .map_err(|e| CommandError::file("writing", path)(e))?;
    std::fs::rename(&temporary, path).map_err(|e| CommandError::file("writing", path)(e))?;
    Ok(())
}

/// Re-issues certificates before they end. Sleeps until the next is due.
async fn renew_certificates(pki: Arc<Pki>, shutdown: CancellationToken) -> Result<&'static str> {
    /// A machine's clock may jump: look at least once a day.
    const LONGEST: Duration = Duration::from_secs(24 * 3600);
    loop {
        let now = Timestamp::now();
        let wait = match pki.renew_due(now) {
            Ok(next) => {
                Duration::try_from(next.duration_since(now)).unwrap_or_default().clamp(Duration::from_secs(60), LONGEST)
            }
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "certificates could not be renewed");
                Duration::from_secs(600)
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return Ok("certificates"),
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Says when pods can be scheduled, or after a while that they still cannot.
async fn announce_ready(running: control_plane::Running, node: String, began: Instant) {
    let ready = running.node_schedulable(&node);
    tokio::pin!(ready);
    if tokio::time::timeout(READY_HINT, &mut ready).await.is_err() {
        println!("node {node} is still not ready; see why with: kubectl describe node {node}");
        ready.await;
    }
    println!("ready in {:.2} s · node {node} takes pods", began.elapsed().as_secs_f64());
}

fn part_ended(ended: std::result::Result<Result<&'static str>, tokio::task::JoinError>) -> Result<()> {
    match ended {
        Ok(Ok(part)) => Err(CommandError::Stopped { part, reason: "it ended by itself".into() }.into()),
        Ok(Err(error)) => Err(error),
        Err(error) => Err(CommandError::Stopped { part: "a part", reason: error.to_string() }.into()),
    }
}
