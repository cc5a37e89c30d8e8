//! Which pod has which address of the node's range.
//!
//! One file an address, named after it and holding the pod's uid: creating it is the allocation, removing it the
//! release. So nothing is handed out twice, whatever is restarted when. The search starts behind the address given
//! last, so an address rests as long as the range allows before its next use.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::{fs, io};

const CURSOR: &str = "last";

/// Addresses of one range.
#[derive(Debug)]
pub struct Ipam {
    directory: PathBuf,
    first: u32,
    last: u32,
    cursor: u32,
    by_pod: BTreeMap<String, Ipv4Addr>,
    by_address: BTreeMap<Ipv4Addr, String>,
}

/// Why there is no address.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// All are taken.
    #[error("all {size} pod addresses of this node are in use")]
    Exhausted {
        /// How many there are.
        size: u32,
    },
    /// The state folder fails.
    #[error("cannot access the pod address file {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Ipam {
    /// Reads what is allocated. `first` and `last` are the addresses that may be handed out.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn open(directory: PathBuf, first: Ipv4Addr, last: Ipv4Addr) -> Result<Self, Error> {
        let failed = |path: &Path, source| Error::File { path: path.to_owned(), source };
        fs::create_dir_all(&directory).map_err(|e| failed(&directory, e))?;
        let cursor = fs::read_to_string(directory.join(CURSOR)).ok().and_then(|text| text.trim().parse().ok());
        let mut ipam = Self {
            first: first.to_bits(),
            last: last.to_bits(),
            cursor: cursor.map_or(first.to_bits().wrapping_sub(1), Ipv4Addr::to_bits),
            by_pod: BTreeMap::new(),
            by_address: BTreeMap::new(),
            directory,
        };
        for entry in fs::read_dir(&ipam.directory).map_err(|e| failed(&ipam.directory, e))? {
            let path = entry.map_err(|e| failed(&ipam.directory, e))?.path();
            let Some(address) = path.file_name().and_then(|name| name.to_str()?.parse::<Ipv4Addr>().ok()) else {
                continue;
            };
            let uid = fs::read_to_string(&path).map_err(|e| failed(&path, e))?;
            // A file without an owner was left by a crash between creating and writing it: nobody uses the address.
            // One of a pod that has another address, or outside of the range, is as useless.
            if uid.is_empty() || ipam.by_pod.contains_key(&uid) || !ipam.in_range(address) {
                fs::remove_file(&path).map_err(|e| failed(&path, e))?;
                continue;
            }
            ipam.by_address.insert(address, uid.clone());
            ipam.by_pod.insert(uid, address);
        }
        Ok(ipam)
    }

    fn in_range(&self, address: Ipv4Addr) -> bool {
        (self.first..=self.last).contains(&address.to_bits())
    }

    /// The pod's address: the one it has, or a free one.
    ///
    /// # Errors
    /// None is free, or the file cannot be written.
    pub fn allocate(&mut self, uid: &str) -> Result<Ipv4Addr, Error> {
        if let Some(address) = self.by_pod.get(uid) {
            return Ok(*address);
        }
        let size = self.last - self.first + 1;
        let start = self.cursor.wrapping_sub(self.first).wrapping_add(1);
        let address = (0..size)
            .map(|step| Ipv4Addr::from_bits(self.first + start.wrapping_add(step) % size))
            .find(|address| !self.by_address.contains_key(address))
            .ok_or(Error::Exhausted { size })?;
        let path = self.directory.join(address.to_string());
        let written = fs::File::create_new(&path).and_then(|mut file| file.write_all(uid.as_bytes()));
        written.map_err(|source| Error::File { path, source })?;
        self.cursor = address.to_bits();
        let path = self.directory.join(CURSOR);
        fs::write(&path, address.to_string()).map_err(|source| Error::File { path, source })?;
        self.by_address.insert(address, uid.to_owned());
        self.by_pod.insert(uid.to_owned(), address);
        Ok(address)
    }

    /// Frees the pod's address, if it has one.
    ///
    /// # Errors
    /// The file cannot be removed; the address then stays taken.
    pub fn release(&mut self, uid: &str) -> Result<(), Error> {
        let Some(address) = self.by_pod.get(uid).copied() else {
            return Ok(());
        };
        let path = self.directory.join(address.to_string());
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(Error::File { path, source }),
            _ => {}
        }
        self.by_pod.remove(uid);
        self.by_address.remove(&address);
        Ok(())
    }

    /// The pods that have addresses.
    pub fn pods(&self) -> impl Iterator<Item = (&str, Ipv4Addr)> {
        self.by_pod.iter().map(|(uid, address)| (uid.as_str(), *address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(directory: &Path) -> Ipam {
        Ipam::open(directory.to_owned(), Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(10, 0, 0, 5)).unwrap()
    }

    fn last(address: Ipv4Addr) -> u8 {
        address.octets()[3]
    }

    #[test]
    fn addresses_survive_a_restart_and_rest_before_their_next_use() {
        let folder = tempfile::tempdir().unwrap();
        let mut ipam = open(folder.path());
        assert_eq!(last(ipam.allocate("a").unwrap()), 2);
        assert_eq!(last(ipam.allocate("b").unwrap()), 3);
        assert_eq!(last(ipam.allocate("a").unwrap()), 2, "a pod keeps its address");
        ipam.release("a").unwrap();
        let mut ipam = open(folder.path());
        assert_eq!(
            ipam.pods().map(|(uid, address)| (uid.to_owned(), last(address))).collect::<Vec<_>>(),
            [("b".to_owned(), 3)]
        );
        assert_eq!(last(ipam.allocate("c").unwrap()), 4, "2 was used a moment ago");
        assert_eq!(last(ipam.allocate("d").unwrap()), 5);
        assert_eq!(last(ipam.allocate("e").unwrap()), 2, "it begins again when the end is reached");
        assert!(matches!(ipam.allocate("f"), Err(Error::Exhausted { size: 4 })));
        ipam.release("b").unwrap();
        ipam.release("b").unwrap();
        assert_eq!(last(ipam.allocate("f").unwrap()), 3);
    }

    #[test]
    fn useless_files_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("10.0.0.2"), "").unwrap();
        fs::write(folder.path().join("10.0.0.3"), "a").unwrap();
        fs::write(folder.path().join("10.9.0.3"), "b").unwrap();
        fs::write(folder.path().join("last"), "nonsense").unwrap();
        let mut ipam = open(folder.path());
        assert_eq!(ipam.pods().count(), 1);
        assert!(!folder.path().join("10.9.0.3").exists());
        assert_eq!(last(ipam.allocate("c").unwrap()), 2);
    }
}
