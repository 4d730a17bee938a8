use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::sync::mpsc;

use super::{
    Core,
    hold::Waiting,
    settle_call::{Holder, SettleCall},
};
use crate::{
    domain::{Attempt, Failure, JobKey, Outcome, TakenJob},
    engine::{Action, Delivery, Dispatcher, FailCause, LostReason, SessionId},
    meters::Meters,
};

/// A message to a worker.
#[derive(Debug)]
pub enum Outgoing {
    Assignments(Delivery),
    Cancel { attempts: Vec<Attempt> },
    LeaseLost { attempts: Vec<Attempt>, reason: LostReason },
    Drain { deadline: Duration },
    KeepAlive { seq: u64 },
}

/// The engine and the open streams.
pub(super) struct Dispatch {
    pub(super) engine: Dispatcher,
    /// The way to each attached session's stream. Unbounded, since what is in it is bounded: an
    /// Assignments carries at least one job, and those are within the session's credit; keep-alives
    /// come by the minute, and a session that doesn't read ends by its time-out.
    pub(super) outboxes: HashMap<SessionId, mpsc::UnboundedSender<Outgoing>>,
    /// Calls that wait for room; within the budget of enqueues.
    pub(super) waiting: Waiting,
    pub(super) meters: Meters,
}

impl Core {
    /// Asks the engine something.
    pub(super) fn engine<T>(&self, ask: impl FnOnce(&Dispatcher) -> T) -> T {
        ask(&self.dispatch.lock().engine)
    }

    /// Tells the engine what happened, at the current time, and carries out what it answers, in order
    /// and under the same lock.
    pub(super) fn with_engine<T>(
        self: &Arc<Self>,
        tell: impl FnOnce(&mut Dispatcher, Duration, &mut Vec<Action>) -> T,
    ) -> T {
        self.with_dispatch(|dispatch, now, actions| tell(&mut dispatch.engine, now, actions))
    }

    pub(super) fn with_dispatch<T>(
        self: &Arc<Self>,
        tell: impl FnOnce(&mut Dispatch, Duration, &mut Vec<Action>) -> T,
    ) -> T {
        let now = self.clock.now();
        let mut actions = Vec::new();
        let mut dispatch = self.dispatch.lock();
        let deadline = dispatch.engine.next_deadline();
        let answer = tell(&mut dispatch, now, &mut actions);
        for action in actions {
            self.act(&mut dispatch, action);
        }
        if dispatch.engine.next_deadline() != deadline {
            self.deadline.notify_one();
        }
        if dispatch.engine.wants_to_own() {
            self.owner_wanted.notify_one();
        }
        dispatch.release(now);
        if dispatch.engine.draining() {
            self.progress.notify_one();
        }
        answer
    }

    fn act(self: &Arc<Self>, dispatch: &mut Dispatch, action: Action) {
        match action {
            Action::Deliver { session, delivery } => {
                self.metrics.assignments.increment(1);
                self.measure_delivery(&mut dispatch.meters, &delivery);
                let queue = delivery.queue;
                self.changed(delivery.jobs.iter().map(|job| JobKey { queue, id: job.id }));
                dispatch.send(session, Outgoing::Assignments(delivery));
            }
            Action::LeaseLost { session, attempts, reason } => {
                dispatch.send(session, Outgoing::LeaseLost { attempts, reason });
            }
            Action::Cancel { session, attempts } => {
                dispatch.send(session, Outgoing::Cancel { attempts });
            }
            Action::KeepAlive { session, seq } => {
                dispatch.send(session, Outgoing::KeepAlive { seq });
            }
            Action::Drain { session } => {
                let deadline = self.limits.drain_deadline;
                dispatch.send(session, Outgoing::Drain { deadline });
            }
            Action::Close { session } => {
                dispatch.outboxes.remove(&session);
            }
            Action::Claim { queue, from, limit } => {
                self.tasks.spawn(Arc::clone(self).claim(queue, from, limit));
            }
            Action::ClaimKeys { queue, claim } => {
                self.tasks.spawn(Arc::clone(self).claim_keys(queue, claim));
            }
            Action::GiveBack { jobs } => {
                metrics::counter!("currant_jobs_given_back_total").increment(jobs.len() as u64);
                self.settle(SettleCall::by_broker(jobs, self.broker.id, &Outcome::Released));
            }
            Action::Expire { jobs } => {
                self.settle(SettleCall::by_broker(jobs, self.broker.id, &Outcome::Expired));
            }
            Action::Fail { session, worker, jobs, cause } => {
                let (message, class) = match cause {
                    FailCause::WorkerLost => {
                        ("the worker was lost while it held the job", "worker_lost")
                    }
                    FailCause::Timeout => ("the attempt ran longer than its timeout", "timeout"),
                };
                metrics::counter!("currant_attempts_failed_by_broker_total", "error_type" => class)
                    .increment(jobs.len() as u64);
                let error = Failure {
                    class: class.to_owned(),
                    message: message.to_owned(),
                    details: String::new(),
                };
                let holder = Holder { session, worker };
                self.settle(SettleCall::failed(jobs, self.broker.id, holder, cause, error));
            }
        }
    }

    fn measure_delivery(&self, meters: &mut Meters, delivery: &Delivery) {
        let meter = meters.queue(delivery.queue);
        meter.delivered += delivery.jobs.len() as u64;
        let now = self.clock.database_micros();
        for at in delivery.jobs.iter().filter_map(TakenJob::startable_at) {
            // Ids may run ahead of the clock.
            meter.start.record(u64::try_from(now - at).unwrap_or(0));
        }
    }

    /// Lets time pass in the engine.
    pub fn tick(self: &Arc<Self>) {
        self.with_dispatch(|dispatch, now, actions| {
            dispatch.engine.tick(now, actions);
            // Streams that have ended; their sessions may go on without.
            dispatch.outboxes.retain(|_, outbox| !outbox.is_closed());
        });
    }

    /// Waits until the engine wants the time told: at a deadline, at the latest after `most`.
    pub async fn next_tick(&self, most: Duration) {
        let deadline = self.deadline.notified();
        let wait = self
            .engine(Dispatcher::next_deadline)
            .map_or(most, |at| at.saturating_sub(self.clock.now()).min(most));
        // A new deadline starts the wait anew; at most one a millisecond, so that it can't spin.
        tokio::time::sleep(wait.min(Duration::from_millis(1))).await;
        let rest = wait.saturating_sub(Duration::from_millis(1));
        let _ = tokio::time::timeout(rest, deadline).await;
    }
}

impl Dispatch {
    /// A stream that has just ended is noticed by its own end; what was sent to it is taken back then.
    fn send(&mut self, session: SessionId, message: Outgoing) {
        if let Some(outbox) = self.outboxes.get(&session)
            && outbox.send(message).is_err()
        {
            self.outboxes.remove(&session);
        }
    }
}
