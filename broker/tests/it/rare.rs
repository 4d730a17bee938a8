//! What few jobs have beside their row: tags, metadata and failed attempts.

use std::collections::BTreeMap;

use currant_proto::v1::{
    EnqueueRequest, Failed, FailedAttempt, GetRequest, JobFilter, JobState, NewJob, Verdict,
    completion::Outcome,
};

use crate::{
    list::{all, discarded, ids, in_state},
    outcomes::every,
    progress::{percent, report},
    retry::{delete, retry},
    support::{Broker, Database, TestWorker, assert_invalid, eventually, get, job},
};

fn tagged(tags: &[&str]) -> NewJob {
    NewJob { tags: tags.iter().map(|&tag| tag.to_owned()).collect(), ..job("q", b"") }
}

fn with_tag(tag: &str) -> JobFilter {
    JobFilter { tag: tag.to_owned(), ..all("q") }
}

fn metadata(name: &str, value: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(name.to_owned(), value.to_owned())])
}

const TAGS: &str = "SELECT count(*) FROM currant.tag";
const FAILURES: &str = "SELECT count(*) FROM currant.failure";

#[tokio::test]
async fn jobs_are_found_by_tags_and_metadata() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let with_metadata = NewJob { metadata: metadata("customer", "7"), ..tagged(&["b"]) };
    let small = broker
        .enqueue([tagged(&["a", "b", "a"]), tagged(&["a"]), with_metadata, tagged(&[])])
        .await;
    // As many as are copied otherwise.
    let many = (0..200).map(|n| if n % 50 == 0 { tagged(&["c"]) } else { tagged(&[]) });
    let large = broker.enqueue(many).await;
    assert_eq!(ids(&broker, with_tag("a")).await, small[..2]);
    assert_eq!(ids(&broker, with_tag("b")).await, [small[0], small[2]]);
    assert_eq!(ids(&broker, with_tag("customer=7")).await, small[2..3]);
    let every_50th: Vec<i64> = large.iter().step_by(50).copied().collect();
    assert_eq!(ids(&broker, with_tag("c")).await, every_50th);
    assert_eq!(ids(&broker, with_tag("customer")).await, [0_i64; 0]);
    let in_this = |state: JobState| JobFilter { states: vec![state.into()], ..with_tag("a") };
    assert_eq!(ids(&broker, in_this(JobState::Ready)).await, small[..2]);
    assert_eq!(ids(&broker, in_this(JobState::Dead)).await, [0_i64; 0]);
    assert_eq!(database.number(TAGS).await, 9);
    let stored = get(&broker, small[2]).await;
    assert_eq!((stored.tags, stored.metadata), (vec!["b".to_owned()], metadata("customer", "7")));
    delete(&broker, &small[1..3]).await;
    assert_eq!(database.number(TAGS).await, 6);
    let mut worker = TestWorker::subscribe(&broker, &["q"], 1).await;
    let held = worker.job().await;
    assert_eq!((held.job_id, &*held.tags), (small[0], &["a", "b", "a"].map(str::to_owned)[..]));
    worker.succeed([&held]).await;
    assert_eq!(database.number(TAGS).await, 6);
    assert_eq!(ids(&broker, with_tag("a")).await, small[..1]);
}

#[tokio::test]
async fn a_call_that_is_refused_or_repeated_leaves_no_tags() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    for (wrong, limit) in [
        (NewJob { metadata: metadata("", "x"), ..job("q", b"") }, "a name: 1 to 64"),
        (NewJob { metadata: metadata("a=b", "x"), ..job("q", b"") }, "a name: 1 to 64"),
        (NewJob { metadata: metadata("a", &"x".repeat(257)), ..job("q", b"") }, "at most 256"),
    ] {
        let request = EnqueueRequest { jobs: vec![tagged(&["a"]), wrong], ..Default::default() };
        let status = broker.jobs().enqueue(request).await.unwrap_err();
        assert_invalid(&status, "jobs[1].metadata", limit);
    }
    let request = EnqueueRequest {
        jobs: vec![tagged(&["a"]), tagged(&["b"])],
        idempotency_key: "once".to_owned(),
        ..Default::default()
    };
    for duplicate in [false, true] {
        let answer = broker.jobs().enqueue(request.clone()).await.unwrap().into_inner();
        assert_eq!(answer.duplicate, duplicate);
    }
    assert_eq!(database.number(TAGS).await, 2);
}

async fn failed_attempts(broker: &Broker, id: i64) -> Vec<FailedAttempt> {
    let answer = broker.jobs().get(GetRequest { job_id: id, ..Default::default() }).await.unwrap();
    answer.into_inner().failed_attempts
}

fn failed(error: &str) -> Outcome {
    Outcome::Failed(Failed {
        error: error.to_owned(),
        class: "smtp".to_owned(),
        details: "at the door".to_owned(),
        ..Failed::default()
    })
}

#[tokio::test]
async fn each_failed_attempt_is_remembered_until_the_job_goes() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 1).await;
    let id = broker.enqueue([NewJob { retry: every(1), ..job("q", b"") }]).await[0];
    for attempt in 1..=3 {
        let held = worker.job().await;
        assert_eq!(held.attempt, attempt);
        assert_eq!(worker.report([&held], failed(&format!("{attempt}"))).await, [Verdict::Applied]);
    }
    let fourth = worker.job().await;
    // A report that repeats another is none.
    assert_eq!(worker.report([&fourth], discarded(&"x".repeat(5000))).await, [Verdict::Applied]);
    assert_eq!(worker.report([&fourth], failed("again")).await, [Verdict::Duplicate]);
    let failures = failed_attempts(&broker, id).await;
    let seen: Vec<_> =
        failures.iter().map(|one| (one.attempt, one.class.as_str(), one.error.len())).collect();
    assert_eq!(seen, [(1, "smtp", 1), (2, "smtp", 1), (3, "smtp", 1), (4, "", 2000)]);
    let first = &failures[0];
    assert_eq!((first.worker.as_str(), first.details.as_str()), ("test", "at the door"));
    // Whoever has all of it has the session.
    let session = &worker.welcome.session_id;
    assert!(first.session_id.len() == 8 && session.starts_with(&first.session_id));
    assert_eq!(
        database.number("SELECT max(length(session))::bigint FROM currant.failure").await,
        8
    );
    // One that an older broker stored.
    let whole = "UPDATE currant.failure SET session = $1";
    database.connect().await.execute(whole, &[session]).await.unwrap();
    assert_eq!(failed_attempts(&broker, id).await[0].session_id, first.session_id);
    assert!(first.failed_at.unwrap().seconds >= database.now().await - 60);
    assert_eq!(get(&broker, id).await.error.len(), 5000, "the last is kept whole");
    // They stay when it runs again, and after its success.
    retry(&broker, &[id]).await;
    let again = worker.job().await;
    worker.succeed([&again]).await;
    assert_eq!(failed_attempts(&broker, id).await.len(), 4);
    delete(&broker, &[id]).await;
    assert_eq!(database.number(FAILURES).await, 0);
}

#[tokio::test]
async fn a_job_has_no_more_than_32_failed_attempts() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 1).await;
    let id =
        broker.enqueue([NewJob { max_attempts: 100, retry: every(1), ..job("q", b"") }]).await[0];
    for _ in 0..40 {
        let held = worker.job().await;
        worker.report([&held], failed("no")).await;
    }
    let attempts: Vec<u32> =
        failed_attempts(&broker, id).await.iter().map(|one| one.attempt).collect();
    assert_eq!(attempts, (9..=40).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_job_that_kills_its_workers_is_dead_after_a_few_and_says_so() {
    let database = Database::fresh().await;
    let settings = [
        ("SESSION__HEARTBEAT_INTERVAL_MS", "50"),
        ("SESSION__TIMEOUT_MS", "300"),
        ("SESSION__RECONNECT_GRACE_MS", "100"),
        ("SESSION__ACKNOWLEDGE_TIMEOUT_MS", "5000"),
        ("QUEUE_DEFAULTS__WORKER_LOSSES_MAX", "3"),
    ];
    let broker = Broker::start_with(&database, &settings).await;
    let poison = NewJob { max_attempts: 9, retry: every(1), ..job("q", b"") };
    let id = broker.enqueue([poison]).await[0];
    for attempt in 1..=3 {
        let mut worker = TestWorker::subscribe(&broker, &["q"], 1).await;
        let held = worker.job().await;
        assert_eq!(held.attempt, attempt);
        worker.heartbeat([&held]).await.unwrap();
        // The worker is gone with its stream.
        drop(worker);
        let lost = async || get(&broker, id).await.failures == attempt;
        eventually("the attempt is lost", lost).await;
    }
    let stored = get(&broker, id).await;
    assert_eq!(stored.state(), JobState::Dead);
    assert_eq!(stored.error, "the worker was lost while it held the job, as were 2 before");
    let failures = failed_attempts(&broker, id).await;
    let seen: Vec<_> =
        failures.iter().map(|one| (one.attempt, one.class.as_str(), one.worker.as_str())).collect();
    assert_eq!(seen, [1, 2, 3].map(|attempt| (attempt, "worker_lost", "test")));
    assert_eq!(ids(&broker, in_state("q", JobState::Dead)).await, [id]);
}

#[tokio::test]
async fn all_of_it_is_pruned_with_the_job() {
    let database = Database::fresh().await;
    let broker = Broker::start_with(&database, &[("RETENTION__DEAD_MS", "60000")]).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 2).await;
    broker.enqueue([tagged(&["a", "b"]), tagged(&["a"])]).await;
    let held = worker.take(2).await;
    report(&worker, held.iter().map(|job| percent(job, 5.0, ""))).await.unwrap();
    worker.report([&held[0]], failed("no")).await;
    worker.report([&held[1]], discarded("no")).await;
    let old = "UPDATE currant.job SET finished_at = now() - interval '1 hour', id = id - (3600000::bigint << 22)
               WHERE outcome = 2;
               UPDATE currant.tag t SET id = t.id - (3600000::bigint << 22)
               FROM currant.dead_job d WHERE d.id = t.id;
               UPDATE currant.failure f SET id = f.id - (3600000::bigint << 22)
               FROM currant.dead_job d WHERE d.id = f.id;
               UPDATE currant.progress p SET id = p.id - (3600000::bigint << 22)
               FROM currant.dead_job d WHERE d.id = p.id;
               UPDATE currant.dead_job SET id = id - (3600000::bigint << 22)";
    database.connect().await.batch_execute(old).await.unwrap();
    let dead = "SELECT count(*) FROM currant.dead_job";
    eventually("the dead one is gone", async || database.number(dead).await == 0).await;
    // What is of the other one stays.
    assert_eq!(ids(&broker, with_tag("b")).await, [held[0].job_id]);
    assert_eq!((database.number(TAGS).await, database.number(FAILURES).await), (2, 1));
    let progress = "SELECT id FROM currant.progress";
    assert_eq!(database.number(progress).await, held[0].job_id);
}
