//! Who gets in: tokens, their scopes and queues.

use std::collections::BTreeSet;

use bytes::Bytes;
use currant_broker::rpc::{ACCESS, Needs};
use currant_proto::v1::{
    Attempt, CancelRequest, CancelVerdict, Change, ChangeAllRequest, CompleteRequest, Completion,
    DeleteRequest, DeleteVerdict, EnqueueRequest, EnqueueStreamRequest, Failed, FailedAttempt,
    GetRequest, JobFilter, ListRequest, ListTokensRequest, NewJob, RetryRequest, SubscribeRequest,
    Succeeded, Verdict, WatchRequest, completion::Outcome,
};
use prost_reflect::{prost::Message, prost_types::FileDescriptorProto};
use tonic::{Code, Status, Streaming};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::{
    garbage::call,
    list::all,
    support::{
        Broker, Database, PATIENCE, eventually, job,
        token::{
            Authorized, Bearer, REQUIRED, jobs, named, number, program, refusal, token, tokens,
            workers,
        },
        value,
    },
};

fn enqueue(queue: &str) -> EnqueueRequest {
    EnqueueRequest { jobs: vec![job(queue, b"x")], ..EnqueueRequest::default() }
}

fn subscription(queue: &str) -> SubscribeRequest {
    SubscribeRequest {
        queues: vec![queue.to_owned()],
        max_in_flight: 1,
        ..SubscribeRequest::default()
    }
}

fn get(job_id: i64) -> GetRequest {
    GetRequest { job_id, ..GetRequest::default() }
}

async fn ask(
    client: &mut ServerReflectionClient<Authorized>,
    message: MessageRequest,
) -> MessageResponse {
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(message) };
    let answers = client.server_reflection_info(tokio_stream::once(request)).await.unwrap();
    answers.into_inner().message().await.unwrap().unwrap().message_response.unwrap()
}

/// The paths of all RPCs that the broker tells of.
async fn told(broker: &Broker, secret: &str) -> BTreeSet<String> {
    let bearer = Bearer(secret.to_owned());
    let mut client = ServerReflectionClient::with_interceptor(broker.channel(), bearer);
    let listed = ask(&mut client, MessageRequest::ListServices(String::new())).await;
    let MessageResponse::ListServicesResponse(listed) = listed else { panic!("{listed:?}") };
    let mut paths = BTreeSet::new();
    for service in listed.service {
        let symbol = MessageRequest::FileContainingSymbol(service.name.clone());
        let files = ask(&mut client, symbol).await;
        let MessageResponse::FileDescriptorResponse(files) = files else { panic!("{files:?}") };
        for file in files.file_descriptor_proto {
            let file = FileDescriptorProto::decode(file.as_slice()).unwrap();
            for one in &file.service {
                let name = format!("{}.{}", file.package(), one.name());
                if name == service.name {
                    paths.extend(one.method.iter().map(|it| format!("/{name}/{}", it.name())));
                }
            }
        }
    }
    paths
}

#[tokio::test]
async fn every_rpc_has_its_line_and_a_stranger_gets_nothing() {
    let database = Database::fresh().await;
    let broker = Broker::start_with(&database, &[REQUIRED]).await;
    let reader = token(&database, "read", "*");
    eventually("the token works", async || {
        jobs(&broker, &reader).get(get(1)).await.unwrap_err().code() == Code::NotFound
    })
    .await;
    let mut told = told(&broker, &reader).await;
    // It tells of itself in the older version only when asked in that.
    told.insert("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo".to_owned());
    let listed: BTreeSet<String> = ACCESS.iter().map(|(path, _)| (*path).to_owned()).collect();
    assert_eq!(listed, told, "rpc::ACCESS and what the broker tells of differ");

    for (path, needs) in ACCESS {
        let answer = call(&broker, path, vec![Bytes::new()]).await;
        if needs == Needs::Nothing {
            assert_ne!(answer.err().map(|status| status.code()), Some(Code::Unauthenticated));
        } else {
            let (code, reason, _) = refusal(&answer.unwrap_err());
            assert_eq!((code, reason.as_str()), (Code::Unauthenticated, "TOKEN_MISSING"), "{path}");
        }
    }
    let status = call(&broker, "/currant.v1.JobService/Nothing", vec![]).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    for bad in ["", "currant_1_00", &format!("{}0", &reader[..reader.len() - 1]), "Basic x"] {
        let bad =
            if bad == reader { format!("{}1", &bad[..bad.len() - 1]) } else { bad.to_owned() };
        let status = jobs(&broker, &bad).get(get(1)).await.unwrap_err();
        let (code, reason, _) = refusal(&status);
        assert_eq!((code, reason.as_str()), (Code::Unauthenticated, "TOKEN_INVALID"), "{bad}");
    }
    assert_eq!(database.number("SELECT count(*) FROM currant.job").await, 0);
}

#[tokio::test]
async fn scopes_and_queues_are_named_when_they_are_missing() {
    let database = Database::fresh().await;
    let producer = token(&database, "enqueue", "emails*");
    let worker = token(&database, "work", "emails*");
    let reader = token(&database, "read", "emails*");
    let broker = Broker::start_with(&database, &[REQUIRED]).await;

    let status = jobs(&broker, &worker).enqueue(enqueue("emails")).await.unwrap_err();
    let expected = (Code::PermissionDenied, "SCOPE_MISSING".to_owned(), named("scope", "enqueue"));
    assert_eq!(refusal(&status), expected);
    let status = workers(&broker, &producer).subscribe(subscription("emails")).await.unwrap_err();
    assert_eq!(refusal(&status).2, named("scope", "work"));
    let status = jobs(&broker, &producer).get(get(1)).await.unwrap_err();
    assert_eq!(refusal(&status).2, named("scope", "view"));
    let cancel = CancelRequest { job_ids: vec![1], ..CancelRequest::default() };
    let status = jobs(&broker, &producer).cancel(cancel).await.unwrap_err();
    assert_eq!(refusal(&status).2, named("scope", "admin"));
    let list = ListTokensRequest::default();
    let status = tokens(&broker, &reader).list_tokens(list).await.unwrap_err();
    assert_eq!(refusal(&status).2, named("scope", "admin"));

    let expected = (Code::PermissionDenied, "QUEUE_FORBIDDEN".to_owned(), named("queue", "other"));
    let status = jobs(&broker, &producer).enqueue(enqueue("other")).await.unwrap_err();
    assert_eq!(refusal(&status), expected);
    let by_default = EnqueueRequest {
        jobs: vec![job("emails", b""), NewJob { queue: String::new(), ..job("", b"") }],
        queue: "other".to_owned(),
        ..EnqueueRequest::default()
    };
    let status = jobs(&broker, &producer).enqueue(by_default).await.unwrap_err();
    assert_eq!(refusal(&status), expected);
    let status = workers(&broker, &worker).subscribe(subscription("other")).await.unwrap_err();
    assert_eq!(refusal(&status), expected);
    let stream = EnqueueStreamRequest { tag: 1, request: Some(enqueue("other")) };
    let answers = jobs(&broker, &producer).enqueue_stream(tokio_stream::once(stream)).await;
    let answer = answers.unwrap().into_inner().message().await.unwrap().unwrap();
    assert!(format!("{answer:?}").contains("isn't for the queue other"), "{answer:?}");

    // Nothing of that left a job or a queue.
    assert_eq!(database.number("SELECT count(*) FROM currant.queue").await, 0);
    let stored = jobs(&broker, &producer).enqueue(enqueue("emails/eu")).await.unwrap();
    let job_id = stored.into_inner().job_ids[0];
    assert!(jobs(&broker, &reader).get(get(job_id)).await.is_ok());
    assert!(workers(&broker, &worker).subscribe(subscription("emails/eu")).await.is_ok());
}

#[tokio::test]
async fn who_may_only_view_sees_jobs_without_what_they_carry() {
    let database = Database::fresh().await;
    let all = token(&database, "enqueue,work,read", "*");
    let [viewer, reader] = ["view", "read"].map(|scope| token(&database, scope, "*"));
    let broker = Broker::start_with(&database, &[REQUIRED]).await;
    let jobs_of = EnqueueRequest {
        jobs: vec![NewJob { max_attempts: 1, ..job("emails", b"a payload") }],
        ..EnqueueRequest::default()
    };
    let job_id = jobs(&broker, &all).enqueue(jobs_of).await.unwrap().into_inner().job_ids[0];
    let mut stream =
        workers(&broker, &all).subscribe(subscription("emails")).await.unwrap().into_inner();
    while !format!("{:?}", stream.message().await.unwrap().unwrap()).contains("Assignments") {}
    let failed = Failed {
        error: "an error".to_owned(),
        class: "Refused".to_owned(),
        details: "its details".to_owned(),
        ..Failed::default()
    };
    let completion = Completion { job_id, attempt: 1, outcome: Some(Outcome::Failed(failed)) };
    let report = CompleteRequest { completions: vec![completion], ..CompleteRequest::default() };
    let answer = workers(&broker, &all).complete(report).await.unwrap().into_inner();
    assert_eq!(answer.verdicts, [i32::from(Verdict::Applied)]);

    let listing = |error: &str| ListRequest {
        filter: Some(JobFilter {
            queue: "emails".to_owned(),
            error: error.to_owned(),
            ..JobFilter::default()
        }),
        ..ListRequest::default()
    };
    let shown = async |secret: &str| {
        let got = jobs(&broker, secret).get(get(job_id)).await.unwrap().into_inner();
        let listed = jobs(&broker, secret).list(listing("")).await.unwrap().into_inner();
        let watch = WatchRequest { job_id, ..WatchRequest::default() };
        let mut watched = jobs(&broker, secret).watch(watch).await.unwrap().into_inner();
        let watched = watched.message().await.unwrap().unwrap();
        let got_job = got.job.unwrap();
        // Only Get has it.
        let payload: &[u8] = if got_job.hidden { b"" } else { b"a payload" };
        assert_eq!(got_job.payload, payload);
        for job in [&got_job, &listed.jobs[0], &watched.job.unwrap()] {
            let error = if job.hidden { "" } else { "an error" };
            assert_eq!((job.job_id, &*job.error, job.hidden), (job_id, error, secret == viewer));
        }
        let FailedAttempt { class, error, details, .. } = got.failed_attempts[0].clone();
        (class, error, details)
    };
    let expected = ["Refused", "an error", "its details"].map(str::to_owned);
    assert_eq!(shown(&reader).await, expected.into());
    assert_eq!(shown(&viewer).await, ("Refused".to_owned(), String::new(), String::new()));
    // Whoever asks for jobs with an error would learn of it.
    let status = jobs(&broker, &viewer).list(listing("an e")).await.unwrap_err();
    assert_eq!(refusal(&status).2, named("scope", "read"));
    assert!(jobs(&broker, &reader).list(listing("an e")).await.is_ok());
}

#[tokio::test]
async fn jobs_of_other_queues_are_as_if_they_were_not_there() {
    let database = Database::fresh().await;
    let all = token(&database, "enqueue,work,read", "*");
    let [reader, worker, admin] =
        ["read", "work", "admin"].map(|scope| token(&database, scope, "emails"));
    let broker = Broker::start_with(&database, &[REQUIRED]).await;
    let jobs_of = EnqueueRequest {
        jobs: ["other", "emails"].map(|queue| job(queue, b"x")).to_vec(),
        ..EnqueueRequest::default()
    };
    let ids = jobs(&broker, &all).enqueue(jobs_of).await.unwrap().into_inner().job_ids;
    let (other, email) = (ids[0], ids[1]);

    let status = jobs(&broker, &reader).get(get(other)).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert!(jobs(&broker, &reader).get(get(email)).await.is_ok());

    // Its attempt is known to a worker that may not have it.
    let mut stream =
        workers(&broker, &all).subscribe(subscription("other")).await.unwrap().into_inner();
    while !format!("{:?}", stream.message().await.unwrap().unwrap()).contains("Assignments") {}
    let success = Outcome::Succeeded(Succeeded::default());
    let completion = Completion { job_id: other, attempt: 1, outcome: Some(success) };
    let report = CompleteRequest { completions: vec![completion], ..CompleteRequest::default() };
    let answer = workers(&broker, &worker).complete(report.clone()).await.unwrap().into_inner();
    assert_eq!(answer.verdicts, [i32::from(Verdict::NotFound)]);

    let (mut admin, job_ids) = (jobs(&broker, &admin), vec![other, email]);
    let queue = String::new;
    let request = CancelRequest { job_ids: job_ids.clone(), queue: queue() };
    let cancelled = admin.cancel(request).await.unwrap();
    let expected = [CancelVerdict::NotFound, CancelVerdict::Cancelled].map(i32::from);
    assert_eq!(cancelled.into_inner().verdicts, expected);
    let request = RetryRequest { job_ids: vec![other], queue: queue() };
    let retried = admin.retry(request).await.unwrap();
    assert_eq!(retried.into_inner().verdicts, [4]);
    let request = DeleteRequest { job_ids: job_ids.clone(), queue: queue() };
    let deleted = admin.delete(request).await.unwrap();
    let expected = [DeleteVerdict::NotFound, DeleteVerdict::Deleted].map(i32::from);
    assert_eq!(deleted.into_inner().verdicts, expected);

    // Nor can it take the attempt over.
    let held = vec![Attempt { job_id: other, attempt: 1 }];
    let resumed = SubscribeRequest { held: held.clone(), ..subscription("emails") };
    let mut resumed = workers(&broker, &worker).subscribe(resumed).await.unwrap().into_inner();
    let welcome = format!("{:?}", resumed.message().await.unwrap().unwrap());
    assert!(welcome.contains(&format!("lost: [{:?}]", held[0])), "{welcome}");
    let answer = workers(&broker, &all).complete(report).await.unwrap().into_inner();
    assert_eq!(answer.verdicts, [i32::from(Verdict::Applied)]);

    // What the admin asked for was written down, also what it didn't get.
    let expected = [
        record("cancel", job_ids.clone()),
        record("retry", vec![other]),
        record("delete", job_ids),
    ];
    assert_eq!(records(&database).await, expected);
}

/// What the token `admin` did to jobs: its name, the action, the jobs.
pub(crate) fn record(action: &str, jobs: Vec<i64>) -> (String, String, Vec<i64>) {
    ("admin".to_owned(), action.to_owned(), jobs)
}

pub(crate) async fn records(database: &Database) -> Vec<(String, String, Vec<i64>)> {
    let sql = "SELECT name, action, jobs FROM currant.audit WHERE jobs IS NOT NULL ORDER BY id";
    let rows = database.connect().await.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
}

/// What the stream ends with.
async fn end<T>(stream: &mut Streaming<T>) -> Status {
    let end = async {
        loop {
            match stream.message().await {
                Ok(message) => assert!(message.is_some(), "it ended without a word"),
                Err(status) => break status,
            }
        }
    };
    tokio::time::timeout(PATIENCE, end).await.expect("the stream goes on")
}

#[tokio::test]
async fn a_revoked_token_ends_its_streams() {
    let database = Database::fresh().await;
    let secret = token(&database, "admin", "*");
    let other = token(&database, "work", "*");
    let broker = Broker::start_with(&database, &[REQUIRED]).await;
    let subscribe = async |secret: &str| {
        let stream = workers(&broker, secret).subscribe(subscription("q")).await;
        let mut stream = stream.unwrap().into_inner();
        stream.message().await.unwrap().unwrap();
        stream
    };
    let (mut stream, mut others) = (subscribe(&secret).await, subscribe(&other).await);
    let (requests, sent) = tokio::sync::mpsc::channel(1);
    let sent = tokio_stream::wrappers::ReceiverStream::new(sent);
    let answers = jobs(&broker, &secret).enqueue_stream(sent).await.unwrap();
    let mut answers = answers.into_inner();
    requests.send(EnqueueStreamRequest { tag: 1, request: Some(enqueue("x")) }).await.unwrap();
    assert_eq!(answers.message().await.unwrap().unwrap().tag, 1);
    let mut jobs = jobs(&broker, &secret);
    let stored = jobs.enqueue(enqueue("x")).await.unwrap().into_inner();
    let request = WatchRequest { job_id: stored.job_ids[0], queue: "x".to_owned() };
    let mut watch = jobs.watch(request).await.unwrap().into_inner();
    let request = ChangeAllRequest {
        filter: Some(all("x")),
        change: Change::Cancel.into(),
        ..ChangeAllRequest::default()
    };
    // It gets nowhere while the jobs are locked.
    let mut client = database.connect().await;
    let lock = client.transaction().await.unwrap();
    lock.batch_execute("SELECT FROM currant.job FOR UPDATE").await.unwrap();
    let mut change = jobs.change_all(request).await.unwrap().into_inner();

    let revoked = program(&database, &["revoke", &number(&secret).to_string()]);
    assert!(revoked.contains("is revoked"), "{revoked}");
    let ended = [
        end(&mut stream).await,
        end(&mut answers).await,
        end(&mut watch).await,
        end(&mut change).await,
    ];
    for status in ended {
        assert_eq!(refusal(&status).1, "TOKEN_INVALID");
    }
    lock.rollback().await.unwrap();
    let status = workers(&broker, &secret).subscribe(subscription("q")).await.unwrap_err();
    assert_eq!(refusal(&status).1, "TOKEN_INVALID");
    // The other one's goes on.
    let by_sql = database.enqueue("q").await;
    loop {
        let message = others.message().await.unwrap().unwrap();
        if format!("{message:?}").contains(&by_sql.to_string()) {
            break;
        }
    }
}

#[tokio::test]
async fn calls_cause_no_statement_and_their_time_is_noted_once() {
    let database = Database::fresh().await;
    let [producer, reader] = ["enqueue", "read"].map(|scope| token(&database, scope, "*"));
    let settings = [REQUIRED, ("ACCESS__LOOK_INTERVAL_MS", "100")];
    let broker = Broker::start_with(&database, &settings).await;
    let count = async |statement: &str| {
        let name = format!("currant_statement_seconds_count{{statement=\"{statement}\"}}");
        value(&broker.metrics_as(&reader).await, &name).unwrap_or_default()
    };
    assert_eq!(count("touch_tokens").await, 0.0);
    for _ in 0..20 {
        jobs(&broker, &producer).enqueue(enqueue("q")).await.unwrap();
    }
    let used =
        "SELECT count(*) FROM currant.token WHERE last_used_at > now() - interval '1 minute'";
    eventually("both are noted", async || database.number(used).await == 2).await;
    let noted = count("touch_tokens").await;
    assert!((1.0..=2.0).contains(&noted), "{noted} times");
    for _ in 0..20 {
        jobs(&broker, &producer).enqueue(enqueue("q")).await.unwrap();
    }
    let looks = count("valid_tokens").await;
    eventually("it looks again", async || count("valid_tokens").await > looks + 2.0).await;
    assert_eq!(count("touch_tokens").await, noted);
}
