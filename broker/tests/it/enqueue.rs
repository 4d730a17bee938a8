//! Enqueue and EnqueueStream: what an acknowledgement stands for.

use currant_proto::v1::{
    EnqueueRequest, EnqueueResponse, EnqueueStreamRequest, EnqueueStreamResponse, ExponentialRetry,
    JobState, NewJob, RetryPolicy,
    enqueue_stream_response::Result as Answer,
    new_job::{Expiry, Start},
    retry_policy::Policy,
};
use futures_util::future::join_all;
use tonic::{Code, Status};

use crate::support::{Broker, Database, assert_invalid, get, job};

/// Calls Enqueue in a task of its own.
pub(crate) fn spawn(
    broker: &Broker,
    request: EnqueueRequest,
) -> tokio::task::JoinHandle<Result<EnqueueResponse, Status>> {
    let mut client = broker.jobs();
    tokio::spawn(async move { Ok(client.enqueue(request).await?.into_inner()) })
}

pub(crate) fn request(jobs: impl IntoIterator<Item = NewJob>) -> EnqueueRequest {
    EnqueueRequest { jobs: jobs.into_iter().collect(), ..EnqueueRequest::default() }
}

pub(crate) const JOBS: &str = "SELECT count(*) FROM currant.job";

#[tokio::test]
async fn a_job_is_stored_as_it_was_sent() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let in_an_hour = prost_types::Timestamp { seconds: database.now().await + 3600, nanos: 5_000 };
    let in_two_hours = prost_types::Timestamp { seconds: in_an_hour.seconds + 3600, nanos: 7_000 };
    let retry = RetryPolicy {
        policy: Some(Policy::Exponential(ExponentialRetry {
            base_delay: Some(prost_types::Duration { seconds: 2, nanos: 500_000_000 }),
            max_delay: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
            factor: 1.5,
            jitter: Some(0.25),
        })),
    };
    let sent = NewJob {
        queue: "mail/out:eu".to_owned(),
        kind: "welcome.v2".to_owned(),
        payload: (0..=255u8).collect::<Vec<u8>>().into(),
        content_type: "application/x-ünknown".to_owned(),
        priority: Some(-100),
        start: Some(Start::RunAt(in_an_hour)),
        max_attempts: 7,
        retry: Some(retry.clone()),
        expiry: Some(Expiry::ExpireAt(in_two_hours)),
        timeout: Some(prost_types::Duration { seconds: 30, nanos: 1_000_000 }),
        tags: vec!["customer 7".to_owned(), String::new()],
        traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned(),
        metadata: [("customer".to_owned(), "ü=7".to_owned())].into(),
        unique: None,
        key: "Größe 7".to_owned(),
    };
    let ids = broker.enqueue([sent.clone()]).await;
    let stored = get(&broker, ids[0]).await;
    assert_eq!(stored.job_id, ids[0]);
    assert_eq!(stored.state(), JobState::Scheduled);
    assert_eq!((stored.queue, stored.kind), (sent.queue, sent.kind));
    assert_eq!((stored.payload, stored.content_type), (sent.payload, sent.content_type));
    assert_eq!((Some(stored.priority), stored.max_attempts), (sent.priority, sent.max_attempts));
    assert_eq!(stored.run_at, Some(in_an_hour));
    assert_eq!((stored.retry, stored.timeout), (Some(retry), sent.timeout));
    assert_eq!(stored.expire_at, Some(in_two_hours));
    assert_eq!((stored.tags, stored.metadata), (sent.tags, sent.metadata));
    assert_eq!((stored.traceparent, stored.key), (sent.traceparent, sent.key));
    assert_eq!((stored.attempt, stored.failures), (0, 0));
    assert_eq!(stored.created_at.unwrap().seconds, (ids[0] >> 22) / 1000);
    assert_eq!((stored.claimed_at, stored.finished_at), (None, None));
    assert_eq!((stored.result.as_ref(), stored.error.as_str()), (&b""[..], ""));
}

#[tokio::test]
async fn the_jobs_of_a_call_are_stored_in_order_under_growing_ids() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    // More than one millisecond has ids for.
    let jobs = (0..5000).map(|n| NewJob { payload: n.to_string().into(), ..job("q", b"") });
    let ids = broker.enqueue(jobs).await;
    assert_eq!(ids.len(), 5000);
    assert!(ids.is_sorted_by(|one, next| one < next));
    let sql = "SELECT id, convert_from(payload, 'UTF8') FROM currant.job ORDER BY id";
    for (n, row) in database.connect().await.query(sql, &[]).await.unwrap().iter().enumerate() {
        assert_eq!((row.get::<_, i64>(0), row.get::<_, String>(1)), (ids[n], n.to_string()));
    }
    let later = broker.enqueue([job("q", b"")]).await;
    assert!(later[0] > ids[4999]);
}

#[tokio::test]
async fn a_job_without_queue_or_kind_takes_the_requests() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let own = NewJob { queue: "own".to_owned(), kind: "own.kind".to_owned(), ..NewJob::default() };
    let request = EnqueueRequest {
        queue: "theirs".to_owned(),
        kind: "their.kind".to_owned(),
        ..request([NewJob::default(), own])
    };
    for _ in 0..2 {
        let ids = broker.jobs().enqueue(request.clone()).await.unwrap().into_inner().job_ids;
        let (first, second) = (get(&broker, ids[0]).await, get(&broker, ids[1]).await);
        assert_eq!((first.queue.as_str(), first.kind.as_str()), ("theirs", "their.kind"));
        assert_eq!((second.queue.as_str(), second.kind.as_str()), ("own", "own.kind"));
    }
}

#[tokio::test]
async fn one_bad_job_fails_its_request_and_no_other() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let bad = NewJob { priority: Some(101), ..job("q", b"bad") };
    let calls: Vec<_> = (0..20)
        .map(|n| match n % 2 {
            0 => spawn(&broker, request([job("q", b"good"), job("q", b"good")])),
            _ => spawn(&broker, request([job("q", b"bad"), bad.clone(), job("q", b"bad")])),
        })
        .collect();
    for (n, call) in calls.into_iter().enumerate() {
        match (n % 2, call.await.unwrap()) {
            (0, Ok(stored)) => assert_eq!(stored.job_ids.len(), 2),
            (1, Err(status)) => assert_invalid(&status, "jobs[1].priority", "-100 to 100"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(database.number(JOBS).await, 20);
    assert_eq!(database.number("SELECT count(*) FROM currant.job WHERE payload = 'bad'").await, 0);
}

#[tokio::test]
async fn a_call_that_the_database_refuses_fails_alone() {
    let database = Database::fresh().await;
    let sql = "ALTER TABLE currant.job ADD CHECK (kind <> 'poison')";
    database.connect().await.batch_execute(sql).await.unwrap();
    let broker = Broker::start(&database).await;
    let stall = database.stall_writes().await;
    let mut calls = vec![spawn(&broker, request([job("q", b"")]))];
    database.write_waiting().await;
    // These gather in one batch meanwhile.
    let poison = NewJob { kind: "poison".to_owned(), ..job("q", b"") };
    calls.extend((0..9).map(|_| spawn(&broker, request([job("q", b"")]))));
    let poisoned = spawn(&broker, request([job("q", b""), poison]));
    calls.extend((0..10).map(|_| spawn(&broker, request([job("q", b"")]))));
    stall.end().await;
    assert_eq!(poisoned.await.unwrap().unwrap_err().code(), Code::Internal);
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(database.number(JOBS).await, 20);
}

#[tokio::test]
async fn an_answer_comes_after_the_commit() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let sql = database.connect().await;
    let exists = "SELECT count(*) FROM currant.job WHERE id = $1";
    for _ in 0..50 {
        let id = broker.enqueue([job("q", b"")]).await[0];
        assert_eq!(sql.query_one(exists, &[&id]).await.unwrap().get::<_, i64>(0), 1);
    }
    let stall = database.stall_writes().await;
    let call = spawn(&broker, request([job("q", b"")]));
    database.write_waiting().await;
    assert!(!call.is_finished());
    stall.end().await;
    call.await.unwrap().unwrap();
}

#[tokio::test]
async fn concurrent_calls_share_transactions() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let stall = database.stall_writes().await;
    let first = spawn(&broker, request([job("q", b"")]));
    database.write_waiting().await;
    let calls: Vec<_> = (0..300).map(|_| spawn(&broker, request([job("q", b"")]))).collect();
    // Answered after all of them have come in: they share a connection.
    broker.round_trip().await;
    stall.end().await;
    first.await.unwrap().unwrap();
    join_all(calls).await.into_iter().for_each(|call| drop(call.unwrap().unwrap()));
    assert_eq!(database.number(JOBS).await, 301);
    let sql = "SELECT count(DISTINCT xmin::text) FROM currant.job";
    let transactions = database.number(sql).await;
    assert!(transactions <= 20, "{transactions} transactions");
}

/// Sends all requests without waiting, tags them from 0, and returns the answers.
async fn stream(broker: &Broker, requests: Vec<EnqueueRequest>) -> Vec<EnqueueStreamResponse> {
    let tagged = (0..).zip(requests);
    let requests =
        tagged.map(|(tag, request)| EnqueueStreamRequest { tag, request: Some(request) });
    let requests: Vec<_> = requests.collect();
    let call = broker.jobs().enqueue_stream(tokio_stream::iter(requests)).await;
    let mut answers = Vec::new();
    let mut stream = call.unwrap().into_inner();
    while let Some(answer) = stream.message().await.unwrap() {
        answers.push(answer);
    }
    answers
}

#[tokio::test]
async fn a_stream_answers_every_request_in_order_whatever_becomes_of_each() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let bad = || NewJob { kind: "no good".to_owned(), ..job("q", b"") };
    let requests = (0..300).map(|n| match n % 3 {
        0 => request([job("q", b"1")]),
        1 => request([job("q", b"2"), job("other", b"2")]),
        _ => request([job("q", b"3"), bad()]),
    });
    let answers = stream(&broker, requests.collect()).await;
    assert_eq!(answers.len(), 300);
    let mut ids = Vec::new();
    for (n, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer.tag, n as u64);
        match (n % 3, answer.result.unwrap()) {
            (0, Answer::Stored(stored)) => {
                assert_eq!(stored.job_ids.len(), 1);
                ids.extend(stored.job_ids);
            }
            (1, Answer::Stored(stored)) => {
                assert_eq!(stored.job_ids.len(), 2);
                ids.extend(stored.job_ids);
            }
            (2, Answer::Error(error)) => {
                // What Enqueue would have returned, details and all.
                let code = Code::from_i32(error.code);
                let status = Status::with_details(code, error.message, error.status);
                assert_invalid(&status, "jobs[1].kind", "1 to 128 characters");
            }
            other => panic!("{other:?}"),
        }
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 300);
    assert_eq!(database.number(JOBS).await, 300);
    assert_eq!(database.number("SELECT count(*) FROM currant.job WHERE payload = '3'").await, 0);
}

#[tokio::test]
async fn at_most_64_requests_of_a_stream_are_under_way() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let stall = database.stall_writes().await;
    let requests: Vec<_> = (0..500).map(|_| request([job("q", b"")])).collect();
    let (answers, ()) = tokio::join!(stream(&broker, requests), async {
        database.write_waiting().await;
        // Answered after the stream has been read as far as it is.
        broker.round_trip().await;
        stall.end().await;
    });
    assert!(answers.iter().all(|answer| matches!(answer.result, Some(Answer::Stored(_)))));
    let sql = "SELECT max(n) FROM (SELECT count(*) AS n FROM currant.job GROUP BY xmin::text) t";
    let most = database.number(sql).await;
    assert!((2..=64).contains(&most), "{most} at once");
}

#[tokio::test]
async fn a_stream_request_without_a_request_is_an_error_of_its_own() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let requests = [(7, None), (8, Some(request([job("q", b"")])))]
        .map(|(tag, request)| EnqueueStreamRequest { tag, request });
    let call = broker.jobs().enqueue_stream(tokio_stream::iter(requests)).await;
    let mut answers = call.unwrap().into_inner();
    let first = answers.message().await.unwrap().unwrap();
    let Some(Answer::Error(error)) = first.result else { panic!("{first:?}") };
    assert_eq!((first.tag, error.code), (7, Code::InvalidArgument as i32));
    let second = answers.message().await.unwrap().unwrap();
    assert!(matches!(second.result, Some(Answer::Stored(_))), "{second:?}");
    assert_eq!((second.tag, answers.message().await.unwrap()), (8, None));
}

#[tokio::test]
async fn a_start_that_has_passed_means_at_once() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let passed = prost_types::Timestamp { seconds: database.now().await - 3600, nanos: 0 };
    let none = prost_types::Duration::default();
    let jobs = [Start::RunAt(passed), Start::Delay(none)]
        .map(|start| NewJob { start: Some(start), ..job("q", b"") });
    for id in broker.enqueue(jobs).await {
        let stored = get(&broker, id).await;
        assert_eq!((stored.state(), stored.run_at), (JobState::Ready, None));
    }
}

#[tokio::test]
async fn calls_of_clients_that_have_gone_are_stored_all_the_same_or_not_at_all() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let stall = database.stall_writes().await;
    let first = spawn(&broker, request([job("q", b"")]));
    database.write_waiting().await;
    let calls: Vec<_> =
        (0..20).map(|_| spawn(&broker, request([job("q", b""), job("q", b"")]))).collect();
    broker.round_trip().await;
    calls.iter().for_each(tokio::task::JoinHandle::abort);
    stall.end().await;
    first.await.unwrap().unwrap();
    // It still works, and nothing is half there.
    broker.enqueue([job("q", b"last")]).await;
    assert_eq!(database.number("SELECT count(*) % 2 FROM currant.job").await, 0);
}
