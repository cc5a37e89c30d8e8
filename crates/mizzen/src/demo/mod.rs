//! `mizzen demo`: a scratch cluster in a network namespace of its own, shown at work with real processes and packets.
//!
//! * [`cluster`]: the server as a child process, and the end of it.
//! * [`image`]: the sample image, made of this very binary.
//! * [`load`]: requests through the Service, counted.
//! * [`story`]: what is shown, step by step.

mod cluster;
mod image;
mod load;
mod manifest;
mod story;

use crate::cli::DemoArgs;
use crate::error::{CommandError, Result};
use cluster::Cluster;

/// Shows everything and takes it away again, whether it went well or not.
pub fn run(args: &DemoArgs) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Err(CommandError::NotRoot { command: "demo" }.into());
    }
    // Before any other thread exists: the whole process, and so all that it starts, lives in the new namespace.
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
        .map_err(|e| CommandError::Kernel { feature: "network namespaces".into(), reason: e.to_string() })?;
    mizzen_net::netlink::loopback_up()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let cluster = Cluster::start().await?;
        let shown = tokio::select! {
            shown = story::tell(&cluster, args.keep) => shown,
            _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
        };
        if shown.is_ok() && args.keep {
            cluster.print_use();
            // Without the signal there is nothing to wait for, and the cluster is taken away.
            let _ = tokio::signal::ctrl_c().await;
        }
        cluster.take_away().await?;
        shown
    })
}
