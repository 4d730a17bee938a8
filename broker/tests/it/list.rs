//! Finding jobs: filters, pages, and how much a page looks at.

use currant_proto::v1::{
    Failed, Job, JobFilter, JobState, ListRequest, ListResponse, completion::Outcome,
};
use tonic::{Code, Status};

use crate::{
    retry::{delete, retry},
    support::{Broker, Database, TestWorker, assert_invalid, eventually, job},
};

pub(crate) fn all(queue: &str) -> JobFilter {
    JobFilter { queue: queue.to_owned(), ..JobFilter::default() }
}

pub(crate) fn in_state(queue: &str, state: JobState) -> JobFilter {
    JobFilter { states: vec![state.into()], ..all(queue) }
}

pub(crate) fn discarded(error: &str) -> Outcome {
    Outcome::Failed(Failed { error: error.to_owned(), discard: true, ..Failed::default() })
}

async fn try_page(broker: &Broker, request: ListRequest) -> Result<ListResponse, Status> {
    Ok(broker.jobs().list(request).await?.into_inner())
}

/// All pages: their jobs, and how many pages there were.
async fn pages(broker: &Broker, mut request: ListRequest) -> (Vec<Job>, usize) {
    let (mut jobs, mut count) = (Vec::new(), 0);
    loop {
        let page = try_page(broker, request.clone()).await.unwrap();
        jobs.extend(page.jobs);
        count += 1;
        if page.next_page_token.is_empty() {
            return (jobs, count);
        }
        request.page_token = page.next_page_token;
    }
}

pub(crate) async fn ids(broker: &Broker, filter: JobFilter) -> Vec<i64> {
    let request = ListRequest { filter: Some(filter), ..ListRequest::default() };
    pages(broker, request).await.0.iter().map(|job| job.job_id).collect()
}

#[tokio::test]
async fn filters_and_pages() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&broker, &["emails"], 4).await;
    let mut stored = broker.enqueue((0..4).map(|_| job("emails", b"payload"))).await;
    let held = worker.take(4).await;
    worker.set_credit(0).await;
    worker.succeed([&held[0]]).await;
    worker.report([&held[1]], discarded("no such Address")).await;
    worker.report([&held[2]], discarded("timed out")).await;
    let other = currant_proto::v1::NewJob { kind: "other".to_owned(), ..job("emails", b"") };
    stored.extend(broker.enqueue([other, job("emails", b"")]).await);
    broker.enqueue([job("elsewhere", b"")]).await;

    assert_eq!(ids(&broker, all("emails")).await, stored);
    for (state, expected) in [
        (JobState::Succeeded, vec![held[0].job_id]),
        (JobState::Dead, vec![held[1].job_id, held[2].job_id]),
        (JobState::Running, vec![held[3].job_id]),
        (JobState::Ready, stored[4..].to_vec()),
        (JobState::Scheduled, vec![]),
        (JobState::Cancelled, vec![]),
    ] {
        assert_eq!(ids(&broker, in_state("emails", state)).await, expected, "{state:?}");
    }
    let both = JobFilter {
        states: vec![JobState::Dead.into(), JobState::Succeeded.into()],
        ..all("emails")
    };
    assert_eq!(
        ids(&broker, both).await,
        held[..3].iter().map(|job| job.job_id).collect::<Vec<_>>()
    );
    let kind = JobFilter { kind: "other".to_owned(), ..all("emails") };
    assert_eq!(ids(&broker, kind).await, stored[4..5]);
    let error = |states, part: &str| JobFilter { states, error: part.to_owned(), ..all("emails") };
    assert_eq!(ids(&broker, error(vec![], "such address")).await, [held[1].job_id]);
    let dead = vec![JobState::Dead.into()];
    assert_eq!(ids(&broker, error(dead.clone(), "TIMED")).await, [held[2].job_id]);
    assert_eq!(ids(&broker, error(dead, "%")).await, [0_i64; 0], "it is no pattern");
    let between = JobFilter { above_id: stored[0], below_id: stored[3], ..all("emails") };
    assert_eq!(ids(&broker, between).await, stored[1..3]);

    // Both ways, whatever the size of a page.
    for (page_size, newest_first) in [(1, false), (1, true), (4, false), (6, true), (0, true)] {
        let request = ListRequest {
            filter: Some(all("emails")),
            newest_first,
            page_size,
            page_token: String::new(),
        };
        let (jobs, count) = pages(&broker, request).await;
        let mut expected = stored.clone();
        if newest_first {
            expected.reverse();
        }
        assert_eq!(jobs.iter().map(|job| job.job_id).collect::<Vec<_>>(), expected);
        assert!(count <= stored.len() + 1, "{count} pages");
        assert!(jobs.iter().all(|job| job.payload.is_empty() && job.queue == "emails"));
    }
}

#[tokio::test]
async fn a_time_is_a_range_of_ids() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let first = broker.enqueue([job("q", b"")]).await[0];
    let later = async || database.now_micros().await / 1000 > (first >> 22) + 2;
    eventually("time passes", later).await;
    let second = broker.enqueue([job("q", b"")]).await[0];
    let ms = second >> 22;
    let time = prost_types::Timestamp {
        seconds: ms / 1000,
        nanos: i32::try_from(ms % 1000).unwrap() * 1_000_000,
    };
    let from = JobFilter { created_from: Some(time), ..all("q") };
    assert_eq!(ids(&broker, from).await, [second]);
    let before = JobFilter { created_before: Some(time), ..all("q") };
    assert_eq!(ids(&broker, before).await, [first]);
}

#[tokio::test]
async fn a_page_of_few_among_many_is_bounded_and_dead_jobs_are_found_at_once() {
    const JOBS: i64 = 25_000;
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    broker.enqueue([job("q", b"")]).await;
    let fill = format!(
        "INSERT INTO currant.job (queue_id, id, attempt, priority, phase, outcome, finished_at, kind,
                                  payload)
         SELECT 1, n, 1, 0, 2, CASE WHEN n = {JOBS} THEN 2 ELSE 1 END, now(), 'test', ''
         FROM generate_series(1, {JOBS}) n;
         INSERT INTO currant.dead_job VALUES (1, {JOBS})"
    );
    database.connect().await.batch_execute(&fill).await.unwrap();
    let request = |filter| ListRequest { filter: Some(filter), ..ListRequest::default() };
    let (found, count) = pages(&broker, request(in_state("q", JobState::Ready))).await;
    assert_eq!((found.len(), count), (1, 3), "10,000 rows a page");
    let (found, count) = pages(&broker, request(in_state("q", JobState::Dead))).await;
    assert_eq!((found.len(), found[0].job_id, count), (1, JOBS, 1));
}

#[tokio::test]
async fn the_list_of_dead_jobs_keeps_step_with_the_jobs() {
    let database = Database::fresh().await;
    let broker = Broker::start_with(&database, &[("RETENTION__DEAD_MS", "60000")]).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 3).await;
    broker.enqueue((0..3).map(|_| job("q", b""))).await;
    let held = worker.take(3).await;
    worker.report(&held, discarded("no")).await;
    let dead = held.iter().map(|job| job.job_id).collect::<Vec<_>>();
    assert_eq!(ids(&broker, in_state("q", JobState::Dead)).await, dead);
    retry(&broker, &dead[..1]).await;
    delete(&broker, &dead[1..2]).await;
    let again = worker.job().await;
    assert_eq!(ids(&broker, in_state("q", JobState::Dead)).await, dead[2..]);
    let rows = "SELECT count(*) FROM currant.dead_job";
    assert_eq!(database.number(rows).await, 1);
    worker.report([&again], discarded("no")).await;
    assert_eq!(ids(&broker, in_state("q", JobState::Dead)).await, [dead[0], dead[2]]);
    // Pruned with the job.
    let old = "UPDATE currant.job SET finished_at = now() - interval '1 hour', id = id - (3600000::bigint << 22);
               UPDATE currant.dead_job SET id = id - (3600000::bigint << 22)";
    database.connect().await.batch_execute(old).await.unwrap();
    eventually("both are gone", async || database.number(rows).await == 0).await;
    assert_eq!(database.number("SELECT count(*) FROM currant.job").await, 0);
}

#[tokio::test]
async fn a_bad_listing_is_refused() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    broker.enqueue([job("q", b""), job("q", b""), job("other", b""), job("other", b"")]).await;
    let request =
        |filter| ListRequest { filter: Some(filter), page_size: 1, ..ListRequest::default() };
    let absent = try_page(&broker, request(all("nowhere"))).await.unwrap_err();
    assert_eq!(absent.code(), Code::NotFound);
    assert_eq!(database.number("SELECT count(*) FROM currant.queue").await, 2, "none was created");
    let limit = "1 to 128 characters of A-Z a-z 0-9 . _ : / -, starting with a letter or digit; this \
                 has 0 characters";
    let status = try_page(&broker, ListRequest::default()).await.unwrap_err();
    assert_invalid(&status, "filter.queue", limit);
    let strange = JobFilter { states: vec![0], ..all("q") };
    let status = try_page(&broker, request(strange)).await.unwrap_err();
    assert_invalid(&status, "filter.states[0]", "not a state of a job");
    let large = ListRequest { page_size: 501, ..request(all("q")) };
    let status = try_page(&broker, large).await.unwrap_err();
    assert_invalid(&status, "page_size", "1 to 500; this is 501");
    let token = try_page(&broker, request(all("q"))).await.unwrap().next_page_token;
    assert!(!token.is_empty());
    let of_another = "the one of an answer to a request like this";
    for bad in [
        ListRequest { page_token: "x".to_owned(), ..request(all("q")) },
        ListRequest { page_token: token.clone(), ..request(all("other")) },
        ListRequest { page_token: token, newest_first: true, ..request(all("q")) },
    ] {
        let status = try_page(&broker, bad).await.unwrap_err();
        assert_invalid(&status, "page_token", of_another);
    }
}
