//! The worker in Python, which knows the .proto files and nothing else of ours.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, OnceLock},
    thread,
};

use currant_proto::v1::{JobState, NewJob};

use crate::support::{Broker, Database, eventually, get};

const INSTALL: &str = "pip install grpcio grpcio-tools";

/// An interpreter with grpcio: that of CURRANT_TEST_PYTHON, else python3 if it has it, else a virtual
/// environment below the target directory, made here. `None`: there is no Python.
fn interpreter() -> Option<PathBuf> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOUND.get_or_init(find_interpreter).clone()
}

fn find_interpreter() -> Option<PathBuf> {
    if let Some(python) = std::env::var_os("CURRANT_TEST_PYTHON") {
        assert!(
            has_grpc(python.as_ref()),
            "CURRANT_TEST_PYTHON={python:?} has no grpcio: {INSTALL}"
        );
        return Some(python.into());
    }
    let python: &Path = "python3".as_ref();
    if Command::new(python).arg("--version").output().is_err() {
        return None;
    }
    if has_grpc(python) {
        return Some(python.into());
    }
    let environment = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python");
    let own = environment.join("bin/python");
    if !has_grpc(&own) {
        let help = "set CURRANT_TEST_PYTHON to a Python with grpcio and grpcio-tools";
        run(Command::new(python).args(["-m", "venv"]).arg(&environment), help);
        let install = ["-m", "pip", "install", "--quiet", "grpcio", "grpcio-tools"];
        run(Command::new(&own).args(install), help);
    }
    Some(own)
}

fn has_grpc(python: &Path) -> bool {
    let output = Command::new(python).args(["-c", "import grpc, grpc_tools"]).output();
    output.is_ok_and(|output| output.status.success())
}

fn run(command: &mut Command, help: &str) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}\n{help}");
}

/// The program as its README starts it; killed when dropped.
struct Worker {
    child: Child,
    said: Arc<Mutex<Vec<String>>>,
}

impl Worker {
    /// `before`: arguments before the program's name.
    fn start(python: &Path, before: &[&str], address: &str) -> Self {
        let program = "../worker-sdk/examples/python/worker.py";
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join(program);
        let mut command = Command::new(python);
        command.args(before).arg(program).args([address, "emails"]).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let said = Arc::<Mutex<Vec<String>>>::default();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let sink = Arc::clone(&said);
        thread::spawn(move || lines.for_each(|line| sink.lock().unwrap().push(line)));
        Self { child, said }
    }

    /// Its first lines on standard output, when there are so many.
    async fn says(&self, lines: usize) -> Vec<String> {
        let said = || self.said.lock().unwrap().clone();
        eventually("it says so much", async || said().len() >= lines).await;
        said()
    }

    async fn terminate(&mut self) -> ExitStatus {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let mut status = None;
        eventually("the worker ends", async || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Both fail only for a process that has ended and was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn email(payload: &'static str) -> NewJob {
    NewJob {
        queue: "emails".to_owned(),
        kind: "send_email".to_owned(),
        payload: payload.into(),
        max_attempts: 1,
        ..NewJob::default()
    }
}

async fn every_state_is(broker: &Broker, ids: &[i64], state: JobState) {
    for id in ids {
        eventually(&format!("job {id} is {state:?}"), async || {
            get(broker, *id).await.state() == state
        })
        .await;
    }
}

#[tokio::test]
async fn the_worker_in_python_does_jobs_survives_a_restart_and_stops_gracefully() {
    let Some(python) = tokio::task::spawn_blocking(interpreter).await.unwrap() else {
        eprintln!("SKIPPED: there is no python3, so the worker in Python isn't tested");
        return;
    };
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let address = broker.grpc.clone();
    let mut worker = Worker::start(&python, &[], &address);

    let ids = broker.enqueue((0..50).map(|_| email(r#"{"to": "ada@example.com"}"#))).await;
    let said = worker.says(1).await;
    assert!(said[0].ends_with("attempt 1: to ada@example.com"), "{said:?}");
    every_state_is(&broker, &ids, JobState::Succeeded).await;
    assert_eq!(get(&broker, ids[0]).await.result.as_ref(), br#""sent""#);
    let bad =
        broker.enqueue([email("no JSON"), NewJob { kind: "other".to_owned(), ..email("{}") }]);
    let bad = bad.await;
    every_state_is(&broker, &bad, JobState::Dead).await;
    assert!(get(&broker, bad[0]).await.error.contains("JSONDecodeError"));
    assert!(get(&broker, bad[1]).await.error.contains("KeyError"));

    // The broker is away, and comes back where it was.
    broker.kill();
    let broker = Broker::start_with(&database, &[("GRPC__LISTEN", &address)]).await;
    let ids = broker.enqueue((0..50).map(|_| email(r#"{"to": "bob@example.com"}"#))).await;
    every_state_is(&broker, &ids, JobState::Succeeded).await;
    let attempts = database.number("SELECT max(attempt)::bigint FROM currant.job").await;
    assert_eq!(attempts, 1);

    assert_eq!(worker.terminate().await.code(), Some(0));
    assert_eq!(broker.terminate().await.code(), Some(0));
}

/// A handler that takes its time, and a line when it begins.
const SLOW: &str = r#"
import asyncio, runpy, sys
program = runpy.run_path(sys.argv[1])
async def slow(job):
    print("began", flush=True)
    await asyncio.sleep(1)
    return b"done"
program["HANDLERS"]["slow"] = slow
asyncio.run(program["main"](*sys.argv[2:]))
"#;

#[tokio::test]
async fn the_stopping_worker_in_python_finishes_what_runs_and_gives_back_what_waits() {
    let Some(python) = tokio::task::spawn_blocking(interpreter).await.unwrap() else {
        eprintln!("SKIPPED: there is no python3, so the worker in Python isn't tested");
        return;
    };
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut worker = Worker::start(&python, &["-c", SLOW], &broker.grpc);
    let slow = || NewJob { kind: "slow".to_owned(), ..email("{}") };
    // It runs 10 at a time and holds as many more.
    broker.enqueue((0..15).map(|_| slow())).await;
    worker.says(10).await;
    let held = "SELECT count(*) FROM currant.jobs WHERE state = 'running'";
    eventually("the others wait in it", async || database.number(held).await == 15).await;
    assert_eq!(worker.terminate().await.code(), Some(0));
    let done = "SELECT count(*) FROM currant.jobs WHERE state = 'succeeded'";
    assert_eq!(database.number(done).await, 10);
    let given_back = "SELECT count(*) FROM currant.jobs WHERE state = 'ready' AND failures = 0";
    eventually("5 are ready", async || database.number(given_back).await == 5).await;
}
