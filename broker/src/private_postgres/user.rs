//! Whom the server runs as: Postgres refuses root.

use std::{
    fs, io,
    os::unix::{
        fs::{MetadataExt, chown},
        process::CommandExt,
    },
    path::Path,
    process::Command,
};

use super::Error;

/// The user that the server and what it needs run as.
#[derive(Clone, Debug)]
pub(super) enum ServerUser {
    /// The user of this process.
    Own,
    /// Another one, since this process is root.
    Other { name: String, uid: u32, gid: u32 },
}

impl ServerUser {
    /// Chooses by the owner of a file that this process has just made.
    pub(super) fn choose(made_by_us: &Path) -> Result<Self, Error> {
        if !is_roots(made_by_us)? {
            return Ok(Self::Own);
        }
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        ["postgres", "nobody"].iter().find_map(|name| look_up(&passwd, name)).ok_or(Error::NoUser)
    }

    /// Data keeps the owner that it has, whoever that is.
    pub(super) fn owner_of(self, data: &Path) -> Result<Self, Error> {
        let owner = fs::metadata(data).map_err(Error::io("reading", data))?;
        Ok(match self {
            Self::Other { uid, .. } if owner.uid() != uid && owner.uid() != 0 => {
                let name = format!("with id {}", owner.uid());
                Self::Other { name, uid: owner.uid(), gid: owner.gid() }
            }
            chosen => chosen,
        })
    }

    pub(super) fn name(&self) -> &str {
        match self {
            Self::Own => "of this process",
            Self::Other { name, .. } => name,
        }
    }

    /// Makes the command run as this user, in no directory that it can't enter.
    pub(super) fn apply(&self, command: &mut Command) {
        command.current_dir("/").env("LC_ALL", "C");
        if let Self::Other { uid, gid, .. } = self {
            command.uid(*uid).gid(*gid);
        }
    }

    /// Gives the user what we made.
    pub(super) fn own(&self, path: &Path) -> io::Result<()> {
        match self {
            Self::Own => Ok(()),
            Self::Other { uid, gid, .. } => chown(path, Some(*uid), Some(*gid)),
        }
    }
}

pub(super) fn is_roots(path: &Path) -> Result<bool, Error> {
    Ok(fs::metadata(path).map_err(Error::io("reading", path))?.uid() == 0)
}

fn look_up(passwd: &str, wanted: &str) -> Option<ServerUser> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| *name == wanted)?;
        let mut ids = fields.skip(1);
        let uid = ids.next()?.parse().ok()?;
        let gid = ids.next()?.parse().ok()?;
        Some(ServerUser::Other { name: name.to_owned(), uid, gid })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_its_whole_name() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\n\
                      postgres2:x:5:6::/:/bin/sh\n\
                      postgres:x:101:104:PostgreSQL administrator,,,:/var/lib:/bin/bash\n";
        let Some(ServerUser::Other { name, uid, gid }) = look_up(passwd, "postgres") else {
            panic!("not found");
        };
        assert_eq!((name.as_str(), uid, gid), ("postgres", 101, 104));
        assert!(look_up(passwd, "nobody").is_none());
    }
}
