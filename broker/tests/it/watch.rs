//! Watch: changes of a job's state, whichever broker makes them, for any number of waiters.

use currant_proto::v1::{
    CancelRequest, Job, JobState, Succeeded, Verdict, WatchRequest, WatchResponse,
    completion::Outcome,
};
use tonic::{Code, Status, Streaming};

use crate::{
    list::discarded,
    retry::delete,
    support::{Broker, Database, PATIENCE, TestWorker, assert_full, eventually, job},
};

const KEEP_ALIVE: (&str, &str) = ("SESSION__KEEP_ALIVE_INTERVAL_MS", "100");

async fn try_watch(broker: &Broker, id: i64) -> Result<Streaming<WatchResponse>, Status> {
    Ok(broker.jobs().watch(WatchRequest { job_id: id, ..Default::default() }).await?.into_inner())
}

/// The next change; `None` at the end.
async fn change(watch: &mut Streaming<WatchResponse>) -> Result<Option<Job>, Status> {
    loop {
        let message = tokio::time::timeout(PATIENCE, watch.message()).await.expect("nothing came");
        match message? {
            None => return Ok(None),
            Some(WatchResponse { job: None }) => {}
            Some(WatchResponse { job }) => return Ok(job),
        }
    }
}

/// Waits for this state, over others.
async fn until(watch: &mut Streaming<WatchResponse>, state: JobState) -> Job {
    loop {
        let job = change(watch).await.unwrap().expect("the watch ended");
        if job.state() == state {
            return job;
        }
    }
}

fn result(bytes: &'static [u8]) -> Outcome {
    Outcome::Succeeded(Succeeded { result: bytes.into() })
}

#[tokio::test]
async fn every_waiter_hears_of_each_change_and_of_the_result_and_only_then_the_stream_ends() {
    let database = Database::fresh().await;
    let broker = Broker::start_with(&database, &[KEEP_ALIVE]).await;
    let id = broker.enqueue([job("q", b"payload")]).await[0];
    let mut watches = Vec::new();
    for _ in 0..5 {
        let mut watch = try_watch(&broker, id).await.unwrap();
        let first = change(&mut watch).await.unwrap().unwrap();
        assert_eq!((first.state(), first.queue.as_str()), (JobState::Ready, "q"));
        assert!(first.payload.is_empty());
        watches.push(watch);
    }
    // While nothing changes the stream shows life.
    assert_eq!(watches[0].message().await.unwrap().unwrap(), WatchResponse { job: None });
    let mut worker = TestWorker::subscribe(&broker, &["q"], 1).await;
    let held = worker.job().await;
    for watch in &mut watches {
        assert_eq!(until(watch, JobState::Running).await.attempt, 1);
    }
    worker.report([&held], result(b"done")).await;
    for watch in &mut watches {
        let last = change(watch).await.unwrap().unwrap();
        assert_eq!((last.state(), last.result.as_ref()), (JobState::Succeeded, &b"done"[..]));
        assert!(last.finished_at.is_some());
        assert_eq!(change(watch).await.unwrap(), None);
    }
    // One that comes later hears of the end at once.
    let mut late = try_watch(&broker, id).await.unwrap();
    assert_eq!(change(&mut late).await.unwrap().unwrap().result, "done");
    assert_eq!(change(&mut late).await.unwrap(), None);
    let watches_now = async || broker.metric("currant_watches").await;
    eventually("those that have ended have left", async || watches_now().await == Some(0.0)).await;
    drop((watches, late));
}

#[tokio::test]
async fn failures_cancels_and_deletes_are_heard() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 2).await;
    let ids = broker.enqueue([job("q", b""), job("q", b""), job("other", b"")]).await;
    let held = worker.take(2).await;
    let mut watches = Vec::new();
    for id in &ids {
        let mut watch = try_watch(&broker, *id).await.unwrap();
        change(&mut watch).await.unwrap();
        watches.push(watch);
    }
    worker.report([&held[0]], discarded("no")).await;
    let dead = held[0].job_id;
    let of = |id: i64| ids.iter().position(|one| *one == id).unwrap();
    let job = until(&mut watches[of(dead)], JobState::Dead).await;
    assert_eq!(job.error, "no");
    let cancelled = held[1].job_id;
    broker
        .jobs()
        .cancel(CancelRequest { job_ids: vec![cancelled], ..Default::default() })
        .await
        .unwrap();
    until(&mut watches[of(cancelled)], JobState::Cancelled).await;
    delete(&broker, &ids[2..]).await;
    let status = change(&mut watches[2]).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    let status = try_watch(&broker, ids[2]).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
}

#[tokio::test]
async fn what_another_broker_does_is_heard_and_watches_outlive_its_end() {
    let database = Database::fresh().await;
    let here = Broker::start(&database).await;
    let there = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&there, &["q"], 2).await;
    let ids = there.enqueue([job("q", b""), job("q", b"")]).await;
    let held = worker.take(2).await;
    let mut at_both = Vec::new();
    for broker in [&here, &there] {
        let mut watch = try_watch(broker, held[0].job_id).await.unwrap();
        assert_eq!(change(&mut watch).await.unwrap().unwrap().state(), JobState::Running);
        at_both.push(watch);
    }
    let mut other = try_watch(&here, held[1].job_id).await.unwrap();
    change(&mut other).await.unwrap();
    worker.report([&held[0]], result(b"there")).await;
    for watch in &mut at_both {
        assert_eq!(change(watch).await.unwrap().unwrap().result, "there");
    }
    there.kill();
    // Reported to the other broker, without a session of its own.
    let verdicts =
        TestWorker::subscribe(&here, &["idle"], 1).await.report([&held[1]], result(b"here")).await;
    assert_eq!(verdicts, [Verdict::Applied]);
    assert_eq!(change(&mut other).await.unwrap().unwrap().result, "here");
    assert_eq!(ids.len(), 2);
}

#[tokio::test]
async fn watches_cost_looks_at_an_interval_and_not_one_each() {
    const WAITERS: usize = 300;
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let ids = broker.enqueue((0..WAITERS).map(|_| job("q", b""))).await;
    let mut watches = Vec::new();
    for id in &ids {
        let mut watch = try_watch(&broker, *id).await.unwrap();
        change(&mut watch).await.unwrap();
        watches.push(watch);
    }
    let count = async || {
        let metrics = broker.metrics().await;
        let name = "currant_statement_seconds_count{statement=\"watched_jobs\"} ";
        let line = metrics.lines().find_map(|line| line.strip_prefix(name));
        line.map_or(0, |count| count.parse::<u64>().unwrap())
    };
    let before = count().await;
    let mut looked = before;
    let started = currant_broker::clock::Stopwatch::start();
    eventually("it looks", async || {
        looked = count().await;
        looked >= before + 2
    })
    .await;
    let most = 4 + u64::try_from(started.elapsed().as_millis()).unwrap() / 50;
    assert!(looked - before <= most, "{} looks", looked - before);
    let mut worker = TestWorker::subscribe(&broker, &["q"], 1000).await;
    let held = worker.take(WAITERS).await;
    worker.succeed(&held).await;
    for watch in &mut watches {
        until(watch, JobState::Succeeded).await;
    }
}

#[tokio::test]
async fn watches_are_bounded_and_end_with_the_broker() {
    let database = Database::fresh().await;
    let broker = Broker::start_with(&database, &[("GRPC__WATCHES_MAX", "2")]).await;
    let id = broker.enqueue([job("q", b"")]).await[0];
    let mut one = try_watch(&broker, id).await.unwrap();
    let two = try_watch(&broker, id).await.unwrap();
    assert_full(&try_watch(&broker, id).await.unwrap_err());
    drop(two);
    let again = async || try_watch(&broker, id).await.is_ok();
    eventually("there is room again", again).await;
    let unknown = async || {
        try_watch(&broker, 12_345).await.is_err_and(|status| status.code() == Code::NotFound)
    };
    eventually("there is room to look for it", unknown).await;
    change(&mut one).await.unwrap();
    broker.signal_to_stop();
    assert_eq!(change(&mut one).await.unwrap_err().code(), Code::Unavailable);
    assert!(broker.end().await.success());
}
