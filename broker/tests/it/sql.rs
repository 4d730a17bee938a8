//! Jobs enqueued in SQL, inside the caller's own transaction.

use std::{collections::HashSet, time::Duration};

use currant_proto::v1::{Cancelled, Failed, JobState, completion::Outcome};
use tokio_postgres::{Client, error::SqlState};

use crate::support::{Broker, Database, TestWorker, eventually, get, job};

/// A committed job has to be with its worker long before the backlog is swept.
const NO_SWEEP: &[(&str, &str)] = &[("DISPATCH__SWEEP_INTERVAL_MS", "60000")];

/// The id that the function returns.
async fn enqueue(client: &Client, call: &str) -> i64 {
    client.query_one(&format!("SELECT currant.{call}"), &[]).await.unwrap().get(0)
}

async fn state(client: &Client, id: i64) -> String {
    let sql = "SELECT state FROM currant.jobs WHERE id = $1";
    client.query_one(sql, &[&id]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_job_is_there_if_and_only_if_its_transaction_commits() {
    let database = Database::fresh().await;
    let broker = Broker::start_with(&database, NO_SWEEP).await;
    let mut worker = TestWorker::subscribe(&broker, &["emails"], 10).await;
    let mut client = database.connect().await;

    let transaction = client.transaction().await.unwrap();
    transaction.execute("SELECT currant.enqueue('emails', 'test')", &[]).await.unwrap();
    transaction.rollback().await.unwrap();
    assert_eq!(database.number("SELECT count(*) FROM currant.job").await, 0);

    let transaction = client.transaction().await.unwrap();
    let sql = "SELECT currant.enqueue('emails', 'test') FROM generate_series(1, 3)";
    let rows = transaction.query(sql, &[]).await.unwrap();
    let ids: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
    worker.no_job_for(Duration::from_millis(300)).await;
    transaction.commit().await.unwrap();
    let delivered: Vec<i64> = worker.take(3).await.iter().map(|job| job.job_id).collect();
    assert_eq!(delivered, ids);
}

#[tokio::test]
async fn what_the_caller_gives_is_what_the_worker_gets() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&broker, &["emails"], 10).await;
    let client = database.connect().await;

    enqueue(&client, r#"enqueue('emails', 'greet', '{"to": "Zoë", "n": [1, 2]}')"#).await;
    let job = worker.job().await;
    let payload: serde_json::Value = serde_json::from_slice(&job.payload).unwrap();
    assert_eq!(payload, serde_json::json!({"to": "Zoë", "n": [1, 2]}));
    assert_eq!((job.kind.as_str(), job.content_type.as_str()), ("greet", "application/json"));
    assert_eq!((job.attempt, job.failures, job.priority, job.max_attempts), (1, 0, 0, 25));

    enqueue(&client, "enqueue('emails', 'test')").await;
    assert_eq!(worker.job().await.payload, "null");

    let call = r"enqueue_bytes('emails', 'test', '\x00ff', priority => -7, max_attempts => 3,
                               content_type => 'image/png', run_at => now() - interval '1 hour')";
    let id = enqueue(&client, call).await;
    let job = worker.job().await;
    assert_eq!(job.payload.as_ref(), [0, 255]);
    assert_eq!(job.content_type, "image/png");
    assert_eq!((job.priority, job.max_attempts), (-7, 3));
    assert_eq!(get(&broker, id).await.run_at, None, "a time that has passed means at once");

    enqueue(&client, "enqueue_bytes('emails', 'test', 'x')").await;
    assert_eq!(worker.job().await.content_type, "");
}

#[tokio::test]
async fn a_later_job_is_scheduled_and_promoted_in_time() {
    let database = Database::fresh().await;
    let broker = Broker::start_with(&database, NO_SWEEP).await;
    let mut worker = TestWorker::subscribe(&broker, &["emails"], 10).await;
    let client = database.connect().await;
    let later = "enqueue('emails', 'test', run_at => now() + interval '1 day')";
    let later = enqueue(&client, later).await;
    let call = "enqueue('emails', 'test', run_at => clock_timestamp() + interval '1 second')";
    let id = enqueue(&client, call).await;
    assert_eq!(state(&client, id).await, "scheduled");
    assert_eq!(get(&broker, id).await.state(), JobState::Scheduled);
    assert_eq!(worker.job().await.job_id, id);
    let sql = "SELECT count(*) FROM currant.job WHERE run_at > clock_timestamp()";
    assert_eq!(database.number(sql).await, 1, "it came before its time");
    assert_eq!(state(&client, later).await, "scheduled");
}

#[tokio::test]
async fn higher_priority_runs_first_and_equals_in_order() {
    let database = Database::fresh().await;
    let client = database.connect().await;
    let mut ids = Vec::new();
    for priority in [0, 5, -5, 100, 5, -100] {
        let call = format!("enqueue('emails', 'test', priority => {priority})");
        ids.push(enqueue(&client, &call).await);
    }
    let broker = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&broker, &["emails"], 1).await;
    for index in [3, 1, 4, 0, 2, 5] {
        let job = worker.job().await;
        assert_eq!(job.job_id, ids[index]);
        worker.succeed([&job]).await;
    }
}

#[tokio::test]
async fn what_is_refused_names_the_argument_and_stores_nothing() {
    let database = Database::fresh().await;
    let client = database.connect().await;
    let long = "x".repeat(129);
    let refused = [
        ("queue", "enqueue(NULL, 'k')".to_owned()),
        ("queue", "enqueue('', 'k')".to_owned()),
        ("queue", "enqueue('.q', 'k')".to_owned()),
        ("queue", "enqueue('q r', 'k')".to_owned()),
        ("queue", "enqueue(E'q\\n', 'k')".to_owned()),
        ("queue", format!("enqueue('{long}', 'k')")),
        ("kind", "enqueue('q', NULL)".to_owned()),
        ("kind", "enqueue('q', '')".to_owned()),
        ("kind", "enqueue('q', 'ä')".to_owned()),
        ("kind", format!("enqueue('q', '{long}')")),
        ("payload", "enqueue('q', 'k', NULL)".to_owned()),
        ("payload", "enqueue_bytes('q', 'k', NULL)".to_owned()),
        ("payload", "enqueue_bytes('q', 'k', convert_to(repeat('x', 1048577), 'UTF8'))".to_owned()),
        ("priority", "enqueue('q', 'k', priority => 101)".to_owned()),
        ("priority", "enqueue('q', 'k', priority => -101)".to_owned()),
        ("run_at", "enqueue('q', 'k', run_at => '1999-12-30')".to_owned()),
        ("run_at", "enqueue('q', 'k', run_at => now() + interval '10 years 2 days')".to_owned()),
        ("run_at", "enqueue('q', 'k', run_at => 'infinity')".to_owned()),
        ("run_at", "enqueue('q', 'k', run_at => '-infinity')".to_owned()),
        ("max_attempts", "enqueue('q', 'k', max_attempts => 0)".to_owned()),
        ("max_attempts", "enqueue('q', 'k', max_attempts => 1001)".to_owned()),
        ("content_type", format!("enqueue_bytes('q', 'k', 'x', content_type => '{long}')")),
    ];
    for (argument, call) in refused {
        let result = client.query_one(&format!("SELECT currant.{call}"), &[]).await;
        let error = result.expect_err(&call);
        let error = error.as_db_error().unwrap();
        assert_eq!(error.code(), &SqlState::INVALID_PARAMETER_VALUE, "{call}: {error}");
        assert_eq!(error.code().code(), "22023");
        assert!(error.message().starts_with(&format!("{argument}: ")), "{call}: {error}");
    }
    let stored = "SELECT (SELECT count(*) FROM currant.job) + (SELECT count(*) FROM currant.queue)";
    assert_eq!(database.number(stored).await, 0);
    let longest = "x".repeat(128);
    enqueue(&client, &format!("enqueue('{longest}', '{longest}', max_attempts => 1000)")).await;
}

#[tokio::test]
async fn ids_are_unique_with_many_connections_and_many_rows_at_once() {
    let database = Database::fresh().await;
    let mut tasks = Vec::new();
    for connection in 0..8 {
        let client = database.connect().await;
        tasks.push(tokio::spawn(async move {
            // Ids are unique over all queues, though the key has the queue in it.
            let sql = format!(
                "SELECT currant.enqueue('q' || {connection} % 4, 'test') FROM generate_series(1, 2500)"
            );
            let rows = client.query(&sql, &[]).await.unwrap();
            rows.iter().map(|row| row.get(0)).collect::<Vec<i64>>()
        }));
    }
    let mut ids = HashSet::new();
    for task in tasks {
        ids.extend(task.await.unwrap());
    }
    assert_eq!(ids.len(), 8 * 2500);

    let client = database.connect().await;
    let sql = "SELECT currant.enqueue('q0', 'test') FROM generate_series(1, 20000)";
    let rows = client.query(sql, &[]).await.unwrap();
    let more: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
    assert!(more.is_sorted_by(|a, b| a < b), "the ids of one statement grow");
    ids.extend(&more);
    assert_eq!(ids.len(), 8 * 2500 + 20_000);
    assert!(ids.iter().all(|id| id >> 12 & 1023 >= 768), "brokers have the slots below");
    assert_eq!(database.number("SELECT count(DISTINCT id) FROM currant.job").await, 40_000);
}

/// What a busy server or a slow session brings: between its look at the clock and the one at the
/// sequence others make a few thousand ids.
#[tokio::test]
async fn ids_differ_though_thousands_are_made_within_a_millisecond() {
    let database = Database::fresh().await;
    let client = database.connect().await;
    let sql = "DO $$ BEGIN FOR i IN 1..2000 LOOP
        PERFORM currant.enqueue('q', 'test');
        PERFORM setval('currant.enqueue_sequence', currval('currant.enqueue_sequence') + 4095);
    END LOOP; END $$";
    client.batch_execute(sql).await.unwrap();
    assert_eq!(database.number("SELECT count(DISTINCT id) FROM currant.job").await, 2000);
}

#[tokio::test]
async fn the_view_shows_each_job_in_its_state() {
    let database = Database::fresh().await;
    let client = database.connect().await;
    let broker = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&broker, &["emails"], 10).await;
    let ids = broker.enqueue((0..4).map(|_| job("emails", b"x"))).await;
    let jobs = worker.take(4).await;
    worker.succeed([&jobs[0]]).await;
    let failed = Failed { error: "no".to_owned(), discard: true, ..Failed::default() };
    worker.report([&jobs[1]], Outcome::Failed(failed)).await;
    worker.report([&jobs[2]], Outcome::Cancelled(Cancelled {})).await;
    let ready = enqueue(&client, "enqueue('others', 'test')").await;
    let call = "enqueue('others', 'test', run_at => now() + interval '1 hour', max_attempts => 2)";
    let scheduled = enqueue(&client, call).await;

    // state, attempt, failures, max_attempts, whether there is a run_at, claimed_at, finished_at
    type Row = (&'static str, i32, i16, Option<i16>, bool, bool, bool);
    let expected: [(i64, Row); 6] = [
        (ids[0], ("succeeded", 1, 0, None, false, true, true)),
        (ids[1], ("dead", 1, 1, None, false, true, true)),
        (ids[2], ("cancelled", 1, 0, None, false, true, true)),
        (ids[3], ("running", 1, 0, None, false, true, false)),
        (ready, ("ready", 0, 0, None, false, false, false)),
        (scheduled, ("scheduled", 0, 0, Some(2), true, false, false)),
    ];
    for (id, expected) in expected {
        let sql = "SELECT state, attempt, failures, max_attempts, run_at IS NOT NULL,
                          claimed_at IS NOT NULL, finished_at IS NOT NULL,
                          created_at BETWEEN now() - interval '1 minute' AND now() + interval '1 minute'
                   FROM currant.jobs WHERE id = $1";
        let row = client.query_one(sql, &[&id]).await.unwrap();
        let state: String = row.get(0);
        let shown: Row =
            (expected.0, row.get(1), row.get(2), row.get(3), row.get(4), row.get(5), row.get(6));
        assert_eq!(state, expected.0);
        assert_eq!(shown, expected, "{state}");
        assert!(row.get::<_, bool>(7), "{state}: created_at");
    }
    // The contract shows the same.
    eventually("the broker shows the same", async || {
        get(&broker, scheduled).await.state() == JobState::Scheduled
            && get(&broker, ids[1]).await.state() == JobState::Dead
    })
    .await;
}
