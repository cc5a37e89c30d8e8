//! `mizzen down`: takes away everything that mizzen made on this machine. A second run finds nothing to do.

use mizzen_runtime::oci::{self, Oci};

use crate::cli::DownArgs;
use crate::error::{CommandError, Result};
use crate::instance::{Instance, net_cidr};
use crate::settings;

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
        remove_volumes(&data_dir)?;
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

/// Unmounts what agents mounted below the data directory (tmpfs volumes), deepest first.
fn remove_volumes(data_dir: &std::path::Path) -> Result<()> {
    let table = std::fs::read_to_string("/proc/self/mountinfo")
        .map_err(CommandError::file("reading", "/proc/self/mountinfo"))?;
    let below =
        |line: &str| line.split(' ').nth(4).map(unescape).filter(|p| std::path::Path::new(p).starts_with(data_dir));
    let mut mounts: Vec<String> = table.lines().filter_map(below).collect();
    mounts.sort_by_key(|p| std::cmp::Reverse(p.len()));
    for mount in mounts {
        rustix::mount::unmount(mount.as_str(), rustix::mount::UnmountFlags::DETACH)
            .map_err(|e| CommandError::file("unmounting", &mount)(e.into()))?;
    }
    let pods = data_dir.join(settings::PODS);
    match std::fs::remove_dir_all(&pods) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(CommandError::file("removing", pods)(error).into())
        }
        _ => Ok(()),
    }
}

/// The kernel writes blanks and backslashes of paths in octal.
fn unescape(path: &str) -> String {
    path.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
}
