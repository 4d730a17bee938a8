//! The task that keeps a worker's session: its stream, its heartbeats, its completions and what it
//! holds. [`Session::wait`] waits; the rest changes state and starts calls. It never runs a handler:
//! a handler that blocks its thread stops no heartbeat.

use std::{future::Future, pin::Pin, sync::Arc};

use currant_proto::v1::{
    Assignments, CompleteResponse, Completion, HeartbeatRequest, HeartbeatResponse,
    SubscribeRequest, Welcome, subscribe_response::Message,
    worker_service_client::WorkerServiceClient,
};
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use super::{
    Settings,
    attempts::{Attempt, from_proto},
    command::Command,
    completer::Completer,
    heartbeat::Heartbeats,
    held::Held,
    kinds::Kinds,
    link::{Link, LinkEvent},
    outbox::Limits,
    outcome::attempt_of,
    reporter::Reporter,
    run_time::RunTime,
    runner::Runner,
    shutdown::{Due, Shutdown},
};
use crate::{
    channel::DECODE_BYTES_MAX, clock, credentials::Transport, error::WorkerError, progress::Report,
    retry::is_transient, timer::Timer,
};

/// More the broker doesn't take in one message (default).
const HELD_LISTED_MAX: usize = 10_000;

enum Event {
    Stop,
    Timer,
    Link(LinkEvent),
    Beaten(Result<HeartbeatResponse, Status>),
    Completed(Result<CompleteResponse, Status>),
    Finished(Option<Vec<Completion>>),
}

/// Everything about one session; owned by its task.
pub(super) struct Session {
    settings: Settings,
    client: WorkerServiceClient<Transport>,
    reporter: Reporter,
    queues: Vec<Arc<str>>,
    /// Empty before the first Welcome.
    session_id: String,
    epoch: u64,
    /// Of the newest stream; 0 before its first Assignments.
    received_seq: u64,
    held: Held,
    link: Link,
    heartbeats: Heartbeats,
    completer: Completer,
    shutdown: Shutdown,
    timer: Timer,
    runner: UnboundedSender<Command>,
    finished: UnboundedReceiver<Vec<Completion>>,
    /// Why the broker will never take this worker.
    refused: Option<WorkerError>,
}

impl Session {
    /// Spawns the runner. Needs a tokio runtime.
    #[expect(
        clippy::disallowed_methods,
        reason = "both channels carry at most what is held, which the session's credit bounds"
    )]
    pub(super) fn new(settings: Settings, kinds: Kinds, transport: Transport) -> Session {
        let (runner, commands) = unbounded_channel();
        let (completions, finished) = unbounded_channel();
        let run_time = RunTime::default();
        let concurrency = settings.concurrency as usize;
        let client =
            WorkerServiceClient::new(transport).max_decoding_message_size(DECODE_BYTES_MAX);
        let reporter = Reporter::new(client.clone());
        let reports: Option<Arc<dyn Report>> = Some(Arc::new(reporter.clone()));
        let runs =
            Runner::new(kinds, concurrency, commands, completions, run_time.clone(), reports);
        // It ends with the session, which owns the other end of its commands.
        tokio::spawn(runs.run());
        let now = clock::now();
        Session {
            client,
            reporter,
            queues: settings.queues.iter().map(|queue| queue.as_str().into()).collect(),
            session_id: String::new(),
            epoch: 0,
            received_seq: 0,
            held: Held::default(),
            link: Link::new(now),
            heartbeats: Heartbeats::new(),
            completer: Completer::new(run_time, settings.observer.clone()),
            shutdown: Shutdown::new(settings.shutdown_timeout),
            timer: Timer::new(now),
            runner,
            finished,
            refused: None,
            settings,
        }
    }

    /// Works until `stop` fires and the shutdown that this begins is over.
    pub(super) async fn run(mut self, stop: CancellationToken) -> Result<(), WorkerError> {
        // A child of its own: workers that share a token don't share its lock at every wake-up.
        let mut stopped = std::pin::pin!(stop.child_token().cancelled_owned());
        self.advance(clock::now());
        loop {
            let event = self.wait(stopped.as_mut()).await;
            let now = clock::now();
            self.apply(event, now)?;
            self.advance(now);
            if self.shutdown.is_withdrawn() && self.held.is_empty() {
                tracing::info!(session_id = shown(&self.session_id), "session closed");
                return self.refused.map_or(Ok(()), Err);
            }
        }
    }

    async fn wait(&mut self, stopped: Pin<&mut impl Future<Output = ()>>) -> Event {
        self.timer.set(self.deadline());
        tokio::select! {
            biased;
            () = stopped, if !self.shutdown.has_begun() => Event::Stop,
            () = self.timer.elapsed() => Event::Timer,
            answer = self.completer.call.answer() => Event::Completed(answer),
            // Before the answer to the last heartbeat, which may end the session: what the broker
            // sent until then is here first.
            event = self.link.next() => Event::Link(event),
            answer = self.heartbeats.call.answer() => Event::Beaten(answer),
            finished = self.finished.recv() => Event::Finished(finished),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let deadlines = [
            self.link.deadline(),
            self.heartbeats.deadline(),
            self.completer.deadline(),
            self.shutdown.deadline(),
        ];
        deadlines.into_iter().flatten().min()
    }

    fn apply(&mut self, event: Event, now: Instant) -> Result<(), WorkerError> {
        match event {
            Event::Stop => self.begin_shutdown(now),
            Event::Timer => self.on_time(now)?,
            Event::Link(LinkEvent::Opened(opened)) => {
                let welcome = self.link.opened(*opened, now);
                self.welcomed(welcome, now);
            }
            Event::Link(LinkEvent::Message(message)) => {
                self.link.heard(now);
                self.receive(message, now);
            }
            Event::Link(LinkEvent::Lost(status)) => self.lost(status, now),
            Event::Beaten(answer) => self.beaten(answer, now),
            Event::Completed(answer) => self.completer.ended(now, answer, &mut self.held),
            Event::Finished(Some(finished)) => {
                self.report(finished);
                while let Ok(more) = self.finished.try_recv() {
                    self.report(more);
                }
            }
            Event::Finished(None) => return Err(WorkerError::Panicked),
        }
        Ok(())
    }

    /// Starts the calls that can be started.
    fn advance(&mut self, now: Instant) {
        if self.link.wants_open(now) {
            let request = self.subscribe_request();
            self.link.open(self.client.clone(), request);
        }
        self.completer.flush(now, &self.client, &self.session_id, self.received_seq);
    }

    fn on_time(&mut self, now: Instant) -> Result<(), WorkerError> {
        if self.link.is_silent(now) {
            // Calls on the same connection will have no answer either.
            self.completer.resend();
            self.lost(Some(Status::deadline_exceeded("the stream is silent")), now);
        }
        if self.heartbeats.take_due(now) {
            self.beat(now);
        }
        match self.shutdown.take_due(now) {
            Some(Due::Abort) => self.tell(Command::Abort),
            Some(Due::GiveUp) => {
                return Err(WorkerError::Unreported { attempts: self.held.len() });
            }
            None => {}
        }
        Ok(())
    }

    fn subscribe_request(&self) -> SubscribeRequest {
        SubscribeRequest {
            worker: self.settings.name.clone(),
            queues: self.settings.queues.clone(),
            max_in_flight: if self.shutdown.has_begun() { 0 } else { self.settings.max_in_flight },
            concurrency: self.settings.concurrency,
            session_id: self.session_id.clone(),
            held: self.held.list(HELD_LISTED_MAX),
        }
    }

    fn welcomed(&mut self, welcome: Welcome, now: Instant) {
        let held = self.held.len();
        let (session_id, epoch) = (shown(&welcome.session_id), welcome.epoch);
        tracing::info!(worker = self.settings.name, session_id, epoch, held, "session open");
        self.settings.open.cancel();
        self.completer.set_limits(Limits::of(&welcome));
        self.reporter.welcomed(&welcome);
        self.completer.retry_now();
        self.heartbeats.begin(&welcome, now, fastrand::f64());
        let Welcome { session_id, epoch, lost, .. } = welcome;
        self.session_id = session_id;
        self.epoch = epoch;
        // Another broker counts from 1 again.
        self.received_seq = 0;
        self.lose(from_proto(lost));
        if self.shutdown.has_begun() {
            self.beat(now);
        }
    }

    fn receive(&mut self, message: Message, now: Instant) {
        match message {
            Message::Assignments(assignments) => self.assigned(assignments, now),
            Message::Cancel(cancel) => self.tell(Command::Cancel(from_proto(cancel.attempts))),
            Message::LeaseLost(lease_lost) => self.lose(from_proto(lease_lost.attempts)),
            Message::Drain(_) => tracing::info!("the broker drains; reconnecting when it is gone"),
            // Hearing it was all.
            Message::KeepAlive(_) | Message::Welcome(_) => {}
        }
    }

    fn assigned(&mut self, assignments: Assignments, now: Instant) {
        let Assignments { seq, queue, mut jobs } = assignments;
        self.received_seq = seq;
        jobs.retain(|job| {
            self.held.deliver(Attempt { job: job.job_id.into(), number: job.attempt })
        });
        let known = self.queues.iter().find(|known| ***known == *queue).cloned();
        let queue = known.unwrap_or_else(|| queue.into());
        self.tell(Command::Run { queue, received_at: now, jobs });
    }

    /// Outcomes of attempts that were lost meanwhile are of no interest to anybody.
    fn report(&mut self, finished: Vec<Completion>) {
        for completion in finished {
            if self.held.finish(attempt_of(&completion)) {
                self.completer.push(completion);
            }
        }
    }

    fn lose(&mut self, mut attempts: Vec<Attempt>) {
        attempts.retain(|attempt| self.held.lose(*attempt));
        if !attempts.is_empty() {
            tracing::warn!(attempts = attempts.len(), "leases lost, stopping their attempts");
            self.tell(Command::Lose(attempts));
        }
    }

    fn lost(&mut self, status: Option<Status>, now: Instant) {
        let was_up = self.link.is_up();
        let delay = self.link.lost(status.as_ref(), now);
        self.heartbeats.end();
        match status {
            Some(status) if !was_up && is_refusal(&status) => {
                self.link.close();
                self.refused = Some(WorkerError::Refused(status.into()));
                self.begin_shutdown(now);
            }
            Some(status) => tracing::warn!(%status, ?delay, "no stream, subscribing again"),
            None => tracing::info!(?delay, "the stream has ended, subscribing again"),
        }
        self.withdrawn();
    }

    fn beat(&mut self, now: Instant) {
        let request = HeartbeatRequest {
            session_id: self.session_id.clone(),
            epoch: self.epoch,
            received_seq: self.received_seq,
            held: self.held.list(HELD_LISTED_MAX),
            max_in_flight: self.shutdown.has_begun().then_some(0),
        };
        let mut client = self.client.clone();
        self.heartbeats.call.start(now, async move { client.heartbeat(request).await });
    }

    fn beaten(&mut self, answer: Result<HeartbeatResponse, Status>, now: Instant) {
        match answer {
            Ok(HeartbeatResponse { cancelled, lost }) => {
                if !cancelled.is_empty() {
                    self.tell(Command::Cancel(from_proto(cancelled)));
                }
                self.lose(from_proto(lost));
            }
            Err(status) if status.code() == Code::NotFound => self.lost(Some(status), now),
            Err(status) => tracing::warn!(%status, "a heartbeat failed"),
        }
        self.withdrawn();
    }

    fn begin_shutdown(&mut self, now: Instant) {
        if !self.shutdown.begin(now) {
            return;
        }
        tracing::info!(held = self.held.len(), "shutting down");
        self.tell(Command::Pause);
        if self.link.is_up() {
            self.beat(now);
        } else {
            self.withdrawn();
        }
    }

    /// No new job comes, or it comes by a stream that asks for none.
    fn withdrawn(&mut self) {
        if self.shutdown.withdrawn() {
            self.tell(Command::Release);
        }
    }

    fn tell(&self, command: Command) {
        // It fails only when the runner has panicked, which `finished` tells.
        let _ = self.runner.send(command);
    }
}

/// Whether a Subscribe like this one will never be taken.
fn is_refusal(status: &Status) -> bool {
    use Code::{InvalidArgument, PermissionDenied, Unauthenticated};
    matches!(status.code(), InvalidArgument | PermissionDenied | Unauthenticated)
        && !is_transient(status)
}

/// What is logged of a session's id: whoever has all of it has the session.
fn shown(session_id: &str) -> &str {
    session_id.get(..8).unwrap_or_default()
}
