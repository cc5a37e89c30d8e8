//! The command line. Each flag is defined once; help, completions and the command reference derive from it.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::error::Result;
use crate::{completions, demo, down, image, secrets, settings, up, web};

/// A container orchestrator in one binary that speaks the Kubernetes API.
#[derive(Debug, Parser)]
#[command(name = "mizzen", version, disable_help_subcommand = true)]
#[command(after_help = "Start with `mizzen demo` for a tour, or `sudo mizzen up` and the kubectl you have.")]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a cluster on this machine and stay in the foreground
    ///
    /// Ctrl-C stops mizzen and leaves the containers running; started again, it goes on with them.
    Up(UpArgs),
    /// Stop every container and remove all that mizzen made on this machine
    Down(DownArgs),
    /// Load, list, pull and remove images
    Image(ImageArgs),
    /// Keep the keys of encrypted data
    Secrets(SecretsArgs),
    /// Show what mizzen does: a scratch cluster, a service, healing, scaling, a rolling update
    Demo(DemoArgs),
    /// Print the version
    Version,
    /// Print shell completions
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the command reference as Markdown
    #[command(hide = true)]
    Reference,
    /// The sample web program of the demo
    #[command(hide = true)]
    Web(web::WebArgs),
}

/// Flags of `mizzen up`. The same keys may stand in a YAML file.
#[derive(Debug, Clone, Default, Args)]
pub struct UpArgs {
    /// YAML file with the same keys as the flags (dataDir, listen, …); flags win
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where everything is kept [default: /var/lib/mizzen]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Address of the API [default: 0.0.0.0:6443]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// Where to write the administrator's kubeconfig [default: <data-dir>/admin.kubeconfig]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Name of this node [default: the host name]
    #[arg(long, value_name = "NAME")]
    pub node_name: Option<String>,
    /// Addresses for pods [default: 10.244.0.0/16]
    #[arg(long, value_name = "CIDR")]
    pub pod_cidr: Option<String>,
    /// Addresses for Services [default: 10.96.0.0/12]
    #[arg(long, value_name = "CIDR")]
    pub service_cidr: Option<String>,
    /// Port of the node's own endpoint, for logs and exec [default: 10250]
    #[arg(long, value_name = "PORT")]
    pub kubelet_port: Option<u16>,
    /// What to log: error, warn, info, debug, trace, or filters as in tracing [default: warn]
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// How to log [default: text]
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub log_format: Option<settings::LogFormat>,
}

/// Flags of `mizzen down`.
#[derive(Debug, Args)]
pub struct DownArgs {
    /// The data directory given to `mizzen up`
    #[arg(long, value_name = "DIR", default_value = settings::DATA_DIR)]
    pub data_dir: PathBuf,
    /// Remove the data too: objects, certificates, images, volumes
    #[arg(long)]
    pub purge: bool,
}

/// `mizzen image …`.
#[derive(Debug, Args)]
pub struct ImageArgs {
    /// The data directory given to `mizzen up`
    #[arg(long, value_name = "DIR", default_value = settings::DATA_DIR, global = true)]
    pub data_dir: PathBuf,
    /// YAML file with registries (mirrors, insecure), as for `mizzen up`
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    #[command(subcommand)]
    pub command: ImageCommand,
}

/// What to do with images.
#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    /// Load an OCI layout (directory or tar) or a `docker save` archive
    Load {
        /// The file or directory
        file: PathBuf,
    },
    /// List the images of this node
    Ls {
        /// How to print
        #[arg(long, short, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Remove images by name or id
    Rm {
        /// Names or ids
        #[arg(required = true)]
        images: Vec<String>,
    },
    /// Pull images from their registries
    Pull {
        /// Names, such as registry.example:5000/team/app:1.2
        #[arg(required = true)]
        images: Vec<String>,
    },
}

/// `mizzen secrets …`.
#[derive(Debug, Args)]
pub struct SecretsArgs {
    /// The data directory given to `mizzen up`
    #[arg(long, value_name = "DIR", default_value = settings::DATA_DIR, global = true)]
    pub data_dir: PathBuf,
    /// YAML file with `encryption`, as for `mizzen up`
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    #[command(subcommand)]
    pub command: SecretsCommand,
}

/// What to do with keys.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum SecretsCommand {
    /// Make a new key, encrypt everything with it, forget the old ones; mizzen must be stopped, containers may run on
    Rotate,
}

/// How a list is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people
    Table,
    /// For scripts
    Json,
}

/// Flags of `mizzen demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Leave the cluster running at the end and print how to use it
    #[arg(long)]
    pub keep: bool,
    /// Runs inside the network namespace that the demo made
    #[arg(long, hide = true)]
    pub inside: Option<PathBuf>,
}

/// Parses the arguments and runs the command. Wrong usage exits with 2 and says what is right.
pub fn run() -> Result<()> {
    match Cli::parse().command {
        Command::Up(args) => up::run(&args),
        Command::Down(args) => down::run(&args),
        Command::Image(args) => image::run(args),
        Command::Secrets(args) => secrets::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Version => {
            println!("mizzen {} (Kubernetes API {})", env!("CARGO_PKG_VERSION"), settings::KUBERNETES_VERSION);
            Ok(())
        }
        Command::Completions { shell } => {
            completions::print(shell, &mut Cli::command());
            Ok(())
        }
        Command::Reference => {
            print!("{}", completions::reference(&Cli::command()));
            Ok(())
        }
        Command::Web(args) => web::run(&args),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }
}
