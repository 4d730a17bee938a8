//! Runs and enqueues jobs of Currant, a job broker in front of Postgres.
//!
//! A [`Worker`] takes jobs of some queues and runs the handler registered for each job's kind. A
//! [`Client`] enqueues jobs. Both speak gRPC with the broker and never touch the database.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use currant_worker_sdk::{Client, HandlerError, Job, NewJob, Worker};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct SendEmail {
//!     to: String,
//! }
//!
//! async fn send_email(job: Job<SendEmail>) -> Result<usize, HandlerError> {
//!     if !job.payload.to.contains('@') {
//!         return Err(HandlerError::discard("not an address"));
//!     }
//!     // Any error becomes a failed attempt through `?`; the job's retry policy decides.
//!     Ok(job.payload.to.len())
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let worker = Worker::builder("http://127.0.0.1:7070")
//!     .name("mailer-1")
//!     .queue("emails")
//!     .concurrency(50)
//!     .handler("send_email", send_email)
//!     .build()?
//!     .start();
//!
//! let client = Client::connect("http://127.0.0.1:7070").await?;
//! let email = SendEmail { to: "someone@example.org".into() };
//! let job = NewJob::json("emails", "send_email", &email)?.delay(Duration::from_secs(1));
//! let id = client.enqueue(job).await?;
//! println!("job {id} is {:?}", client.get(id).await?.state);
//!
//! worker.shutdown().await?;
//! # Ok(())
//! # }
//! ```
//!
//! Delivery is at least once: a handler may see a job again, with a greater attempt number, when its
//! worker died or lost the broker for too long. Work that mustn't happen twice is keyed by
//! [`Job::id`].

#![deny(missing_docs)]

mod channel;
mod client;
mod clock;
mod enqueue_stream;
mod error;
mod handler;
mod handler_error;
mod job;
mod new_job;
mod retry;
mod stored_job;
mod time;
mod timer;
pub mod worker;

pub use bytes::Bytes;
pub use tokio_util::sync::CancellationToken;

pub use crate::{
    client::Client,
    enqueue_stream::{EnqueueStream, Enqueued},
    error::{Error, FieldViolation, WorkerError},
    handler::{HandlerFuture, HandlerService},
    handler_error::HandlerError,
    job::{Job, JobId},
    new_job::{NewJob, RetryPolicy},
    stored_job::{JobState, StoredJob},
    worker::{Running, Verdict, Worker, WorkerBuilder},
};
