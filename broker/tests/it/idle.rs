//! What many workers cost the database when there is nothing to do.

use std::time::Duration;

use currant_proto::v1::GetRequest;
use tokio_postgres::Client;

use crate::support::{Broker, Database, TestWorker, connect, eventually, job};

const POOL_SIZE: i64 = 6;

async fn connections(client: &Client, database: &Database) -> i64 {
    let sql = "SELECT count(*) FROM pg_stat_activity
               WHERE datname = $1 AND application_name LIKE 'currant-broker%'";
    client.query_one(sql, &[&database.name]).await.unwrap().get(0)
}

async fn transactions(client: &Client, database: &Database) -> i64 {
    let sql = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = $1";
    client.query_one(sql, &[&database.name]).await.unwrap().get(0)
}

/// One query through each of so many connections of the pool, which takes them in turn. Whoever did
/// nothing for a second then tells its counters.
async fn query(broker: &Broker, connections: i64) {
    for _ in 0..connections {
        broker.jobs().get(GetRequest { job_id: 1, ..Default::default() }).await.unwrap_err();
    }
}

async fn subscribe(broker: &Broker, count: usize) -> Vec<TestWorker> {
    let mut workers = Vec::new();
    for _ in 0..count {
        workers.push(TestWorker::subscribe(broker, &["emails"], 10).await);
    }
    workers
}

#[tokio::test]
async fn connections_stay_the_same_from_one_worker_to_a_hundred() {
    let database = Database::fresh().await;
    let beside = database.connect_beside().await;
    let broker = Broker::start(&database).await;
    let mut workers = subscribe(&broker, 1).await;
    let all = POOL_SIZE + 1;
    eventually("the pool is full", async || {
        let calls = (0..50).map(|_| {
            let mut jobs = broker.jobs();
            tokio::spawn(
                async move { jobs.get(GetRequest { job_id: 1, ..Default::default() }).await },
            )
        });
        for call in calls.collect::<Vec<_>>() {
            call.await.unwrap().unwrap_err();
        }
        connections(&beside, &database).await == all
    })
    .await;
    workers.extend(subscribe(&broker, 99).await);
    // As many as they all take together: each has its share.
    broker.enqueue((0..1000).map(|_| job("emails", b"x"))).await;
    for worker in &mut workers {
        let jobs = worker.take(10).await;
        worker.succeed(&jobs).await;
    }
    assert_eq!(connections(&beside, &database).await, all);
}

#[tokio::test]
async fn a_hundred_idle_workers_cost_less_than_a_transaction_a_second() {
    // Long enough for what each connection does once, such as to prepare a statement, to count little.
    const SECONDS: u32 = 60;
    // An autovacuum would count as transactions of the database.
    let (server, database) = Database::own_server(&[("autovacuum", "off")]).await;
    let beside = connect(&server.dsn_for("postgres")).await;
    let broker = Broker::start_with(&database, &[("SESSION__HEARTBEAT_INTERVAL_MS", "500")]).await;
    let mut workers = subscribe(&broker, 100).await;
    // Past what a connection does for its first uses; what is told then is told a second later.
    let pooled = connections(&beside, &database).await - 1;
    query(&broker, 9 * pooled).await;
    // More than once: the broker's own statements take turns too, and one may be passed over.
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(1200)).await;
        query(&broker, pooled).await;
    }

    let before = transactions(&beside, &database).await;
    let mut beats = tokio::time::interval(Duration::from_millis(500));
    beats.tick().await;
    for _ in 0..2 * SECONDS {
        beats.tick().await;
        for worker in &mut workers {
            worker.heartbeat([]).await.unwrap();
        }
    }
    // Its connections tell the rest when they end.
    broker.terminate().await;
    eventually("its connections have ended", async || connections(&beside, &database).await == 0)
        .await;
    let spent = transactions(&beside, &database).await - before;
    println!("{spent} transactions in {SECONDS} s");
    assert!(spent < i64::from(SECONDS), "{spent} transactions in {SECONDS} s");
    assert!(spent > 0, "not even the broker's own heartbeat was counted");
}
