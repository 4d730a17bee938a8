//! A private Redis in a temporary directory, on a Unix socket.
//!
//! As with the private Postgres, a shell stands guard over it: its standard input is a pipe of which
//! only we hold the other end. When that closes, however it came, it ends the server and removes the
//! directory.

use std::{
    fs, io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use tokio::{net::UnixStream, task::spawn_blocking, time::sleep};

const READY_MAX: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(5);

/// `$0` is the directory, `$@` the server's command line.
const GUARD: &str = r#"
exec 3<&0
"$@" </dev/null 3<&- &
server=$!
read -r _ <&3
kill -KILL "$server"
wait "$server" 2>/dev/null
rm -rf "$0"
"#;

/// What of it is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Persistence {
    /// Nothing: all is gone with the process.
    None,
    /// An answer comes after fsync, as it does from Postgres.
    EveryWrite,
}

impl Persistence {
    /// Redis' own settings.
    pub(super) fn settings(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Persistence::None => &[("save", ""), ("appendonly", "no")],
            // Rewriting the log in the middle of a measurement would only slow it.
            Persistence::EveryWrite => &[
                ("save", ""),
                ("appendonly", "yes"),
                ("appendfsync", "always"),
                ("auto-aof-rewrite-percentage", "0"),
            ],
        }
    }
}

/// Ends when it is dropped.
#[derive(Debug)]
pub(super) struct Redis {
    guard: Child,
    alive: Option<ChildStdin>,
    directory: TempDir,
}

impl Redis {
    pub(super) async fn start(server: &Path, persistence: Persistence) -> Result<Redis> {
        let directory = tempfile::Builder::new().prefix("currant-loadtest-redis-").tempdir();
        let directory = directory.context("can't make a directory for Redis")?;
        let log = fs::File::create(directory.path().join("server.log"));
        let log = log.context("can't create the log of Redis")?;
        let mut command = Command::new("sh");
        command.args(["-c", GUARD]).arg(directory.path()).arg(server);
        command.args(["--port", "0", "--daemonize", "no", "--unixsocket"]);
        command.arg(directory.path().join("socket")).arg("--dir").arg(directory.path());
        for (name, value) in persistence.settings() {
            command.arg(format!("--{name}")).arg(value);
        }
        // A Ctrl-C in the terminal reaches us, and we stop it.
        command.stdin(Stdio::piped()).stdout(log.try_clone()?).stderr(log).process_group(0);
        let mut guard = command.spawn().context("can't start a shell to run redis-server")?;
        let alive = guard.stdin.take();
        let redis = Redis { guard, alive, directory };
        redis.wait_until_ready().await?;
        Ok(redis)
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    pub(super) async fn stop(mut self) -> Result<()> {
        spawn_blocking(move || self.end()).await?.context("Redis doesn't end")
    }

    /// There is nothing worth a clean shutdown: its data goes too.
    fn end(&mut self) -> io::Result<()> {
        drop(self.alive.take());
        self.guard.wait().map(drop)
    }

    async fn wait_until_ready(&self) -> Result<()> {
        let deadline = Instant::now() + READY_MAX;
        while Instant::now() < deadline {
            if UnixStream::connect(self.socket()).await.is_ok() {
                return Ok(());
            }
            sleep(POLL).await;
        }
        let log = fs::read_to_string(self.directory.path().join("server.log")).unwrap_or_default();
        bail!("redis-server doesn't get ready:\n{log}")
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // The guard ends soon after its input has; it fails only if it was waited for already.
        let _ = self.end();
    }
}
