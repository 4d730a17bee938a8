//! Through PgBouncer in transaction mode: a broker's own connections, and what applications do in SQL.

use currant_proto::v1::{
    CancelRequest, CancelVerdict, Committed, DeleteRequest, DeleteVerdict, JobFilter, JobState,
    NewJob, RetryRequest, RetryVerdict, Verdict, completion::Outcome, new_job::Start,
};
use currant_worker_sdk::Client;
use tokio_postgres::SimpleQueryMessage;

use crate::{
    list::{all, ids},
    outcomes::{failed, ms, retried},
    support::{
        Broker, Clients, Database, Ledger, Pooler, TestWorker, connect, eventually, get, job,
        progress, start_worker,
    },
};

/// Behind the pooler, with this for LISTEN.
fn behind<'a>(listen_url: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [&[("DATABASE__TRANSACTION_POOLER", "true"), ("DATABASE__LISTEN_URL", listen_url)], more]
        .concat()
}

/// The same database through the pooler.
fn through(pooler: &Pooler, database: &Database) -> Database {
    Database { name: database.name.clone(), url: pooler.url.clone() }
}

async fn nothing_went_wrong(broker: &Broker) {
    let metrics = broker.metrics().await;
    assert!(!metrics.contains("\ncurrant_statement_errors_total{"), "{metrics}");
}

#[tokio::test]
async fn whatever_a_broker_does_goes_through_the_pooler() {
    let database = Database::fresh().await;
    let pooler = Pooler::start(&database).await;
    // The sweep is not to help.
    let settings = behind(&database.url, &[("DISPATCH__SWEEP_INTERVAL_MS", "60000")]);
    let broker = Broker::start_with(&through(&pooler, &database), &settings).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 100).await;

    let tagged = NewJob { tags: vec!["a".to_owned()], priority: Some(5), ..retried() };
    let later = NewJob { start: Some(Start::Delay(ms(300))), ..job("q", b"later") };
    let stored = broker.enqueue([tagged, later, job("q", b""), job("q", b"")]).await;
    let many = broker.enqueue((0..2000).map(|_| job("many", b"x"))).await;
    assert_eq!(ids(&broker, JobFilter { tag: "a".to_owned(), ..all("q") }).await, stored[..1]);
    let held = worker.take(3).await;
    assert_eq!(held[0].job_id, stored[0], "by priority");
    assert_eq!(worker.report([&held[0]], failed("once")).await, [Verdict::Applied]);
    assert_eq!(worker.succeed([&held[1]]).await, [Verdict::Applied]);
    let rest = worker.take(2).await;
    let late = rest.iter().find(|job| job.job_id == stored[1]).expect("it isn't promoted");
    assert_eq!(worker.succeed([late]).await, [Verdict::Applied]);
    worker.set_credit(0).await;

    let request = CancelRequest { job_ids: vec![stored[3], many[0]], ..Default::default() };
    let cancelled = broker.jobs().cancel(request).await.unwrap().into_inner();
    let verdicts: Vec<_> = cancelled.verdicts().collect();
    assert_eq!(verdicts, [CancelVerdict::Requested, CancelVerdict::Cancelled]);
    let request = RetryRequest { job_ids: vec![stored[3]], ..Default::default() };
    let retried = broker.jobs().retry(request).await.unwrap().into_inner();
    assert_eq!(retried.verdicts().collect::<Vec<_>>(), [RetryVerdict::Ready]);
    let request = DeleteRequest { job_ids: vec![many[0]], ..Default::default() };
    let deleted = broker.jobs().delete(request).await.unwrap().into_inner();
    assert_eq!(deleted.verdicts().collect::<Vec<_>>(), [DeleteVerdict::Deleted]);

    // An application's job, heard of by the connection for LISTEN.
    let client = connect(&pooler.url).await;
    let mut other = TestWorker::subscribe(&broker, &["sql"], 1).await;
    let sql = "BEGIN; SELECT currant.enqueue('sql', 'test', '1'); COMMIT";
    client.batch_execute(sql).await.unwrap();
    let held = other.job().await;
    // It completes it in a transaction of its own.
    let sql = format!("BEGIN; SELECT currant.complete({}, 1, 'done'); COMMIT", held.job_id);
    client.batch_execute(&sql).await.unwrap();
    let committed = Outcome::Committed(Committed {});
    assert_eq!(other.report([&held], committed).await, [Verdict::Duplicate]);
    let stored = get(&broker, held.job_id).await;
    assert_eq!((stored.state(), &*stored.result), (JobState::Succeeded, &b"done"[..]));
    nothing_went_wrong(&broker).await;

    // The broker's settings are its own.
    for _ in 0..10 {
        let shown = client.simple_query("SHOW enable_seqscan").await.unwrap();
        let on = shown.iter().any(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0) == Some("on"),
            _ => false,
        });
        assert!(on, "{shown:?}");
    }
}

#[tokio::test]
async fn brokers_behind_a_pooler_lose_nothing_when_one_is_killed() {
    let database = Database::fresh().await;
    let pooler = Pooler::start(&database).await;
    let quick = [
        ("BROKER__HEARTBEAT_INTERVAL_MS", "200"),
        ("BROKER__DEAD_AFTER_MS", "1000"),
        ("BROKER__ADOPTION_GRACE_MS", "500"),
        ("DATABASE__COMPLETION_SYNCHRONOUS_COMMIT", "false"),
    ];
    let settings = behind(&database.url, &quick);
    let pooled = through(&pooler, &database);
    let brokers = [
        Broker::start_with(&pooled, &settings).await,
        Broker::start_with(&pooled, &settings).await,
    ];
    let ledger = Ledger::default();
    let workers = brokers.each_ref().map(|one| start_worker(&one.endpoint(), "load", &ledger));
    let clients = Clients::start(5, &brokers[0], "load", &ledger).await;
    // A call that is large enough to be copied where that can be.
    let client = Client::connect(brokers[0].endpoint()).await.unwrap();
    let large = (0..200).map(|_| currant_worker_sdk::NewJob::raw("load", "test", "x"));
    let large: Vec<i64> = client.enqueue_many(large).await.unwrap().iter().map(|id| id.0).collect();
    ledger.add(&large);
    progress(&ledger, 1000).await;
    let [stays, goes] = brokers;
    goes.kill();
    progress(&ledger, 500).await;
    clients.stop().await;
    ledger.check(&database).await;
    nothing_went_wrong(&stays).await;
    for worker in workers {
        drop(worker);
    }
}

#[tokio::test]
async fn without_a_way_to_postgres_itself_the_broker_polls_and_leaves_the_schema_alone() {
    let empty = Database::empty().await;
    let pooler = Pooler::start(&empty).await;
    let settings = behind("", &[("DISPATCH__POLL_INTERVAL_MS", "50")]);
    let said = Broker::refused_with(&pooler.url, &settings).await;
    assert!(said.contains("isn't up to date"), "{said}");

    let database = Database::fresh().await;
    let pooler = Pooler::start(&database).await;
    let broker = Broker::start_with(&through(&pooler, &database), &settings).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 10).await;
    let client = connect(&pooler.url).await;
    client.batch_execute("SELECT currant.enqueue('q', 'test')").await.unwrap();
    let held = worker.job().await;
    assert_eq!(worker.succeed([&held]).await, [Verdict::Applied]);
    let listeners = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE '%listener'
                     AND datname = current_database()";
    assert_eq!(database.number(listeners).await, 0);
    nothing_went_wrong(&broker).await;
}

#[tokio::test]
async fn with_a_way_to_postgres_itself_the_broker_makes_the_schema() {
    let empty = Database::empty().await;
    let pooler = Pooler::start(&empty).await;
    let settings = behind(&empty.url, &[]);
    let broker = Broker::start_with(&through(&pooler, &empty), &settings).await;
    let ids = broker.enqueue([job("q", b"")]).await;
    eventually("it is there", async || get(&broker, ids[0]).await.state() == JobState::Ready).await;
}
