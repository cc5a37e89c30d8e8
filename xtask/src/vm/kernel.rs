//! Debian's kernel with its modules, unpacked below the target directory; nothing of it is installed.

use std::path::{Path, PathBuf};

use crate::run::{Result, is_there, output, root};

/// The package that names today's kernel. The one for clouds has no 9p.
const META: &str = "linux-image-amd64";

/// A kernel.
pub struct Kernel {
    /// The image to boot.
    pub image: PathBuf,
    /// The folder that has `lib/modules`.
    pub folder: PathBuf,
    /// As `uname -r` says it.
    pub version: String,
}

impl Kernel {
    /// Downloads and unpacks the kernel, unless an earlier run did.
    pub fn get(offline: bool) -> Result<Self> {
        let folder = root().join("target/vm/kernel");
        if let Some(kernel) = Self::unpacked(&folder) {
            return Ok(kernel);
        }
        if offline || !is_there("apt-get") || !is_there("dpkg-deb") {
            return Err(format!("no kernel in {}, and none may be downloaded", folder.display()));
        }
        let depends = output("apt-cache", &["depends", META])?;
        let package = depends.lines().find_map(|l| l.trim().strip_prefix("Depends: linux-image-"));
        let package =
            package.map(|p| format!("linux-image-{p}")).ok_or_else(|| format!("{META} depends on no kernel"))?;
        let downloads = root().join("target/vm/download");
        std::fs::create_dir_all(&downloads).map_err(|e| format!("{}: {e}", downloads.display()))?;
        let script = format!(
            "cd '{0}' && rm -f *.deb && apt-get download -q {package} && rm -rf '{1}' && mkdir -p '{1}' && dpkg-deb -x *.deb '{1}'",
            downloads.display(),
            folder.display()
        );
        output("sh", &["-c", &script])?;
        let kernel = Self::unpacked(&folder).ok_or_else(|| format!("{package} holds no kernel"))?;
        output("depmod", &["-b", &folder.to_string_lossy(), &kernel.version])?;
        Ok(kernel)
    }

    fn unpacked(folder: &Path) -> Option<Self> {
        let modules = std::fs::read_dir(folder.join("lib/modules")).ok()?.flatten().next()?;
        let version = modules.file_name().to_string_lossy().into_owned();
        let image = folder.join("boot").join(format!("vmlinuz-{version}"));
        image.is_file().then(|| Self { image, folder: folder.to_path_buf(), version })
    }

    /// The files of modules and of those that they need, in the order in which they can be loaded.
    pub fn modules(&self, names: &[&str]) -> Result<Vec<PathBuf>> {
        let directory = self.folder.join("lib/modules").join(&self.version);
        let list = directory.join("modules.dep");
        let text = std::fs::read_to_string(&list).map_err(|e| format!("{}: {e}", list.display()))?;
        let files = load_order(&text, names)?;
        Ok(files.into_iter().map(|file| directory.join(file)).collect())
    }
}

/// A line of `modules.dep` names a module's file and those it needs, the one to load first last.
fn load_order<'a>(dependencies: &'a str, names: &[&str]) -> Result<Vec<&'a str>> {
    let mut files: Vec<&str> = Vec::new();
    for name in names {
        let suffix = format!("/{name}.ko");
        let line = dependencies.lines().filter_map(|l| l.split_once(':')).find(|(file, _)| file.ends_with(&suffix));
        let (file, needed) = line.ok_or_else(|| format!("the kernel has no module {name}"))?;
        for file in needed.split_whitespace().rev().chain([file]) {
            if !files.contains(&file) {
                files.push(file);
            }
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_is_loaded_first() {
        let list =
            "k/virtio.ko:\nk/ring.ko: k/virtio.ko\nk/pci.ko: k/ring.ko k/virtio.ko\nk/9p.ko: k/9pnet.ko\nk/9pnet.ko:\n";
        assert_eq!(
            load_order(list, &["pci", "9p"]).unwrap(),
            ["k/virtio.ko", "k/ring.ko", "k/pci.ko", "k/9pnet.ko", "k/9p.ko"]
        );
        assert!(load_order(list, &["none"]).unwrap_err().contains("none"));
    }
}
