//! More than the broker takes: it refuses the rest, keeps what it acknowledged, and goes on.

use std::collections::HashSet;

use currant_proto::v1::{
    CompleteRequest, Completion, CreateScheduleRequest, EnqueueRequest, NewJob, Schedule,
    SubscribeRequest, Succeeded, Verdict, completion::Outcome,
};
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tonic::Status;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::support::{
    Broker, Database, TestWorker, assert_full, eventually,
    frames::{DATA, END_HEADERS, HEADERS, beginning, frame, headers, stream},
    job,
};

/// Sends the calls while the database stands still, and returns the ids of those that were taken.
/// The others have to be refused as too many, at once.
async fn flood(
    database: &Database,
    broker: &Broker,
    requests: impl IntoIterator<Item = EnqueueRequest>,
) -> Vec<i64> {
    let stall = database.stall_writes().await;
    let calls: Vec<_> = requests
        .into_iter()
        .map(|request| {
            let mut client = broker.jobs();
            tokio::spawn(async move { Ok(client.enqueue(request).await?.into_inner().job_ids) })
        })
        .collect();
    let refused = async || calls.iter().any(tokio::task::JoinHandle::is_finished);
    eventually("a call is refused while others wait", refused).await;
    stall.end().await;
    let (mut ids, mut refusals) = (Vec::new(), 0);
    for call in calls {
        let answer: Result<Vec<i64>, Status> = call.await.unwrap();
        match answer {
            Ok(stored) => ids.extend(stored),
            Err(status) => {
                assert_full(&status);
                refusals += 1;
            }
        }
    }
    assert!(refusals > 0 && !ids.is_empty(), "{refusals} refused, {} stored", ids.len());
    ids
}

/// What was acknowledged is there, and nothing else; the broker works.
async fn check_after(database: &Database, broker: &Broker, ids: Vec<i64>) {
    let rows = database.connect().await.query("SELECT id FROM currant.job", &[]).await.unwrap();
    let stored: HashSet<i64> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(stored, ids.into_iter().collect());
    broker.enqueue([job("q", b"")]).await;
    let mut worker = TestWorker::subscribe(broker, &["q"], 1).await;
    for _ in 0..stored.len() + 1 {
        let job = worker.job().await;
        assert_eq!(worker.succeed([&job]).await, [Verdict::Applied]);
    }
}

fn request(jobs: Vec<NewJob>) -> EnqueueRequest {
    EnqueueRequest { jobs, ..EnqueueRequest::default() }
}

#[tokio::test]
async fn jobs_beyond_those_that_may_wait_are_refused() {
    let database = Database::fresh().await;
    let settings = [("ENQUEUE__PENDING_JOBS_MAX", "50"), ("ENQUEUE__JOBS_PER_REQUEST_MAX", "50")];
    let broker = Broker::start_with(&database, &settings).await;
    let requests = (0..60).map(|_| request(vec![job("q", b""), job("q", b"")]));
    let ids = flood(&database, &broker, requests).await;
    check_after(&database, &broker, ids).await;
}

#[tokio::test]
async fn bytes_beyond_those_that_may_wait_are_refused() {
    let database = Database::fresh().await;
    let settings = [
        ("GRPC__MESSAGE_BYTES_MAX", "65536"),
        ("ENQUEUE__PENDING_BYTES_MAX", "65536"),
        ("ENQUEUE__PAYLOAD_BYTES_MAX", "30000"),
        ("COMPLETE__RESULT_BYTES_MAX", "30000"),
    ];
    let broker = Broker::start_with(&database, &settings).await;
    let large = NewJob { payload: vec![7; 20_000].into(), ..job("q", b"") };
    let requests = (0..20).map(|_| request(vec![large.clone()]));
    let ids = flood(&database, &broker, requests).await;
    assert!(ids.len() >= 3);
    check_after(&database, &broker, ids).await;
}

#[tokio::test]
async fn calls_beyond_those_that_may_be_under_way_are_refused() {
    let database = Database::fresh().await;
    let settings = [("GRPC__CONCURRENT_REQUESTS_MAX", "10")];
    let broker = Broker::start_with(&database, &settings).await;
    let requests = (0..50).map(|_| request(vec![job("q", b"")]));
    let ids = flood(&database, &broker, requests).await;
    check_after(&database, &broker, ids).await;
}

#[tokio::test]
async fn messages_beyond_those_that_may_be_read_are_refused_and_workers_go_on() {
    const PIECE: usize = 16 << 10;
    let database = Database::fresh().await;
    let settings = [
        ("GRPC__MESSAGE_BYTES_MAX", "65536"),
        ("GRPC__READING_BYTES_MAX", "131072"),
        ("ENQUEUE__PAYLOAD_BYTES_MAX", "30000"),
        ("COMPLETE__RESULT_BYTES_MAX", "30000"),
    ];
    let broker = Broker::start_with(&database, &settings).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 1).await;
    broker.enqueue([job("q", b"")]).await;
    let held = worker.job().await;
    // Messages of which the last byte doesn't come: half of what may be read.
    let (answers, mut slow) = TcpStream::connect(&broker.grpc).await.unwrap().into_split();
    slow.write_all(&beginning()).await.unwrap();
    for number in 0..4 {
        let mut piece = vec![7; PIECE - 100];
        piece[..5].copy_from_slice(&[0, 0, 0, 0xff, 0]);
        let path = headers("/currant.v1.JobService/Enqueue");
        let call = frame(HEADERS, END_HEADERS, stream(number), &path);
        slow.write_all(&[call, frame(DATA, 0, stream(number), &piece)].concat()).await.unwrap();
    }
    let bytes = async || broker.metric("currant_reading_bytes").await.unwrap();
    eventually("they are there", async || bytes().await as usize == 4 * (PIECE - 100)).await;
    let large = || request(vec![NewJob { payload: vec![7; 20_000].into(), ..job("q", b"") }]);
    assert_full(&broker.jobs().enqueue(large()).await.unwrap_err());
    assert_eq!(broker.metric("currant_messages_refused_total").await, Some(1.0));
    let completion = Completion {
        job_id: held.job_id,
        attempt: held.attempt,
        outcome: Some(Outcome::Succeeded(Succeeded { result: vec![7; 20_000].into() })),
    };
    let session_id = worker.welcome.session_id.clone();
    let completions = vec![completion];
    let report = CompleteRequest { session_id, completions, ..CompleteRequest::default() };
    let answer = broker.workers().complete(report).await.unwrap().into_inner();
    assert_eq!(answer.verdicts().next(), Some(Verdict::Applied));
    drop((slow, answers));
    eventually("there is room again", async || bytes().await == 0.0).await;
    broker.jobs().enqueue(large()).await.unwrap();
}

#[tokio::test]
async fn workers_and_health_checks_go_on_while_producers_are_refused() {
    let database = Database::fresh().await;
    let settings = [("GRPC__CONCURRENT_REQUESTS_MAX", "1")];
    let broker = Broker::start_with(&database, &settings).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 1).await;
    broker.enqueue([job("q", b"")]).await;
    let held = worker.job().await;
    let stall = database.stall_writes().await;
    let mut client = broker.jobs();
    let call = tokio::spawn(async move { client.enqueue(request(vec![job("q", b"")])).await });
    database.write_waiting().await;
    assert_full(&broker.jobs().enqueue(request(vec![job("q", b"")])).await.unwrap_err());
    worker.heartbeat([&held]).await.unwrap();
    let mut other = TestWorker::subscribe(&broker, &["q"], 1).await;
    let mut health = HealthClient::new(broker.channel());
    let health = health.check(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(health.status(), ServingStatus::Serving);
    worker.set_credit(0).await;
    let ((), verdicts) = tokio::join!(stall.end(), worker.succeed([&held]));
    assert_eq!(verdicts, [Verdict::Applied]);
    let id = call.await.unwrap().unwrap().into_inner().job_ids[0];
    assert_eq!(other.job().await.job_id, id);
}

#[tokio::test]
async fn completions_beyond_those_that_may_wait_are_refused_and_can_be_repeated() {
    let database = Database::fresh().await;
    let settings =
        [("COMPLETE__PENDING_ITEMS_MAX", "20"), ("COMPLETE__COMPLETIONS_PER_REQUEST_MAX", "20")];
    let broker = Broker::start_with(&database, &settings).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 40).await;
    broker.enqueue((0..40).map(|_| job("q", b""))).await;
    let jobs = worker.take(40).await;
    let stall = database.stall_writes().await;
    let calls: Vec<_> = jobs
        .iter()
        .map(|job| {
            let completion = Completion {
                job_id: job.job_id,
                attempt: job.attempt,
                outcome: Some(Outcome::Succeeded(Succeeded::default())),
            };
            let request = CompleteRequest {
                session_id: worker.welcome.session_id.clone(),
                completions: vec![completion],
                received_seq: worker.received_seq,
                ..CompleteRequest::default()
            };
            let mut client = broker.workers();
            tokio::spawn(async move { client.complete(request).await })
        })
        .collect();
    let refused = async || calls.iter().any(tokio::task::JoinHandle::is_finished);
    eventually("a completion is refused while others wait", refused).await;
    stall.end().await;
    let mut refused = Vec::new();
    for (call, job) in calls.into_iter().zip(&jobs) {
        match call.await.unwrap() {
            Ok(answer) => assert_eq!(answer.into_inner().verdicts().next(), Some(Verdict::Applied)),
            Err(status) => {
                assert_full(&status);
                refused.push(job);
            }
        }
    }
    assert!((1..=20).contains(&refused.len()), "{} refused", refused.len());
    let count = refused.len();
    assert_eq!(worker.succeed(refused).await, vec![Verdict::Applied; count]);
    assert_eq!(database.number("SELECT count(*) FROM currant.job WHERE outcome = 1").await, 40);
}

#[tokio::test]
async fn sessions_beyond_the_limit_are_refused_until_one_goes() {
    let database = Database::fresh().await;
    let settings = [("SESSION__SESSIONS_MAX", "2"), ("SESSION__RECONNECT_GRACE_MS", "0")];
    let broker = Broker::start_with(&database, &settings).await;
    let request = || SubscribeRequest {
        queues: vec!["q".to_owned()],
        max_in_flight: 1,
        ..SubscribeRequest::default()
    };
    let first = TestWorker::open(&broker, request()).await.unwrap();
    let mut second = TestWorker::open(&broker, request()).await.unwrap();
    let status = TestWorker::open(&broker, request()).await.err().unwrap();
    assert_full(&status);
    assert!(status.message().contains("2 sessions"), "{status:?}");
    // Those that are there go on, and may come again.
    let session_id = first.welcome.session_id.clone();
    let again = SubscribeRequest { session_id, ..request() };
    let again = TestWorker::open(&broker, again).await.unwrap();
    assert!(again.welcome.epoch > first.welcome.epoch);
    broker.enqueue([job("q", b"")]).await;
    drop((first, again));
    let job = second.job().await;
    second.succeed([&job]).await;
    eventually("there is room", async || TestWorker::open(&broker, request()).await.is_ok()).await;
}

#[tokio::test]
async fn queues_beyond_the_limit_are_refused() {
    let database = Database::fresh().await;
    let broker = Broker::start_with(&database, &[("DISPATCH__QUEUES_MAX", "3")]).await;
    broker.enqueue(["a", "b", "c"].map(|queue| job(queue, b""))).await;
    let jobs = vec![job("a", b""), job("d", b"")];
    let status = broker.jobs().enqueue(request(jobs)).await.unwrap_err();
    assert_full(&status);
    assert!(status.message().contains("3 queues"), "{status:?}");
    let subscription = SubscribeRequest { queues: vec!["d".to_owned()], ..Default::default() };
    assert_full(&TestWorker::open(&broker, subscription).await.err().unwrap());
    assert_eq!(database.number("SELECT count(*) FROM currant.job").await, 3);
    assert_eq!(database.number("SELECT count(*) FROM currant.queue").await, 3);
    for _ in 0..3 {
        broker.enqueue(["c", "a", "b"].map(|queue| job(queue, b""))).await;
    }
}

#[tokio::test]
async fn schedules_beyond_the_limit_are_refused() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let create = async |name: &str| {
        let schedule = Schedule {
            name: name.to_owned(),
            cron: "0 0 0 1 1 *".to_owned(),
            job: Some(job("q", b"")),
            ..Schedule::default()
        };
        broker.schedules().create(CreateScheduleRequest { schedule: Some(schedule) }).await
    };
    create("first").await.unwrap();
    let others =
        "INSERT INTO currant.schedule (name, cron, time_zone, catch_up, window_ms, overlap,
                      from_file, queue_id, kind, payload)
                  SELECT 'other' || n, cron, time_zone, catch_up, window_ms, overlap,
                      from_file, queue_id, kind, payload
                  FROM currant.schedule, generate_series(1, 9999) n";
    database.connect().await.batch_execute(others).await.unwrap();
    assert_full(&create("one-more").await.unwrap_err());
}

/// 16 KiB.
const LARGE: &[u8] = &[7; 16 << 10];

#[tokio::test]
async fn no_more_is_on_its_way_to_a_worker_than_the_limit_until_it_acknowledges() {
    let database = Database::fresh().await;
    let settings = [
        ("SESSION__UNACKNOWLEDGED_BYTES_MAX", "65536"),
        ("ENQUEUE__PAYLOAD_BYTES_MAX", "16384"),
        ("SESSION__KEEP_ALIVE_INTERVAL_MS", "100"),
    ];
    let broker = Broker::start_with(&database, &settings).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 100).await;
    broker.enqueue((0..40).map(|_| job("q", LARGE))).await;
    let mut left = 40;
    while left > 0 {
        let mut jobs = worker.take(1).await;
        // Whatever would come has come by then.
        worker.keep_alives(2).await;
        jobs.extend(worker.received());
        assert!(jobs.len() <= 5, "{} jobs are on their way", jobs.len());
        left -= worker.succeed(&jobs).await.len();
    }
}

#[tokio::test]
async fn memory_holds_no_more_bytes_of_jobs_than_the_limit_and_the_rest_comes_later() {
    let database = Database::fresh().await;
    let limit = 1 << 20;
    let settings = [("DISPATCH__BUFFERED_BYTES_MAX", "1048576"), ("DISPATCH__HOLD_MS_MAX", "0")];
    let broker = Broker::start_with(&database, &settings).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 500).await;
    worker.set_credit(0).await;
    for _ in 0..4 {
        broker.enqueue((0..100).map(|_| job("q", LARGE))).await;
    }
    let bytes = broker.metric("currant_buffered_bytes").await.unwrap();
    assert!(bytes <= f64::from(limit), "{bytes} bytes");
    worker.set_credit(500).await;
    let mut left = 400;
    while left > 0 {
        let job = worker.job().await;
        let jobs: Vec<_> = std::iter::once(job).chain(worker.received()).collect();
        left -= worker.succeed(&jobs).await.len();
        let bytes = broker.metric("currant_buffered_bytes").await.unwrap();
        assert!(bytes <= f64::from(limit), "{bytes} bytes");
    }
}
