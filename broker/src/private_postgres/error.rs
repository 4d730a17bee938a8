//! Why a private Postgres doesn't start or stop.

use std::{io, path::PathBuf};

/// Why a private Postgres doesn't start or stop; the text says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No directory on this machine has them.
    #[error(
        "no Postgres server binaries (initdb, postgres) on this machine; install them:\n  \
         Debian, Ubuntu:  sudo apt-get install -y postgresql\n  \
         macOS:           brew install postgresql@17\n\
         or name their directory in CURRANT_POSTGRES_BIN"
    )]
    NoBinaries,
    /// The environment names a directory without them.
    #[error("CURRANT_POSTGRES_BIN is {0}, which has no initdb and postgres")]
    NoBinariesThere(PathBuf),
    /// `postgres --version` wasn't understood.
    #[error("{path} --version answered {answer:?}, which names no version")]
    UnknownVersion {
        /// The program.
        path: PathBuf,
        /// What it printed.
        answer: String,
    },
    /// The data is of another major version.
    #[error(
        "{path} holds data of Postgres {found}, the binaries are of version {binaries}: \
         choose another directory, or name the other version's binaries in CURRANT_POSTGRES_BIN"
    )]
    OtherVersion {
        /// Where the data is.
        path: PathBuf,
        /// The version in its PG_VERSION.
        found: String,
        /// The binaries' major version.
        binaries: u32,
    },
    /// The process is root and knows nobody else to run the server as.
    #[error("Postgres doesn't run as root, and /etc/passwd has neither `postgres` nor `nobody`")]
    NoUser,
    /// A directory on the way is closed to the server's user.
    #[error(
        "the user {user}, whom the server runs as, can't enter {path}: \
         choose a directory whose parents anybody may enter"
    )]
    Unreachable {
        /// The user's name.
        user: String,
        /// The directory.
        path: PathBuf,
    },
    /// A program ended with an error.
    #[error("{program} failed ({status}):\n{output}")]
    Failed {
        /// Its name.
        program: &'static str,
        /// Its exit status.
        status: String,
        /// The end of what it printed.
        output: String,
    },
    /// The server isn't ready in time.
    #[error("Postgres in {path} isn't ready after {seconds} s; the end of its log:\n{log}")]
    NotReady {
        /// Its directory.
        path: PathBuf,
        /// How long was waited.
        seconds: u64,
        /// The end of its log.
        log: String,
    },
    /// The server ignores its signals.
    #[error("Postgres (process {pid}) doesn't end")]
    NotStopped {
        /// The postmaster.
        pid: u32,
    },
    /// The server didn't shut down in time and was cut off; the next start recovers.
    #[error("Postgres (process {pid}) took over {seconds} s to shut down and was cut off")]
    CutOff {
        /// The postmaster.
        pid: u32,
        /// How long was waited.
        seconds: u64,
    },
    /// A file or a process couldn't be handled.
    #[error("{action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The database couldn't be created.
    #[error("creating the database {database}")]
    CreateDatabase {
        /// Its name.
        database: String,
        /// What Postgres says.
        source: tokio_postgres::Error,
    },
}

impl Error {
    /// To be given to `map_err`.
    pub(super) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}
