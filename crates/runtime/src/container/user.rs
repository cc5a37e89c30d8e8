//! Who runs the program: ids from numbers, or from the image's `/etc/passwd` and `/etc/group`.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use rustix::fs::OFlags;

use super::failure::Failure;
use super::path;
use crate::spec::{User, UserName};

/// Most bytes read of `/etc/passwd` and `/etc/group`: the image decides how long they are.
const FILE_MAX: u64 = 4 << 20;

/// Most supplementary groups (the kernel's `NGROUPS_MAX`).
const GROUPS_MAX: usize = 65_536;

/// Resolved ids of a process.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Ids {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
    /// Home directory, `/` if nothing says otherwise.
    pub(super) home: String,
}

/// Resolves `user` with the files of the root that this process lives in.
pub(super) fn resolve(user: &User) -> Result<Ids, Failure> {
    let (passwd, group) = (read("/etc/passwd"), read("/etc/group"));
    resolve_with(user, &passwd, &group).map_err(|message| Failure::create("look up the user", message))
}

/// A missing, unreadable or odd file counts as empty; then only numbers resolve.
fn read(name: &str) -> String {
    let Ok(fd) = path::open_with(rustix::fs::CWD, Path::new(name), OFlags::RDONLY | OFlags::NONBLOCK) else {
        return String::new();
    };
    let file = File::from(fd);
    if !file.metadata().is_ok_and(|m| m.is_file()) {
        return String::new();
    }
    let mut bytes = Vec::new();
    match file.take(FILE_MAX).read_to_end(&mut bytes) {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(_) => String::new(),
    }
}

struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

fn accounts(passwd: &str) -> impl Iterator<Item = Account<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        Some(Account { name, uid, gid, home: fields.nth(1).unwrap_or("") })
    })
}

/// `(name, gid, members)` of each line.
fn groups(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let gid = fields.nth(1)?.parse().ok()?;
        Some((name, gid, fields.next().unwrap_or("")))
    })
}

fn resolve_with(user: &User, passwd: &str, group: &str) -> Result<Ids, String> {
    let (wanted, wanted_group) = match &user.user {
        UserName::Id(uid) => (uid.to_string(), None),
        UserName::Image(text) => match text.split_once(':') {
            Some((user, group)) => (user.to_owned(), Some(group).filter(|g| !g.is_empty())),
            None => (text.clone(), None),
        },
    };
    let wanted = if wanted.is_empty() { "0" } else { &wanted };
    let number = wanted.parse::<u32>().ok();
    let account =
        accounts(passwd).find(|a| a.name == wanted).or_else(|| accounts(passwd).find(|a| Some(a.uid) == number));
    let (uid, passwd_gid) = match (&account, number) {
        (Some(account), _) => (account.uid, account.gid),
        (None, Some(uid)) => (uid, 0),
        (None, None) => {
            return Err(format!("unable to find user {wanted}: no matching entries in passwd file"));
        }
    };
    let mut gid = user.gid.unwrap_or(passwd_gid);
    if let (Some(name), None) = (wanted_group, user.gid) {
        gid = groups(group)
            .find(|(n, ..)| *n == name)
            .map(|(_, gid, _)| gid)
            .or_else(|| name.parse().ok())
            .ok_or_else(|| format!("unable to find group {name}: no matching entries in group file"))?;
    }
    let mut all = user.additional_gids.clone();
    if let (Some(account), false) = (&account, user.strict_groups) {
        let member = |members: &str| members.split(',').any(|m| m.trim() == account.name);
        all.extend(groups(group).filter(|(_, _, members)| member(members)).map(|(_, gid, _)| gid));
    }
    all.sort_unstable();
    all.dedup();
    all.truncate(GROUPS_MAX);
    let home = account.map(|a| a.home.to_owned()).filter(|h| !h.is_empty()).unwrap_or_else(|| "/".to_owned());
    Ok(Ids { uid, gid, groups: all, home })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbroken\nweb:x:33:34::/srv:/bin/false\n1000:x:7:8::/seven:\n";
    const GROUP: &str = "root:x:0:\nadm:x:4:web,other\nstaff:x:50:web\nbad:x:no:web\n";

    #[test]
    fn users_resolve_as_images_write_them() {
        let image = |text: &str| User { user: UserName::Image(text.to_owned()), ..User::default() };
        for (text, uid, gid, groups, home) in [
            ("", 0, 0, vec![], "/root"),
            ("web", 33, 34, vec![4, 50], "/srv"),
            ("33", 33, 34, vec![4, 50], "/srv"),
            ("web:staff", 33, 50, vec![4, 50], "/srv"),
            ("12:13", 12, 13, vec![], "/"),
            ("12", 12, 0, vec![], "/"),
            ("1000", 7, 8, vec![], "/seven"), // A name wins over a number, as with runc.
        ] {
            let expected = Ids { uid, gid, groups, home: home.to_owned() };
            assert_eq!(resolve_with(&image(text), PASSWD, GROUP), Ok(expected), "{text:?}");
        }
        for text in ["nobody", "web:none", "-1", "4294967296"] {
            assert!(resolve_with(&image(text), PASSWD, GROUP).is_err(), "{text:?}");
        }
    }

    #[test]
    fn strict_groups_ignore_the_image() {
        let user = User { user: UserName::Id(33), gid: Some(1), additional_gids: vec![9], strict_groups: true };
        assert_eq!(resolve_with(&user, PASSWD, GROUP).map(|i| (i.gid, i.groups)), Ok((1, vec![9])));
        let merged = User { strict_groups: false, ..user };
        assert_eq!(resolve_with(&merged, PASSWD, GROUP).map(|i| i.groups), Ok(vec![4, 9, 50]));
    }
}
