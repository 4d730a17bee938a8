//! The workers' processes, each behind a proxy of its own.

use std::{
    fs::{self, OpenOptions},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use super::{
    credentials::Credentials,
    history::file_name,
    proxy::Proxy,
    queues::{BULK, SERVED},
};
use crate::broker_process::signal;

const POLL: Duration = Duration::from_millis(20);
/// SIGTERM to the end: the SDK's own bounds are below.
const STOP_MAX: Duration = Duration::from_secs(20);
/// Handlers at a time: of a worker in Rust, in Python, and of the one that shows the order.
const RUST_CONCURRENCY: &str = "20";
const PYTHON_CONCURRENCY: &str = "10";

const PYTHON_WORKER: &str = include_str!("worker.py");
/// From the repository's root.
const EXAMPLE: &str = "../worker-sdk/examples/python/worker.py";
/// What a clock is set by.
pub(super) const RIGHT: &str = "+0";
pub(super) const AHEAD: &str = "+1h";
pub(super) const BACK: &str = "-1h";
const PYTHON: &str = "CURRANT_TEST_PYTHON";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program {
    Rust,
    Python,
}

pub(super) struct Crew {
    members: Vec<Member>,
    equipment: Equipment,
}

/// What workers are started with.
#[derive(Clone, Debug)]
pub(super) struct Equipment {
    /// For logs and history.
    pub(super) directory: PathBuf,
    pub(super) python: PathBuf,
    pub(super) credentials: Credentials,
    /// Whether they write down what they see.
    pub(super) records: bool,
    /// The library by which the clocks of those in Rust are set. Python can't sleep with it.
    pub(super) clock: Option<PathBuf>,
}

struct Member {
    name: String,
    program: Program,
    link: Proxy,
    process: Option<Child>,
}

impl Crew {
    /// None of them runs yet.
    pub(super) async fn new(equipment: Equipment, programs: &[Program]) -> Result<Crew> {
        let mut members = Vec::new();
        for (number, program) in programs.iter().enumerate() {
            members.push(Member {
                name: format!("worker-{number}"),
                program: *program,
                link: Proxy::start(None).await?,
                process: None,
            });
        }
        Ok(Crew { members, equipment })
    }

    pub(super) fn link(&self, worker: usize) -> &Proxy {
        &self.members[worker].link
    }

    /// An error if one of them hasn't run anything yet.
    pub(super) fn check_all_work(&self) -> Result<()> {
        for Member { name, .. } in &self.members {
            let history = self.equipment.directory.join(file_name(name));
            let works = fs::metadata(&history).is_ok_and(|file| file.len() > 0);
            ensure!(works, "{name} has run nothing, as its log may tell");
        }
        Ok(())
    }

    pub(super) fn name(&self, worker: usize) -> &str {
        &self.members[worker].name
    }

    pub(super) fn start(&mut self, worker: usize) -> Result<()> {
        let member = &self.members[worker];
        let Equipment { directory, python, credentials, records, clock } = &self.equipment;
        let history = match records {
            true => directory.join(file_name(&member.name)),
            false => PathBuf::from("/dev/null"),
        };
        let mut command = match member.program {
            Program::Rust => {
                let url = credentials.url(member.link.address());
                let queues = [&SERVED[..], &[BULK]].concat();
                let mut command = rust(&url, &member.name, &history, RUST_CONCURRENCY, &queues)?;
                if let Some(library) = clock {
                    self.set_clock(worker, RIGHT)?;
                    command.env("LD_PRELOAD", library);
                    command.env("FAKETIME_TIMESTAMP_FILE", self.clock_of(worker));
                    command.env("FAKETIME_CACHE_DURATION", "1");
                    // Only the time of day.
                    command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
                }
                command
            }
            Program::Python => {
                let example = Path::new(env!("CARGO_MANIFEST_DIR")).join(EXAMPLE);
                let mut command = Command::new(python);
                command.args(["-c", PYTHON_WORKER]).arg(example);
                command.arg(member.link.address().to_string()).arg(history);
                command.arg(PYTHON_CONCURRENCY).args(SERVED);
                command
            }
        };
        credentials.pass_on(&mut command);
        let process = spawn(&mut command, directory, &member.name)?;
        self.members[worker].process = Some(process);
        Ok(())
    }

    /// Heard of within a second.
    pub(super) fn set_clock(&self, worker: usize, by: &str) -> Result<()> {
        fs::write(self.clock_of(worker), by).context("can't set a worker's clock")
    }

    fn clock_of(&self, worker: usize) -> PathBuf {
        self.equipment.directory.join(format!("{}.clock", self.members[worker].name))
    }

    /// SIGKILL.
    pub(super) fn kill(&mut self, worker: usize) -> Result<()> {
        let Some(mut process) = self.members[worker].process.take() else { return Ok(()) };
        process.kill().context("can't kill a worker")?;
        process.wait().map(drop).context("can't wait for a worker")
    }

    pub(super) fn signal(&mut self, worker: usize, which: Signal) -> Result<()> {
        let Some(process) = &mut self.members[worker].process else { return Ok(()) };
        if process.try_wait()?.is_some() { Ok(()) } else { signal(process.id(), which) }
    }

    /// Starts those again that have ended by themselves, and says who they are and how they ended.
    pub(super) fn revive(&mut self) -> Result<Vec<(String, String)>> {
        let mut ended = Vec::new();
        for worker in 0..self.members.len() {
            let Some(process) = &mut self.members[worker].process else { continue };
            if let Some(status) = process.try_wait()? {
                ended.push((self.members[worker].name.clone(), status.to_string()));
                self.start(worker)?;
            }
        }
        Ok(ended)
    }

    /// SIGTERM to all, and waits.
    pub(super) async fn stop(&mut self) -> Result<()> {
        for worker in 0..self.members.len() {
            self.signal(worker, Signal::TERM)?;
        }
        for member in &mut self.members {
            if let Some(process) = &mut member.process {
                until_ended(process, &member.name).await?;
            }
            member.process = None;
        }
        Ok(())
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        for process in self.members.iter_mut().filter_map(|member| member.process.as_mut()) {
            // Both fail only for a process that has ended and was waited for.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// One more worker, for a queue of its own, that runs one job at a time and nothing ahead.
pub(super) struct Single(Child);

impl Single {
    pub(super) fn start(
        directory: &Path,
        address: SocketAddr,
        credentials: &Credentials,
        queue: &str,
    ) -> Result<Single> {
        let name = "worker-order";
        let history = directory.join(file_name(name));
        let mut command = rust(&credentials.url(address), name, &history, "1", &[queue])?;
        credentials.pass_on(&mut command);
        Ok(Single(spawn(&mut command, directory, name)?))
    }

    pub(super) async fn stop(mut self) -> Result<()> {
        signal(self.0.id(), Signal::TERM)?;
        until_ended(&mut self.0, "worker-order").await
    }
}

impl Drop for Single {
    fn drop(&mut self) {
        // Both fail only for a process that has ended and was waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn rust(
    endpoint: &str,
    name: &str,
    history: &Path,
    concurrency: &str,
    queues: &[&str],
) -> Result<Command> {
    let program = std::env::current_exe().context("can't tell where this program is")?;
    let mut command = Command::new(program);
    command.arg("chaos-worker").args([endpoint, name]).arg(history).arg(concurrency).args(queues);
    Ok(command)
}

/// With a log in the directory; it ends with this program.
fn spawn(command: &mut Command, directory: &Path, name: &str) -> Result<Child> {
    let path = directory.join(format!("{name}.log"));
    let log = OpenOptions::new().create(true).append(true).open(path);
    let log = log.context("can't open a worker's log")?;
    command.stdin(Stdio::piped()).stdout(log.try_clone()?).stderr(log);
    command.spawn().with_context(|| format!("can't start {name}"))
}

async fn until_ended(process: &mut Child, name: &str) -> Result<()> {
    let deadline = Instant::now() + STOP_MAX;
    while process.try_wait()?.is_none() {
        ensure!(Instant::now() < deadline, "{name} didn't end within {STOP_MAX:?} of SIGTERM");
        sleep(POLL).await;
    }
    Ok(())
}

/// Debian's libfaketime, if it is there.
pub(super) fn clock() -> Option<PathBuf> {
    let arch = std::env::consts::ARCH;
    let path = PathBuf::from(format!("/usr/lib/{arch}-linux-gnu/faketime/libfaketimeMT.so.1"));
    let found = path.exists();
    if !found {
        eprintln!("no clock jumps: Debian's package libfaketime isn't installed");
    }
    found.then_some(path)
}

/// A Python with grpcio and grpcio-tools.
pub(super) fn python() -> Result<PathBuf> {
    let python = std::env::var_os(PYTHON).map_or_else(|| "python3".into(), PathBuf::from);
    let found = Command::new(&python).args(["-c", "import grpc, grpc_tools"]).output();
    ensure!(
        found.is_ok_and(|output| output.status.success()),
        "one of the workers is in Python, and {} has no grpcio; install it:\n  \
         python3 -m venv target/python && target/python/bin/pip install grpcio grpcio-tools\n\
         and set {PYTHON}=target/python/bin/python",
        python.display()
    );
    Ok(python)
}
