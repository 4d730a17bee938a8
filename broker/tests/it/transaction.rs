//! Attempts that a worker completes in a transaction of its own.

use std::time::Duration;

use currant_proto::v1::{
    Assignment, CancelRequest, CancelVerdict, Committed, CompleteRequest, GetRequest, JobState,
    Verdict, completion::Outcome,
};
use tokio_postgres::{Client, Error};

use crate::{
    outcomes::{retried, succeeded},
    support::{Broker, Database, TestWorker, connect, eventually, get, job, success},
};

const STALE: &str = "QC001";
const ENDED: &str = "QC002";
const NOT_THERE: &str = "QC003";

fn committed() -> Outcome {
    Outcome::Committed(Committed {})
}

fn code(error: &Error) -> &str {
    error.code().unwrap_or_else(|| panic!("{error}")).code()
}

/// Begins a transaction with an effect.
async fn begin(client: &Client) {
    client.batch_execute("CREATE TABLE IF NOT EXISTS effect ()").await.unwrap();
    client.batch_execute("BEGIN; INSERT INTO effect DEFAULT VALUES").await.unwrap();
}

async fn complete(client: &Client, job: &Assignment) -> Result<(), Error> {
    let sql = "SELECT currant.complete($1, $2, 'done')";
    client.execute(sql, &[&job.job_id, &job.attempt.cast_signed()]).await.map(drop)
}

async fn commit(client: &Client) -> Result<(), Error> {
    client.batch_execute("COMMIT").await
}

async fn effects(database: &Database) -> i64 {
    database.number("SELECT count(*) FROM effect").await
}

#[tokio::test]
async fn effect_and_outcome_are_committed_together_and_the_report_returns_the_credit() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 1).await;
    let client = database.connect().await;
    let ids = broker.enqueue([job("q", b""), job("q", b"")]).await;
    let held = worker.job().await;
    begin(&client).await;
    complete(&client, &held).await.unwrap();
    assert_eq!(get(&broker, ids[0]).await.state(), JobState::Running, "not before the commit");
    assert_eq!(effects(&database).await, 0);
    commit(&client).await.unwrap();
    let stored = get(&broker, ids[0]).await;
    assert_eq!((stored.state(), &*stored.result), (JobState::Succeeded, &b"done"[..]));
    assert!(stored.finished_at.is_some());
    assert_eq!(effects(&database).await, 1);
    worker.no_job_for(Duration::from_millis(100)).await;
    assert_eq!(worker.report([&held], committed()).await, [Verdict::Duplicate]);
    assert_eq!(worker.job().await.job_id, ids[1]);
    assert_eq!(database.number("SELECT count(*) FROM currant.completion").await, 0);
    // An ordinary report would have done as well, and changes nothing.
    assert_eq!(worker.report([&held], succeeded(b"again")).await, [Verdict::Duplicate]);
    assert_eq!(&*get(&broker, ids[0]).await.result, b"done");
}

#[tokio::test]
async fn a_rollback_leaves_the_attempt_as_it_was() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 1).await;
    let client = database.connect().await;
    let ids = broker.enqueue([job("q", b"")]).await;
    let held = worker.job().await;
    begin(&client).await;
    client.batch_execute("SAVEPOINT part").await.unwrap();
    complete(&client, &held).await.unwrap();
    client.batch_execute("ROLLBACK TO part").await.unwrap();
    commit(&client).await.unwrap();
    begin(&client).await;
    complete(&client, &held).await.unwrap();
    client.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(get(&broker, ids[0]).await.state(), JobState::Running);
    assert_eq!(worker.succeed([&held]).await, [Verdict::Applied]);
}

#[tokio::test]
async fn who_says_that_it_has_committed_and_has_not_has_failed() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 1).await;
    let ids = broker.enqueue([retried()]).await;
    let held = worker.job().await;
    assert_eq!(worker.report([&held], committed()).await, [Verdict::Applied]);
    let again = worker.job().await;
    assert_eq!((again.job_id, again.failures), (ids[0], 1));
    let request = GetRequest { job_id: ids[0], ..Default::default() };
    let failed = broker.jobs().get(request).await.unwrap().into_inner().failed_attempts;
    assert_eq!((failed.len(), &*failed[0].class, &*failed[0].worker), (1, "not_committed", "test"));
    assert_eq!(worker.report([&held], committed()).await, [Verdict::Stale]);
}

#[tokio::test]
async fn an_attempt_that_is_not_current_raises_and_nothing_is_committed() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 2).await;
    let client = database.connect().await;
    broker.enqueue([retried(), job("q", b"")]).await;
    let held = worker.take(2).await;
    worker.report([&held[0]], crate::outcomes::failed("no")).await;
    let again = worker.job().await;
    worker.succeed([&held[1]]).await;
    let absent = Assignment { job_id: 7, attempt: 1, ..Assignment::default() };
    for (attempt, expected) in [(&held[0], STALE), (&held[1], ENDED), (&absent, NOT_THERE)] {
        begin(&client).await;
        let error = complete(&client, attempt).await.unwrap_err();
        assert_eq!(code(&error), expected, "{error}");
        commit(&client).await.unwrap();
    }
    begin(&client).await;
    complete(&client, &again).await.unwrap();
    commit(&client).await.unwrap();
    assert_eq!(effects(&database).await, 1);
}

/// The worker's transaction keeps nobody waiting, however long it takes after it has called.
#[tokio::test]
async fn an_attempt_that_is_cancelled_before_the_commit_rolls_it_back() {
    let database = Database::fresh().await;
    let settings = [("DATABASE__STATEMENT_TIMEOUT_MS", "1000")];
    let broker = Broker::start_with(&database, &settings).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 1).await;
    let client = database.connect().await;
    let ids = broker.enqueue([job("q", b"")]).await;
    let held = worker.job().await;
    begin(&client).await;
    complete(&client, &held).await.unwrap();
    let request = CancelRequest { job_ids: ids.clone(), ..Default::default() };
    let answer = broker.jobs().cancel(request).await.unwrap().into_inner();
    assert_eq!(answer.verdicts().collect::<Vec<_>>(), [CancelVerdict::Requested]);
    let error = commit(&client).await.unwrap_err();
    assert_eq!(code(&error), STALE, "{error}");
    assert_eq!(effects(&database).await, 0);
    assert_eq!(get(&broker, ids[0]).await.state(), JobState::Cancelled);
    assert_eq!(worker.report([&held], committed()).await, [Verdict::Stale]);
}

#[tokio::test]
async fn of_two_transactions_that_complete_an_attempt_one_commits() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 100).await;
    let clients = [database.connect().await, database.connect().await];
    broker.enqueue((0..20).map(|_| job("q", b""))).await;
    for held in worker.take(20).await {
        for client in &clients {
            begin(client).await;
            complete(client, &held).await.unwrap();
        }
        let request = CompleteRequest { completions: vec![success(&held)], ..Default::default() };
        let mut reporter = worker.client.clone();
        let (a, b, reported) =
            tokio::join!(commit(&clients[0]), commit(&clients[1]), reporter.complete(request));
        let verdict = reported.unwrap().into_inner().verdicts().next();
        let applied = usize::from(verdict == Some(Verdict::Applied));
        let errors: Vec<Error> = [a, b].into_iter().filter_map(Result::err).collect();
        assert_eq!(errors.len(), 1 + applied);
        assert!(errors.iter().all(|error| code(error) == ENDED), "{errors:?}");
    }
    let succeeded = "SELECT count(*) FROM currant.job WHERE outcome = 1";
    assert_eq!(database.number(succeeded).await, 20);
}

#[tokio::test]
async fn a_worker_that_dies_after_its_commit_leaves_a_job_that_is_done() {
    let database = Database::fresh().await;
    let settings = [("SESSION__RECONNECT_GRACE_MS", "100")];
    let broker = Broker::start_with(&database, &settings).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 1).await;
    let client = database.connect().await;
    let ids = broker.enqueue([job("q", b""), job("q", b"")]).await;
    let held = worker.job().await;
    // Acknowledged: else it wouldn't be held against the job.
    worker.heartbeat([&held]).await.unwrap();
    begin(&client).await;
    complete(&client, &held).await.unwrap();
    commit(&client).await.unwrap();
    drop(worker);
    let mut next = TestWorker::subscribe(&broker, &["q"], 10).await;
    assert_eq!(next.job().await.job_id, ids[1]);
    eventually("its lease has ended", async || {
        broker.metric("currant_attempts_held").await == Some(1.0)
    })
    .await;
    next.no_job_for(Duration::from_millis(200)).await;
    let stored = get(&broker, ids[0]).await;
    assert_eq!((stored.state(), stored.failures), (JobState::Succeeded, 0));
}

#[tokio::test]
async fn a_broker_that_dies_between_commit_and_report_runs_nothing_again() {
    let database = Database::fresh().await;
    let settings = [("BROKER__NAME", "same"), ("BROKER__ADOPTION_GRACE_MS", "100")];
    let broker = Broker::start_with(&database, &settings).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 10).await;
    let client = database.connect().await;
    let ids = broker.enqueue([job("q", b"")]).await;
    let held = worker.job().await;
    begin(&client).await;
    complete(&client, &held).await.unwrap();
    broker.kill();
    commit(&client).await.unwrap();
    let next = Broker::start_with(&database, &settings).await;
    let mut worker = worker.resume(&next, [&held]).await;
    assert_eq!(worker.report([&held], committed()).await, [Verdict::Duplicate]);
    let rescued = "SELECT count(*) FROM currant.broker WHERE rescued_at IS NOT NULL";
    eventually("it was rescued", async || database.number(rescued).await == 1).await;
    worker.no_job_for(Duration::from_millis(200)).await;
    assert_eq!(get(&next, ids[0]).await.state(), JobState::Succeeded);
}

/// As the broker's own completions, whatever the planner thinks of the table.
#[tokio::test]
async fn a_completion_is_a_heap_only_update_found_by_the_key() {
    let database = Database::fresh().await;
    let client = database.connect().await;
    let sql = "SELECT currant.enqueue_many(array_agg(currant.new_job('q', 'k'))) FROM generate_series(1, 50);
               UPDATE currant.job SET phase = 2, attempt = 1, owner = 1;
               VACUUM ANALYZE currant.job";
    for statement in sql.split(';') {
        client.batch_execute(statement).await.unwrap();
    }
    let counters = "SELECT seq_scan, n_tup_hot_upd FROM pg_stat_user_tables
                    WHERE relid = 'currant.job'::regclass";
    let counters = async || {
        client.batch_execute("SELECT pg_stat_force_next_flush()").await.unwrap();
        let row = client.query_one(counters, &[]).await.unwrap();
        (row.get::<_, i64>(0), row.get::<_, i64>(1))
    };
    let ids: Vec<i64> = {
        let rows = client.query("SELECT id FROM currant.job", &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    };
    let before = counters().await;
    for id in ids {
        client.execute("SELECT currant.complete($1, 1)", &[&id]).await.unwrap();
    }
    let after = counters().await;
    assert_eq!(after.0, before.0, "sequential scans");
    assert_eq!(after.1, before.1 + 50, "heap-only updates");
}

#[tokio::test]
async fn a_role_needs_the_right_to_complete_and_no_other() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 1).await;
    let ids = broker.enqueue([job("q", b"")]).await;
    let held = worker.job().await;
    let owner = database.connect().await;
    let role = format!("{}_complete", database.name);
    owner
        .batch_execute(&format!(
            "CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA currant TO {role};
             GRANT EXECUTE ON FUNCTION currant.complete TO {role}"
        ))
        .await
        .unwrap();
    let url = database.url.replace("user=postgres", &format!("user={role}"));
    let client = connect(&url).await;
    client.batch_execute("BEGIN").await.unwrap();
    complete(&client, &held).await.unwrap();
    commit(&client).await.unwrap();
    assert_eq!(get(&broker, ids[0]).await.state(), JobState::Succeeded);
    for sql in ["SELECT FROM currant.completion", "SELECT currant.enqueue('q', 'k')"] {
        let error = client.batch_execute(sql).await.unwrap_err();
        assert_eq!(code(&error), "42501", "{sql}");
    }
    drop(client);
    owner.batch_execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await.unwrap();
}
