//! A worker with a typed handler and a raw one. Ctrl-C shuts it down in order.
//!
//! `cargo run -p currant-worker-sdk --example typed_worker -- http://127.0.0.1:7070`

use std::time::Duration;

use currant_worker_sdk::{Bytes, HandlerError, Job, Worker};
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct SendEmail {
    to: String,
    body: String,
}

#[derive(Serialize)]
struct Sent {
    bytes: usize,
}

async fn send_email(job: Job<SendEmail>) -> Result<Sent, HandlerError> {
    let SendEmail { to, body } = &job.payload;
    if !to.contains('@') {
        // No retry will help.
        return Err(HandlerError::discard(format!("{to:?} is not an address")));
    }
    tokio::select! {
        () = job.cancellation.cancelled() => return Err(HandlerError::release()),
        () = tokio::time::sleep(Duration::from_millis(10)) => {}
    }
    println!("job {} attempt {}: sent to {to}", job.id, job.attempt);
    Ok(Sent { bytes: body.len() })
}

async fn checksum(job: Job<Bytes>) -> Result<Bytes, HandlerError> {
    // A long computation would hold up the worker's other jobs: it gets a thread.
    let sum = move || job.payload.iter().map(|byte| u64::from(*byte)).sum::<u64>();
    let sum = tokio::task::spawn_blocking(sum).await?;
    Ok(Bytes::copy_from_slice(&sum.to_be_bytes()))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().init();
    let url = std::env::args().nth(1).unwrap_or_else(|| "http://127.0.0.1:7070".into());
    let worker = Worker::builder(url)
        .name("typed-worker")
        .queue("emails")
        .concurrency(50)
        .handler("send_email", send_email)
        .raw_handler("checksum", checksum)
        .build()?;

    let mut running = worker.start();
    tokio::select! {
        ended = running.closed() => ended?,
        heard = tokio::signal::ctrl_c() => {
            heard?;
            running.shutdown().await?;
        }
    }
    Ok(())
}
