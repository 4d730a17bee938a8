//! The task that runs a worker's handlers, and keeps the jobs that wait for one.
//!
//! A job's first step is taken right here, in the runner's own task: a handler that never waits
//! costs no task, no lock and no wake-up. One that has to wait moves to a task of its own, where
//! handlers run in parallel and can't hold each other up; one that takes its time over the first
//! step sends the next jobs of its kind there at once.

use std::{future::poll_fn, sync::Arc, task::Poll, time::Duration};

use currant_proto::v1::Completion;
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender},
    task::{self, JoinError, JoinSet, coop::consume_budget},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    attempts::{Attempt, AttemptMap, AttemptSet},
    command::Command,
    kinds::{Kind, KindNumber, Kinds, Waiting},
    outcome,
    run_time::{RunTime, Runs},
    steps::{self, Finished},
};
use crate::{
    clock, handler_error::HandlerError, job::Job, output::Output, progress::Report, span,
    timer::Timer,
};

/// Outcomes are kept back no longer than this for others to travel with them.
const HAND_OVER_AFTER: Duration = Duration::from_millis(1);
/// A first step that takes longer holds up the others: jobs of its kind start in tasks of their own.
const STEP_MAX: Duration = Duration::from_micros(500);
/// After so many of them the kind is tried in the runner's task again.
const APART_JOBS: u32 = 1000;
/// How often jobs of full kinds are looked at, while there are some.
const LOOK_EVERY: Duration = Duration::from_millis(250);

pub(super) struct Runner {
    kinds: Kinds,
    concurrency: usize,
    /// Unbounded: at most what the session holds, which credit bounds.
    commands: UnboundedReceiver<Command>,
    /// Unbounded: at most one for each attempt held.
    completions: UnboundedSender<Vec<Completion>>,
    run_time: RunTime,
    reporter: Option<Arc<dyn Report>>,
    /// Those with a task of their own.
    running: AttemptMap<Running>,
    tasks: JoinSet<Finished>,
    /// To be handed to the session, and since when.
    finished: Vec<Completion>,
    finished_since: Instant,
    /// At the jobs of full kinds.
    look: Timer,
    runs: Runs,
    paused: bool,
    releasing: bool,
}

struct Running {
    kind: KindNumber,
    began: Instant,
    cancellation: CancellationToken,
    cancelled: bool,
    task: task::Id,
}

impl Runner {
    pub(super) fn new(
        kinds: Kinds,
        concurrency: usize,
        commands: UnboundedReceiver<Command>,
        completions: UnboundedSender<Vec<Completion>>,
        run_time: RunTime,
        reporter: Option<Arc<dyn Report>>,
    ) -> Runner {
        let now = clock::now();
        Runner {
            kinds,
            concurrency,
            commands,
            completions,
            run_time,
            reporter,
            running: AttemptMap::default(),
            tasks: JoinSet::new(),
            finished: Vec::new(),
            finished_since: now,
            look: Timer::new(now),
            runs: Runs::default(),
            paused: false,
            releasing: false,
        }
    }

    /// Runs until the session is gone; what still runs then is aborted.
    pub(super) async fn run(mut self) {
        loop {
            self.start_waiting().await;
            self.hand_over();
            if self.kinds.are_full() {
                self.look.set(Some(clock::now() + LOOK_EVERY));
            }
            tokio::select! {
                biased;
                command = self.commands.recv() => match command {
                    Some(command) => self.apply(command),
                    None => return,
                },
                Some(ended) = self.tasks.join_next(), if !self.tasks.is_empty() => self.end(ended),
                () = self.look.elapsed() => self.put_off(),
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
        while !self.paused
            && self.tasks.len() < self.concurrency
            && let Some((kind, waiting)) = self.kinds.next()
        {
            let now = self.start(kind, waiting).await;
            if !self.finished.is_empty() && now - self.finished_since > HAND_OVER_AFTER {
                self.hand_over();
                self.take_what_is_there();
            }
            // Handlers that never wait must let the other tasks of the thread run.
            consume_budget().await;
        }
    }

    /// Returns the time after the job's first step.
    async fn start(&mut self, kind: Option<KindNumber>, waiting: Waiting) -> Instant {
        let began = clock::now();
        let attempt = waiting.attempt();
        let Waiting { assignment, queue, received_at } = waiting;
        let job = Job::from_assignment(assignment, queue, self.reporter.clone());
        let deadline = job.timeout.and_then(|timeout| received_at.checked_add(timeout));
        if deadline.is_some_and(|at| at <= began) {
            let error = HandlerError::new("its timeout was over before it could start");
            self.finish(attempt, Err(error), false);
            return began;
        }
        let Some(kind) = kind else {
            let kind = &job.kind;
            let error = HandlerError::new(format_args!("no handler for the kind {kind:?}"));
            self.finish(attempt, Err(error), false);
            return began;
        };
        let Kind { handler, apart, .. } = self.kinds.get_mut(kind);
        let (cancellation, limit) = (job.cancellation.clone(), deadline.zip(job.timeout));
        let span = span::of_attempt(&job);
        let future = span.in_scope(|| steps::call(handler, job));
        let mut future = span::around(span, future, steps::poll_caught);
        let first = match *apart {
            0 => poll_fn(|cx| Poll::Ready(steps::poll_caught(&mut future, cx))).await,
            _ => Poll::Pending,
        };
        let now = clock::now();
        *apart = if now - began > STEP_MAX { APART_JOBS } else { apart.saturating_sub(1) };
        match first {
            Poll::Ready(result) => {
                self.runs.add(now - began);
                self.finish(attempt, result, false);
            }
            Poll::Pending => {
                let rest = steps::drive(attempt, future, cancellation.clone(), limit);
                let task = self.tasks.spawn(rest).id();
                let running = Running { kind, began, cancellation, cancelled: false, task };
                self.running.insert(attempt, running);
                self.kinds.began(kind);
            }
        }
        now
    }

    fn apply(&mut self, command: Command) {
        match command {
            Command::Run { queue, received_at, jobs } => {
                for assignment in jobs {
                    let queue = queue.clone();
                    self.kinds.push(Waiting { assignment, queue, received_at });
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
            Command::Pause => self.paused = true,
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
        let stopped = match rest.is_empty() {
            true => Vec::new(),
            false => self.kinds.take_waiting(|waiting| rest.contains(&waiting.attempt())),
        };
        stopped.iter().map(Waiting::attempt).collect()
    }

    fn release(&mut self) {
        self.paused = true;
        self.releasing = true;
        self.release_waiting();
    }

    fn release_waiting(&mut self) {
        for waiting in self.kinds.take_waiting(|_| true) {
            self.push(outcome::released(waiting.attempt()));
        }
    }

    /// Makes room for jobs of other kinds.
    fn put_off(&mut self) {
        for waiting in self.kinds.take_overdue(clock::now()) {
            self.push(outcome::put_off(waiting.attempt(), waiting.pause()));
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
                if let Some(running) = &running {
                    self.runs.add(clock::now() - running.began);
                    self.kinds.ended(running.kind);
                }
                self.finish(attempt, result, running.is_some_and(|running| running.cancelled));
            }
            // Only what a handler drops can panic here: its steps are caught.
            Err(error) => {
                let task = error.id();
                let attempt = self.running.iter().find(|(_, running)| running.task == task);
                let Some(attempt) = attempt.map(|(attempt, _)| *attempt) else { return };
                if let Some(running) = self.running.remove(&attempt) {
                    self.kinds.ended(running.kind);
                }
                self.finish(attempt, Err(HandlerError::new("the handler panicked")), false);
            }
        }
    }

    fn finish(&mut self, attempt: Attempt, result: Result<Output, HandlerError>, cancelled: bool) {
        if let Err(error) = &result {
            tracing::debug!(job = attempt.job.0, attempt = attempt.number, %error, "handler failed");
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
            self.runs.count(&self.run_time);
            // It fails only when the session is gone, and then the commands end too.
            let _ = self.completions.send(std::mem::take(&mut self.finished));
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "as in a session: bounded by what the test sends")]
mod tests {
    use std::collections::HashMap;

    use bytes::Bytes;
    use currant_proto::v1::Assignment;
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;
    use crate::handler::HandlerService;

    /// A runner of one kind, whose handler says in which task its first step was taken.
    fn start(
        step: Duration,
    ) -> (UnboundedSender<Command>, UnboundedReceiver<Vec<Completion>>, task::Id) {
        let handler = HandlerService::raw(move |_| async move {
            let until = clock::now() + step;
            while clock::now() < until {}
            Ok(Bytes::from(task::id().to_string()))
        });
        let (commands, receiver) = unbounded_channel();
        let (completions, finished) = unbounded_channel();
        let kinds = Kinds::new(HashMap::from([("work".to_owned(), (handler, None))]), 1);
        let runner = Runner::new(kinds, 1, receiver, completions, RunTime::default(), None);
        let task = tokio::spawn(runner.run()).id();
        (commands, finished, task)
    }

    fn run(ids: std::ops::Range<i64>) -> Command {
        let job = |job_id| Assignment { job_id, kind: "work".into(), ..Assignment::default() };
        Command::Run { queue: "q".into(), received_at: clock::now(), jobs: ids.map(job).collect() }
    }

    /// The results of so many jobs, as text.
    async fn results(
        finished: &mut UnboundedReceiver<Vec<Completion>>,
        count: usize,
    ) -> Vec<String> {
        let mut results = Vec::new();
        while results.len() < count {
            for completion in finished.recv().await.unwrap_or_default() {
                results.push(format!("{:?}", completion.outcome));
            }
        }
        results
    }

    #[tokio::test]
    async fn after_a_long_first_step_the_next_jobs_start_in_tasks_of_their_own() {
        let (commands, mut finished, runner) = start(STEP_MAX * 2);
        assert!(commands.send(run(0..3)).is_ok());
        let here: Vec<bool> = results(&mut finished, 3)
            .await
            .iter()
            .map(|result| result.contains(&format!("b\"{runner}\"")))
            .collect();
        assert_eq!(here, [true, false, false]);
    }

    #[tokio::test]
    async fn after_a_pause_nothing_starts_and_what_waits_can_still_be_given_back() {
        let (commands, mut finished, _) = start(Duration::ZERO);
        for command in [Command::Pause, run(0..2), Command::Release] {
            assert!(commands.send(command).is_ok());
        }
        for result in results(&mut finished, 2).await {
            assert!(result.contains("Released"), "{result}");
        }
    }
}
