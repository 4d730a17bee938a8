//! What must be nowhere but where it belongs.

use std::process::Command;

use currant_proto::v1::{
    CompleteRequest, Completion, CreateTokenRequest, EnqueueRequest, Failed, NewJob, Scope,
    SubscribeRequest, Succeeded, completion::Outcome, subscribe_response::Message,
};

use crate::support::{
    Broker, Database, cut, eventually, http_get_as,
    token::{REQUIRED, jobs, program, token, tokens, workers},
};

const PASSWORD: &str = "hunter2-password";
const PAYLOAD: &str = "hunter2-payload";
const RESULT: &str = "hunter2-result";
const ERROR: &str = "hunter2-error";

/// In each way in which bytes are printed.
fn spellings(secret: &str) -> Vec<String> {
    let bytes = secret.as_bytes();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    vec![secret.to_owned(), format!("{bytes:?}"), hex]
}

#[tokio::test]
async fn secrets_and_payloads_are_in_no_output() {
    let database = Database::fresh().await;
    let with_password = Database {
        url: format!("{} password={PASSWORD}", database.url),
        name: database.name.clone(),
    };
    let admin = token(&with_password, "admin", "*");
    // As text, a line has the causes of an error too.
    let settings = [REQUIRED, ("LOG__FILTER", "trace"), ("LOG__FORMAT", "text")];
    let broker = Broker::start_with(&with_password, &settings).await;
    let mut said: Vec<String> = Vec::new();

    let job = |kind: &str| NewJob {
        queue: "emails".to_owned(),
        kind: kind.to_owned(),
        payload: PAYLOAD.into(),
        ..NewJob::default()
    };
    let request = |kinds: &[&str]| EnqueueRequest {
        jobs: kinds.iter().map(|kind| job(kind)).collect(),
        idempotency_key: kinds.concat(),
        ..EnqueueRequest::default()
    };
    // Taken, repeated, and refused for what is beside the payload.
    let mut producer = jobs(&broker, &admin);
    producer.enqueue(request(&["a", "b"])).await.unwrap();
    producer.enqueue(request(&["a", "b"])).await.unwrap();
    said.push(format!("{:?}", producer.enqueue(request(&["no kind"])).await.unwrap_err()));
    let subscribe = SubscribeRequest {
        queues: vec!["emails".to_owned()],
        max_in_flight: 2,
        ..SubscribeRequest::default()
    };
    let mut worker = workers(&broker, &admin);
    let mut stream = worker.subscribe(subscribe).await.unwrap().into_inner();
    let (mut session, mut taken) = (String::new(), Vec::new());
    while taken.len() < 2 {
        match stream.message().await.unwrap().unwrap().message {
            Some(Message::Welcome(welcome)) => session = welcome.session_id,
            Some(Message::Assignments(assignments)) => taken.extend(assignments.jobs),
            _ => {}
        }
    }
    // Whoever has it has the session.
    assert_eq!(session.len(), 32);
    let succeeded = Outcome::Succeeded(Succeeded { result: RESULT.into() });
    let failed =
        Outcome::Failed(Failed { error: ERROR.to_owned(), discard: true, ..Failed::default() });
    let report = |number: usize, attempt, outcome: &Outcome| Completion {
        job_id: taken[number].job_id,
        attempt,
        outcome: Some(outcome.clone()),
    };
    let complete = |completions| CompleteRequest { completions, ..CompleteRequest::default() };
    let wrong = complete(vec![report(0, 0, &succeeded), report(1, 0, &failed)]);
    said.push(format!("{:?}", worker.complete(wrong).await.unwrap_err()));
    let right = complete(vec![report(0, 1, &succeeded), report(1, 1, &failed)]);
    worker.complete(right).await.unwrap();
    drop(stream);

    // Secrets: a new one, one that is wrong, one that was there.
    let create = CreateTokenRequest {
        name: "n".to_owned(),
        scopes: vec![Scope::Read.into()],
        queues: vec!["*".to_owned()],
        ..CreateTokenRequest::default()
    };
    let created = tokens(&broker, &admin).create_token(create).await.unwrap().into_inner();
    let wrong = format!("currant_1_{}", "0badc0de".repeat(8));
    said.push(format!("{:?}", jobs(&broker, &wrong).enqueue(request(&["a"])).await.unwrap_err()));
    said.push(program(&with_password, &["list"]));

    // The database refuses a statement, and goes away.
    let client = database.connect().await;
    client.batch_execute("ALTER TABLE currant.job ADD CHECK (kind <> 'never')").await.unwrap();
    said.push(format!("{:?}", producer.enqueue(request(&["never"])).await.unwrap_err()));
    cut(&client, "currant-broker%").await;
    let mut again = producer.clone();
    eventually("it is there again", async || again.enqueue(request(&["after"])).await.is_ok())
        .await;
    let url = format!("host=127.0.0.1 port=1 user=u password={PASSWORD}");
    said.push(Broker::refused_with(&url, &[("LOG__FILTER", "trace")]).await);
    let mut check = Command::new(env!("CARGO_BIN_EXE_currant-broker"));
    check.args(["config", "check"]);
    check.env("CURRANT_DATABASE__URL", format!("postgres://u:{PASSWORD}@h:x/d"));
    let output = check.output().unwrap();
    said.extend([&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into()));

    let (status, metrics) = http_get_as(&broker.http, "/metrics", &admin).await;
    assert_eq!(status, 200);
    said.push(metrics);
    broker.signal_to_stop();
    eventually("it drains", async || broker.log().contains("drained; ")).await;
    said.push(broker.log());
    assert!(broker.log().contains("TRACE"), "nothing was logged at this level");
    let stored = "SELECT count(*) FROM currant.job WHERE encode(payload, 'escape') LIKE 'hunter2%'";
    assert_eq!(database.number(stored).await, 3);

    let digits = |secret: &str| secret.split('_').nth(2).unwrap().to_owned();
    let secrets = [&admin, &created.secret, &wrong].map(|secret| digits(secret));
    let planted = [PASSWORD, PAYLOAD, RESULT, ERROR].map(str::to_owned);
    for secret in secrets.iter().chain(&planted).chain([&session]) {
        for spelling in spellings(secret) {
            for text in &said {
                let line = text.lines().find(|line| line.contains(&spelling));
                assert!(line.is_none(), "{secret} is in: {}", line.unwrap_or_default());
            }
        }
    }
}
