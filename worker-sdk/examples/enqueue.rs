//! Enqueues one job, many at once, and many on a stream; then waits for the first to finish.
//!
//! `cargo run -p currant-worker-sdk --example enqueue -- http://127.0.0.1:7070`

use std::time::Duration;

use currant_worker_sdk::{Client, Error, NewJob, RetryPolicy};
use serde::Serialize;

#[derive(Serialize)]
struct SendEmail<'a> {
    to: &'a str,
    body: String,
}

fn email(number: usize) -> Result<NewJob, Error> {
    let email = SendEmail { to: "someone@example.org", body: format!("number {number}") };
    NewJob::json("emails", "send_email", &email)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "http://127.0.0.1:7070".into());
    let client = Client::connect(url).await?.deadline(Duration::from_secs(10));

    let retry = RetryPolicy::exponential(Duration::from_secs(2)).max_delay(Duration::from_secs(60));
    let first = client.enqueue(email(0)?.priority(5).max_attempts(3).retry(retry)).await?;
    println!("stored job {first}");

    // One call: stored all or none.
    let jobs = (1..=100).map(email).collect::<Result<Vec<_>, _>>()?;
    println!("stored {} jobs", client.enqueue_many(jobs).await?.len());

    // Pipelined: the answers come while the next are sent.
    let stream = client.enqueue_stream();
    let mut sent = Vec::new();
    for number in 101..=200 {
        sent.push(stream.send([email(number)?.tag("streamed")]).await?);
    }
    for ids in sent {
        ids.await?;
    }
    println!("stored 100 jobs on a stream");

    // A wrong field is named.
    if let Err(Error::InvalidArgument { violations, .. }) =
        client.enqueue(email(201)?.priority(1000)).await
    {
        println!("refused: {} {}", violations[0].field, violations[0].description);
    }

    loop {
        let job = client.get(first).await?;
        println!("job {first} is {:?}, attempt {}", job.state, job.attempt);
        if job.state.is_final() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
