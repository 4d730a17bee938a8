use std::{collections::hash_map::Entry, time::Duration};

use super::{Action, Dispatcher, FailCause, SessionId};
use crate::{
    domain::{Attempt, JobKey, QueueId},
    engine::fill::PACK_WORK,
    mutation::{self, Mutation},
};

/// An attempt whose completion has come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completing {
    pub attempt: Attempt,
    /// Its queue, if the session holds it; else the database has to be asked.
    pub queue: Option<QueueId>,
    /// Whether this is the first completion of the lease.
    first: bool,
    /// Since its delivery, where that is known and this is the first completion.
    pub ran: Option<Duration>,
}

impl Dispatcher {
    /// Completions came in: their credit is returned at once, their leases stay until the commit.
    /// Each call is followed by `completed` or `completion_failed` with the answer.
    pub fn completing(
        &mut self,
        now: Duration,
        session: SessionId,
        received_seq: u64,
        run_time: Option<Duration>,
        attempts: impl IntoIterator<Item = Attempt>,
        actions: &mut Vec<Action>,
    ) -> Vec<Completing> {
        let Some(&index) = self.by_id.get(&session) else {
            return attempts
                .into_iter()
                .map(|attempt| Completing { attempt, queue: None, first: false, ran: None })
                .collect();
        };
        let state = &mut self.sessions[index];
        state.seen_at = now;
        let run_time = run_time.map_or(state.run_time, |time| time.min(PACK_WORK));
        if run_time != state.run_time {
            let before = std::mem::replace(&mut state.run_time, run_time);
            for queue in state.queues.iter().filter(|_| state.attached) {
                if let Some(queue) = self.queues.get_mut(queue) {
                    queue.line.run_time_changed(before, run_time);
                }
            }
        }
        let mut acknowledged = received_seq;
        let mut answer = Vec::new();
        let mut finished: Vec<(QueueId, usize)> = Vec::new();
        for attempt in attempts {
            let lease =
                state.leases.get_mut(&attempt.id).filter(|lease| lease.attempt == attempt.number);
            let first = lease.as_ref().is_some_and(|lease| !lease.completing);
            let queue = lease.as_ref().map(|lease| lease.queue);
            let delivered_at =
                lease.as_ref().filter(|_| first).and_then(|lease| lease.delivered_at);
            let ran = delivered_at.map(|at| now.saturating_sub(at));
            answer.push(Completing { attempt, queue, first, ran });
            let Some(lease) = lease.filter(|_| first) else {
                state.cancelled.remove(&attempt);
                continue;
            };
            lease.completing = true;
            acknowledged = acknowledged.max(lease.seq);
            if let Some(at) = lease.deadline {
                self.deadlines.remove(&(at, index, attempt.id));
            }
            state.outstanding -= usize::from(!mutation::on(Mutation::LeakedCredit));
            self.completing += 1;
            match finished.last_mut() {
                Some((queue, jobs)) if *queue == lease.queue => *jobs += 1,
                _ => finished.push((lease.queue, 1)),
            }
        }
        state.acknowledge(acknowledged.min(state.seq));
        for (id, jobs) in finished {
            if let Some(queue) = self.queues.get_mut(&id) {
                queue.held -= jobs;
                queue.completed += jobs as u64;
                queue.pace.finished(now, jobs);
            }
            self.freed(id);
        }
        if self.completing > self.limits.completing_max {
            self.throttled = true;
        }
        self.deliver_freed(now, actions);
        self.deliver_session(now, index, actions);
        self.claim_for_session(now, index, actions);
        answer
    }

    /// The completions have their verdicts, whichever they are: the leases end.
    pub fn completed(
        &mut self,
        now: Duration,
        session: SessionId,
        completings: &[Completing],
        actions: &mut Vec<Action>,
    ) {
        self.end_completing(now, completings, actions);
        let index = self.by_id.get(&session).copied();
        for completing in completings {
            let attempt = completing.attempt;
            if let Some(queue) = completing.queue {
                self.key_over(now, queue, attempt);
                self.ended(queue, attempt);
            }
            if completing.queue.is_none() {
                self.end_lease_anywhere(now, attempt, actions);
            } else if let Some(index) = index
                && let Entry::Occupied(lease) = self.sessions[index].leases.entry(attempt.id)
                && lease.get().completing
                && lease.get().attempt == attempt.number
            {
                lease.remove();
            }
        }
        self.deliver_freed(now, actions);
    }

    /// The completions could not be stored, and won't be: the leases go on.
    pub fn completion_failed(
        &mut self,
        now: Duration,
        session: SessionId,
        completings: &[Completing],
        actions: &mut Vec<Action>,
    ) {
        self.end_completing(now, completings, actions);
        let index = self.by_id.get(&session).copied();
        let mut orphans = Vec::new();
        for completing in completings {
            let Some(queue) = completing.queue.filter(|_| completing.first) else { continue };
            let attempt = completing.attempt;
            let lease = index.and_then(|index| self.sessions[index].leases.get_mut(&attempt.id));
            match lease.filter(|lease| lease.completing && lease.attempt == attempt.number) {
                Some(lease) => {
                    lease.completing = false;
                    let deadline = lease.deadline;
                    if let Some(index) = index {
                        self.sessions[index].outstanding += 1;
                        self.deadlines.extend(deadline.map(|at| (at, index, attempt.id)));
                    }
                    self.queue(queue).held += 1;
                }
                // The session ended meanwhile.
                None => {
                    self.ended(queue, attempt);
                    self.unsure(queue, attempt);
                    orphans.push((JobKey { queue, id: attempt.id }, attempt.number));
                }
            }
        }
        if !orphans.is_empty() {
            let (worker, cause) = (self.worker_of(session), FailCause::WorkerLost);
            actions.push(Action::Fail { session, worker, jobs: orphans, cause });
        }
    }

    fn ended(&mut self, queue: QueueId, attempt: Attempt) {
        if !self.ending.is_empty() {
            self.ending.remove(&(JobKey { queue, id: attempt.id }, attempt.number));
        }
    }

    fn end_completing(
        &mut self,
        now: Duration,
        completings: &[Completing],
        actions: &mut Vec<Action>,
    ) {
        self.completing -= completings.iter().filter(|one| one.first).count();
        if self.throttled && self.completing <= self.limits.completing_max / 2 {
            self.throttled = false;
            let queues: Vec<QueueId> = self.queues.keys().copied().collect();
            for queue in queues {
                self.deliver_queue(now, queue, actions);
            }
        }
    }

    /// Completed by a call that didn't name the session which holds it.
    fn end_lease_anywhere(&mut self, now: Duration, attempt: Attempt, actions: &mut Vec<Action>) {
        let holder = self.sessions.iter().find_map(|(index, session)| {
            let lease = session.leases.get(&attempt.id)?;
            (lease.attempt == attempt.number && !lease.completing).then_some(index)
        });
        if let Some(index) = holder {
            let queue = self.sessions[index].leases[&attempt.id].queue;
            self.end_lease(index, attempt.id);
            self.over(now, queue, attempt);
            self.deliver_freed(now, actions);
            self.deliver_session(now, index, actions);
            self.claim_for_session(now, index, actions);
        }
    }
}
