//! Who gets jobs, and how many: credit, fairness, what comes back.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use currant_proto::v1::{Assignment, JobState, NewJob, SubscribeRequest, Verdict};

use crate::support::{Broker, Database, PATIENCE, TestWorker, eventually, get, job};

/// Long enough for a job that must not come.
const A_WHILE: Duration = Duration::from_millis(150);

const TAKEN: &str = "SELECT count(*) FROM currant.job WHERE phase = 2 AND outcome IS NULL";

pub(crate) fn jobs(queue: &str, count: usize) -> impl Iterator<Item = NewJob> {
    (0..count).map(move |_| job(queue, b""))
}

/// Waits until so many jobs are in the broker's memory and with no session.
pub(crate) async fn buffered(broker: &Broker, count: usize) {
    let in_memory = async || broker.metric("currant_jobs_buffered").await == Some(count as f64);
    eventually(&format!("{count} jobs are in memory"), in_memory).await;
}

/// Takes and completes one job at a time.
pub(crate) async fn one_by_one(worker: &mut TestWorker, count: usize) -> Vec<Assignment> {
    let mut taken = Vec::new();
    for _ in 0..count {
        let job = worker.job().await;
        assert_eq!(worker.succeed([&job]).await, [Verdict::Applied]);
        taken.push(job);
    }
    taken
}

pub(crate) fn ids<'a>(jobs: impl IntoIterator<Item = &'a Assignment>) -> Vec<i64> {
    jobs.into_iter().map(|job| job.job_id).collect()
}

#[tokio::test]
async fn a_worker_never_holds_more_than_its_credit() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 5).await;
    broker.enqueue(jobs("q", 30)).await;
    broker.enqueue(jobs("q", 30)).await;
    let mut held = worker.take(5).await;
    worker.no_job_for(A_WHILE).await;
    let mut done = 0;
    while done < 60 {
        // Each completion makes room for one, and no more.
        let count = 1 + done % 3;
        let finished: Vec<_> = held.drain(..count.min(held.len())).collect();
        worker.succeed(&finished).await;
        done += finished.len();
        held.extend(worker.take((60 - done).min(5) - held.len()).await);
        if done == 30 {
            worker.no_job_for(A_WHILE).await;
        }
    }
    worker.no_job_for(A_WHILE).await;
    assert_eq!(database.number("SELECT count(*) FROM currant.job WHERE outcome = 1").await, 60);
}

#[tokio::test]
async fn sessions_of_a_queue_share_evenly() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut workers = Vec::new();
    for _ in 0..4 {
        workers.push(TestWorker::subscribe(&broker, &["q"], 10).await);
    }
    broker.enqueue(jobs("q", 22)).await;
    let mut counts = Vec::new();
    for worker in &mut workers {
        let mut count = worker.take(5).await.len();
        while tokio::time::timeout(A_WHILE, worker.job()).await.is_ok() {
            count += 1;
        }
        counts.push(count);
    }
    counts.sort_unstable();
    assert_eq!(counts, [5, 5, 6, 6]);
}

#[tokio::test]
async fn jobs_go_first_to_sessions_that_can_start_them_at_once() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let request = |concurrency| SubscribeRequest {
        queues: vec!["q".to_owned()],
        max_in_flight: 10,
        concurrency,
        ..SubscribeRequest::default()
    };
    let mut narrow = TestWorker::open(&broker, request(1)).await.unwrap();
    let mut wide = TestWorker::open(&broker, request(6)).await.unwrap();
    broker.enqueue(jobs("q", 7)).await;
    wide.take(6).await;
    narrow.take(1).await;
    narrow.no_job_for(A_WHILE).await;
    // Nobody can start more: they're shared out to wait.
    broker.enqueue(jobs("q", 13)).await;
    narrow.take(9).await;
    wide.take(4).await;
}

#[tokio::test]
async fn queues_of_a_session_take_turns() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    for queue in ["a", "b", "c"] {
        let jobs = (0..60).map(|_| NewJob { kind: queue.to_owned(), ..job(queue, b"") });
        broker.enqueue(jobs).await;
    }
    let mut worker = TestWorker::subscribe(&broker, &["a", "b", "c"], 6).await;
    let mut counts: HashMap<String, usize> = HashMap::new();
    for job in one_by_one(&mut worker, 60).await {
        *counts.entry(job.kind).or_default() += 1;
    }
    for queue in ["a", "b", "c"] {
        assert!((12..=28).contains(&counts[queue]), "{counts:?}");
    }
}

#[tokio::test]
async fn a_full_queue_doesnt_keep_another_of_its_session_waiting() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&broker, &["busy", "calm"], 4).await;
    broker.enqueue(jobs("busy", 500)).await;
    one_by_one(&mut worker, 50).await;
    let calm = broker.enqueue(jobs("calm", 1)).await[0];
    let next = one_by_one(&mut worker, 10).await;
    assert!(ids(&next).contains(&calm), "not among the next ten");
}

#[tokio::test]
async fn credit_of_none_gets_nothing_until_a_heartbeat_raises_it() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 0).await;
    broker.enqueue(jobs("q", 10)).await;
    worker.no_job_for(A_WHILE).await;
    assert_eq!(database.number(TAKEN).await, 0);
    worker.set_credit(3).await;
    let held = worker.take(3).await;
    worker.no_job_for(A_WHILE).await;
    worker.set_credit(10).await;
    worker.take(7).await;
    worker.succeed(&held).await;
}

#[tokio::test]
async fn credit_lowered_holds_from_then_on() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 10).await;
    broker.enqueue(jobs("q", 40)).await;
    let held = worker.take(10).await;
    worker.set_credit(3).await;
    worker.succeed(&held[..7]).await;
    worker.no_job_for(A_WHILE).await;
    worker.succeed(&held[7..8]).await;
    worker.take(1).await;
    worker.no_job_for(A_WHILE).await;
    worker.set_credit(0).await;
    worker.succeed(&held[8..]).await;
    worker.no_job_for(A_WHILE).await;
    // What was in memory for it is given back.
    eventually("given back", async || database.number(TAKEN).await == 1).await;
    let given_back = "SELECT count(*) FROM currant.job WHERE phase = 1 AND failures = 0";
    assert_eq!(database.number(given_back).await, 29);
}

#[tokio::test]
async fn jobs_wait_for_a_worker_to_come() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let waiting = broker.enqueue(jobs("q", 3)).await;
    for &id in &waiting {
        let stored = get(&broker, id).await;
        assert_eq!((stored.state(), stored.attempt), (JobState::Ready, 0));
    }
    let mut other = TestWorker::subscribe(&broker, &["other"], 10).await;
    other.no_job_for(A_WHILE).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 10).await;
    let taken = worker.take(3).await;
    assert_eq!(ids(&taken), waiting);
    worker.succeed(&taken).await;
    // And again, with what came after.
    drop(worker);
    let waiting = broker.enqueue(jobs("q", 3)).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 10).await;
    assert_eq!(ids(&worker.take(3).await), waiting);
}

#[tokio::test]
async fn a_large_backlog_is_drained_by_many_workers_exactly_once() {
    const JOBS: usize = 5000;
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    for _ in 0..5 {
        broker.enqueue(jobs("q", JOBS / 5)).await;
    }
    let left = Arc::new(AtomicUsize::new(JOBS + 100));
    let mut drains = Vec::new();
    for n in 0..5u32 {
        let mut worker = TestWorker::subscribe(&broker, &["q"], 20 + 30 * n).await;
        let left = Arc::clone(&left);
        drains.push(tokio::spawn(async move {
            let mut taken = Vec::new();
            while left.load(Ordering::SeqCst) > 0 {
                let Ok(first) = tokio::time::timeout(A_WHILE, worker.job()).await else { continue };
                let jobs: Vec<_> = std::iter::once(first).chain(worker.received()).collect();
                let verdicts = worker.succeed(&jobs).await;
                assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Applied));
                left.fetch_sub(jobs.len(), Ordering::SeqCst);
                taken.extend(jobs);
            }
            taken
        }));
    }
    // Direct ones come in between.
    broker.enqueue(jobs("q", 100)).await;
    let mut taken = Vec::new();
    for drain in drains {
        taken.extend(tokio::time::timeout(PATIENCE, drain).await.expect("jobs are left").unwrap());
    }
    assert_eq!(ids(&taken).into_iter().collect::<HashSet<_>>().len(), JOBS + 100);
    assert!(taken.iter().all(|job| job.attempt == 1));
    let done = "SELECT count(*) FROM currant.job WHERE outcome = 1 AND attempt = 1";
    assert_eq!(database.number(done).await, 5100);
}

#[tokio::test]
async fn jobs_given_back_from_memory_spend_no_attempt_budget() {
    let database = Database::fresh().await;
    let settings = [("SESSION__RECONNECT_GRACE_MS", "0")];
    let broker = Broker::start_with(&database, &settings).await;
    // Each may fail never.
    let once = || NewJob { max_attempts: 1, ..job("q", b"") };
    let expected = broker.enqueue((0..20).map(|_| once())).await;
    for round in 0..3 {
        let mut worker = TestWorker::subscribe(&broker, &["q"], 10).await;
        let held = worker.take(10).await;
        assert_eq!(ids(&held), expected[..10]);
        assert!(held.iter().all(|job| (job.attempt, job.failures) == (round + 1, 0)));
        buffered(&broker, 10).await;
        // It never said that it received them: those in memory and those on the way come back.
        drop(worker);
        eventually("given back", async || database.number(TAKEN).await == 0).await;
    }
    for &id in &expected {
        let stored = get(&broker, id).await;
        assert_eq!((stored.state(), stored.failures), (JobState::Ready, 0));
    }
    let mut worker = TestWorker::subscribe(&broker, &["q"], 10).await;
    let taken = one_by_one(&mut worker, 20).await;
    assert_eq!(ids(&taken), expected);
}

#[tokio::test]
async fn an_assignment_carries_all_that_the_job_has() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let sent = NewJob {
        content_type: "text/plain".to_owned(),
        priority: Some(9),
        max_attempts: 3,
        timeout: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
        tags: vec!["tag".to_owned()],
        traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned(),
        ..job("q", b"payload")
    };
    // Once through the backlog, once directly.
    broker.enqueue([sent.clone()]).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 10).await;
    let from_backlog = worker.job().await;
    broker.enqueue([sent.clone()]).await;
    for got in [from_backlog, worker.job().await] {
        assert_eq!((got.attempt, got.failures, got.max_attempts), (1, 0, 3));
        assert_eq!((got.kind, got.payload), (sent.kind.clone(), sent.payload.clone()));
        assert_eq!((got.content_type, got.priority), (sent.content_type.clone(), 9));
        assert_eq!((got.timeout, got.tags), (sent.timeout, sent.tags.clone()));
        assert_eq!(got.traceparent, sent.traceparent);
    }
    // What the job doesn't say, its queue does.
    broker.enqueue([job("q", b"")]).await;
    let plain = worker.job().await;
    assert_eq!((plain.max_attempts, plain.timeout), (25, None));
}
