//! One job, end to end.

use currant_proto::v1::{JobState, Verdict};

use crate::support::{Broker, Database, TestWorker, get, job};

#[tokio::test]
async fn a_job_is_stored_delivered_and_completed() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&broker, &["emails"], 10).await;
    let ids = broker.enqueue([job("emails", b"hello")]).await;
    let assignment = worker.job().await;
    assert_eq!(assignment.job_id, ids[0]);
    assert_eq!(assignment.attempt, 1);
    assert_eq!(assignment.payload, "hello");
    assert_eq!(worker.succeed([&assignment]).await, [Verdict::Applied]);
    let stored = get(&broker, ids[0]).await;
    assert_eq!(stored.state(), JobState::Succeeded);
    assert_eq!(broker.terminate().await.code(), Some(0));
}
