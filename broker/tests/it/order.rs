//! Which job of a queue comes next: higher priority first, then first in, first out.

use std::collections::HashSet;

use currant_proto::v1::NewJob;

use crate::{
    dispatch::{buffered, ids, jobs, one_by_one},
    support::{Broker, Database, TestWorker, job},
};

fn urgent(priority: i32) -> NewJob {
    NewJob { priority: Some(priority), ..job("q", b"") }
}

#[tokio::test]
async fn a_backlog_is_delivered_by_priority_then_first_in_first_out() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let priorities = [0, 7, -3, 7, 0, 100, -100, 0, 100, -3];
    let mut expected = Vec::new();
    for call in priorities.chunks(3) {
        let ids = broker.enqueue(call.iter().map(|&priority| urgent(priority))).await;
        expected.extend(call.iter().copied().zip(ids));
    }
    expected.sort_by_key(|&(priority, id)| (std::cmp::Reverse(priority), id));
    let mut worker = TestWorker::subscribe(&broker, &["q"], 1).await;
    let taken = one_by_one(&mut worker, 10).await;
    let taken: Vec<_> = taken.iter().map(|job| (job.priority, job.job_id)).collect();
    assert_eq!(taken, expected);
}

#[tokio::test]
async fn jobs_for_a_waiting_worker_are_delivered_first_in_first_out() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 200).await;
    let mut expected = Vec::new();
    for count in 1..=12 {
        expected.extend(broker.enqueue(jobs("q", count)).await);
    }
    let taken = worker.take(expected.len()).await;
    assert_eq!(ids(&taken), expected);
    // Taken while they were stored: the first attempt, and no claim.
    let direct = "SELECT count(*) FROM currant.job WHERE claimed_at IS NULL AND attempt = 1";
    assert!(database.number(direct).await > 0);
}

#[tokio::test]
async fn jobs_in_memory_are_delivered_by_priority_then_first_in_first_out() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 8).await;
    broker.enqueue(jobs("q", 8)).await;
    let held = worker.take(8).await;
    let mut expected = Vec::new();
    for priority in [0, 5, -5, 0, 9, 5, -5, 9] {
        expected.push((priority, broker.enqueue([urgent(priority)]).await[0]));
    }
    buffered(&broker, 8).await;
    expected.sort_by_key(|&(priority, id)| (std::cmp::Reverse(priority), id));
    let mut taken = Vec::new();
    for job in &held {
        worker.succeed([job]).await;
        let next = worker.job().await;
        taken.push((next.priority, next.job_id));
    }
    assert_eq!(taken, expected);
}

#[tokio::test]
async fn a_late_urgent_job_overtakes_memory_and_backlog() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let worker = TestWorker::subscribe(&broker, &["q"], 4).await;
    let plain = broker.enqueue(jobs("q", 40)).await;
    urgent_jobs_overtake(&broker, worker, plain).await;
}

#[tokio::test]
async fn a_late_urgent_job_overtakes_a_backlog_that_was_there_before_the_worker() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let plain = broker.enqueue(jobs("q", 40)).await;
    let worker = TestWorker::subscribe(&broker, &["q"], 4).await;
    urgent_jobs_overtake(&broker, worker, plain).await;
}

async fn urgent_jobs_overtake(broker: &Broker, mut worker: TestWorker, plain: Vec<i64>) {
    // 4 held, 4 in memory, the others in the backlog.
    let held = worker.take(4).await;
    buffered(broker, 4).await;
    let mut late = Vec::new();
    for priority in [50, -50, 60] {
        late.extend(broker.enqueue([urgent(priority)]).await);
    }
    buffered(broker, 6).await;
    worker.succeed(&held[..1]).await;
    assert_eq!(worker.job().await.job_id, late[2]);
    worker.succeed(&held[1..]).await;
    let next = worker.take(3).await;
    assert_eq!(ids(&next), [late[0], plain[4], plain[5]]);
    worker.succeed(&next).await;
    // The one that overtook still holds its credit.
    let mut rest = Vec::new();
    while rest.len() < 35 {
        let job = worker.job().await;
        worker.succeed([&job]).await;
        rest.push(job);
    }
    let mut expected = plain[6..].to_vec();
    expected.push(late[1]);
    assert_eq!(ids(&rest), expected);
    assert!(rest.iter().all(|job| job.failures == 0));
}

#[tokio::test]
async fn a_flood_of_urgent_jobs_goes_first_and_loses_none() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 10).await;
    broker.enqueue(jobs("q", 40)).await;
    let held = worker.take(10).await;
    buffered(&broker, 10).await;
    for _ in 0..6 {
        broker.enqueue((0..5).map(|_| urgent(10))).await;
    }
    buffered(&broker, 20).await;
    worker.succeed(&held).await;
    let next = worker.take(10).await;
    assert!(next.iter().all(|job| job.priority == 10), "{next:?}");
    worker.succeed(&next).await;
    let rest = one_by_one(&mut worker, 50).await;
    let all: HashSet<i64> = held.iter().chain(&next).chain(&rest).map(|job| job.job_id).collect();
    assert_eq!(all.len(), 70);
    assert!(rest.iter().all(|job| job.failures == 0));
}
