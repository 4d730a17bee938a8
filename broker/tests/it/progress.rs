//! Progress and checkpoints: stored for current attempts, shown, and handed to the next attempt.

use std::time::Duration;

use currant_proto::v1::{
    Assignment, GetCheckpointRequest, Job, Progress, ProgressReport, ReportProgressRequest,
    Verdict, WatchRequest, WatchResponse,
};
use tonic::{Code, Status, Streaming};

use crate::{
    outcomes::{failed, retried},
    retry::delete,
    support::{
        Broker, Database, PATIENCE, TestWorker, assert_full, assert_invalid, attempt, eventually,
        get, job,
    },
};

const ROWS: &str = "SELECT count(*) FROM currant.progress";

fn about(job: &Assignment) -> ProgressReport {
    let attempt = job.attempt;
    ProgressReport { job_id: job.job_id, attempt, ..ProgressReport::default() }
}

pub(crate) fn percent(job: &Assignment, percent: f32, message: &str) -> ProgressReport {
    let message = Some(message.to_owned());
    ProgressReport { percent: Some(percent), message, ..about(job) }
}

fn checkpoint(job: &Assignment, state: &'static [u8]) -> ProgressReport {
    ProgressReport { checkpoint: Some(state.into()), ..about(job) }
}

/// The jobs of which nothing was stored.
pub(crate) async fn report(
    worker: &TestWorker,
    reports: impl IntoIterator<Item = ProgressReport>,
) -> Result<Vec<i64>, Status> {
    let request = ReportProgressRequest {
        session_id: worker.welcome.session_id.clone(),
        reports: reports.into_iter().collect(),
    };
    let answer = worker.client.clone().report_progress(request).await?.into_inner();
    Ok(answer.lost.into_iter().map(|attempt| attempt.job_id).collect())
}

async fn last_checkpoint(worker: &TestWorker, job: &Assignment) -> Result<Vec<u8>, Status> {
    let request = GetCheckpointRequest {
        session_id: worker.welcome.session_id.clone(),
        job_id: job.job_id,
        attempt: job.attempt,
    };
    let answer = worker.client.clone().get_checkpoint(request).await?;
    Ok(answer.into_inner().checkpoint.to_vec())
}

fn said(progress: Option<Progress>) -> Option<(u32, Option<f32>, String)> {
    progress.map(|one| (one.attempt, one.percent, one.message))
}

async fn told(watch: &mut Streaming<WatchResponse>) -> Job {
    loop {
        let message = tokio::time::timeout(PATIENCE, watch.message()).await.expect("nothing came");
        if let Some(job) = message.unwrap().expect("the stream has ended").job {
            return job;
        }
    }
}

#[tokio::test]
async fn what_is_reported_is_shown_and_the_next_attempt_has_the_checkpoint() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 10).await;
    let ids = broker.enqueue([retried()]).await;
    let held = worker.job().await;
    assert_eq!(said(get(&broker, ids[0]).await.progress), None);
    assert_eq!(last_checkpoint(&worker, &held).await.unwrap(), b"");
    assert_eq!(report(&worker, [percent(&held, 12.5, "copying")]).await.unwrap(), [0_i64; 0]);
    assert_eq!(report(&worker, [checkpoint(&held, b"row 7")]).await.unwrap(), [0_i64; 0]);
    // What a report leaves out stays.
    let shown = Some((held.attempt, Some(12.5), "copying".to_owned()));
    assert_eq!(said(get(&broker, ids[0]).await.progress), shown);
    worker.report([&held], failed("no")).await;

    let again = worker.job().await;
    assert_eq!(last_checkpoint(&worker, &again).await.unwrap(), b"row 7");
    // Until it says something itself.
    assert_eq!(said(get(&broker, ids[0]).await.progress), shown);
    report(&worker, [ProgressReport { percent: Some(50.0), ..about(&again) }]).await.unwrap();
    let stored = get(&broker, ids[0]).await;
    assert_eq!(said(stored.progress), Some((again.attempt, Some(50.0), String::new())));
    assert_eq!(last_checkpoint(&worker, &again).await.unwrap(), b"row 7");
    report(&worker, [checkpoint(&again, b"row 9")]).await.unwrap();
    assert_eq!(last_checkpoint(&worker, &again).await.unwrap(), b"row 9");
    assert_eq!(worker.succeed([&again]).await, [Verdict::Applied]);
    assert!(get(&broker, ids[0]).await.progress.is_some(), "it stays with the job");
    delete(&broker, &ids).await;
    assert_eq!(database.number(ROWS).await, 0);
}

#[tokio::test]
async fn an_attempt_that_is_over_stores_nothing() {
    let database = Database::fresh().await;
    let brokers = [Broker::start(&database).await, Broker::start(&database).await];
    let mut worker = TestWorker::subscribe(&brokers[0], &["q"], 10).await;
    broker_jobs(&brokers[0], 2).await;
    let held = worker.take(2).await;
    worker.report([&held[0]], failed("no")).await;
    let again = worker.job().await;
    let reports = [percent(&held[0], 1.0, "old"), percent(&held[1], 2.0, "current")];
    assert_eq!(report(&worker, reports).await.unwrap(), [held[0].job_id]);
    report(&worker, [checkpoint(&again, b"new")]).await.unwrap();
    assert_eq!(database.number(ROWS).await, 2);
    let error = last_checkpoint(&worker, &held[0]).await.unwrap_err();
    assert_eq!(error.code(), Code::NotFound);

    // The memory of a broker isn't asked alone: the attempt was taken from it meanwhile.
    let client = database.connect().await;
    let sql = "UPDATE currant.job SET attempt = attempt + 1 WHERE id = $1";
    client.execute(sql, &[&again.job_id]).await.unwrap();
    let lost = report(&worker, [checkpoint(&again, b"late")]).await.unwrap();
    assert_eq!(lost, [again.job_id]);
    let stored: Vec<u8> = {
        let sql = "SELECT checkpoint FROM currant.progress WHERE id = $1";
        client.query_one(sql, &[&again.job_id]).await.unwrap().get(0)
    };
    assert_eq!(stored, b"new");

    // A session that the broker doesn't know.
    let stranger = TestWorker::subscribe(&brokers[1], &["other"], 1).await;
    let request = ReportProgressRequest {
        session_id: stranger.welcome.session_id.clone(),
        reports: vec![percent(&held[1], 3.0, "x")],
    };
    let error = worker.client.clone().report_progress(request).await.unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
    assert_eq!(report(&stranger, [percent(&held[1], 3.0, "x")]).await.unwrap(), [held[1].job_id]);
}

async fn broker_jobs(broker: &Broker, count: usize) -> Vec<i64> {
    broker.enqueue((0..count).map(|_| retried())).await
}

#[tokio::test]
async fn watches_hear_of_progress_here_and_at_other_brokers() {
    let database = Database::fresh().await;
    let brokers = [Broker::start(&database).await, Broker::start(&database).await];
    let mut worker = TestWorker::subscribe(&brokers[0], &["q"], 10).await;
    let ids = broker_jobs(&brokers[0], 1).await;
    let held = worker.job().await;
    let mut watches = Vec::new();
    for broker in &brokers {
        let request = WatchRequest { job_id: ids[0], ..WatchRequest::default() };
        let mut watch = broker.jobs().watch(request).await.unwrap().into_inner();
        assert_eq!(said(told(&mut watch).await.progress), None);
        watches.push(watch);
    }
    for step in [10.0, 20.0] {
        report(&worker, [percent(&held, step, "on the way")]).await.unwrap();
        for watch in &mut watches {
            let progress = said(told(watch).await.progress);
            assert_eq!(progress, Some((held.attempt, Some(step), "on the way".to_owned())));
        }
    }
}

#[tokio::test]
async fn a_killed_worker_and_a_killed_broker_leave_the_checkpoint() {
    let database = Database::fresh().await;
    let settings = [
        ("BROKER__NAME", "same"),
        ("BROKER__ADOPTION_GRACE_MS", "2000"),
        ("SESSION__RECONNECT_GRACE_MS", "100"),
    ];
    let broker = Broker::start_with(&database, &settings).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 1).await;
    broker_jobs(&broker, 1).await;
    let held = worker.job().await;
    report(&worker, [checkpoint(&held, b"half")]).await.unwrap();
    drop(worker);
    let mut worker = TestWorker::subscribe(&broker, &["q"], 1).await;
    let again = worker.job().await;
    assert_eq!(last_checkpoint(&worker, &again).await.unwrap(), b"half");
    broker.kill();
    let broker = Broker::start_with(&database, &settings).await;
    // The session goes on there.
    let worker = worker.resume(&broker, [&again]).await;
    assert_eq!(worker.welcome.lost, []);
    report(&worker, [checkpoint(&again, b"more")]).await.unwrap();
    assert_eq!(last_checkpoint(&worker, &again).await.unwrap(), b"more");
}

#[tokio::test]
async fn many_reports_of_a_moment_are_few_statements() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 1000).await;
    broker_jobs(&broker, 500).await;
    let held = worker.take(500).await;
    let calls = held.iter().flat_map(|job| [1.0, 2.0].map(|step| percent(job, step, "")));
    let calls = calls.map(|one| report(&worker, [one]));
    let answers = futures_util::future::join_all(calls).await;
    assert!(answers.into_iter().all(|lost| lost.unwrap().is_empty()));
    assert_eq!(database.number(ROWS).await, 500);
    let metrics = broker.metrics().await;
    let name = "currant_statement_seconds_count{statement=\"report_progress\"} ";
    let count = metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    let statements: u32 = count.parse().unwrap();
    assert!(statements <= 100, "{statements} statements for 1000 calls");
}

#[tokio::test]
async fn reports_beyond_those_that_may_wait_are_refused() {
    const STATE: &[u8] = &[7; 32_768];
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 100).await;
    broker_jobs(&broker, 100).await;
    let held = worker.take(100).await;
    let client = database.connect().await;
    let lock = "BEGIN; LOCK TABLE currant.progress IN EXCLUSIVE MODE";
    client.batch_execute(lock).await.unwrap();
    // 3 MiB each, of 64.
    let calls: Vec<_> = (0..30)
        .map(|_| {
            let mut client = worker.client.clone();
            let session_id = worker.welcome.session_id.clone();
            let reports = held.iter().map(|job| checkpoint(job, STATE)).collect();
            let request = ReportProgressRequest { session_id, reports };
            tokio::spawn(async move { client.report_progress(request).await })
        })
        .collect();
    let refused = async || calls.iter().any(tokio::task::JoinHandle::is_finished);
    eventually("a report is refused while others wait", refused).await;
    client.batch_execute("COMMIT").await.unwrap();
    let (mut stored, mut refused) = (0, 0);
    for call in calls {
        match call.await.unwrap() {
            Ok(answer) => stored += usize::from(answer.into_inner().lost.is_empty()),
            Err(status) => {
                assert_full(&status);
                refused += 1;
            }
        }
    }
    assert!(refused > 0 && stored >= 20, "{refused} refused, {stored} stored");
}

#[tokio::test]
async fn what_is_wrong_with_a_report_is_named() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 1).await;
    broker_jobs(&broker, 1).await;
    let held = worker.job().await;
    let large: &'static [u8] = &[0; 32_769];
    for (wrong, field, limit) in [
        (percent(&held, 100.5, ""), "reports[0].percent", "0 to 100"),
        (percent(&held, f32::NAN, ""), "reports[0].percent", "0 to 100"),
        (percent(&held, 1.0, &"x".repeat(257)), "reports[0].message", "at most 256"),
        (checkpoint(&held, large), "reports[0].checkpoint", "at most 32768 bytes"),
        (ProgressReport { attempt: 0, ..about(&held) }, "reports[0].attempt", "1 to"),
    ] {
        assert_invalid(&report(&worker, [wrong]).await.unwrap_err(), field, limit);
    }
    let none: [ProgressReport; 0] = [];
    assert_invalid(&report(&worker, none).await.unwrap_err(), "reports", "1 to 1000");
    assert_eq!(database.number(ROWS).await, 0);
    assert_eq!(worker.welcome.checkpoint_bytes_max, 32_768);
}

/// A heartbeat keeps the lease; a report doesn't keep an attempt beyond its timeout.
#[tokio::test]
async fn progress_extends_no_timeout() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 1).await;
    let timeout = Some(crate::outcomes::ms(400));
    broker.enqueue([currant_proto::v1::NewJob { timeout, ..job("q", b"") }]).await;
    let held = worker.job().await;
    report(&worker, [percent(&held, 1.0, "")]).await.unwrap();
    eventually("the attempt is lost", async || {
        tokio::time::sleep(Duration::from_millis(50)).await;
        !report(&worker, [percent(&held, 2.0, "")]).await.unwrap().is_empty()
    })
    .await;
    assert_eq!(worker.lease_lost().await.attempts, [attempt(&held)]);
}
