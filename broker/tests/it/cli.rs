//! The program's command line.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, ExitStatus, Output, Stdio},
};

use currant_proto::v1::{SubscribeRequest, Verdict, worker_service_client::WorkerServiceClient};

use crate::support::{Broker, Database, PATIENCE, TestWorker, connect, eventually, http_get, job};

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_currant-broker"));
    command.args(arguments).stdin(Stdio::null());
    command
}

async fn run(mut command: Command) -> Output {
    let output = tokio::task::spawn_blocking(move || command.output());
    tokio::time::timeout(PATIENCE, output).await.expect("it doesn't end").unwrap().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// A broker with a Postgres of its own, and what it said when it was ready.
struct Dev {
    child: Child,
    greeting: String,
}

impl Dev {
    async fn start(data_dir: &Path) -> Self {
        let free = "127.0.0.1:0";
        let mut command = program(&["dev", "--grpc-listen", free, "--http-listen", free]);
        command.arg("--data-dir").arg(data_dir);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let read = move || {
            let mut greeting = String::new();
            while let Some(line) = lines.next().filter(|line| !line.starts_with("Ctrl-C")) {
                greeting += &format!("{line}\n");
            }
            greeting
        };
        let read = tokio::task::spawn_blocking(read);
        let greeting = tokio::time::timeout(PATIENCE, read).await;
        Self { child, greeting: greeting.expect("it isn't ready").unwrap() }
    }

    /// What follows a word, up to the end of the quotes or the line.
    fn after(&self, word: &str) -> &str {
        let (_, rest) = self.greeting.split_once(word).expect(word);
        let rest = rest.trim_start();
        rest.strip_prefix('"').unwrap_or(rest).split(['"', '\n', ',']).next().unwrap()
    }

    async fn signal(&mut self, signal: &str) -> ExitStatus {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        let mut status = None;
        eventually("it ends", async || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // Both fail only for a process that has ended and was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn dev_says_what_to_do_next_serves_a_job_and_takes_its_postgres_along() {
    let directory = tempfile::Builder::new().tempdir_in("/tmp").unwrap();
    // As root the server's user must be able to pass.
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let data_dir = directory.path().join("data");
    let mut dev = Dev::start(&data_dir).await;
    assert!(dev.greeting.contains(&data_dir.display().to_string()), "{}", dev.greeting);
    let ready = dev.after("metrics and health").replace("/metrics", "");
    let (status, _) = http_get(ready.trim_start_matches("http://"), "/health/ready").await;
    assert_eq!(status, 200);

    // The line that stores a job, and a worker at the endpoint.
    let dsn = dev.after("database                psql").to_owned();
    let (_, sql) = dev.greeting.split_once("-c \"").unwrap();
    let id: i64 = {
        let client = connect(&dsn).await;
        client.query_one(sql.split('"').next().unwrap(), &[]).await.unwrap().get(0)
    };
    let client = WorkerServiceClient::connect(dev.after("producers and workers").to_owned());
    let request = SubscribeRequest {
        queues: vec!["emails".to_owned()],
        max_in_flight: 1,
        ..SubscribeRequest::default()
    };
    let mut worker = TestWorker::open_with(client.await.unwrap(), request).await.unwrap();
    let job = worker.job().await;
    assert_eq!((job.job_id, job.kind.as_str()), (id, "send_email"));
    assert_eq!(worker.succeed([&job]).await, [Verdict::Applied]);
    drop(worker);

    assert_eq!(dev.signal("-INT").await.code(), Some(0));
    assert!(!data_dir.join("pgdata/postmaster.pid").exists(), "its Postgres still runs");

    // The data is kept.
    let mut dev = Dev::start(&data_dir).await;
    let client = connect(dev.after("database                psql")).await;
    let sql = "SELECT state FROM currant.jobs WHERE id = $1";
    let state: String = client.query_one(sql, &[&id]).await.unwrap().get(0);
    assert_eq!(state, "succeeded");
    assert_eq!(dev.signal("-TERM").await.code(), Some(0));
    assert!(!data_dir.join("pgdata/postmaster.pid").exists(), "its Postgres still runs");
}

#[tokio::test]
async fn migrate_says_what_it_did_and_then_that_nothing_is_left() {
    let database = Database::empty().await;
    let said = async |arguments: &[&str]| {
        let mut command = program(arguments);
        command.env("CURRANT_DATABASE__URL", &database.url);
        let output = run(command).await;
        assert!(output.status.success(), "{output:?}");
        text(&output.stdout).to_owned()
    };
    let migrate = || said(&["migrate"]);
    // What it would do; that changes nothing.
    let would = said(&["migrate", "--dry-run"]).await;
    assert_eq!(would, said(&["migrate", "--dry-run"]).await);
    // Of several at once one does it.
    let (a, b, c) = tokio::join!(migrate(), migrate(), migrate());
    let mut done = [a, b, c];
    done.sort_by_key(|done| done.starts_with("the schema is up to date"));
    assert!(done[0].starts_with("V1__jobs"), "{done:?}");
    assert_eq!(done[0], would);
    assert_eq!(done[1..], ["the schema is up to date\n"; 2]);
    assert_eq!(migrate().await, "the schema is up to date\n");
    assert_eq!(said(&["migrate", "--dry-run"]).await, "the schema is up to date\n");
    assert_eq!(database.number("SELECT count(*) FROM currant.jobs").await, 0);
}

#[tokio::test]
async fn the_generated_documents_are_those_in_the_repository() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for (what, file) in
        [("reference", "docs/configuration.md"), ("example", "deploy/currant.example.toml")]
    {
        let output = run(program(&["config", what])).await;
        assert!(output.status.success());
        assert_eq!(text(&output.stdout), fs::read_to_string(root.join(file)).unwrap(), "{file}");
    }
    let mut command = program(&["config", "check", "--config"]);
    command.arg(root.join("deploy/currant.example.toml"));
    command.env("CURRANT_DATABASE__URL", "host=x");
    let output = run(command).await;
    assert_eq!(text(&output.stdout), "the settings are valid\n");
}

#[tokio::test]
async fn wrong_settings_are_named_before_anything_starts() {
    // Whoever got as far as the ports would complain of this one.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let refused: [(&str, (&str, &str), &str); 8] = [
        ("[database]\npoolsize = 7", ("", ""), "poolsize"),
        ("[databases]\n", ("", ""), "databases"),
        ("[database]\npool_size = 'many'", ("", ""), "database.pool_size"),
        ("[session]\ntimeout_ms = 1", ("", ""), "session.timeout_ms is 1"),
        ("", ("CURRANT_DATABASE__POOLSIZE", "7"), "CURRANT_DATABASE__POOLSIZE"),
        ("", ("CURRANT_DATABASE_POOL_SIZE", "7"), "CURRANT_DATABASE__POOL_SIZE"),
        ("", ("CURRANT_LOG__FORMAT", "xml"), "log.format"),
        ("", ("CURRANT_DATABASE__URL", "postgres://u:hunter2@h:x/d"), "database.url"),
    ];
    for (toml, (name, value), named) in refused {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(toml.as_bytes()).unwrap();
        let mut command = program(&["serve", "--config"]);
        command.arg(file.path());
        command.env("CURRANT_DATABASE__URL", "host=127.0.0.1 port=1");
        command.env("CURRANT_GRPC__LISTEN", &address);
        if !name.is_empty() {
            command.env(name, value);
        }
        let output = run(command).await;
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{named}: {said}");
        assert!(said.contains(named), "{named}: {said}");
        assert!(!said.contains("grpc.listen") && !said.contains("hunter2"), "{named}: {said}");
    }

    let mut command = program(&["serve"]);
    command.env_remove("CURRANT_DATABASE__URL").env("CURRANT_GRPC__LISTEN", &address);
    let output = run(command).await;
    assert!(text(&output.stderr).contains("database.url is not set"), "{output:?}");
}

#[tokio::test]
async fn health_says_whether_the_broker_is_ready() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let health = async || {
        let mut command = program(&["health"]);
        command.env("CURRANT_HTTP__LISTEN", &broker.http);
        run(command).await
    };
    let ready = health().await;
    assert_eq!((ready.status.code(), text(&ready.stdout)), (Some(0), "ready\n"));

    let mut worker = TestWorker::subscribe(&broker, &["emails"], 1).await;
    broker.enqueue([job("emails", b"x")]).await;
    let held = worker.job().await;
    broker.signal_to_stop();
    eventually("it isn't ready", async || health().await.status.code() == Some(1)).await;
    let draining = health().await;
    assert!(text(&draining.stderr).contains("not ready: 503"), "{draining:?}");

    worker.succeed([&held]).await;
    drop(worker);
    eventually("nobody answers", async || text(&health().await.stderr).contains("asking http"))
        .await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let database = Database::fresh().await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut command = program(&["serve"]);
    command.env("CURRANT_DATABASE__URL", &database.url).env("CURRANT_GRPC__LISTEN", &address);
    let output = run(command).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains(&format!("grpc.listen = {address}")), "{output:?}");
}
