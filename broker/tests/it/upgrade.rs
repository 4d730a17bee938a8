//! Brokers of one version beside those of the next, and what a database of an earlier one has in it.

use std::{fs, path::Path};

use currant_broker::store;
use currant_proto::v1::{GetRequest, JobState, Verdict};

use crate::support::{Broker, Database, TestWorker, connect, job};

/// What a next version might do that brokers of this one needn't know.
const EXPANDED: &str = "
    ALTER TABLE currant.job ADD COLUMN later_idea text;
    CREATE TABLE currant.job_idea (id bigint PRIMARY KEY, idea text NOT NULL);
    ALTER TABLE currant.queue ADD COLUMN later_idea int NOT NULL DEFAULT 3;
    INSERT INTO currant.schema_history (version, name, applied_on, checksum)
    VALUES (1000, 'later_ideas', '2030-01-01T00:00:00Z', '1')";

/// And one that they would have to know.
const CONTRACTED: &str = "UPDATE currant.oldest_broker SET version = 1000";

#[tokio::test]
async fn brokers_run_and_start_on_the_schema_of_the_next_version_until_it_needs_newer_ones() {
    let database = Database::fresh().await;
    let client = database.connect().await;
    let old = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&old, &["emails"], 10).await;
    old.enqueue([job("emails", b"before")]).await;
    let before = worker.job().await;

    client.batch_execute(EXPANDED).await.unwrap();
    assert_eq!(worker.succeed([&before]).await, [Verdict::Applied]);
    old.enqueue([job("emails", b"after")]).await;
    let after = worker.job().await;
    assert_eq!(worker.succeed([&after]).await, [Verdict::Applied]);
    drop(worker);

    let again = Broker::start(&database).await;
    old.terminate().await;
    let mut worker = TestWorker::subscribe(&again, &["emails", "later"], 10).await;
    again.enqueue([job("emails", b"at the one that came back")]).await;
    let third = worker.job().await;
    assert_eq!(worker.succeed([&third]).await, [Verdict::Applied]);
    database.enqueue("later").await;
    let by_sql = worker.job().await;
    assert_eq!(worker.succeed([&by_sql]).await, [Verdict::Applied]);

    client.batch_execute(CONTRACTED).await.unwrap();
    let said = Broker::refused_with(&database.url, &[]).await;
    assert!(said.contains("database.url") && said.contains("has version 1000"), "{said}");
    assert!(said.contains("a newer one has been here"), "{said}");
}

#[tokio::test]
async fn a_migration_that_is_not_the_one_that_was_applied_is_named() {
    let database = Database::fresh().await;
    let client = database.connect().await;
    let sql = "UPDATE currant.schema_history SET checksum = '1' WHERE version = 2";
    client.batch_execute(sql).await.unwrap();
    let said = Broker::refused_with(&database.url, &[]).await;
    assert!(said.contains("another migration 2") && said.contains("(duty)"), "{said}");
}

/// The first version whose functions store jobs with options.
const WITH_FUNCTIONS: i32 = 8;

/// A database as brokers of that version left it.
async fn at_version(version: i32) -> Database {
    let database = Database::empty().await;
    let client = database.connect().await;
    let of_name = |name: &str| name[1..].split_once("__").unwrap().0.parse::<i32>().unwrap();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations");
    let files = fs::read_dir(directory).unwrap().map(|file| file.unwrap().path());
    let number = |path: &Path| of_name(path.file_name().unwrap().to_str().unwrap());
    let mut files: Vec<_> = files.filter(|path| number(path) <= version).collect();
    files.sort_by_key(|path| number(path));
    client.batch_execute("CREATE SCHEMA currant").await.unwrap();
    for file in files {
        client.batch_execute(&fs::read_to_string(file).unwrap()).await.unwrap();
    }
    let history = "CREATE TABLE currant.schema_history
        (version int4 PRIMARY KEY, name varchar(255), applied_on varchar(255), checksum varchar(255))";
    client.batch_execute(history).await.unwrap();
    let newest = connect(&Database::fresh().await.url).await;
    let sql = "SELECT version, name, applied_on, checksum FROM currant.schema_history WHERE version <= $1";
    for row in newest.query(sql, &[&version]).await.unwrap() {
        let [name, at, checksum] = [1, 2, 3].map(|column| row.get::<_, String>(column));
        let sql = "INSERT INTO currant.schema_history VALUES ($1, $2, $3, $4)";
        client.execute(sql, &[&row.get::<_, i32>(0), &name, &at, &checksum]).await.unwrap();
    }
    database
}

/// Ready, urgent, later, held by a broker that died, and one that succeeded.
const LEFT: &str = "
    SELECT currant.enqueue('emails', 'ready'), currant.enqueue('emails', 'urgent', priority => 5),
           currant.enqueue('emails', 'later', delay => interval '100 milliseconds'),
           currant.enqueue('emails', 'held'), currant.enqueue('emails', 'done');
    INSERT INTO currant.broker (slot, name, heartbeat_at, low_id)
    VALUES (0, 'gone', now() - interval '1 hour', 0);
    UPDATE currant.job SET phase = 2, attempt = 1, owner = (SELECT id FROM currant.broker)
    WHERE kind IN ('held', 'done');
    UPDATE currant.job SET outcome = 1, result = 'as it was', finished_at = now() WHERE kind = 'done'";

#[tokio::test]
async fn what_brokers_of_earlier_versions_left_is_done_by_this_one() {
    let settings = [
        ("BROKER__HEARTBEAT_INTERVAL_MS", "100"),
        ("BROKER__DEAD_AFTER_MS", "1000"),
        ("BROKER__ADOPTION_GRACE_MS", "500"),
    ];
    for version in WITH_FUNCTIONS..=store::newest_version() {
        let database = at_version(version).await;
        let client = database.connect().await;
        client.batch_execute(LEFT).await.unwrap();
        let broker = Broker::start_with(&database, &settings).await;
        let mut worker = TestWorker::subscribe(&broker, &["emails"], 10).await;
        let jobs = worker.take(4).await;
        let mut kinds: Vec<&str> = jobs.iter().map(|job| &*job.kind).collect();
        assert_eq!(kinds[0], "urgent", "from version {version}");
        kinds.sort_unstable();
        assert_eq!(kinds, ["held", "later", "ready", "urgent"], "from version {version}");
        assert_eq!(worker.succeed(&jobs).await, [Verdict::Applied; 4], "from version {version}");
        let job_id = database.number("SELECT id FROM currant.job WHERE kind = 'done'").await;
        let request = GetRequest { job_id, ..GetRequest::default() };
        let done = broker.jobs().get(request).await.unwrap().into_inner().job.unwrap();
        assert_eq!((done.state(), &*done.result), (JobState::Succeeded, &b"as it was"[..]));
    }
}
