//! Workers.
//!
//! # Where things run
//! A worker is two tasks. One keeps the session: stream, heartbeats, outcomes. The other runs the
//! handlers. A job's first step is taken in that second task, one job after the other, so that a
//! handler which never waits costs next to nothing; a handler that waits for something goes on in a
//! tokio task of its own, in parallel with all others. A kind whose first step takes long starts in
//! tasks of its own. Hence:
//! - Long computations and blocking calls belong into [`tokio::task::spawn_blocking`], as in any
//!   program on tokio. A thread of the runtime that is blocked for long may hold up the worker's
//!   heartbeats too; then its leases end and its jobs run again.
//! - What is bound to a task (task-local values, [`tokio::task::id`]) may change once, after the
//!   first step.
//! - A panic of a handler is a failed attempt, in programs that unwind. With `panic = "abort"` it
//!   ends the process; the broker then gives the worker's jobs to others.
//!
//! # States of an attempt
//! ```text
//! delivered -> waiting -> running -> finished -> answered
//! ```
//! The worker holds an attempt from its delivery to the verdict on its outcome, presents it in every
//! heartbeat and when it opens a new stream, and so keeps it when the broker restarts. What the
//! broker calls lost is dropped: its token fires, its outcome isn't reported.

pub(crate) mod attempts;
mod builder;
mod call;
mod command;
mod completer;
mod heartbeat;
mod held;
#[cfg(feature = "testing")]
mod inline;
mod kinds;
mod link;
mod outbox;
mod outcome;
mod reporter;
mod run_time;
mod runner;
mod session;
mod shutdown;
mod steps;
mod verdict;

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

#[cfg(feature = "testing")]
pub(crate) use self::inline::run_inline;
use self::{builder::Target, kinds::Kinds, session::Session, verdict::Observer};
pub use self::{builder::WorkerBuilder, verdict::Verdict};
#[cfg(feature = "testing")]
use crate::handler::HandlerService;
use crate::{credentials::Token, error::WorkerError};

/// Takes jobs of some queues and runs their handlers.
#[derive(Debug)]
#[must_use = "a worker does nothing until it is started"]
pub struct Worker {
    target: Target,
    token: Token,
    settings: Settings,
    kinds: Kinds,
}

#[derive(Debug)]
struct Settings {
    name: String,
    queues: Vec<String>,
    concurrency: u32,
    max_in_flight: u32,
    shutdown_timeout: Duration,
    observer: Option<Observer>,
    /// Fires when the broker has opened the first session.
    open: CancellationToken,
}

impl Worker {
    /// A worker with a connection of its own to the broker at a URL like `http://127.0.0.1:7070`.
    pub fn builder(url: impl AsRef<str>) -> WorkerBuilder {
        WorkerBuilder::with_url(url.as_ref())
    }

    /// A worker on a channel that the caller has made, to be shared with others for instance.
    pub fn builder_with_channel(channel: Channel) -> WorkerBuilder {
        WorkerBuilder::with_channel(channel)
    }

    /// What it has for a kind.
    #[cfg(feature = "testing")]
    pub(crate) fn handler(&self, kind: &str) -> Option<HandlerService> {
        self.kinds.handler(kind)
    }

    /// Runs it in the background. Panics outside of a tokio runtime.
    pub fn start(self) -> Running {
        let (stop, open) = (CancellationToken::new(), self.settings.open.clone());
        let worker = tokio::spawn(self.run(stop.clone()));
        Running { stop, open, worker }
    }

    /// Runs until `stop` fires and what it holds is done with: what waits is given back at once, what
    /// runs may finish within the
    /// [`shutdown_timeout`](WorkerBuilder::shutdown_timeout) and is given back then, and every
    /// outcome is answered by the broker, for which it has 10 s more.
    ///
    /// While there is no broker it tries again and again. [`WorkerError::Refused`] if the broker will
    /// never take this worker, [`WorkerError::Unreported`] if the time was over too early.
    pub async fn run(self, stop: CancellationToken) -> Result<(), WorkerError> {
        let channel = match self.target {
            Target::Endpoint(endpoint) => endpoint.connect_lazy(),
            Target::Channel(channel) => channel,
        };
        Session::new(self.settings, self.kinds, self.token.on(channel)).run(stop).await
    }
}

/// A worker in the background. Dropping it leaves the worker running.
#[derive(Debug)]
pub struct Running {
    stop: CancellationToken,
    open: CancellationToken,
    worker: JoinHandle<Result<(), WorkerError>>,
}

impl Running {
    /// Waits until the broker has opened its session, so that jobs enqueued from now on find it there.
    /// Ends without if the worker has ended: with the error of [`Running::closed`], after which that
    /// must not be called.
    pub async fn ready(&mut self) -> Result<(), WorkerError> {
        tokio::select! {
            () = self.open.cancelled() => Ok(()),
            ended = &mut self.worker => ended.unwrap_or(Err(WorkerError::Panicked)),
        }
    }

    /// Shuts it down in order and waits for the end, as described at [`Worker::run`].
    pub async fn shutdown(mut self) -> Result<(), WorkerError> {
        self.stop.cancel();
        self.closed().await
    }

    /// Waits until it has ended, which without a shutdown it does only when the broker refuses it.
    /// To be called again only if it was cancelled before it returned.
    pub async fn closed(&mut self) -> Result<(), WorkerError> {
        (&mut self.worker).await.unwrap_or(Err(WorkerError::Panicked))
    }
}
