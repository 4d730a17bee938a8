//! Requests that the broker refuses: with a code, the field and the limit, and nothing stored.

use currant_proto::v1::{
    Attempt, Cancelled, CompleteRequest, Completion, EnqueueRequest, ExponentialRetry, Failed,
    FixedRetry, GetRequest, HeartbeatRequest, LinearRetry, ListRetry, NewJob, RetryPolicy, Snoozed,
    SubscribeRequest, Succeeded,
    completion::Outcome,
    new_job::{Expiry, Start},
    retry_policy::Policy,
};
use prost_types::{Duration, Timestamp};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::support::{Broker, Database, TestWorker, assert_invalid, job};

/// Limits small enough to pass.
const SMALL: [(&str, &str); 10] = [
    ("GRPC__MESSAGE_BYTES_MAX", "65536"),
    ("ENQUEUE__JOBS_PER_REQUEST_MAX", "10"),
    ("ENQUEUE__PAYLOAD_BYTES_MAX", "1000"),
    ("COMPLETE__COMPLETIONS_PER_REQUEST_MAX", "10"),
    ("COMPLETE__RESULT_BYTES_MAX", "1000"),
    ("SESSION__MAX_IN_FLIGHT_MAX", "20"),
    ("SESSION__QUEUES_MAX", "3"),
    ("SESSION__SESSIONS_MAX", "2"),
    ("SESSION__RECONNECT_GRACE_MS", "0"),
    ("DISPATCH__QUEUES_MAX", "5"),
];

const NAME: &str = "1 to 128 characters";
const SECONDS_OF_10_YEARS: i64 = 10 * 365 * 24 * 3600;

fn duration(seconds: i64, nanos: i32) -> Option<Duration> {
    Some(Duration { seconds, nanos })
}

fn retry(change: impl FnOnce(&mut ExponentialRetry)) -> Option<RetryPolicy> {
    let mut policy = ExponentialRetry::default();
    change(&mut policy);
    Some(RetryPolicy { policy: Some(Policy::Exponential(policy)) })
}

fn form(policy: Policy) -> Option<RetryPolicy> {
    Some(RetryPolicy { policy: Some(policy) })
}

/// Jobs with one fault each: the fault, its field, and what the answer has to name.
fn bad_jobs(now: i64) -> Vec<(NewJob, &'static str, &'static str)> {
    let run_at = |seconds, nanos| Some(Start::RunAt(Timestamp { seconds, nanos }));
    let delay = |seconds, nanos| Some(Start::Delay(Duration { seconds, nanos }));
    let good = || job("q", b"");
    let mut bad = Vec::new();
    let long = "a".repeat(129);
    for name in ["", "-a", ".a", "a b", "ä", "a\0", "a\n", "a,b", long.as_str()] {
        bad.push((NewJob { queue: name.to_owned(), ..good() }, "queue", NAME));
        bad.push((NewJob { kind: name.to_owned(), ..good() }, "kind", NAME));
    }
    let payload = vec![0; 1001].into();
    bad.push((NewJob { payload, ..good() }, "payload", "at most 1000 bytes; this has 1001"));
    for priority in [-101, 101, i32::MIN, i32::MAX, 65_536] {
        bad.push((NewJob { priority: Some(priority), ..good() }, "priority", "-100 to 100"));
    }
    let years = "not before the year 2000, not more than 10 years ahead";
    let too_late = now + SECONDS_OF_10_YEARS + 3600;
    for seconds in [946_684_799, 0, -1, i64::MIN, i64::MAX, too_late] {
        bad.push((NewJob { start: run_at(seconds, 0), ..good() }, "run_at", years));
    }
    for nanos in [-1, 1_000_000_000, i32::MIN] {
        bad.push((NewJob { start: run_at(now, nanos), ..good() }, "run_at", "0 to 999999999"));
    }
    let ten_years = "0 ms to 315360000000 ms";
    for (seconds, nanos) in
        [(-1, 0), (0, -1), (SECONDS_OF_10_YEARS, 1), (i64::MAX, 0), (i64::MIN, i32::MIN)]
    {
        bad.push((NewJob { start: delay(seconds, nanos), ..good() }, "delay", ten_years));
    }
    let expire = |seconds| Some(Expiry::ExpireAfter(Duration { seconds, nanos: 0 }));
    for (expiry, start, limit) in [
        (expire(0), None, "1 ms to 315360000000 ms"),
        (expire(SECONDS_OF_10_YEARS + 1), None, "1 ms to 315360000000 ms"),
        (expire(5), delay(6, 0), "not before it may start"),
        (expire(5), run_at(now + 60, 0), "not before it may start"),
        (Some(Expiry::ExpireAt(Timestamp { seconds: 0, nanos: 0 })), None, years),
    ] {
        bad.push((NewJob { expiry, start, ..good() }, "expiry", limit));
    }
    for max_attempts in [1001, u32::MAX] {
        bad.push((NewJob { max_attempts, ..good() }, "max_attempts", "1 to 1000"));
    }
    for (seconds, nanos) in [(0, 0), (-5, 0), (30 * 24 * 3600, 1)] {
        let timeout = duration(seconds, nanos);
        bad.push((NewJob { timeout, ..good() }, "timeout", "1 ms to 2592000000 ms"));
    }
    let wait = "1 ms to 315360000000 ms";
    for (retry, limit) in [
        (retry(|policy| policy.base_delay = duration(0, 0)), wait),
        (retry(|policy| policy.base_delay = duration(SECONDS_OF_10_YEARS, 1)), wait),
        (retry(|policy| policy.max_delay = duration(0, 999_000_000)), "max_delay: 1000 ms to"),
        (retry(|policy| policy.max_delay = duration(SECONDS_OF_10_YEARS, 1)), "max_delay"),
        (retry(|policy| policy.factor = 0.99), "factor: 1 to 100"),
        (retry(|policy| policy.factor = 100.5), "factor: 1 to 100"),
        (retry(|policy| policy.factor = -1.0), "factor: 1 to 100"),
        (retry(|policy| policy.factor = f64::NAN), "factor: 1 to 100"),
        (retry(|policy| policy.jitter = Some(-0.1)), "jitter: 0 to 1"),
        (retry(|policy| policy.jitter = Some(1.1)), "jitter: 0 to 1"),
        (retry(|policy| policy.jitter = Some(f64::INFINITY)), "jitter: 0 to 1"),
        (form(Policy::Linear(LinearRetry { step: duration(-1, 0), ..Default::default() })), "step"),
        (form(Policy::Fixed(FixedRetry { delay: duration(-1, 0), jitter: None })), "delay: 0 ms"),
        (form(Policy::Fixed(FixedRetry { delay: None, jitter: Some(2.0) })), "jitter: 0 to 1"),
        (form(Policy::List(ListRetry::default())), "delays: 1 to 100; this has 0"),
        (
            form(Policy::List(ListRetry { delays: vec![Duration::default(); 101], jitter: None })),
            "delays: 1 to 100; this has 101",
        ),
    ] {
        bad.push((NewJob { retry, ..good() }, "retry", limit));
    }
    let (long, nul) = ("ä".repeat(129), "nul\0".to_owned());
    let text = "at most 128 characters; this has 129";
    bad.push((NewJob { content_type: long.clone(), ..good() }, "content_type", text));
    bad.push((NewJob { content_type: nul.clone(), ..good() }, "content_type", "NUL"));
    bad.push((NewJob { traceparent: long, ..good() }, "traceparent", text));
    bad.push((NewJob { traceparent: nul.clone(), ..good() }, "traceparent", "NUL"));
    bad.push((NewJob { key: "ä".repeat(129), ..good() }, "key", text));
    bad.push((NewJob { key: nul.clone(), ..good() }, "key", "NUL"));
    bad.push((NewJob { tags: vec![String::new(); 17], ..good() }, "tags", "0 to 16"));
    bad.push((NewJob { tags: vec!["ä".repeat(65)], ..good() }, "tags", "at most 64 characters"));
    bad.push((NewJob { tags: vec![nul], ..good() }, "tags", "NUL"));
    bad
}

async fn enqueue(broker: &Broker, request: EnqueueRequest) -> Status {
    broker.jobs().enqueue(request).await.unwrap_err()
}

#[tokio::test]
async fn a_bad_job_is_refused_by_field_and_limit() {
    let database = Database::fresh().await;
    let broker = Broker::start_with(&database, &SMALL).await;
    for (bad, field, limit) in bad_jobs(database.now().await) {
        let what = format!("{bad:?}");
        let request = EnqueueRequest { jobs: vec![job("q", b""), bad], ..Default::default() };
        match broker.jobs().enqueue(request).await {
            Err(status) => assert_invalid(&status, &format!("jobs[1].{field}"), limit),
            Ok(_) => panic!("it was taken: {what}"),
        }
    }
    assert_eq!(database.number("SELECT count(*) FROM currant.job").await, 0);
    assert_eq!(database.number("SELECT count(*) FROM currant.queue").await, 0);
}

#[tokio::test]
async fn a_job_at_every_limit_is_taken() {
    let database = Database::fresh().await;
    let broker = Broker::start_with(&database, &SMALL).await;
    let now = database.now().await;
    let (long, name) = ("ä".repeat(128), "a".repeat(128));
    let least = NewJob {
        priority: Some(-100),
        start: Some(Start::RunAt(Timestamp { seconds: 946_684_800, nanos: 0 })),
        max_attempts: 1,
        retry: retry(|policy| {
            policy.base_delay = duration(0, 1_000_000);
            policy.max_delay = duration(0, 1_000_000);
            policy.factor = 1.0;
            policy.jitter = Some(0.0);
        }),
        timeout: duration(0, 1),
        ..job("q", b"")
    };
    let most = NewJob {
        queue: name.clone(),
        kind: name,
        payload: vec![0; 1000].into(),
        content_type: long.clone(),
        priority: Some(100),
        start: Some(Start::RunAt(Timestamp {
            seconds: now + SECONDS_OF_10_YEARS - 3600,
            nanos: 999_999_999,
        })),
        max_attempts: 1000,
        retry: retry(|policy| {
            policy.base_delay = duration(SECONDS_OF_10_YEARS, 0);
            policy.max_delay = duration(SECONDS_OF_10_YEARS, 0);
            policy.factor = 100.0;
            policy.jitter = Some(1.0);
        }),
        expiry: Some(Expiry::ExpireAfter(Duration { seconds: SECONDS_OF_10_YEARS, nanos: 0 })),
        timeout: duration(30 * 24 * 3600, 0),
        tags: vec!["ä".repeat(64); 16],
        traceparent: long.clone(),
        metadata: (10..26).map(|n| (format!("{n}{}", "ä".repeat(62)), "ä".repeat(256))).collect(),
        unique: None,
        key: long,
    };
    let longest = NewJob {
        start: Some(Start::Delay(Duration { seconds: SECONDS_OF_10_YEARS, nanos: 0 })),
        ..job("q", b"")
    };
    let request = EnqueueRequest {
        jobs: vec![least, most, longest],
        idempotency_key: "ä".repeat(64),
        ..Default::default()
    };
    broker.jobs().enqueue(request).await.unwrap();
    assert_eq!(database.number("SELECT count(*) FROM currant.job").await, 3);
}

#[tokio::test]
async fn a_bad_enqueue_request_is_refused_by_field_and_limit() {
    let database = Database::fresh().await;
    let broker = Broker::start_with(&database, &SMALL).await;
    let with = |jobs| EnqueueRequest { jobs, ..Default::default() };
    let one = || with(vec![job("q", b"")]);
    let status = enqueue(&broker, with(Vec::new())).await;
    assert_invalid(&status, "jobs", "1 to 10; this has 0");
    let status = enqueue(&broker, with(vec![job("q", b""); 11])).await;
    assert_invalid(&status, "jobs", "1 to 10; this has 11");
    for (key, limit) in [("ä".repeat(65), "at most 64 characters"), ("\0".to_owned(), "NUL")] {
        let request = EnqueueRequest { idempotency_key: key, ..one() };
        assert_invalid(&enqueue(&broker, request).await, "idempotency_key", limit);
    }
    for name in ["no good".to_owned(), "a".repeat(129)] {
        let request = EnqueueRequest { queue: name.clone(), ..one() };
        assert_invalid(&enqueue(&broker, request).await, "queue", NAME);
        let request = EnqueueRequest { kind: name, ..one() };
        assert_invalid(&enqueue(&broker, request).await, "kind", NAME);
    }
    // All that is wrong is told, up to a number.
    let bad =
        NewJob { queue: String::new(), kind: String::new(), priority: Some(101), ..job("q", b"") };
    let status = enqueue(&broker, with(vec![bad; 10])).await;
    for field in ["jobs[0].queue", "jobs[0].kind", "jobs[3].priority"] {
        assert_invalid(&status, field, "");
    }
    assert_eq!(status.get_error_details().bad_request().unwrap().field_violations.len(), 20);
    assert_eq!(database.number("SELECT count(*) FROM currant.job").await, 0);
}

#[tokio::test]
async fn a_message_too_large_is_refused_and_the_connection_goes_on() {
    let database = Database::fresh().await;
    let broker = Broker::start_with(&database, &SMALL).await;
    let jobs = vec![NewJob { payload: vec![0; 40_000].into(), ..job("q", b"") }; 2];
    let status = enqueue(&broker, EnqueueRequest { jobs, ..Default::default() }).await;
    assert_eq!(status.code(), Code::OutOfRange);
    assert!(status.message().contains("65536"), "{status:?}");
    broker.enqueue([job("q", b"")]).await;
}

fn subscription(queues: &[&str]) -> SubscribeRequest {
    SubscribeRequest {
        queues: queues.iter().map(|&queue| queue.to_owned()).collect(),
        max_in_flight: 1,
        ..SubscribeRequest::default()
    }
}

const SESSION: &str = "0123456789abcdef0123456789abcdef";

#[tokio::test]
async fn a_bad_subscription_is_refused_by_field_and_limit() {
    let database = Database::fresh().await;
    let broker = Broker::start_with(&database, &SMALL).await;
    let good = || subscription(&["q"]);
    let session = |id: &str| SubscribeRequest { session_id: id.to_owned(), ..good() };
    let held = |attempt| vec![Attempt { job_id: 1, attempt }];
    let digits = "32 hexadecimal digits";
    for (request, field, limit) in [
        (subscription(&[]), "queues", "1 to 3; this has 0"),
        (subscription(&["a", "b", "c", "d"]), "queues", "1 to 3; this has 4"),
        (subscription(&["a", "no good"]), "queues[1]", NAME),
        (subscription(&["", "a"]), "queues[0]", NAME),
        (SubscribeRequest { max_in_flight: 21, ..good() }, "max_in_flight", "0 to 20; this is 21"),
        (session("0"), "session_id", digits),
        (session(&SESSION.replace('0', "g")), "session_id", digits),
        (session(&SESSION.replace('0', "+")), "session_id", digits),
        (session(&format!("{SESSION}0")), "session_id", digits),
        (session(&"0".repeat(32)), "session_id", digits),
        (
            SubscribeRequest { worker: "ä".repeat(129), ..good() },
            "worker",
            "at most 128 characters",
        ),
        (SubscribeRequest { worker: "\0".to_owned(), ..good() }, "worker", "NUL"),
        (SubscribeRequest { held: held(0), ..session(SESSION) }, "held[0].attempt", "1 to"),
        (SubscribeRequest { held: held(u32::MAX), ..session(SESSION) }, "held[0].attempt", "1 to"),
        (SubscribeRequest { held: held(1).repeat(21), ..session(SESSION) }, "held", "0 to 20"),
    ] {
        let status = TestWorker::open(&broker, request).await.err().unwrap();
        assert_invalid(&status, field, limit);
    }
    // None of them left a session.
    let _first = TestWorker::subscribe(&broker, &["q"], 20).await;
    let _second = TestWorker::subscribe(&broker, &["q"], 0).await;
}

#[tokio::test]
async fn a_bad_heartbeat_is_refused() {
    let database = Database::fresh().await;
    let broker = Broker::start_with(&database, &SMALL).await;
    let worker = TestWorker::subscribe(&broker, &["q"], 1).await;
    let good = || HeartbeatRequest {
        session_id: worker.welcome.session_id.clone(),
        epoch: 1,
        ..Default::default()
    };
    let held = |attempt| vec![Attempt { job_id: 1, attempt }];
    for (request, field, limit) in [
        (HeartbeatRequest { session_id: String::new(), ..good() }, "session_id", "32 hexadecimal"),
        (
            HeartbeatRequest { session_id: "no".to_owned(), ..good() },
            "session_id",
            "32 hexadecimal",
        ),
        (HeartbeatRequest { held: held(1).repeat(21), ..good() }, "held", "0 to 20; this has 21"),
        (HeartbeatRequest { held: held(0), ..good() }, "held[0].attempt", "1 to 2147483647"),
        (HeartbeatRequest { max_in_flight: Some(21), ..good() }, "max_in_flight", "0 to 20"),
    ] {
        let status = broker.workers().heartbeat(request).await.unwrap_err();
        assert_invalid(&status, field, limit);
    }
    let unknown = HeartbeatRequest { session_id: SESSION.to_owned(), ..good() };
    let status = broker.workers().heartbeat(unknown).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    let details = status.get_error_details();
    let missing = details.resource_info().unwrap();
    assert_eq!(
        (missing.resource_type.as_str(), missing.resource_name.as_str()),
        ("session", SESSION)
    );
    broker.workers().heartbeat(good()).await.unwrap();
}

#[tokio::test]
async fn a_bad_completion_is_refused_with_its_whole_request() {
    let database = Database::fresh().await;
    let broker = Broker::start_with(&database, &SMALL).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 1).await;
    broker.enqueue([job("q", b"")]).await;
    let held = worker.job().await;
    let completion = |outcome| Completion { job_id: held.job_id, attempt: 1, outcome };
    let good = || completion(Some(Outcome::Succeeded(Succeeded::default())));
    let failed = |retry_after| {
        completion(Some(Outcome::Failed(Failed { retry_after, ..Failed::default() })))
    };
    let snoozed = |delay| completion(Some(Outcome::Snoozed(Snoozed { delay })));
    let result = Outcome::Succeeded(Succeeded { result: vec![0; 1001].into() });
    let ten_years = "0 ms to 315360000000 ms";
    for (bad, field, limit) in [
        (completion(None), "outcome", "one has to be set"),
        (Completion { attempt: 0, ..good() }, "attempt", "1 to 2147483647; this is 0"),
        (Completion { attempt: u32::MAX, ..good() }, "attempt", "1 to 2147483647"),
        (completion(Some(result)), "succeeded.result", "at most 1000 bytes; this has 1001"),
        (failed(duration(-1, 0)), "failed.retry_after", ten_years),
        (failed(duration(SECONDS_OF_10_YEARS + 1, 0)), "failed.retry_after", ten_years),
        (snoozed(duration(-1, 0)), "snoozed.delay", ten_years),
        (snoozed(duration(SECONDS_OF_10_YEARS + 1, 0)), "snoozed.delay", ten_years),
    ] {
        let completions = vec![good(), bad];
        let request = CompleteRequest { completions, ..CompleteRequest::default() };
        let status = broker.workers().complete(request).await.unwrap_err();
        assert_invalid(&status, &format!("completions[1].{field}"), limit);
    }
    for (completions, session, field, limit) in [
        (Vec::new(), "", "completions", "1 to 10; this has 0"),
        (vec![good(); 11], "", "completions", "1 to 10; this has 11"),
        (vec![good()], "no", "session_id", "32 hexadecimal digits"),
    ] {
        let session_id = session.to_owned();
        let request = CompleteRequest {
            session_id,
            completions,
            received_seq: 0,
            ..CompleteRequest::default()
        };
        let status = broker.workers().complete(request).await.unwrap_err();
        assert_invalid(&status, field, limit);
    }
    assert_eq!(database.number("SELECT count(*) FROM currant.job WHERE outcome IS NULL").await, 1);
    let cancelled = Outcome::Cancelled(Cancelled {});
    worker.report([&held], cancelled).await;
}

#[tokio::test]
async fn an_unknown_job_is_not_found_by_name() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    broker.enqueue([job("q", b"")]).await;
    for job_id in [0, -1, 12_345, i64::MAX, i64::MIN] {
        let status =
            broker.jobs().get(GetRequest { job_id, ..Default::default() }).await.unwrap_err();
        assert_eq!(status.code(), Code::NotFound);
        let details = status.get_error_details();
        let missing = details.resource_info().unwrap();
        assert_eq!(missing.resource_type, "job");
        assert_eq!(missing.resource_name, job_id.to_string());
    }
}
