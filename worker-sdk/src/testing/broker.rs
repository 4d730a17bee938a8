use std::{
    collections::VecDeque,
    env,
    ffi::OsString,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, ChildStderr, ChildStdout, Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use serde::Deserialize;
use tokio::{sync::OnceCell, task::spawn_blocking, time::timeout};

use crate::{client::Client, error::Error, listing::JobFilter, stored_job::StoredJob};

/// Where the program is, if it isn't found otherwise.
const VARIABLE: &str = "CURRANT_BROKER_PROGRAM";
const PROGRAM: &str = "currant-broker";
/// A new directory for Postgres takes a second; much more on a machine that is busy.
const START_MAX: Duration = Duration::from_secs(120);
const LOG_LINES_MAX: usize = 1000;

/// A broker with a Postgres of its own, for tests: on free ports of 127.0.0.1, its data in a temporary directory.
/// All of it is gone when this is dropped, or when the process ends in any way.
///
/// It is the program `currant-broker`, of the same version, found by the variable `CURRANT_BROKER_PROGRAM`, or
/// beside the test's own program (in the directory `target/debug` of a workspace that has both), or on the
/// `PATH`; and it needs Postgres' server binaries. Settings are taken from `CURRANT_…` variables.
#[derive(Debug)]
pub struct TestBroker {
    child: Child,
    log: Log,
    url: String,
    database: String,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TestBrokerError {
    /// The program isn't there, or can't be started.
    #[error(
        "can't start {}; build it (cargo build -p currant-broker) and name it in \
         CURRANT_BROKER_PROGRAM, or put it on the PATH: {source}", program.display()
    )]
    Program {
        /// What was tried.
        program: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// It has ended instead of getting ready, or said something else. Without Postgres' binaries for instance,
    /// which the log tells.
    #[error("the broker didn't get ready: {said:?}\n{log}")]
    NotReady {
        /// What it has said.
        said: String,
        /// The end of its log.
        log: String,
    },
}

/// What it says when it is ready.
#[derive(Deserialize)]
struct Ready {
    grpc: String,
    database: String,
}

impl TestBroker {
    /// Starts one, in about two seconds.
    pub async fn start() -> Result<TestBroker, TestBrokerError> {
        let program = program();
        let mut child = Command::new(&program)
            .args(["dev", "--for-tests"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| TestBrokerError::Program { program: program.into(), source })?;
        let (log, logged) = child.stderr.take().map(Log::follow).unzip();
        let said = match child.stdout.take() {
            Some(stdout) => first_line(stdout).await,
            None => String::new(),
        };
        let log = log.unwrap_or_default();
        match serde_json::from_str(&said) {
            Ok(Ready { grpc, database }) => {
                Ok(TestBroker { child, log, url: format!("http://{grpc}"), database })
            }
            Err(_) => {
                // It may still run; both fail only if it doesn't.
                let _ = (child.kill(), child.wait());
                let _ = spawn_blocking(|| logged.map(JoinHandle::join)).await;
                Err(TestBrokerError::NotReady { said, log: log.text() })
            }
        }
    }

    /// One for all tests of the process, started by the first that asks. They share its queues: let each have
    /// names of its own.
    pub async fn shared() -> Result<&'static TestBroker, TestBrokerError> {
        static SHARED: OnceCell<TestBroker> = OnceCell::const_new();
        SHARED.get_or_try_init(TestBroker::start).await
    }

    /// Where clients and workers call.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its database, as a connection string in keyword form: for jobs enqueued in SQL, and tables of your own.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// A client of it.
    pub async fn client(&self) -> Result<Client, Error> {
        Client::connect(&self.url).await
    }

    /// The jobs of a queue and kind that it has, in the order in which they were stored, whatever has become of
    /// them. What an enqueue has returned for is there.
    pub async fn enqueued(&self, queue: &str, kind: &str) -> Result<Vec<StoredJob>, Error> {
        let filter = JobFilter::queue(queue.to_owned()).kind(kind.to_owned());
        let client = self.client().await?;
        let mut listing = client.list(filter);
        let mut jobs = Vec::new();
        // A listing has no payloads.
        while let Some(job) = listing.next().await? {
            jobs.push(client.get(job.id).await?);
        }
        Ok(jobs)
    }

    /// The end of its log, 1,000 lines at most.
    pub fn log(&self) -> String {
        self.log.text()
    }
}

impl Drop for TestBroker {
    fn drop(&mut self) {
        // It ends when its standard input does, and so does its Postgres, which then removes its directory.
        drop(self.child.stdin.take());
    }
}

fn program() -> OsString {
    if let Some(named) = env::var_os(VARIABLE).filter(|named| !named.is_empty()) {
        return named;
    }
    // Tests are in target/debug/deps, programs in target/debug.
    let own = env::current_exe().unwrap_or_default();
    let beside = own.ancestors().skip(1).take(2).map(|directory| directory.join(PROGRAM));
    let beside = beside.into_iter().find(|path| path.is_file());
    beside.map_or_else(|| PROGRAM.into(), PathBuf::into_os_string)
}

/// Empty if there is none in time.
async fn first_line(stdout: ChildStdout) -> String {
    let read = spawn_blocking(|| {
        let mut line = String::new();
        // What can't be read is as good as nothing.
        let _ = BufReader::new(stdout).read_line(&mut line);
        line.trim_end().to_owned()
    });
    timeout(START_MAX, read).await.ok().and_then(Result::ok).unwrap_or_default()
}

#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<VecDeque<String>>>);

impl Log {
    /// Reads it for as long as there is something.
    fn follow(stderr: ChildStderr) -> (Log, JoinHandle<()>) {
        let log = Log::default();
        let lines = log.clone();
        let follow = move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut lines = lines.lock();
                if lines.len() == LOG_LINES_MAX {
                    lines.pop_front();
                }
                lines.push_back(line);
            }
        };
        (log, thread::spawn(follow))
    }

    fn text(&self) -> String {
        self.lock().iter().flat_map(|line| [line, "\n"]).collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
