//! What every test needs: a database, a broker, a worker.

mod broker;
mod bystander;
mod database;
pub(crate) mod frames;
mod load;
mod pooler;
mod refusal;
mod stall;
pub(crate) mod token;
mod worker;

use std::time::Duration;

use currant_proto::v1::{GetRequest, Job, NewJob};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

pub(crate) use self::{
    broker::{Broker, value},
    bystander::Bystander,
    database::{Database, connect, cut},
    load::{Clients, Ledger, progress, start_worker},
    pooler::Pooler,
    refusal::{assert_full, assert_invalid},
    worker::{TestWorker, attempt, success},
};

/// How long a test waits for what has to happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A job of kind `test` that may start at once.
pub(crate) fn job(queue: &str, payload: &'static [u8]) -> NewJob {
    NewJob {
        queue: queue.to_owned(),
        kind: "test".to_owned(),
        payload: payload.into(),
        ..NewJob::default()
    }
}

/// The job as stored.
pub(crate) async fn get(broker: &Broker, id: i64) -> Job {
    let answer = broker.jobs().get(GetRequest { job_id: id, ..Default::default() }).await.unwrap();
    answer.into_inner().job.unwrap()
}

/// Status and body.
pub(crate) async fn http_get(address: &str, path: &str) -> (u16, String) {
    http_send(address, "GET", path, &[], "").await
}

/// The same with a token's secret.
pub(crate) async fn http_get_as(address: &str, path: &str, secret: &str) -> (u16, String) {
    let bearer = format!("Bearer {secret}");
    http_send(address, "GET", path, &[("authorization", &*bearer)], "").await
}

/// The same for any request; the host is the address unless a header says otherwise.
pub(crate) async fn http_send(
    address: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // In the old form answers end with the connection, and aren't in chunks.
    let mut request = format!("{method} {path} HTTP/1.0\r\ncontent-length: {}\r\n", body.len());
    if headers.iter().all(|(name, _)| *name != "host") {
        request += &format!("host: {address}\r\n");
    }
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{request}\r\n{body}").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// Waits until the condition holds, and says what it was when it never does.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let done = tokio::time::timeout(PATIENCE, wait).await;
    assert!(done.is_ok(), "not after {PATIENCE:?}: {what}");
}
