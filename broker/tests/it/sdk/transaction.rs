//! The example whose handler completes its job in a transaction of its own.

use currant_worker_sdk::{JobState, NewJob};

use self::example::{Receipt, Transfer};
use super::{client, in_state};
use crate::support::{Broker, Database, eventually};

#[path = "../../../../worker-sdk/examples/transaction.rs"]
#[allow(dead_code, reason = "its main isn't needed here")]
mod example;

fn transfer(cents: i64) -> NewJob {
    let transfer = Transfer { from: "ada".into(), to: "bob".into(), cents };
    NewJob::json("transfers", "transfer", &transfer).unwrap().max_attempts(1)
}

#[tokio::test]
async fn effects_and_outcomes_are_there_together_or_not_at_all() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let client = client(&broker).await;
    let worker = example::start(&broker.endpoint(), &database.url).await.unwrap();
    let ids = client.enqueue_many((0..50).map(|_| transfer(1000))).await.unwrap();
    let mut balances = Vec::new();
    for id in &ids {
        let stored = in_state(&client, *id, JobState::Succeeded).await;
        balances.push(stored.outcome::<Receipt>().unwrap().balance);
    }
    balances.sort_unstable();
    let expected: Vec<i64> = (1..=50).map(|jobs| jobs * 1000).collect();
    assert_eq!(balances, expected, "each once, with its result");
    // What the table refuses is undone, and the attempt has failed.
    let id = client.enqueue(transfer(60_000)).await.unwrap();
    let dead = in_state(&client, id, JobState::Dead).await;
    assert!(dead.error.contains("account_cents_check"), "{}", dead.error);
    let balance = "SELECT cents FROM account WHERE name = 'bob'";
    assert_eq!(database.number(balance).await, 50_000);
    eventually("no credit is kept", async || {
        broker.metric("currant_attempts_held").await == Some(0.0)
    })
    .await;
    let succeeded = "currant_jobs_completed_total{messaging_destination_name=\"transfers\",outcome=\"succeeded\"} 50";
    let metrics = broker.metrics().await;
    assert!(metrics.contains(succeeded), "{metrics}");
    worker.shutdown().await.unwrap();
}
