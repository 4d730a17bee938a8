//! What many workers cost the database when there is nothing to do.

use std::time::{Duration, Instant};

use currant_proto::v1::GetRequest;
use tokio_postgres::Client;

use crate::support::{Broker, Database, TestWorker, eventually, job};

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

/// So many queries, one after the other, which go through the pool's connections in turn. Each
/// connection then tells its counters, since it last did more than a second ago.
async fn query(broker: &Broker, count: i64) {
    for _ in 0..count {
        broker.jobs().get(GetRequest { job_id: 1 }).await.unwrap_err();
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
            tokio::spawn(async move { jobs.get(GetRequest { job_id: 1 }).await })
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
    const TIME: Duration = Duration::from_secs(8);
    let database = Database::fresh().await;
    let beside = database.connect_beside().await;
    let broker = Broker::start_with(&database, &[("SESSION__HEARTBEAT_INTERVAL_MS", "500")]).await;
    let mut workers = subscribe(&broker, 100).await;
    // What the start did shows in the statistics a second later.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    query(&broker, 2 * POOL_SIZE).await;

    let before = transactions(&beside, &database).await;
    let start = Instant::now();
    let mut heartbeats = 0;
    let mut beats = tokio::time::interval(Duration::from_millis(500));
    while start.elapsed() < TIME {
        beats.tick().await;
        for worker in &mut workers {
            worker.heartbeat([]).await.unwrap();
            heartbeats += 1;
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    query(&broker, 2 * POOL_SIZE).await;
    let spent = transactions(&beside, &database).await - before - 2 * POOL_SIZE;
    println!("{spent} transactions in {seconds:.1} s with {heartbeats} heartbeats");
    assert!(heartbeats >= 1000);
    assert!((spent as f64) < seconds, "{spent} transactions in {seconds:.1} s");
    assert!(spent > 0, "the broker's own heartbeat is missing: the count isn't right");
}
