//! A broker for the tests of programs that use the SDK.

use std::path::PathBuf;

use currant_worker_sdk::{
    Job, JobState, NewJob, Worker,
    testing::{TestBroker, TestBrokerError},
};

use super::in_state;
use crate::support::{connect, eventually};

/// Where its Postgres keeps the data.
fn directory(broker: &TestBroker) -> PathBuf {
    let socket = broker.database().split(' ').find_map(|word| word.strip_prefix("host=")).unwrap();
    socket.into()
}

#[tokio::test]
async fn a_broker_is_there_in_one_line_and_leaves_nothing_behind() {
    let broker = TestBroker::start().await.unwrap();
    let client = broker.client().await.unwrap();
    client.enqueue(NewJob::json("emails", "welcome", "ada").unwrap()).await.unwrap();
    client.enqueue(NewJob::json("emails", "farewell", "bob").unwrap()).await.unwrap();
    let sql = connect(broker.database()).await;
    let statement = "SELECT currant.enqueue('emails', 'welcome', '\"eve\"')";
    sql.query_one(statement, &[]).await.unwrap();
    let jobs = broker.enqueued("emails", "welcome").await.unwrap();
    let payloads: Vec<String> = jobs.iter().map(|job| job.payload_json().unwrap()).collect();
    assert_eq!(payloads, ["ada", "eve"]);

    let running = Worker::builder(broker.url())
        .queue("emails")
        .handler("welcome", |job: Job<String>| async move { Ok(job.payload) })
        .build()
        .unwrap()
        .start();
    for job in &jobs {
        in_state(&client, job.id, JobState::Succeeded).await;
    }
    running.shutdown().await.unwrap();
    assert!(broker.log().contains("the broker is ready"), "{}", broker.log());

    let directory = directory(&broker);
    assert!(directory.exists());
    drop((sql, broker));
    eventually("its directory is gone", async || !directory.exists()).await;
}

#[tokio::test]
async fn tests_may_share_one() {
    let (one, other) = tokio::join!(TestBroker::shared(), TestBroker::shared());
    assert_eq!(one.unwrap().url(), other.unwrap().url());
}

#[tokio::test]
async fn a_broker_that_does_not_start_says_why() {
    // It takes settings from the environment, which all tests of this process share: so one of a child.
    let program = std::env::current_exe().unwrap();
    let mut child = tokio::task::spawn_blocking(move || {
        let mut again = std::process::Command::new(program);
        again.args(["--exact", "--ignored", "sdk::testing::without_postgres"]);
        again.env("CURRANT_POSTGRES_BIN", "/nowhere").output().unwrap()
    });
    let output = (&mut child).await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[tokio::test]
#[ignore = "the test above runs it, with another environment"]
async fn without_postgres() {
    match TestBroker::start().await {
        Err(TestBrokerError::NotReady { said, log }) => {
            assert!(said.is_empty() && log.contains("/nowhere"), "{said} {log}");
        }
        other => panic!("{other:?}"),
    }
}
