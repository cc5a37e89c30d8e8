//! `mizzen down`: takes away everything that mizzen made on this machine. A second run finds nothing to do.

use mizzen_runtime::oci::{self, Oci};

use crate::cli::DownArgs;
use crate::error::{CommandError, Result};
use crate::instance::{Instance, net_cidr};

/// Stops containers, removes mounts, interfaces, tables and cgroups; with `--purge` the data too.
pub fn run(args: &DownArgs) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Err(CommandError::NotRoot { command: "down" }.into());
    }
    let data_dir = std::path::absolute(&args.data_dir).map_err(CommandError::file("resolving", &args.data_dir))?;
    let existed = data_dir.exists();
    if existed {
        // Who holds the store is running; its agent would start anew what is stopped here.
        let store = mizzen_store::Embedded::open(data_dir.join("store"), mizzen_store::Options::default());
        if let Err(error @ mizzen_store::OpenError::Locked { .. }) = store {
            return Err(Box::new(error));
        }
    }
    Oci::clean_up(&oci::Config::for_data_dir(&data_dir))?;
    let instance = Instance::of(&data_dir);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(remove_network(&instance))?;
    if existed {
        mizzen_agent::volume::clean_up(&data_dir)?;
        if args.purge {
            std::fs::remove_dir_all(&data_dir).map_err(CommandError::file("removing", &data_dir))?;
        }
    }
    let kept = if args.purge || !existed { "" } else { "; the data is kept (--purge removes it)" };
    println!("nothing of mizzen is left running{kept}");
    Ok(())
}

async fn remove_network(instance: &Instance) -> Result<()> {
    // Names alone decide what is removed; the ranges are only there because the types want them.
    let any = net_cidr(std::net::Ipv4Addr::new(10, 244, 0, 0), 24).ok_or("10.244.0.0/24 is a range")?;
    mizzen_net::proxy::Proxy::clean_up(instance.proxy(any, any)).await?;
    mizzen_net::pod::PodNetwork::clean_up(instance.pod_network(any, any, any)).await?;
    Ok(())
}
