//! Faults of the database: lost connections, a crash, no LISTEN, a schema that isn't ours.

use currant_broker::private_postgres::PrivatePostgres;
use currant_proto::v1::{EnqueueRequest, JobState, Verdict};
use tonic::Code;

use crate::support::{
    Broker, Clients, Database, Ledger, TestWorker, cut, eventually, get, job, progress,
    start_worker, success,
};

#[tokio::test]
async fn cutting_all_connections_under_load_loses_and_repeats_nothing() {
    let database = Database::fresh().await;
    let admin = database.connect().await;
    let broker = Broker::start(&database).await;
    let ledger = Ledger::default();
    let clients = Clients::start(4, &broker, "load", &ledger).await;
    let workers = [0; 2].map(|_| start_worker(&broker.endpoint(), "load", &ledger));
    for _ in 0..5 {
        progress(&ledger, 100).await;
        assert!(cut(&admin, "currant-broker%").await > 0);
    }
    progress(&ledger, 100).await;
    clients.stop().await;
    ledger.check(&database).await;
    assert_eq!(ledger.run_again(), []);
    for worker in workers {
        worker.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn a_crash_of_postgres_under_load_loses_and_repeats_nothing() {
    let (mut server, database) = Database::own_server(&[]).await;
    let broker = Broker::start(&database).await;
    let ledger = Ledger::default();
    let clients = Clients::start(4, &broker, "load", &ledger).await;
    let workers = [0; 2].map(|_| start_worker(&broker.endpoint(), "load", &ledger));
    for _ in 0..2 {
        progress(&ledger, 100).await;
        server = crash(server).await;
        server = restart(server).await;
    }
    progress(&ledger, 100).await;
    clients.stop().await;
    ledger.check(&database).await;
    assert_eq!(ledger.run_again(), []);
    for worker in workers {
        worker.shutdown().await.unwrap();
    }
    assert_eq!(broker.terminate().await.code(), Some(0));
}

#[tokio::test]
async fn while_postgres_is_away_enqueues_fail_and_completions_wait() {
    let (server, database) = Database::own_server(&[]).await;
    let broker = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&broker, &["emails"], 1).await;
    let ids = broker.enqueue([job("emails", b"")]).await;
    let held = worker.job().await;
    let server = crash(server).await;

    let request = EnqueueRequest { jobs: vec![job("emails", b"")], ..EnqueueRequest::default() };
    for _ in 0..3 {
        let refused = broker.jobs().enqueue(request.clone()).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable);
    }
    let mut client = broker.workers();
    let report = worker.complete_request(vec![success(&held)]);
    let waiting = tokio::spawn(async move { client.complete(report).await });
    eventually("the completion waits", async || broker.logged("completions wait for the database"))
        .await;
    assert!(!waiting.is_finished());
    assert_eq!(worker.heartbeat([&held]).await.unwrap().lost, [], "a session needs no database");

    let _server = restart(server).await;
    let answer = waiting.await.unwrap().unwrap().into_inner();
    assert_eq!(answer.verdicts().collect::<Vec<_>>(), [Verdict::Applied]);
    assert_eq!(get(&broker, ids[0]).await.state(), JobState::Succeeded);
    let ids = broker.enqueue([job("emails", b"")]).await;
    assert_eq!(worker.job().await.job_id, ids[0]);
    assert_eq!(database.number("SELECT count(*) FROM currant.job").await, 2);
}

/// Nothing but LISTEN is to help.
const NO_POLL: &[(&str, &str)] =
    &[("DISPATCH__SWEEP_INTERVAL_MS", "3600000"), ("DISPATCH__POLL_INTERVAL_MS", "600000")];

#[tokio::test]
async fn a_listener_that_is_cut_off_listens_again_and_finds_what_came_meanwhile() {
    let database = Database::fresh().await;
    let broker = Broker::start_with(&database, NO_POLL).await;
    let mut worker = TestWorker::subscribe(&broker, &["emails"], 10).await;
    eventually("it listens", async || broker.metric("currant_listening").await == Some(1.0)).await;
    let first = database.enqueue("emails").await;
    assert_eq!(worker.job().await.job_id, first);

    let here = database.connect().await;
    database.allow_connections(false).await;
    assert_eq!(cut(&here, "currant-broker listener").await, 1);
    eventually("it no longer listens", async || {
        broker.metric("currant_listening").await == Some(0.0)
    })
    .await;
    let sql = "SELECT currant.enqueue_bytes('emails', 'test', '')";
    let meanwhile: i64 = here.query_one(sql, &[]).await.unwrap().get(0);
    database.allow_connections(true).await;
    assert_eq!(worker.job().await.job_id, meanwhile);
    let after = database.enqueue("emails").await;
    assert_eq!(worker.job().await.job_id, after);
}

#[tokio::test]
async fn without_listen_jobs_of_sql_are_found_by_the_poll() {
    let database = Database::fresh().await;
    let settings = [
        ("DATABASE__LISTEN_URL", ""),
        ("DISPATCH__SWEEP_INTERVAL_MS", "3600000"),
        ("DISPATCH__POLL_INTERVAL_MS", "100"),
    ];
    let broker = Broker::start_with(&database, &settings).await;
    let mut worker = TestWorker::subscribe(&broker, &["emails"], 10).await;
    for _ in 0..3 {
        let id = database.enqueue("emails").await;
        let came = worker.job().await;
        assert_eq!(came.job_id, id);
        worker.succeed([&came]).await;
    }
}

#[tokio::test]
async fn brokers_that_start_together_on_an_empty_database_all_come_up() {
    let database = Database::empty().await;
    let start = || Broker::start(&database);
    let (a, b, c, d) = tokio::join!(start(), start(), start(), start());
    let mut worker = TestWorker::subscribe(&d, &["emails"], 10).await;
    for broker in [&a, &b, &c, &d] {
        broker.enqueue([job("emails", b"")]).await;
    }
    worker.take(4).await;
    assert_eq!(database.number("SELECT count(*) FROM currant.broker").await, 4);
}

#[tokio::test]
async fn a_database_that_is_not_there_is_told_with_its_setting() {
    let url = "host=/nowhere user=postgres password=secret dbname=currant";
    let said = Broker::refused_with(url, &[]).await;
    assert!(said.contains("database.url"), "{said}");
    assert!(said.contains("can't be reached"), "{said}");
    assert!(!said.contains("secret"), "{said}");
}

async fn crash(mut server: PrivatePostgres) -> PrivatePostgres {
    let crash = move || {
        server.crash().unwrap();
        server
    };
    tokio::task::spawn_blocking(crash).await.unwrap()
}

async fn restart(mut server: PrivatePostgres) -> PrivatePostgres {
    let restart = move || {
        server.restart().unwrap();
        server
    };
    tokio::task::spawn_blocking(restart).await.unwrap()
}
