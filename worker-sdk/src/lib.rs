//! Runs and enqueues jobs of Currant, a job broker in front of Postgres.
//!
//! A [`Worker`] takes jobs of some queues and runs the handler registered for each job's kind. A
//! [`Client`] enqueues jobs and changes their course. Both speak gRPC with the broker and never touch the database.
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
//! # What a handler says
//!
//! | it returns | what becomes of the job |
//! | --- | --- |
//! | `Ok(output)` | succeeded; the output is kept, see [`StoredJob::result_json`] |
//! | `Ok(`[`Committed`]`)` | the handler has recorded the outcome itself, in a transaction of its own: see [`Job::completion`] |
//! | any error through `?`, [`HandlerError::new`] | the attempt has failed; tried again by the job's [`RetryPolicy`], dead after `max_attempts` failures |
//! | [`HandlerError::retry_after`] | the same, tried again after this wait |
//! | [`HandlerError::discard`] | dead at once |
//! | [`HandlerError::snooze`] | runs again later; no failure |
//! | [`HandlerError::release`] | ready again, for this worker or another; no failure |
//! | it panics | as an error |
//!
//! A payload that can't be read, a kind that no handler is registered for and a timeout that is over
//! are failed attempts too. So register a kind with all workers of a queue before jobs of it come.
//!
//! # Delivery is at least once
//!
//! A handler may see a job again, with a greater attempt number, when its worker died or lost the
//! broker for too long. Work that mustn't happen twice is keyed by [`Job::id`]. A broker that
//! restarts, or a connection that breaks, changes nothing for the handlers that run: the worker
//! connects again, presents what it holds and keeps it, and reports outcomes until they are
//! answered.
//!
//! [`Job::cancellation`] fires when an attempt should stop: the job was
//! [cancelled](Client::cancel), its lease is lost, its timeout is over, or the worker shuts down and
//! can't wait any longer. A handler that doesn't look is not stopped by the first two; its outcome
//! changes nothing.
//!
//! # How much runs at once
//!
//! [`concurrency`](WorkerBuilder::concurrency) is how many jobs run,
//! [`prefetch`](WorkerBuilder::prefetch) how many more wait in the worker. Short jobs want a deep
//! prefetch, long ones none. [`kind_concurrency`](WorkerBuilder::kind_concurrency) is how many of a kind run.
//! How handlers share threads is told in [`worker`].
//!
//! # Layers
//!
//! Handlers are [tower](https://docs.rs/tower) services of [`Job<Bytes>`](Job). What wraps services
//! wraps handlers: time-outs, limits, tracing spans, codecs; see [`WorkerBuilder::layer`].
//!
//! # Spans
//!
//! A span of `tracing`, `currant.job`, is around each attempt. With the feature `otel` enqueues and attempts are
//! spans of OpenTelemetry, and a trace goes from the caller through the job to its handler:
//! `docs/worker-sdk.md`.
//!
//! # Tests
//!
//! With the feature `testing` the module `testing` runs handlers inline and starts a broker with a Postgres of its
//! own for a test: `docs/worker-sdk.md`.
//!
//! # Who calls
//!
//! Where the broker wants a token, [`WorkerBuilder::token`] and [`Client::token`] put it into every call. A
//! URL of `https://` trusts the system's certificates; [`WorkerBuilder::tls`] and [`Client::connect_tls`]
//! trust others, or show one of the program's own. A worker whose token is revoked ends with
//! [`WorkerError::Refused`].
//!
//! # The end
//!
//! [`Running::shutdown`], or the token given to [`Worker::run`], gives back what waits, lets what
//! runs finish for [`shutdown_timeout`](WorkerBuilder::shutdown_timeout), and returns when the broker
//! has answered every outcome.

#![deny(missing_docs)]

mod brokers;
mod change;
mod change_all;
mod channel;
mod client;
mod clock;
mod credentials;
mod enqueue_stream;
mod error;
mod explanation;
mod handler;
mod handler_error;
mod job;
mod listing;
mod new_job;
#[cfg(feature = "otel")]
mod otel;
mod output;
mod progress;
mod queue;
mod queue_settings;
mod retry;
mod retry_policy;
mod schedule;
mod span;
mod stored_job;
#[cfg(feature = "testing")]
pub mod testing;
mod time;
mod timer;
mod tokens;
mod unique;
mod watch;
pub mod worker;

pub use bytes::Bytes;
pub use http::Extensions;
pub use tokio_util::sync::CancellationToken;

pub use crate::{
    brokers::{Broker, Session},
    change::{CancelVerdict, DeleteVerdict, RetryVerdict},
    change_all::{ChangeAll, Progress},
    client::Client,
    credentials::Tls,
    enqueue_stream::{EnqueueStream, Enqueued},
    error::{Error, FieldViolation, WorkerError},
    explanation::{Explanation, Reason},
    handler::{HandlerFuture, HandlerService},
    handler_error::HandlerError,
    job::{Job, JobId},
    listing::{JobFilter, Listing},
    new_job::NewJob,
    output::{Committed, Completion, IntoOutput, Output},
    progress::JobProgress,
    queue::{JobCount, Queue, QueueStats},
    queue_settings::{Keep, QueueSettings, RateLimit},
    retry_policy::{RetryPolicy, Waits},
    schedule::{CatchUp, Overlap, Schedule, StoredSchedule},
    stored_job::{FailedAttempt, JobError, JobState, StoredJob},
    tokens::{NewToken, Scope, StoredToken},
    unique::Unique,
    watch::{WaitError, Watch},
    worker::{Running, Verdict, Worker, WorkerBuilder},
};

/// So that the examples of the README compile.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

/// And those of docs/security.md.
#[cfg(doctest)]
#[doc = include_str!("../../docs/security.md")]
struct Security;

/// And those of docs/jobs.md.
#[cfg(doctest)]
#[doc = include_str!("../../docs/jobs.md")]
struct Jobs;

/// And those of docs/sql.md.
#[cfg(doctest)]
#[doc = include_str!("../../docs/sql.md")]
struct Sql;
/// And those of docs/schedules.md.
#[cfg(doctest)]
#[doc = include_str!("../../docs/schedules.md")]
struct Schedules;

/// And those of docs/queues.md.
#[cfg(doctest)]
#[doc = include_str!("../../docs/queues.md")]
struct Queues;

/// And those of docs/quick-start.md.
#[cfg(doctest)]
#[doc = include_str!("../../docs/quick-start.md")]
struct QuickStart;

/// And those of docs/worker-sdk.md.
#[cfg(all(doctest, feature = "testing"))]
#[doc = include_str!("../../docs/worker-sdk.md")]
struct WorkerSdk;
