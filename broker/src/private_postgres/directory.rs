//! The server's directory: `pgdata`, `server.log` and, where its path is short enough, the socket.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{Read, Seek, SeekFrom},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tempfile::TempDir;

use super::{
    Error, SUPERUSER,
    binaries::Binaries,
    user::{self, ServerUser},
};

/// A socket's path is limited to 104 (macOS) or 108 bytes; the file's own name takes 16.
const SOCKET_DIR_BYTES_MAX: usize = 80;
/// How much of a log an error shows.
const TAIL_BYTES_MAX: u64 = 2000;

#[derive(Debug)]
pub(super) struct Directory {
    root: PathBuf,
    socket_dir: PathBuf,
    pub(super) user: ServerUser,
    /// Removed when dropped: the root if it is temporary, else the socket's if it needs its own.
    temporary: Option<TempDir>,
}

impl Directory {
    /// Makes what is absent, down to the database cluster.
    pub(super) fn prepare(wanted: Option<&Path>, binaries: &Binaries) -> Result<Self, Error> {
        // Also tells who we are: its owner is the effective user of this process.
        let temporary = temporary_directory()?;
        let user = ServerUser::choose(temporary.path())?;
        let directory = match wanted {
            None => {
                give(&user, temporary.path())?;
                Self {
                    root: temporary.path().into(),
                    socket_dir: temporary.path().into(),
                    user,
                    temporary: Some(temporary),
                }
            }
            Some(root) => Self::lasting(root, user, temporary)?,
        };
        directory.check_reachable()?;
        directory.initialise(binaries)?;
        Ok(directory)
    }

    fn lasting(root: &Path, user: ServerUser, temporary: TempDir) -> Result<Self, Error> {
        let root = std::path::absolute(root).map_err(Error::io("resolving", root))?;
        let pgdata = root.join("pgdata");
        let user = if pgdata.exists() {
            user.owner_of(&pgdata)?
        } else {
            if let Some(parent) = root.parent() {
                fs::create_dir_all(parent).map_err(Error::io("creating", parent))?;
            }
            if !root.exists() {
                let made = DirBuilder::new().mode(0o700).create(&root);
                made.map_err(Error::io("creating", &root))?;
            }
            give(&user, &root)?;
            user
        };
        let in_root = fits_a_socket(&root);
        if !in_root {
            give(&user, temporary.path())?;
        }
        let socket_dir = if in_root { root.clone() } else { temporary.path().into() };
        Ok(Self { root, socket_dir, user, temporary: (!in_root).then_some(temporary) })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn pgdata(&self) -> PathBuf {
        self.root.join("pgdata")
    }

    pub(super) fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    /// What is to go if we die without stopping the server.
    pub(super) fn temporary(&self) -> Option<&Path> {
        self.temporary.as_ref().map(TempDir::path)
    }

    fn log_path(&self) -> PathBuf {
        self.root.join("server.log")
    }

    pub(super) fn truncate_log(&self) -> Result<(), Error> {
        let log = self.log()?;
        log.set_len(0).map_err(Error::io("emptying", self.log_path()))
    }

    /// Open for appending.
    pub(super) fn log(&self) -> Result<File, Error> {
        let path = self.log_path();
        let opened = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
        let log = opened.map_err(Error::io("opening", &path))?;
        give(&self.user, &path)?;
        Ok(log)
    }

    pub(super) fn log_tail(&self) -> String {
        tail(&self.log_path()).unwrap_or_else(|error| format!("(its log can't be read: {error})"))
    }

    fn check_reachable(&self) -> Result<(), Error> {
        let mut enter = Command::new("sh");
        self.user.apply(&mut enter);
        enter.args(["-c", "cd \"$1\"", "sh"]).arg(&self.root).stderr(Stdio::null());
        let status = enter.status().map_err(Error::io("starting a shell to enter", &self.root))?;
        if status.success() {
            return Ok(());
        }
        Err(Error::Unreachable { user: self.user.name().into(), path: self.root.clone() })
    }

    fn initialise(&self, binaries: &Binaries) -> Result<(), Error> {
        let pgdata = self.pgdata();
        if pgdata.exists() {
            return check_version(&pgdata, binaries.major);
        }
        // Renamed when complete, so that an interrupted initdb is begun anew.
        let unfinished = self.root.join("pgdata.unfinished");
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished).map_err(Error::io("removing", &unfinished))?;
        }
        let mut initdb = Command::new(binaries.path("initdb"));
        self.user.apply(&mut initdb);
        initdb.args(["--encoding=UTF8", "--locale=C", "--auth-local=trust", "--auth-host=reject"]);
        initdb.args(["--username", SUPERUSER, "--pgdata"]).arg(&unfinished);
        if self.temporary().is_some_and(|temporary| temporary == self.root) {
            // The files of a directory that goes with us needn't survive a power cut.
            initdb.arg("--no-sync");
        }
        let output = initdb
            .stdin(Stdio::null())
            .output()
            .map_err(Error::io("starting", binaries.path("initdb")))?;
        if !output.status.success() {
            return Err(Error::Failed {
                program: "initdb",
                status: output.status.to_string(),
                output: String::from_utf8_lossy(&output.stderr).trim_end().to_owned(),
            });
        }
        fs::rename(&unfinished, &pgdata).map_err(Error::io("renaming", unfinished))
    }
}

/// In /tmp and not in what TMPDIR says: short enough for a socket, and open to other users.
fn temporary_directory() -> Result<TempDir, Error> {
    let parent = Path::new("/tmp");
    let parent = if parent.is_dir() { parent.to_path_buf() } else { std::env::temp_dir() };
    let made = tempfile::Builder::new().prefix("currant-postgres-").tempdir_in(&parent);
    made.map_err(Error::io("creating a directory in", parent))
}

/// The standard library doesn't tell, but what we make belongs to the effective user.
pub(super) fn is_root() -> Result<bool, Error> {
    let made = temporary_directory()?;
    user::is_roots(made.path())
}

fn give(user: &ServerUser, path: &Path) -> Result<(), Error> {
    user.own(path).map_err(Error::io("changing the owner of", path))
}

/// Short, and without characters that a connection string or a setting would have to quote.
fn fits_a_socket(path: &Path) -> bool {
    path.to_str().is_some_and(|path| {
        path.len() <= SOCKET_DIR_BYTES_MAX
            && path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-".contains(&b))
    })
}

fn check_version(pgdata: &Path, binaries: u32) -> Result<(), Error> {
    let file = pgdata.join("PG_VERSION");
    let found = fs::read_to_string(&file).map_err(Error::io("reading", file))?.trim().to_owned();
    if found == binaries.to_string() {
        return Ok(());
    }
    Err(Error::OtherVersion { path: pgdata.into(), found, binaries })
}

fn tail(path: &Path) -> std::io::Result<String> {
    let mut log = File::open(path)?;
    let length = log.metadata()?.len();
    log.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES_MAX)))?;
    let mut bytes = Vec::new();
    log.take(TAIL_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_short_and_plain_path_holds_the_socket() {
        assert!(fits_a_socket(Path::new("/var/lib/currant-dev")));
        assert!(!fits_a_socket(Path::new("/srv/a b")));
        assert!(!fits_a_socket(&Path::new("/").join("x".repeat(SOCKET_DIR_BYTES_MAX))));
    }

    #[test]
    fn data_of_another_major_version_is_refused_by_name() {
        let pgdata = tempfile::tempdir().expect("a temporary directory");
        fs::write(pgdata.path().join("PG_VERSION"), "12\n").expect("a file");
        let error = check_version(pgdata.path(), 15).expect_err("another version");
        assert!(error.to_string().contains("Postgres 12"), "{error}");
        check_version(pgdata.path(), 12).expect("the same version");
    }

    #[test]
    fn the_tail_of_a_long_log_is_its_end() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        fs::write(file.path(), format!("{}\nthe end\n", "x".repeat(10_000))).expect("written");
        let tail = tail(file.path()).expect("read");
        assert!(tail.ends_with("\nthe end") && tail.len() <= 2000);
    }
}
