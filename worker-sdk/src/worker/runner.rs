//! The task that runs a worker's handlers, and keeps the jobs that wait for one.
//!
//! A job's first step is taken right here, in the runner's own task: a handler that never waits
//! costs no task, no lock and no wake-up. One that has to wait moves to a task of its own, where
//! handlers run in parallel and can't hold each other up.

use std::{
    any::Any,
    collections::{HashMap, VecDeque},
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use currant_proto::v1::{Assignment, Completion};
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender},
    task::{self, JoinError, JoinSet, coop::consume_budget},
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    attempts::{Attempt, AttemptMap, AttemptSet},
    outcome,
};
use crate::{
    clock,
    handler::{HandlerFuture, HandlerService},
    handler_error::HandlerError,
    job::{Job, JobId},
};

/// Outcomes are kept back no longer than this for others to travel with them.
const HAND_OVER_AFTER: Duration = Duration::from_millis(1);

/// What the session tells the runner.
#[derive(Debug)]
pub(super) enum Command {
    /// Run these, in this order.
    Run { queue: Arc<str>, received_at: Instant, jobs: Vec<Assignment> },
    /// These should stop.
    Cancel(Vec<Attempt>),
    /// These aren't the worker's any more: nobody wants their outcome.
    Lose(Vec<Attempt>),
    /// Start nothing any more; give back what waits and what comes.
    Release,
    /// The same, and stop what runs and give it back.
    Abort,
}

pub(super) struct Runner {
    handlers: HashMap<String, HandlerService>,
    concurrency: usize,
    /// Unbounded: at most what the session holds, which credit bounds.
    commands: UnboundedReceiver<Command>,
    /// Unbounded: at most one for each attempt held.
    completions: UnboundedSender<Vec<Completion>>,
    waiting: VecDeque<Waiting>,
    /// Those with a task of their own.
    running: AttemptMap<Running>,
    tasks: JoinSet<Finished>,
    /// To be handed to the session, and since when.
    finished: Vec<Completion>,
    finished_since: Instant,
    releasing: bool,
}

struct Waiting {
    assignment: Assignment,
    queue: Arc<str>,
    received_at: Instant,
}

impl Waiting {
    fn attempt(&self) -> Attempt {
        Attempt { job: JobId(self.assignment.job_id), number: self.assignment.attempt }
    }
}

struct Running {
    cancellation: CancellationToken,
    cancelled: bool,
    task: task::Id,
}

struct Finished {
    attempt: Attempt,
    result: Result<Bytes, HandlerError>,
}

impl Runner {
    pub(super) fn new(
        handlers: HashMap<String, HandlerService>,
        concurrency: usize,
        commands: UnboundedReceiver<Command>,
        completions: UnboundedSender<Vec<Completion>>,
    ) -> Runner {
        Runner {
            handlers,
            concurrency,
            commands,
            completions,
            waiting: VecDeque::new(),
            running: AttemptMap::default(),
            tasks: JoinSet::new(),
            finished: Vec::new(),
            finished_since: clock::now(),
            releasing: false,
        }
    }

    /// Runs until the session is gone; what still runs then is aborted.
    pub(super) async fn run(mut self) {
        loop {
            self.start_waiting().await;
            self.hand_over();
            tokio::select! {
                biased;
                command = self.commands.recv() => match command {
                    Some(command) => self.apply(command),
                    None => return,
                },
                Some(ended) = self.tasks.join_next(), if !self.tasks.is_empty() => self.end(ended),
            }
            self.take_what_is_there();
        }
    }

    /// Everything that has happened goes into one batch.
    fn take_what_is_there(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            self.apply(command);
        }
        while let Some(ended) = self.tasks.try_join_next() {
            self.end(ended);
        }
    }

    async fn start_waiting(&mut self) {
        while self.tasks.len() < self.concurrency
            && let Some(waiting) = self.waiting.pop_front()
        {
            self.start(waiting).await;
            if !self.finished.is_empty() && clock::now() - self.finished_since > HAND_OVER_AFTER {
                self.hand_over();
                self.take_what_is_there();
            }
            // Handlers that never wait must let the other tasks of the thread run.
            consume_budget().await;
        }
    }

    async fn start(&mut self, waiting: Waiting) {
        let attempt = waiting.attempt();
        let Waiting { assignment, queue, received_at } = waiting;
        let job = Job::from_assignment(assignment, queue);
        let deadline = job.timeout.and_then(|timeout| received_at.checked_add(timeout));
        if deadline.is_some_and(|at| at <= clock::now()) {
            let error = HandlerError::new("its timeout was over before it could start");
            return self.finish(attempt, Err(error), false);
        }
        let Some(handler) = self.handlers.get(&job.kind) else {
            let kind = &job.kind;
            let error = HandlerError::new(format_args!("no handler for the kind {kind:?}"));
            return self.finish(attempt, Err(error), false);
        };
        let (cancellation, timeout) = (job.cancellation.clone(), job.timeout);
        let mut future = match catch_unwind(AssertUnwindSafe(|| handler.handle(job))) {
            Ok(future) => future,
            Err(panic) => return self.finish(attempt, Err(panicked(panic)), false),
        };
        let first = poll_fn(|cx| Poll::Ready(poll_caught(&mut future, cx))).await;
        if let Poll::Ready(result) = first {
            return self.finish(attempt, result, false);
        }
        let limit = deadline.zip(timeout);
        let task = self.tasks.spawn(drive(attempt, future, cancellation.clone(), limit)).id();
        self.running.insert(attempt, Running { cancellation, cancelled: false, task });
    }

    fn apply(&mut self, command: Command) {
        match command {
            Command::Run { queue, received_at, jobs } => {
                for assignment in jobs {
                    let queue = queue.clone();
                    self.waiting.push_back(Waiting { assignment, queue, received_at });
                }
                if self.releasing {
                    self.release_waiting();
                }
            }
            Command::Cancel(attempts) => {
                for attempt in self.stop(attempts, true) {
                    self.push(outcome::cancelled(attempt));
                }
            }
            Command::Lose(attempts) => drop(self.stop(attempts, false)),
            Command::Release => self.release(),
            Command::Abort => {
                self.release();
                self.abort();
            }
        }
    }

    /// Fires the tokens of those that run, takes out and returns those that wait.
    fn stop(&mut self, attempts: Vec<Attempt>, cancelled: bool) -> Vec<Attempt> {
        let mut rest = AttemptSet::default();
        for attempt in attempts {
            match self.running.get_mut(&attempt) {
                Some(running) => {
                    running.cancelled |= cancelled;
                    running.cancellation.cancel();
                }
                None => drop(rest.insert(attempt)),
            }
        }
        let mut stopped = Vec::new();
        if !rest.is_empty() {
            self.waiting.retain(|waiting| {
                let stop = rest.contains(&waiting.attempt());
                stopped.extend(stop.then(|| waiting.attempt()));
                !stop
            });
        }
        stopped
    }

    fn release(&mut self) {
        self.releasing = true;
        self.release_waiting();
    }

    fn release_waiting(&mut self) {
        for waiting in std::mem::take(&mut self.waiting) {
            self.push(outcome::released(waiting.attempt()));
        }
    }

    fn abort(&mut self) {
        while let Some(ended) = self.tasks.try_join_next() {
            self.end(ended);
        }
        for (attempt, running) in std::mem::take(&mut self.running) {
            running.cancellation.cancel();
            self.push(outcome::released(attempt));
        }
        // Dropping the tasks aborts them.
        self.tasks = JoinSet::new();
    }

    /// A handler's task is over.
    fn end(&mut self, ended: Result<Finished, JoinError>) {
        match ended {
            Ok(Finished { attempt, result }) => {
                let running = self.running.remove(&attempt);
                self.finish(attempt, result, running.is_some_and(|running| running.cancelled));
            }
            // Only what a handler drops can panic here: its steps are caught.
            Err(error) => {
                let task = error.id();
                let attempt = self.running.iter().find(|(_, running)| running.task == task);
                let Some(attempt) = attempt.map(|(attempt, _)| *attempt) else { return };
                self.running.remove(&attempt);
                self.finish(attempt, Err(HandlerError::new("the handler panicked")), false);
            }
        }
    }

    fn finish(&mut self, attempt: Attempt, result: Result<Bytes, HandlerError>, cancelled: bool) {
        if let Err(error) = &result {
            tracing::debug!(job_id = attempt.job.0, attempt = attempt.number, %error, "handler failed");
        }
        self.push(outcome::ended(attempt, result, cancelled));
    }

    fn push(&mut self, completion: Completion) {
        if self.finished.is_empty() {
            self.finished_since = clock::now();
        }
        self.finished.push(completion);
    }

    fn hand_over(&mut self) {
        if !self.finished.is_empty() {
            // It fails only when the session is gone, and then the commands end too.
            let _ = self.completions.send(std::mem::take(&mut self.finished));
        }
    }
}

/// The rest of a handler's life, in a task of its own.
async fn drive(
    attempt: Attempt,
    mut future: HandlerFuture,
    cancellation: CancellationToken,
    limit: Option<(Instant, Duration)>,
) -> Finished {
    let steps = poll_fn(|cx| poll_caught(&mut future, cx));
    let result = match limit {
        None => steps.await,
        Some((deadline, timeout)) => timeout_at(deadline, steps).await.unwrap_or_else(|_| {
            cancellation.cancel();
            Err(HandlerError::new(format_args!("it ran longer than its timeout of {timeout:?}")))
        }),
    };
    Finished { attempt, result }
}

/// One step of a handler. After a panic the future is never polled again.
fn poll_caught(
    future: &mut HandlerFuture,
    cx: &mut Context<'_>,
) -> Poll<Result<Bytes, HandlerError>> {
    catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx)))
        .unwrap_or_else(|panic| Poll::Ready(Err(panicked(panic))))
}

fn panicked(panic: Box<dyn Any + Send>) -> HandlerError {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    HandlerError::new(format_args!("the handler panicked: {}", text.unwrap_or("no message")))
}
