//! Finished jobs are deleted when they're over their retention, and nothing else is.

use currant_broker::clock::Stopwatch;
use currant_proto::v1::{EnqueueRequest, GetRequest, JobState};
use tonic::Code;

use crate::support::{Broker, Database, TestWorker, eventually, get, job};

/// A minute, the shortest: what is due is looked for once a second.
const SHORT: [(&str, &str); 3] = [
    ("RETENTION__SUCCEEDED_MS", "60000"),
    ("RETENTION__CANCELLED_MS", "60000"),
    ("RETENTION__DEAD_MS", "120000"),
];

const JOBS: &str = "SELECT count(*) FROM currant.job";

/// So many jobs of queue `q<queue>`, stored and ended so long ago; `phase` and `outcome` as in the table.
#[derive(Clone, Copy)]
struct History {
    queue: i32,
    jobs: i32,
    stored: &'static str,
    ended: Option<&'static str>,
    phase: i16,
    outcome: Option<i16>,
}

const SUCCEEDED: History = History {
    queue: 1,
    jobs: 1,
    stored: "1 hour",
    ended: Some("1 hour"),
    phase: 2,
    outcome: Some(1),
};

async fn write(database: &Database, history: History) {
    let History { queue, jobs, stored, ended, phase, outcome } = history;
    let nullable = |value: Option<String>| value.unwrap_or_else(|| "NULL".to_owned());
    let ended = nullable(ended.map(|ended| format!("now() - interval '{ended}'")));
    let outcome = nullable(outcome.map(|outcome| outcome.to_string()));
    let sql = format!(
        "INSERT INTO currant.queue (name) SELECT 'q' || n FROM generate_series(1, {queue}) n
         ON CONFLICT DO NOTHING;
         INSERT INTO currant.job (queue_id, id, owner, attempt, priority, phase, outcome, run_at,
                                  finished_at, kind, payload)
         SELECT q.id, (extract(epoch FROM now() - interval '{stored}') * 1000)::bigint << 22
                      | (coalesce({outcome}, 0) << 18) | n,
                CASE WHEN {phase} = 2 THEN 0 END, 1, 0, {phase}, {outcome},
                CASE WHEN {phase} = 0 THEN now() + interval '1 day' END, {ended}, 'test', 'x'
         FROM currant.queue q, generate_series(1, {jobs}) n WHERE q.name = 'q{queue}'"
    );
    database.connect().await.batch_execute(&sql).await.unwrap();
}

async fn states(database: &Database) -> Vec<(String, i64)> {
    let sql = "SELECT state, count(*) FROM currant.jobs GROUP BY state ORDER BY state";
    let rows = database.connect().await.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

fn named<'a>(states: impl IntoIterator<Item = (&'a str, i64)>) -> Vec<(String, i64)> {
    states.into_iter().map(|(state, count)| (state.to_owned(), count)).collect()
}

async fn gone(broker: &Broker) -> f64 {
    broker.metric("currant_jobs_pruned_total").await.unwrap_or(0.0)
}

#[tokio::test]
async fn each_outcome_goes_after_its_own_time_and_what_has_not_finished_stays() {
    let database = Database::fresh().await;
    let (dead, cancelled) = (Some(2), Some(3));
    for history in [
        SUCCEEDED,
        History { jobs: 2, outcome: cancelled, ..SUCCEEDED },
        History { jobs: 4, outcome: dead, ..SUCCEEDED },
        // Dead ones are kept for longer.
        History {
            jobs: 8,
            stored: "2 hours",
            ended: Some("70 seconds"),
            outcome: dead,
            ..SUCCEEDED
        },
        // Stored long ago, finished lately.
        History { queue: 2, jobs: 16, ended: Some("5 seconds"), ..SUCCEEDED },
        // Young.
        History { queue: 3, jobs: 32, stored: "5 seconds", ended: Some("4 seconds"), ..SUCCEEDED },
        // Open.
        History { queue: 4, jobs: 64, ended: None, outcome: None, phase: 0, ..SUCCEEDED },
        History { queue: 5, jobs: 128, ended: None, outcome: None, phase: 1, ..SUCCEEDED },
        History { queue: 6, jobs: 256, ended: None, outcome: None, phase: 2, ..SUCCEEDED },
    ] {
        write(&database, history).await;
    }
    let broker = Broker::start_with(&database, &SHORT).await;
    eventually("seven are gone", async || gone(&broker).await >= 7.0).await;
    eventually("nothing is due", async || {
        broker.metric("currant_prune_lag_seconds").await == Some(0.0)
    })
    .await;
    let stay =
        [("dead", 8), ("ready", 128), ("running", 256), ("scheduled", 64), ("succeeded", 48)];
    assert_eq!(states(&database).await, named(stay));
    assert_eq!(gone(&broker).await, 7.0);
}

#[tokio::test]
async fn what_stayed_behind_goes_when_its_time_has_come() {
    let database = Database::fresh().await;
    write(&database, History { jobs: 10, ended: Some("50 seconds"), ..SUCCEEDED }).await;
    write(&database, History { jobs: 1000, stored: "50 minutes", ..SUCCEEDED }).await;
    let broker = Broker::start_with(&database, &SHORT).await;
    eventually("the others are gone", async || gone(&broker).await == 1000.0).await;
    assert_eq!(database.number(JOBS).await, 10);
    eventually("they are gone too", async || gone(&broker).await == 1010.0).await;
    let early =
        "SELECT count(*) FROM currant.job WHERE finished_at < now() - interval '62 seconds'";
    assert_eq!(database.number(early).await, 0);
    assert_eq!(database.number(JOBS).await, 0);
}

#[tokio::test]
async fn with_a_retention_of_0_all_stays() {
    let database = Database::fresh().await;
    write(&database, SUCCEEDED).await;
    write(&database, History { outcome: Some(2), ..SUCCEEDED }).await;
    let settings = [SHORT[0], SHORT[1], ("RETENTION__DEAD_MS", "0")];
    let broker = Broker::start_with(&database, &settings).await;
    eventually("one is gone", async || gone(&broker).await == 1.0).await;
    assert_eq!(states(&database).await, named([("dead", 1)]));
    let looked = "currant_statement_seconds_count{statement=\"next_jobs\"}";
    assert!(broker.metric(looked).await > Some(0.0));
    broker.terminate().await;

    write(&database, SUCCEEDED).await;
    let never = SHORT.map(|(key, _)| (key, "0"));
    let broker = Broker::start_with(&database, &never).await;
    let mut worker = TestWorker::subscribe(&broker, &["emails"], 1).await;
    broker.enqueue([job("emails", b"")]).await;
    let taken = worker.job().await;
    worker.succeed([&taken]).await;
    // It isn't even looked for.
    assert_eq!(broker.metric(looked).await, None);
    assert_eq!(states(&database).await, named([("dead", 1), ("succeeded", 2)]));
}

#[tokio::test]
async fn it_keeps_its_pace_and_two_brokers_dont_double_it() {
    const ROWS: i64 = 3000;
    const RATE: f64 = 1000.0;
    const SLICE: f64 = 100.0;
    let database = Database::fresh().await;
    for queue in 1..=3 {
        write(&database, History { queue, jobs: 1000, ..SUCCEEDED }).await;
    }
    let [succeeded, cancelled, dead] = SHORT;
    let settings = [
        succeeded,
        cancelled,
        dead,
        ("RETENTION__ROWS_PER_SECOND_MAX", "1000"),
        ("RETENTION__ROWS_PER_SLICE_MAX", "100"),
    ];
    let watch = Stopwatch::start();
    let (one, two) = tokio::join!(
        Broker::start_with(&database, &settings),
        Broker::start_with(&database, &settings),
    );
    eventually("all are gone", async || {
        let left = database.number(JOBS).await;
        let most = watch.elapsed().as_secs_f64() * RATE + SLICE;
        assert!((ROWS - left) as f64 <= most, "{left} are left, {most} may have gone");
        left == 0
    })
    .await;
    let gone = [gone(&one).await, gone(&two).await];
    assert!(gone == [ROWS as f64, 0.0] || gone == [0.0, ROWS as f64], "{gone:?}");
}

#[tokio::test]
async fn another_broker_goes_on_when_the_one_that_pruned_is_killed() {
    const ROWS: i64 = 4000;
    let database = Database::fresh().await;
    write(&database, History { jobs: ROWS as i32, ..SUCCEEDED }).await;
    write(&database, History { stored: "5 seconds", ended: Some("4 seconds"), ..SUCCEEDED }).await;
    let [succeeded, cancelled, dead] = SHORT;
    let settings = [
        succeeded,
        cancelled,
        dead,
        ("RETENTION__ROWS_PER_SECOND_MAX", "2000"),
        ("RETENTION__ROWS_PER_SLICE_MAX", "100"),
        ("BROKER__HEARTBEAT_INTERVAL_MS", "100"),
        ("BROKER__DEAD_AFTER_MS", "500"),
    ];
    let first = Broker::start_with(&database, &settings).await;
    let second = Broker::start_with(&database, &settings).await;
    eventually("it prunes", async || gone(&first).await > 0.0).await;
    first.kill();
    let left = database.number(JOBS).await;
    assert!(left > 1, "the first was done before it was killed");
    eventually("the second goes on", async || database.number(JOBS).await == 1).await;
    assert!(gone(&second).await > 0.0);
}

#[tokio::test]
async fn a_row_is_read_a_few_times_however_many_slices_and_dead_entries_there_are() {
    const ROWS: i64 = 5000;
    let database = Database::fresh().await;
    write(&database, History { jobs: ROWS as i32, ..SUCCEEDED }).await;
    // It keeps Postgres from forgetting what is deleted.
    let old = database.connect().await;
    old.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM currant.job LIMIT 1")
        .await
        .unwrap();
    let [succeeded, cancelled, dead] = SHORT;
    let settings = [
        succeeded,
        cancelled,
        dead,
        ("RETENTION__ROWS_PER_SECOND_MAX", "100000"),
        ("RETENTION__ROWS_PER_SLICE_MAX", "50"),
    ];
    let broker = Broker::start_with(&database, &settings).await;
    eventually("all are gone", async || gone(&broker).await == ROWS as f64).await;
    // Its connections tell their counters at the end.
    broker.terminate().await;
    let sql = "SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = 'job_pkey'";
    eventually("the counters are there", async || database.number(sql).await >= ROWS).await;
    let read = database.number(sql).await;
    assert!(read < 4 * ROWS, "{read} index entries were read for {ROWS} rows");
}

#[tokio::test]
async fn an_idempotency_key_is_remembered_until_its_job_is_pruned() {
    let database = Database::fresh().await;
    let broker = Broker::start_with(&database, &SHORT).await;
    let call = EnqueueRequest {
        jobs: vec![job("emails", b"")],
        idempotency_key: "once".to_owned(),
        ..EnqueueRequest::default()
    };
    let enqueue =
        async |broker: &Broker| broker.jobs().enqueue(call.clone()).await.unwrap().into_inner();
    let first = enqueue(&broker).await.job_ids[0];
    let mut worker = TestWorker::subscribe(&broker, &["emails"], 1).await;
    let taken = worker.job().await;
    worker.succeed([&taken]).await;
    assert!(enqueue(&broker).await.duplicate);
    assert_eq!(get(&broker, first).await.state(), JobState::Succeeded);
    broker.terminate().await;

    // An hour passes.
    let sql = "UPDATE currant.job SET id = id - (3600000::bigint << 22),
                                      finished_at = finished_at - interval '1 hour'";
    database.connect().await.batch_execute(sql).await.unwrap();
    let first = first - (3_600_000 << 22);
    let broker = Broker::start_with(&database, &SHORT).await;
    eventually("it is gone", async || gone(&broker).await == 1.0).await;
    let status =
        broker.jobs().get(GetRequest { job_id: first, ..Default::default() }).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    let again = enqueue(&broker).await;
    assert!(!again.duplicate && again.job_ids[0] > first);
}

#[tokio::test]
async fn a_failure_is_logged_and_pruning_goes_on_after_it() {
    let database = Database::fresh().await;
    write(&database, SUCCEEDED).await;
    let admin = database.connect().await;
    admin.batch_execute("ALTER TABLE currant.duty RENAME TO away").await.unwrap();
    let broker = Broker::start_with(&database, &SHORT).await;
    let said = "finished jobs could not be pruned; it is tried again";
    eventually("it is logged", async || broker.logged(said)).await;
    assert_eq!(database.number(JOBS).await, 1);
    admin.batch_execute("ALTER TABLE currant.away RENAME TO duty").await.unwrap();
    eventually("it is gone", async || gone(&broker).await == 1.0).await;
}
