use std::{collections::HashMap, sync::Arc, time::Duration};

use super::{Action, Dispatcher, FailCause, LostReason};
use crate::{
    domain::{Attempt, JobKey, QueueId, TakenJob},
    engine::session::Session,
};

/// A stream on which nothing is acknowledged any more is closed when so many deliveries were taken back.
const TAKEN_BACK_MAX: u32 = 3;

impl Dispatcher {
    /// Does what time brings: sessions that are over, attempts past their timeout, deliveries that
    /// nobody acknowledged, keep-alives.
    pub fn tick(&mut self, now: Duration, actions: &mut Vec<Action>) {
        self.expire_attempts(now, actions);
        self.expire_expected(now);
        let indexes: Vec<usize> = self.sessions.iter().map(|(index, _)| index).collect();
        for index in indexes {
            let session = &self.sessions[index];
            let gone =
                !session.attached && now >= session.detached_at + self.limits.reconnect_grace;
            let silent = now >= session.seen_at + self.limits.session_timeout;
            if gone || silent {
                self.expire_session(now, index, actions);
            } else if session.attached {
                self.take_back_unacknowledged(now, index, actions);
                self.keep_alive(now, index, actions);
            }
        }
        self.expire_places(now);
        self.deliver_freed(now, actions);
        self.wake(now, actions);
        let queues: Vec<_> = self.queues.keys().copied().collect();
        for queue in queues {
            self.expire_buffered(now, queue, actions);
            self.claim_more(now, queue, actions);
        }
    }

    /// What the database's clock shows, now and again: it says when jobs expire.
    pub fn set_database_time(&mut self, now: Duration, micros: i64) {
        self.database_started = micros - i64::try_from(now.as_micros()).unwrap_or(i64::MAX);
    }

    /// Takes jobs out of the buffer that may not start any more.
    pub(super) fn expire_buffered(
        &mut self,
        now: Duration,
        queue: QueueId,
        actions: &mut Vec<Action>,
    ) {
        let Some(state) = self.queues.get_mut(&queue) else { return };
        let since = i64::try_from(now.as_micros()).unwrap_or(i64::MAX);
        let jobs = state.buffer.take_expired(self.database_started.saturating_add(since));
        if !jobs.is_empty() {
            self.buffered_bytes -= jobs.iter().map(TakenJob::bytes).sum::<usize>();
            for job in jobs.iter().filter(|job| job.key.is_some()) {
                self.key_unsure(queue, Attempt { id: job.id, number: job.attempt });
            }
            let jobs = jobs.iter().map(|job| (JobKey { queue, id: job.id }, job.attempt)).collect();
            actions.push(Action::Expire { jobs });
        }
    }

    fn expire_attempts(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let mut lost: HashMap<usize, Vec<(JobKey, i32)>> = HashMap::new();
        while let Some(&(at, index, id)) = self.deadlines.first()
            && at <= now
        {
            self.deadlines.pop_first();
            let Some(lease) = self.sessions[index].leases.get(&id) else { continue };
            let number = lease.attempt;
            lost.entry(index).or_default().push((JobKey { queue: lease.queue, id }, number));
            self.end_lease(index, id);
        }
        for (index, jobs) in lost {
            let Session { id: session, worker, .. } = &self.sessions[index];
            let (session, worker) = (*session, Arc::clone(worker));
            let attempts =
                jobs.iter().map(|(key, number)| Attempt { id: key.id, number: *number }).collect();
            actions.push(Action::LeaseLost { session, attempts, reason: LostReason::Timeout });
            actions.push(Action::Fail { session, worker, jobs, cause: FailCause::Timeout });
            self.deliver_session(now, index, actions);
        }
    }

    /// What the worker had received counts as a failure, so that a job that kills its workers ends;
    /// what it hadn't is ready again.
    fn expire_session(&mut self, now: Duration, index: usize, actions: &mut Vec<Action>) {
        if self.sessions[index].attached {
            for queue in self.unsubscribe(index, now) {
                self.give_back_excess(queue, actions);
            }
            actions.push(Action::Close { session: self.sessions[index].id });
        }
        let (mut failed, mut unseen) = (Vec::new(), Vec::new());
        let session = &self.sessions[index];
        for (id, lease) in session.leases.iter().filter(|(_, lease)| !lease.completing) {
            let job = (JobKey { queue: lease.queue, id: *id }, lease.attempt);
            if session.acknowledged(lease) { &mut failed } else { &mut unseen }.push(job);
        }
        let (session, worker) = (session.id, Arc::clone(&session.worker));
        for (key, _) in failed.iter().chain(&unseen) {
            self.end_lease(index, key.id);
        }
        self.remove_session(index);
        if !failed.is_empty() {
            let cause = FailCause::WorkerLost;
            actions.push(Action::Fail { session, worker, jobs: failed, cause });
        }
        if !unseen.is_empty() {
            actions.push(Action::GiveBack { jobs: unseen });
        }
    }

    /// The worker is alive but never said that it received this: the delivery got lost.
    fn take_back_unacknowledged(&mut self, now: Duration, index: usize, actions: &mut Vec<Action>) {
        let (mut attempts, mut jobs) = (Vec::new(), Vec::new());
        let timeout = self.limits.acknowledge_timeout;
        loop {
            let session = &mut self.sessions[index];
            // A worker that has shown no life since can't have acknowledged it.
            let overdue = |at: Duration| now >= at + timeout && session.seen_at > at;
            if !session.unacknowledged.front().is_some_and(|sent| overdue(sent.at)) {
                break;
            }
            let Some(sent) = session.unacknowledged.pop_front() else { break };
            session.unacknowledged_bytes -= sent.bytes;
            self.stand_in_lines(index);
            for id in sent.ids {
                let session = &self.sessions[index];
                let Some(lease) = session.leases.get(&id).filter(|lease| lease.seq == sent.seq)
                else {
                    continue;
                };
                attempts.push(Attempt { id, number: lease.attempt });
                jobs.push((JobKey { queue: lease.queue, id }, lease.attempt));
                self.end_lease(index, id);
            }
        }
        if !jobs.is_empty() {
            let session = self.sessions[index].id;
            actions.push(Action::LeaseLost {
                session,
                attempts,
                reason: LostReason::Unacknowledged,
            });
            actions.push(Action::GiveBack { jobs });
            self.sessions[index].taken_back += 1;
            if self.sessions[index].taken_back < TAKEN_BACK_MAX {
                self.deliver_session(now, index, actions);
                return;
            }
            // It lives, and doesn't read its stream: what waits there must not grow without end.
            for queue in self.unsubscribe(index, now) {
                self.give_back_excess(queue, actions);
            }
            actions.push(Action::Close { session });
        }
    }

    fn keep_alive(&mut self, now: Duration, index: usize, actions: &mut Vec<Action>) {
        let session = &mut self.sessions[index];
        if now >= session.keep_alive_at {
            session.keep_alive_at = now + self.limits.keep_alive_interval;
            actions.push(Action::KeepAlive { session: session.id, seq: session.seq });
        }
    }
}
