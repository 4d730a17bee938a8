//! The broker as a process of its own: this program, started again with a hidden subcommand.
//!
//! It dies with the load test. Normally it is told to drain and waited for; dropping it kills it.
//! Should this program be killed (SIGKILL), the pipe that is the broker's standard input closes, and
//! the broker exits; its log stays behind.

use std::{
    ffi::{OsStr, OsString},
    fs,
    io::Read,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::task::spawn_blocking;

use crate::allocations;

/// How long a broker gets to drain.
const DRAIN_MAX: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);
/// Lines of its log shown when it fails.
const LOG_LINES: usize = 15;

/// Begins the last line of a broker that counts its allocations.
const ALLOCATIONS: &str = "allocations: ";

/// A running broker; killed when dropped.
#[derive(Debug)]
pub(crate) struct BrokerProcess {
    child: Child,
    grpc: SocketAddr,
    http: SocketAddr,
    log: Log,
}

impl BrokerProcess {
    /// Starts `serve` on free ports of 127.0.0.1, with `settings` as variables of its environment. It
    /// isn't ready yet.
    pub(crate) fn serve<N: AsRef<str>, V: AsRef<OsStr>>(
        database_url: &str,
        settings: &[(N, V)],
    ) -> Result<BrokerProcess> {
        BrokerProcess::serve_with_log(database_url, settings, Log::create()?, None)
    }

    /// The same with a log that stays, at this path, behind what is in it; perhaps of another
    /// `currant-broker` than this program is.
    pub(crate) fn serve_logging_to<N: AsRef<str>, V: AsRef<OsStr>>(
        database_url: &str,
        settings: &[(N, V)],
        path: PathBuf,
        program: Option<&Path>,
    ) -> Result<BrokerProcess> {
        BrokerProcess::serve_with_log(database_url, settings, Log { path, keep: true }, program)
    }

    fn serve_with_log<N: AsRef<str>, V: AsRef<OsStr>>(
        database_url: &str,
        settings: &[(N, V)],
        log: Log,
        program: Option<&Path>,
    ) -> Result<BrokerProcess> {
        let (grpc, http) = free_addresses()?;
        let child = command(database_url, &log, program)?
            .envs(settings.iter().map(|(name, value)| (variable(name.as_ref()), value)))
            .env("CURRANT_GRPC__LISTEN", grpc.to_string())
            .env("CURRANT_HTTP__LISTEN", http.to_string())
            .spawn()
            .context("can't start the broker's process")?;
        Ok(BrokerProcess { child, grpc, http, log })
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.grpc)
    }

    /// Where it takes calls.
    pub(crate) fn grpc(&self) -> SocketAddr {
        self.grpc
    }

    /// Where its metrics are.
    pub(crate) fn http(&self) -> SocketAddr {
        self.http
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// An error with the end of its log if it has ended.
    pub(crate) fn check_running(&mut self) -> Result<()> {
        match self.ended()? {
            None => Ok(()),
            Some(status) => Err(self.log.failure(&format!("the broker ended with {status}"))),
        }
    }

    /// How it has ended, if it has.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().context("can't wait for the broker's process")
    }

    /// The same error for a broker that runs but doesn't do what it should.
    pub(crate) fn failure(&mut self, what: &str) -> anyhow::Error {
        self.log.failure(what)
    }

    /// Drains it: SIGTERM, then waits. Blocks. Returns how often it has allocated, if this build counts.
    pub(crate) fn stop(mut self) -> Result<Option<u64>> {
        self.check_running()?;
        signal(self.pid(), Signal::TERM)?;
        let deadline = Instant::now() + DRAIN_MAX;
        loop {
            if let Some(status) = self.child.try_wait().context("can't wait for the broker")? {
                ensure!(
                    status.success(),
                    self.log.failure(&format!("the broker drained but ended with {status}"))
                );
                return self.log.allocations();
            }
            if Instant::now() > deadline {
                bail!(self.log.failure("the broker didn't end within 30 s of SIGTERM"));
            }
            thread::sleep(POLL);
        }
    }
}

impl Drop for BrokerProcess {
    fn drop(&mut self) {
        // Both fail only for a process that has ended and was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Another subcommand of the broker, to its end; what it prints.
pub(crate) async fn once(database_url: &str, words: &[&str]) -> Result<String> {
    let program = std::env::current_exe().context("can't tell where this program is")?;
    let mut command = Command::new(program);
    command.arg("broker-process").args(words).env("CURRANT_DATABASE__URL", database_url);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = spawn_blocking(move || {
        let mut child = command.spawn()?;
        // It ends when this is closed.
        let _open = child.stdin.take();
        child.wait_with_output()
    });
    let output = output.await?.context("can't run the broker's program")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} ended with {}: {errors}", words.join(" "), output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What the hidden subcommand does: watches standard input, is the broker.
pub(crate) fn be_the_broker(args: Vec<OsString>) -> ExitCode {
    end_with_the_load_test();
    let ended =
        currant_broker::cli::run(std::iter::once(OsString::from("currant-broker")).chain(args));
    if let Some(count) = allocations::count() {
        println!("{ALLOCATIONS}{count}");
    }
    ended
}

/// For a process with a pipe as its standard input: ends it when the load test is gone, and with it the
/// Postgres, so that there is nothing left to drain.
pub(crate) fn end_with_the_load_test() {
    thread::spawn(|| {
        let mut nothing = [0; 64];
        while std::io::stdin().read(&mut nothing).is_ok_and(|bytes| bytes > 0) {}
        std::process::exit(1);
    });
}

fn command(database_url: &str, log: &Log, program: Option<&Path>) -> Result<Command> {
    let mut command = match program {
        Some(program) => Command::new(program),
        None => {
            let own = std::env::current_exe().context("can't tell where this program is")?;
            let mut command = Command::new(own);
            command.arg("broker-process");
            command
        }
    };
    command
        .arg("serve")
        .env("CURRANT_DATABASE__URL", database_url)
        .stdin(Stdio::piped())
        .stdout(log.open()?)
        .stderr(log.open()?);
    Ok(command)
}

/// The variable of a broker's setting, such as `dispatch.hold_ms_max`.
fn variable(setting: &str) -> String {
    format!("CURRANT_{}", setting.to_uppercase().replace('.', "__"))
}

/// To a child that hasn't been waited for.
pub(crate) fn signal(pid: u32, signal: Signal) -> Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("no process id")?;
    kill_process(pid, signal).with_context(|| format!("can't send {signal:?} to process {pid:?}"))
}

/// Two ports that were free just now. Both are held until both are known.
fn free_addresses() -> Result<(SocketAddr, SocketAddr)> {
    let free = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port");
    let (one, two) = (free()?, free()?);
    Ok((one.local_addr()?, two.local_addr()?))
}

/// A broker's output. Removed at the end unless something failed.
#[derive(Debug)]
struct Log {
    path: PathBuf,
    keep: bool,
}

impl Log {
    fn create() -> Result<Log> {
        let file = tempfile::Builder::new()
            .prefix("currant-loadtest-broker-")
            .suffix(".log")
            .tempfile()
            .context("can't create the broker's log")?;
        let (_, path) = file.keep().context("can't keep the broker's log")?;
        Ok(Log { path, keep: false })
    }

    fn open(&self) -> Result<fs::File> {
        let file = fs::OpenOptions::new().create(true).append(true).open(&self.path);
        file.with_context(|| format!("can't open {}", self.path.display()))
    }

    fn allocations(&self) -> Result<Option<u64>> {
        let text = fs::read_to_string(&self.path).context("can't read the broker's log")?;
        let count = text.lines().rev().find_map(|line| line.strip_prefix(ALLOCATIONS));
        count.map(|count| count.parse().context("no number of allocations")).transpose()
    }

    fn failure(&mut self, what: &str) -> anyhow::Error {
        self.keep = true;
        anyhow::anyhow!("{what}; its log is {}\n{}", self.path.display(), last_lines(&self.path))
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if !self.keep {
            // A log left behind in the temporary directory harms nobody.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn last_lines(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    let shown = &lines[lines.len().saturating_sub(LOG_LINES)..];
    shown.iter().map(|line| format!("  | {line}\n")).collect()
}
