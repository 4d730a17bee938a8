//! Bytes that no client of ours would send.

use std::{
    collections::BTreeSet,
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
};

use bytes::{Buf, BufMut, Bytes};
use currant_broker::rpc::ACCESS;
use currant_proto::v1::{
    Attempt, CancelRequest, Change, ChangeAllRequest, CompleteRequest, Completion,
    ConfigureQueueRequest, CreateScheduleRequest, CreateTokenRequest, DeleteRequest,
    DeleteScheduleRequest, DrainQueueRequest, EnqueueRequest, EnqueueStreamRequest, ExplainRequest,
    Failed, GetCheckpointRequest, GetQueueRequest, GetRequest, GetScheduleRequest,
    HeartbeatRequest, ListBrokersRequest, ListQueuesRequest, ListRequest, ListSchedulesRequest,
    ListSessionsRequest, ListTokensRequest, NextFiresRequest, PauseQueueRequest,
    PauseScheduleRequest, ProgressReport, QueueSettings, QueueStatsRequest, ReportProgressRequest,
    ResumeQueueRequest, ResumeScheduleRequest, RetryRequest, RevokeTokenRequest,
    RunScheduleNowRequest, Schedule, Scope, SubscribeRequest, UpdateScheduleRequest, Verdict,
    WatchQueueStatsRequest, WatchRequest, completion::Outcome,
};
use prost::Message;
use tonic::{
    Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
};

use crate::{
    list::all,
    support::{Broker, Database, PATIENCE, TestWorker, job},
};

/// Bodies as they are.
#[derive(Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// Sends the bodies as the messages of one call; returns the first answer. Any answer will do.
pub(crate) async fn call(
    broker: &Broker,
    path: &'static str,
    bodies: Vec<Bytes>,
) -> Result<(), Status> {
    let mut grpc = Grpc::new(broker.channel());
    grpc.ready().await.unwrap();
    let path = PathAndQuery::from_static(path);
    let answer = async {
        let request = Request::new(tokio_stream::iter(bodies));
        let mut answers = grpc.streaming(request, path, Raw).await?.into_inner();
        answers.message().await.map(drop)
    };
    tokio::time::timeout(PATIENCE, answer).await.expect("no answer")
}

/// Every RPC, with a message that it takes.
fn rpcs() -> [(&'static str, Vec<u8>); 37] {
    let enqueue = EnqueueRequest { jobs: vec![job("q", b"payload")], ..Default::default() };
    let held = vec![Attempt { job_id: 1 << 60, attempt: 1 }];
    let session_id = "0123456789abcdef0123456789abcdef".to_owned();
    let report = ReportProgressRequest {
        session_id: session_id.clone(),
        reports: vec![ProgressReport { job_id: 1 << 60, attempt: 1, ..Default::default() }],
    };
    let checkpoint =
        GetCheckpointRequest { session_id: session_id.clone(), job_id: 1 << 60, attempt: 1 };
    let completion = Completion {
        job_id: 1 << 60,
        attempt: 1,
        outcome: Some(Outcome::Failed(Failed::default())),
    };
    let stream = EnqueueStreamRequest { tag: 1, request: Some(enqueue.clone()) };
    let subscribe = SubscribeRequest {
        queues: vec!["other".to_owned()],
        max_in_flight: 1,
        session_id: session_id.clone(),
        held: held.clone(),
        ..Default::default()
    };
    let complete = CompleteRequest {
        session_id: session_id.clone(),
        completions: vec![completion],
        received_seq: 0,
        ..CompleteRequest::default()
    };
    let create = CreateTokenRequest {
        name: "t".to_owned(),
        scopes: vec![Scope::Read.into()],
        queues: vec!["q*".to_owned()],
        ..Default::default()
    };
    let list = ListRequest { filter: Some(all("q")), ..Default::default() };
    let change_all = ChangeAllRequest {
        filter: Some(all("q")),
        change: Change::Cancel.into(),
        ..Default::default()
    };
    let queue = || "changed".to_owned();
    let settings = QueueSettings { priority: Some(3), ..Default::default() };
    let configure = ConfigureQueueRequest { queue: queue(), settings: Some(settings) };
    let drain = DrainQueueRequest { queue: queue(), wait: Some(Default::default()) };
    let (name, cron) = (queue, "0 0 1 1 *".to_owned());
    let schedule = Schedule { name: name(), cron, job: Some(job("q", b"x")), ..Default::default() };
    let schedule = Some(schedule);
    let create_schedule = CreateScheduleRequest { schedule: schedule.clone() };
    let run = RunScheduleNowRequest { name: name(), ..Default::default() };
    let heartbeat = HeartbeatRequest { session_id, epoch: 1, held, ..Default::default() };
    [
        ("/currant.v1.JobService/Enqueue", enqueue.encode_to_vec()),
        ("/currant.v1.JobService/EnqueueStream", stream.encode_to_vec()),
        (
            "/currant.v1.JobService/Get",
            GetRequest { job_id: 1 << 60, ..Default::default() }.encode_to_vec(),
        ),
        (
            "/currant.v1.JobService/Explain",
            ExplainRequest { job_id: 1 << 60, ..Default::default() }.encode_to_vec(),
        ),
        ("/currant.v1.JobService/List", list.encode_to_vec()),
        (
            "/currant.v1.JobService/Watch",
            WatchRequest { job_id: 1 << 60, ..Default::default() }.encode_to_vec(),
        ),
        (
            "/currant.v1.JobService/Cancel",
            CancelRequest { job_ids: vec![1 << 60], ..Default::default() }.encode_to_vec(),
        ),
        (
            "/currant.v1.JobService/Retry",
            RetryRequest { job_ids: vec![1 << 60], ..Default::default() }.encode_to_vec(),
        ),
        (
            "/currant.v1.JobService/Delete",
            DeleteRequest { job_ids: vec![1 << 60], ..Default::default() }.encode_to_vec(),
        ),
        ("/currant.v1.JobService/ChangeAll", change_all.encode_to_vec()),
        (
            "/currant.v1.QueueService/List",
            ListQueuesRequest { page_size: 2, page_token: queue() }.encode_to_vec(),
        ),
        ("/currant.v1.QueueService/Get", GetQueueRequest { queue: queue() }.encode_to_vec()),
        ("/currant.v1.QueueService/Configure", configure.encode_to_vec()),
        ("/currant.v1.QueueService/Pause", PauseQueueRequest { queue: queue() }.encode_to_vec()),
        ("/currant.v1.QueueService/Drain", drain.encode_to_vec()),
        ("/currant.v1.QueueService/Stats", QueueStatsRequest { queue: queue() }.encode_to_vec()),
        (
            "/currant.v1.QueueService/WatchStats",
            WatchQueueStatsRequest { page_size: 2, ..Default::default() }.encode_to_vec(),
        ),
        ("/currant.v1.BrokerService/ListBrokers", ListBrokersRequest::default().encode_to_vec()),
        ("/currant.v1.BrokerService/ListSessions", ListSessionsRequest::default().encode_to_vec()),
        ("/currant.v1.QueueService/Resume", ResumeQueueRequest { queue: queue() }.encode_to_vec()),
        ("/currant.v1.ScheduleService/Create", create_schedule.encode_to_vec()),
        ("/currant.v1.ScheduleService/Update", UpdateScheduleRequest { schedule }.encode_to_vec()),
        ("/currant.v1.ScheduleService/Get", GetScheduleRequest { name: name() }.encode_to_vec()),
        ("/currant.v1.ScheduleService/List", ListSchedulesRequest::default().encode_to_vec()),
        (
            "/currant.v1.ScheduleService/NextFires",
            NextFiresRequest { name: name(), count: 1 }.encode_to_vec(),
        ),
        (
            "/currant.v1.ScheduleService/Pause",
            PauseScheduleRequest { name: name() }.encode_to_vec(),
        ),
        (
            "/currant.v1.ScheduleService/Resume",
            ResumeScheduleRequest { name: name() }.encode_to_vec(),
        ),
        ("/currant.v1.ScheduleService/RunNow", run.encode_to_vec()),
        (
            "/currant.v1.ScheduleService/Delete",
            DeleteScheduleRequest { name: name() }.encode_to_vec(),
        ),
        ("/currant.v1.TokenService/CreateToken", create.encode_to_vec()),
        ("/currant.v1.TokenService/ListTokens", ListTokensRequest::default().encode_to_vec()),
        (
            "/currant.v1.TokenService/RevokeToken",
            RevokeTokenRequest { token_id: 9 }.encode_to_vec(),
        ),
        ("/currant.v1.WorkerService/Subscribe", subscribe.encode_to_vec()),
        ("/currant.v1.WorkerService/Complete", complete.encode_to_vec()),
        ("/currant.v1.WorkerService/Heartbeat", heartbeat.encode_to_vec()),
        ("/currant.v1.WorkerService/ReportProgress", report.encode_to_vec()),
        ("/currant.v1.WorkerService/GetCheckpoint", checkpoint.encode_to_vec()),
    ]
}

#[tokio::test]
async fn random_bodies_are_answered_and_the_broker_goes_on() {
    let database = Database::fresh().await;
    // The worker shows no life of its own meanwhile.
    let settings = [("SESSION__TIMEOUT_MS", "600000")];
    let broker = Broker::start_with(&database, &settings).await;
    let mut worker = TestWorker::subscribe(&broker, &["mine"], 10).await;
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let ours = ACCESS.iter().map(|(path, _)| *path).filter(|path| path.starts_with("/currant."));
    let called: BTreeSet<_> = rpcs().iter().map(|(path, _)| *path).collect();
    assert_eq!(called, ours.collect(), "every RPC, and no other");
    for (path, good) in rpcs() {
        // It is the one that the RPC takes, or at least understands.
        let understood = call(&broker, path, vec![good.clone().into()]).await;
        let code = understood.err().map(|status| status.code());
        assert!(
            matches!(code, None | Some(tonic::Code::NotFound)),
            "{path} answered {code:?} to a good message"
        );
        for _ in 0..60 {
            let noise = |random: &mut fastrand::Rng| -> Bytes {
                let len = random.usize(1..300);
                (0..len).map(|_| random.u8(..)).collect()
            };
            // Pure noise hardly ever gets past the decoder; a changed byte often does.
            let mut changed = good.clone();
            for _ in 0..random.usize(1..4).min(good.len()) {
                let at = random.usize(..changed.len());
                changed[at] = random.u8(..);
            }
            let cut = good[..random.usize(..=good.len())].to_vec();
            let several = vec![good.clone().into(), noise(&mut random), good.clone().into()];
            let bodies =
                [vec![noise(&mut random)], vec![changed.into()], vec![cut.into()], several, vec![]];
            for bodies in bodies {
                // Refused or taken: both are answers.
                let _ = call(&broker, path, bodies).await;
            }
        }
    }
    let ids = broker.enqueue([job("mine", b"")]).await;
    let job = worker.job().await;
    assert_eq!(job.job_id, ids[0]);
    assert_eq!(worker.succeed([&job]).await, [Verdict::Applied]);
    assert_eq!(broker.terminate().await.code(), Some(0));
}

#[tokio::test]
async fn an_unknown_method_is_unimplemented() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    for path in ["/currant.v1.JobService/Nothing", "/currant.v1.Nothing/Get", "/"] {
        let status = call(&broker, path, vec![Bytes::new()]).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::Unimplemented, "{path}");
    }
}

#[tokio::test]
async fn connections_that_speak_something_else_are_closed_and_the_broker_goes_on() {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for n in 0..100 {
        let start = if n % 2 == 0 { PREFACE } else { b"" };
        let noise = (0..random.usize(1..500)).map(|_| random.u8(..));
        let bytes: Vec<u8> = start.iter().copied().chain(noise).collect();
        for address in [&broker.grpc, &broker.http] {
            let mut stream = TcpStream::connect(address).unwrap();
            // It may have hung up already.
            let _ = stream.write_all(&bytes);
            let _ = stream.shutdown(Shutdown::Write);
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut answer = Vec::new();
            match stream.read_to_end(&mut answer) {
                Ok(_) => {}
                Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "seed {seed}"),
            }
        }
    }
    broker.enqueue([job("q", b"")]).await;
    assert_eq!(broker.terminate().await.code(), Some(0));
}
