//! All bounds of memory reached at once: the process stays within what docs/limits.md says.

use std::{fs, time::Duration};

use bytes::Bytes;
use currant_proto::v1::{
    CompleteRequest, EnqueueRequest, NewJob, SubscribeRequest, Succeeded, completion::Outcome,
    job_service_client::JobServiceClient, worker_service_client::WorkerServiceClient,
};
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};

use crate::{
    garbage::call,
    support::{Broker, Database, TestWorker, eventually, http_send, job, success},
};

const MIB: usize = 1 << 20;
/// Of a payload and of a result.
const LARGE: usize = 256 << 10;

const MESSAGE: usize = MIB;
const READING: usize = 16 * MIB;
const BUFFERED: usize = 32 * MIB;
const PENDING: usize = 8 * MIB;
const UNACKNOWLEDGED: usize = 2 * MIB;

const SESSIONS: usize = 500;
const STALLED: usize = 8;
/// Connections of those who send as much as they can.
const SENDERS: usize = 4;
/// Each sends so many calls at once.
const CALLS_OF_SENDER: usize = 60;

/// While the database stands still.
const LOOKS: usize = 15;

/// As docs/limits.md has it.
fn formula() -> usize {
    48 * MIB
        + 2 * (BUFFERED + 2 * PENDING)
        + READING
        + 32 * MESSAGE
        + SENDERS * 16 * MIB
        + SESSIONS * (64 << 10)
        + STALLED * UNACKNOWLEDGED
}

fn resident(broker: &Broker) -> usize {
    process(broker, "VmRSS:")
}

fn process(broker: &Broker, name: &str) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", broker.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().strip_suffix("kB").unwrap().trim().parse::<usize>().unwrap() << 10
}

fn large(queue: &str) -> NewJob {
    NewJob { payload: vec![7; LARGE].into(), ..job(queue, b"") }
}

async fn connection(broker: &Broker) -> Channel {
    let endpoint = Endpoint::from_shared(broker.endpoint()).unwrap();
    endpoint.initial_connection_window_size(16 << 20).connect().await.unwrap()
}

/// Enqueues as fast as it goes; how many calls were refused.
async fn flood(broker: &Broker) -> usize {
    let mut calls = Vec::new();
    for _ in 0..SENDERS {
        let channel = connection(broker).await;
        for _ in 0..CALLS_OF_SENDER {
            let mut client = JobServiceClient::new(channel.clone());
            let jobs = vec![large("stalled"); 3];
            let request = EnqueueRequest { jobs, ..EnqueueRequest::default() };
            calls.push(tokio::spawn(async move { client.enqueue(request).await }));
        }
    }
    let mut refused = 0;
    for call in calls {
        refused += usize::from(call.await.unwrap().is_err());
    }
    refused
}

#[tokio::test]
async fn the_worst_of_all_bounds_at_once_stays_within_the_stated_memory() {
    let database = Database::fresh().await;
    let number = |number: usize| number.to_string();
    let settings = [
        ("GRPC__MESSAGE_BYTES_MAX", number(MESSAGE)),
        ("GRPC__READING_BYTES_MAX", number(READING)),
        ("ENQUEUE__PAYLOAD_BYTES_MAX", number(LARGE)),
        ("ENQUEUE__PENDING_BYTES_MAX", number(PENDING)),
        ("COMPLETE__RESULT_BYTES_MAX", number(LARGE)),
        ("COMPLETE__PENDING_BYTES_MAX", number(PENDING)),
        ("DISPATCH__BUFFERED_BYTES_MAX", number(BUFFERED)),
        ("SESSION__UNACKNOWLEDGED_BYTES_MAX", number(UNACKNOWLEDGED)),
        // Nobody is held for lost meanwhile.
        ("SESSION__TIMEOUT_MS", number(600_000)),
        ("SESSION__ACKNOWLEDGE_TIMEOUT_MS", number(600_000)),
    ];
    let settings: Vec<(&str, &str)> =
        settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let broker = Broker::start_with(&database, &settings).await;
    let mut most = 0;
    let mut look = |what: &str| {
        let bytes = resident(&broker);
        println!("{:>5} MiB: {what}", bytes / MIB);
        most = most.max(bytes);
    };
    look("at the start");

    let mut sessions = Vec::new();
    for _ in 0..SESSIONS {
        sessions.push(TestWorker::subscribe(&broker, &["idle"], 10).await);
    }
    look("many sessions");

    // A worker for results, which takes what it may.
    let mut worker = TestWorker::subscribe(&broker, &["results"], 200).await;
    broker.enqueue((0..200).map(|_| job("results", b""))).await;
    let results = worker.take(200).await;

    // Workers that stop reading, with credit for more than fits in memory.
    let mut stalled = Vec::new();
    for _ in 0..STALLED {
        let client = WorkerServiceClient::new(connection(&broker).await);
        let request = SubscribeRequest {
            queues: vec!["stalled".to_owned()],
            max_in_flight: 1000,
            ..SubscribeRequest::default()
        };
        stalled.push(TestWorker::open_with(client, request).await.unwrap());
    }
    let full = async || {
        flood(&broker).await;
        broker.metric("currant_buffered_bytes").await.unwrap() > 0.9 * BUFFERED as f64
    };
    eventually("memory is full of jobs", full).await;
    look("workers that don't read, and memory full of jobs");

    // The database stands still: what comes in waits.
    for round in 0..2 {
        let stall = database.stall_writes().await;
        let completions: Vec<_> = results
            .iter()
            .map(|job| {
                let mut client = broker.workers();
                let result = Succeeded { result: vec![7; LARGE].into() };
                let mut completion = success(job);
                completion.outcome = Some(Outcome::Succeeded(result));
                let request = CompleteRequest {
                    completions: vec![completion],
                    session_id: worker.welcome.session_id.clone(),
                    ..CompleteRequest::default()
                };
                tokio::spawn(async move { client.complete(request).await.is_err() })
            })
            .collect();
        let (refused, ()) = tokio::join!(flood(&broker), async {
            for _ in 0..LOOKS {
                tokio::time::sleep(Duration::from_millis(200)).await;
                look("producers and workers send more than may wait");
            }
            stall.end().await;
        });
        let mut refused_results = 0;
        for call in completions {
            refused_results += usize::from(call.await.unwrap());
        }
        assert!(refused > SENDERS * CALLS_OF_SENDER / 2, "{refused} calls were refused");
        assert!(round > 0 || refused_results > 100, "{refused_results} results were refused");
    }
    look("at the end");
    let formula = formula();
    assert!(most < formula, "{} MiB, more than {} MiB", most / MIB, formula / MIB);
    drop((sessions, stalled));
}

#[tokio::test]
async fn a_message_of_a_million_empty_jobs_is_refused_before_it_takes_memory() {
    const MOST: &str = "VmHWM:";
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    broker.enqueue([job("q", b"")]).await;
    let before = process(&broker, MOST);
    for (path, list) in [
        ("/currant.v1.JobService/Enqueue", b"\x0a\x00"),
        ("/currant.v1.WorkerService/Complete", b"\x12\x00"),
    ] {
        let message = Bytes::from(list.repeat(MIB));
        let status = call(&broker, path, vec![message]).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{path}: {status:?}");
        assert!(status.message().contains("10100"), "{path}: {status:?}");
    }
    let after = process(&broker, MOST);
    println!("{} MiB, and {} MiB at most", before / MIB, after / MIB);
    assert!(after < before + 32 * MIB);
}

#[tokio::test]
async fn json_of_a_million_values_is_refused_before_it_takes_memory() {
    const MOST: &str = "VmHWM:";
    const JSON: &[(&str, &str)] = &[("content-type", "application/json")];
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let post = async |jobs: &str| {
        let (path, body) = ("/api/currant.v1.JobService/Enqueue", format!("{{\"jobs\":{jobs}}}"));
        http_send(&broker.http, "POST", path, JSON, &body).await
    };
    let list = |element: &str, count: usize| format!("[{}]", vec![element; count].join(","));
    let before = process(&broker, MOST);
    for (what, jobs) in [
        ("jobs", list(r#"{"kind":""}"#, 690_000)),
        ("tags of a job", format!(r#"[{{"tags":{}}}]"#, list(r#""""#, 2_000_000))),
        ("what is no job's", format!(r#"[{{"metadata":{}}}]"#, list("[]", 2_000_000))),
    ] {
        let (status, answer) = post(&jobs).await;
        assert_eq!(status, 400, "{what}: {answer}");
        assert!(answer.contains("a message has at most 131072 values"), "{what}: {answer}");
        // The body itself, while it grows.
        let after = process(&broker, MOST);
        println!("{what}: {} MiB, and {} MiB at most", before / MIB, after / MIB);
        assert!(after < before + 40 * MIB);
    }
    // As many as there may be, of what takes most.
    let waits = list(r#""1.5s""#, 131_000);
    let (status, answer) = post(&format!(r#"[{{"retry":{{"list":{{"delays":{waits}}}}}}}]"#)).await;
    assert!(status == 400 && answer.contains("violations"), "{answer}");
    let after = process(&broker, MOST);
    println!("waits: {} MiB at most", after / MIB);
    assert!(after < before + 32 * 4 * MIB);
    // What can't be read is told as ever, and as many jobs as a call may have are taken.
    let (status, answer) = post(&format!(r#"[{{"kind":"{}"#, "x".repeat(MIB))).await;
    assert!(status == 400 && answer.contains("the body: "), "{answer}");
    let one = r#"{"queue":"q","kind":"test","payload":"eA==","tags":["a","b"]}"#;
    let (status, answer) = post(&list(one, 10_000)).await;
    assert_eq!(status, 200, "{answer:.200}");
}
