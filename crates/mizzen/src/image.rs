//! `mizzen image`: the images of a data directory, while the server runs or not.

use std::io::Write;

use mizzen_runtime::image::ImageStore;
use mizzen_runtime::images::{Image, ImageService, PullPolicy};

use crate::cli::{ImageArgs, ImageCommand, Output};
use crate::error::{CommandError, Result};
use crate::settings;

/// Runs one sub-command.
pub fn run(args: ImageArgs) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Err(CommandError::NotRoot { command: "image" }.into());
    }
    let store = ImageStore::open(&args.data_dir.join("images"), settings::registries(args.config.as_deref())?)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    match args.command {
        ImageCommand::Load { file } => {
            for image in store.load(&file)? {
                println!("loaded {}", name(&image));
            }
            Ok(())
        }
        ImageCommand::Ls { output } => print(&runtime.block_on(store.list())?, output),
        ImageCommand::Rm { images } => runtime.block_on(remove(&store, &images)),
        ImageCommand::Pull { images } => runtime.block_on(pull(&store, &images)),
    }
}

async fn remove(store: &ImageStore, names: &[String]) -> Result<()> {
    for wanted in names {
        let image = store.find(wanted).await?.ok_or_else(|| CommandError::Setting {
            setting: wanted.clone(),
            message: "there is no such image; `mizzen image ls` lists them".into(),
        })?;
        store.remove(&image.id).await?;
        println!("removed {}", name(&image));
    }
    Ok(())
}

async fn pull(store: &ImageStore, names: &[String]) -> Result<()> {
    for wanted in names {
        let pulled = store.ensure(wanted, PullPolicy::Always, &[]).await?;
        let seconds = std::time::Duration::from_millis(pulled.took_ms).as_secs_f64();
        println!("pulled {} ({}, {seconds:.1} s)", name(&pulled.image), megabytes(pulled.image.size_bytes));
    }
    Ok(())
}

fn print(images: &[Image], output: Output) -> Result<()> {
    let mut out = std::io::stdout().lock();
    if output == Output::Json {
        serde_json::to_writer_pretty(&mut out, images)?;
        return Ok(writeln!(out)?);
    }
    let names: Vec<String> = images.iter().map(name).collect();
    let width = names.iter().map(String::len).max().unwrap_or(0).max(5);
    writeln!(out, "{:width$}  {:12}  {:>10}  PINNED", "IMAGE", "ID", "SIZE")?;
    for (name, image) in names.iter().zip(images) {
        let pinned = if image.pinned { "yes, loaded by hand" } else { "no" };
        writeln!(out, "{name:width$}  {:12}  {:>10}  {pinned}", short_id(image), megabytes(image.size_bytes))?;
    }
    Ok(())
}

fn name(image: &Image) -> String {
    image.tags.first().or(image.digests.first()).cloned().unwrap_or_else(|| short_id(image).to_string())
}

fn short_id(image: &Image) -> &str {
    let hex = image.id.strip_prefix("sha256:").unwrap_or(&image.id);
    hex.get(..12).unwrap_or(hex)
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
