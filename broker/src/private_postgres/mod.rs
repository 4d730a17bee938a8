//! A Postgres server of our own, over the binaries found on this machine: for `currant-broker dev`,
//! for the tests and for the load test.
//!
//! It listens on a Unix socket only, that only the user it runs as (and root) may open; `fsync`
//! stays on. As root, which Postgres refuses to run as, the server runs as another user. It never
//! outlives the process that started it, not even one that is killed: a shell stands guard over it,
//! see `server.rs`.
//!
//! Everything here blocks; a start takes about a second for a new directory.

mod binaries;
mod directory;
mod error;
mod server;
mod user;

use std::{path::Path, path::PathBuf};

pub use self::error::Error;
use self::{binaries::Binaries, directory::Directory, server::Server};
use crate::causes::causes;

/// The superuser that initdb makes.
const SUPERUSER: &str = "postgres";
/// Only part of the socket's name: nothing listens on TCP.
const PORT: u16 = 5432;

/// How to start a private server.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it keeps its data; made if absent, kept afterwards. `None`: a temporary directory
    /// under /tmp, removed when the server stops.
    pub data_dir: Option<PathBuf>,
    /// More settings as in postgresql.conf, name and value; they win over the launcher's own.
    pub settings: Vec<(String, String)>,
    /// The database to connect to, created if absent. Default `currant`.
    pub database: String,
}

impl Default for Options {
    fn default() -> Self {
        Self { data_dir: None, settings: Vec::new(), database: "currant".into() }
    }
}

/// A running server, stopped when dropped.
#[derive(Debug)]
pub struct PrivatePostgres {
    // Declared in this order so that the server ends before its directory goes.
    server: Option<Server>,
    postmaster_pid: u32,
    directory: Directory,
    binaries: Binaries,
    options: Options,
}

impl PrivatePostgres {
    /// Finds the binaries, makes the data directory if there is none, starts the server and waits
    /// until it accepts connections.
    ///
    /// # Errors
    /// Without binaries (with the line that installs them), when the directory can't be used (it
    /// belongs to another major version, another server runs on it, the server's user can't reach
    /// it), and when the server isn't ready within 30 s (with the end of its log).
    pub fn start(options: Options) -> Result<PrivatePostgres, Error> {
        let binaries = Binaries::find()?;
        let directory = Directory::prepare(options.data_dir.as_deref(), &binaries)?;
        directory.truncate_log()?;
        let server = Server::start(&binaries, &directory, &options.settings)?;
        let postgres = PrivatePostgres {
            postmaster_pid: server.pid(),
            server: Some(server),
            directory,
            binaries,
            options,
        };
        server::create_database(&postgres.dsn_for("postgres"), &postgres.options.database)?;
        Ok(postgres)
    }

    /// The connection string of the database in the options, in the keyword form.
    pub fn dsn(&self) -> String {
        self.dsn_for(&self.options.database)
    }

    /// The connection string of another database of this server; it isn't created.
    pub fn dsn_for(&self, database: &str) -> String {
        let socket = self.directory.socket_dir().display();
        let database = database.replace('\\', "\\\\").replace('\'', "\\'");
        format!("host={socket} port={PORT} user={SUPERUSER} dbname='{database}'")
    }

    /// The process id of the postmaster; after a crash that of the one that crashed.
    pub fn postmaster_pid(&self) -> u32 {
        self.postmaster_pid
    }

    /// The directory of the options, or the temporary one. Postgres' own data is in `pgdata` below
    /// it, its log is `server.log`.
    pub fn data_dir(&self) -> &Path {
        self.directory.root()
    }

    /// Fast shutdown: sessions are cut off, then a checkpoint. Dropping does the same.
    ///
    /// # Errors
    /// When the server had to be killed, or couldn't be.
    pub fn stop(mut self) -> Result<(), Error> {
        self.server.take().map_or(Ok(()), Server::stop)
    }

    /// Immediate shutdown, as after a power cut: the next start recovers from the log.
    ///
    /// # Errors
    /// When the server doesn't end.
    pub fn crash(&mut self) -> Result<(), Error> {
        self.server.take().map_or(Ok(()), Server::crash)
    }

    /// Starts again on the same directory and socket after [`PrivatePostgres::crash`]; a server
    /// that still runs is stopped first.
    ///
    /// # Errors
    /// As for [`PrivatePostgres::start`].
    pub fn restart(&mut self) -> Result<(), Error> {
        self.server.take().map_or(Ok(()), Server::stop)?;
        let server = Server::start(&self.binaries, &self.directory, &self.options.settings)?;
        self.postmaster_pid = server.pid();
        self.server = Some(server);
        Ok(())
    }
}

/// Whether this process is root, so that the server runs as another user.
///
/// # Errors
/// When no temporary directory can be made: its owner tells.
pub fn is_root() -> Result<bool, Error> {
    directory::is_root()
}

impl Drop for PrivatePostgres {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.server.take().map(Server::stop) {
            tracing::error!(error = %causes(&error), "private Postgres");
        }
    }
}
