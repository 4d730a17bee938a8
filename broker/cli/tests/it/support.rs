use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Output, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use currant_broker::private_postgres::{Options, PrivatePostgres};
use currant_worker_sdk::{HandlerError, Job, Running, Worker};
use serde_json::Value;

/// How long a test waits for what has to happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// With these arguments, a line each, this program is `currant-broker`.
const BROKER: &str = "TEST_BROKER_ARGUMENTS";

/// A broker as a process of its own: this program, started again. It ends with this one, since its
/// standard input does.
pub(crate) struct Broker {
    child: Child,
    /// Without TLS.
    pub(crate) address: String,
}

/// What a run of `currant` printed, and how it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

#[test]
fn this_program_can_be_a_broker() {
    if let Ok(arguments) = std::env::var(BROKER) {
        thread::spawn(|| {
            let ended = std::io::stdin().read_to_end(&mut Vec::new());
            std::process::exit(i32::from(ended.is_err()));
        });
        let arguments = std::iter::once("currant-broker").chain(arguments.lines());
        currant_broker::cli::run(arguments.map(Into::into));
        return;
    }
    let output = output_of_broker(&["--version"]);
    assert!(String::from_utf8(output.stdout).unwrap().contains("currant-broker"));
}

fn broker_command(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "support::this_program_can_be_a_broker", "--nocapture"])
        .env(BROKER, arguments.join("\n"))
        .env("CURRANT_DATABASE__URL", database())
        .env("CURRANT_GRPC__LISTEN", "127.0.0.1:0")
        .env("CURRANT_HTTP__LISTEN", "127.0.0.1:0")
        .env("CURRANT_LOG__FORMAT", "json")
        // A drain waits for brokers of other tests that were killed.
        .env("CURRANT_BROKER__HEARTBEAT_INTERVAL_MS", "2000")
        .env("CURRANT_BROKER__DEAD_AFTER_MS", "5000")
        .env("CURRANT_BROKER__ADOPTION_GRACE_MS", "1000")
        .stdin(Stdio::piped());
    command
}

/// All that it prints until it ends by itself.
fn output_of_broker(arguments: &[&str]) -> Output {
    let mut command = broker_command(arguments);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let _stays_open = child.stdin.take();
    child.wait_with_output().unwrap()
}

/// One database for all tests: each has queues of its own.
fn database() -> String {
    static POSTGRES: OnceLock<PrivatePostgres> = OnceLock::new();
    POSTGRES.get_or_init(|| PrivatePostgres::start(Options::default()).unwrap()).dsn()
}

/// What `currant-broker` prints, the line that begins so.
pub(crate) fn broker_says(arguments: &[&str], beginning: &str) -> String {
    let output = output_of_broker(arguments);
    let out = String::from_utf8(output.stdout).unwrap();
    let line = out.lines().find(|line| line.starts_with(beginning));
    line.unwrap_or_else(|| panic!("{out}{}", String::from_utf8_lossy(&output.stderr))).to_owned()
}

impl Broker {
    /// One that lets everybody in, for all tests.
    pub(crate) fn shared() -> &'static Broker {
        static SHARED: OnceLock<Broker> = OnceLock::new();
        SHARED.get_or_init(|| Broker::start(&[]))
    }

    /// With settings, such as `("CURRANT_ACCESS__REQUIRED", "true")`.
    pub(crate) fn start(settings: &[(&str, &str)]) -> Broker {
        let mut command = broker_command(&["serve"]);
        command.envs(settings.iter().copied()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = String::new();
        let address = loop {
            let Some(Ok(line)) = lines.next() else { panic!("no broker: {said}") };
            let ready: Option<Value> = serde_json::from_str(&line).ok();
            let ready = ready.filter(|line| line["message"] == "the broker is ready");
            if let Some(ready) = ready {
                break format!("http://{}", ready["grpc"].as_str().unwrap());
            }
            said += &line;
        };
        // So that it never waits for a reader.
        thread::spawn(move || lines.for_each(drop));
        Broker { child, address }
    }

    /// Runs `currant`.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        self.run_with(&[], arguments)
    }

    /// The same with variables.
    pub(crate) fn run_with(&self, variables: &[(&str, &str)], arguments: &[&str]) -> Ran {
        let mut command = currant();
        command.env("CURRANT_ADDRESS", &self.address).envs(variables.iter().copied());
        Ran::of(command.args(arguments))
    }

    /// Begins to run it: what it prints can be read as it comes.
    pub(crate) fn begin(&self, arguments: &[&str]) -> Child {
        let mut command = currant();
        command.env("CURRANT_ADDRESS", &self.address).args(arguments);
        command.stdout(Stdio::piped()).spawn().unwrap()
    }

    /// Runs it with a reader that doesn't read.
    pub(crate) fn unread(&self, arguments: &[&str]) -> Ran {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = currant();
        command.env("CURRANT_ADDRESS", &self.address).args(arguments);
        let child = command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        Ran::from(child.wait_with_output().unwrap())
    }

    /// Runs it for objects, which have to come.
    pub(crate) fn json(&self, arguments: &[&str]) -> Vec<Value> {
        self.json_with(&[], arguments)
    }

    pub(crate) fn json_with(&self, variables: &[(&str, &str)], arguments: &[&str]) -> Vec<Value> {
        let ran = self.run_with(variables, &[arguments, &["--output", "json"]].concat());
        assert_eq!(ran.code, 0, "{arguments:?}: {ran:?}");
        ran.json()
    }

    /// The one object that it prints.
    pub(crate) fn one(&self, arguments: &[&str]) -> Value {
        let mut all = self.json(arguments);
        assert_eq!(all.len(), 1, "{arguments:?}: {all:?}");
        all.remove(0)
    }

    /// Stores a job of kind `test`, and returns its id.
    pub(crate) fn enqueue(&self, queue: &str, payload: &str) -> String {
        let id = self.one(&["enqueue", queue, "test", payload])["id"].clone();
        id.as_str().unwrap().to_owned()
    }

    /// A worker for a queue: `"fail"` is a payload for which no retry helps, all others come back.
    pub(crate) fn worker(&self, queue: &str) -> Running {
        let worker = Worker::builder(&self.address).queue(queue.to_owned());
        worker.handler("test", echo).build().unwrap().start()
    }
}

async fn echo(job: Job<Value>) -> Result<Value, HandlerError> {
    if job.payload == "fail" {
        return Err(HandlerError::discard("no such address"));
    }
    Ok(job.payload)
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Both fail only for a process that has ended and was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ran {
    fn of(command: &mut Command) -> Ran {
        Ran::from(command.output().unwrap())
    }

    fn from(output: Output) -> Ran {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ran {
            code: output.status.code().unwrap(),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }

    pub(crate) fn json(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// Without a broker.
pub(crate) fn run(arguments: &[&str]) -> Ran {
    Ran::of(currant().args(arguments))
}

fn currant() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_currant"));
    for variable in ["CURRANT_ADDRESS", "CURRANT_TOKEN", "CURRANT_TOKEN_FILE"] {
        command.env_remove(variable);
    }
    command.stdin(Stdio::null());
    command
}

/// The name of a queue that no other test has.
pub(crate) fn fresh(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("{name}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Waits until the condition holds, and says what it was when it never does.
#[expect(clippy::disallowed_methods, reason = "a test's patience, and its rest between two looks")]
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "not after {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}
