use std::time::Duration;

use super::{Action, Delivery, Dispatcher};
use crate::{
    domain::{QueueId, TakenJob},
    engine::{
        fill::{Room, choose, fill},
        session::{Lease, Sent},
    },
};

impl Dispatcher {
    /// Shares a queue's buffer among its sessions, first what they can start at once, then what they
    /// can hold waiting; each evenly. Gives back what must not stay, and claims what may come.
    pub(super) fn deliver_queue(
        &mut self,
        now: Duration,
        queue: QueueId,
        actions: &mut Vec<Action>,
    ) {
        if !self.throttled && !self.draining {
            self.deliver_up_to(now, queue, true, actions);
            self.deliver_up_to(now, queue, false, actions);
        }
        self.give_back_excess(queue, actions);
        self.claim_more(now, queue, actions);
    }

    fn deliver_up_to(
        &mut self,
        now: Duration,
        queue: QueueId,
        to_concurrency: bool,
        actions: &mut Vec<Action>,
    ) {
        let Some(state) = self.queues.get(&queue).filter(|state| !state.buffer.is_empty()) else {
            return;
        };
        let mut rooms: Vec<Room> = state
            .sessions
            .iter()
            .filter_map(|&index| {
                let session = &self.sessions[index];
                let free = session.free(self.limits.unacknowledged_bytes_max);
                let free = if to_concurrency {
                    free.min(session.concurrency.saturating_sub(session.outstanding))
                } else {
                    free
                };
                let (held, run_time) = (session.outstanding, session.run_time);
                (free > 0).then_some(Room { index, held, free, run_time })
            })
            .collect();
        if rooms.is_empty() {
            return;
        }
        let all = rooms.len();
        choose(&mut rooms, state.buffer.len(), self.turn);
        let passed = if rooms.len() < all { rooms.len() } else { 1 };
        self.turn = self.turn.wrapping_add(passed);
        let shares = fill(&rooms, state.buffer.len(), self.turn);
        for (room, share) in rooms.iter().zip(shares) {
            self.deliver(now, queue, room.index, share, actions);
        }
    }

    /// A session has room again: its queues take turns.
    pub(super) fn deliver_session(
        &mut self,
        now: Duration,
        index: usize,
        actions: &mut Vec<Action>,
    ) {
        if self.throttled || self.draining {
            return;
        }
        loop {
            let session = &self.sessions[index];
            let free = session.free(self.limits.unacknowledged_bytes_max);
            let count = session.queues.len();
            let waiting: Vec<QueueId> = (0..count)
                .map(|offset| session.queues[(session.turn + offset) % count])
                .filter(|queue| {
                    self.queues.get(queue).is_some_and(|state| !state.buffer.is_empty())
                })
                .collect();
            if free == 0 || waiting.is_empty() {
                return;
            }
            let share = free.div_ceil(waiting.len());
            let session = &mut self.sessions[index];
            session.turn = (session.turn + 1) % count;
            for queue in waiting {
                let free = self.sessions[index].free(self.limits.unacknowledged_bytes_max);
                self.deliver(now, queue, index, share.min(free), actions);
            }
        }
    }

    /// After completions: every queue of the session may claim again.
    pub(super) fn claim_for_session(
        &mut self,
        now: Duration,
        index: usize,
        actions: &mut Vec<Action>,
    ) {
        for at in 0..self.sessions[index].queues.len() {
            let queue = self.sessions[index].queues[at];
            self.claim_more(now, queue, actions);
        }
    }

    fn deliver(
        &mut self,
        now: Duration,
        queue: QueueId,
        index: usize,
        count: usize,
        actions: &mut Vec<Action>,
    ) {
        if count == 0 {
            return;
        }
        let Some(state) = self.queues.get_mut(&queue) else { return };
        let unacknowledged = self.sessions[index].unacknowledged_bytes;
        let bytes = self.limits.unacknowledged_bytes_max.saturating_sub(unacknowledged);
        let jobs = state.buffer.take(count, bytes);
        if jobs.is_empty() {
            return;
        }
        state.held += jobs.len();
        let timeout = state.timeout;
        self.buffered_bytes -= jobs.iter().map(TakenJob::bytes).sum::<usize>();
        for jobs in self.split(jobs) {
            self.send(now, queue, timeout, index, jobs, actions);
        }
    }

    /// Into messages of a size that any client takes.
    fn split(&self, mut jobs: Vec<TakenJob>) -> Vec<Vec<TakenJob>> {
        let mut messages = Vec::new();
        loop {
            let mut bytes = 0;
            let fits = |job: &&TakenJob| {
                bytes += job.bytes();
                bytes <= self.limits.message_bytes_max
            };
            let fitting = jobs.iter().take(self.limits.message_jobs_max).take_while(fits).count();
            if fitting.max(1) >= jobs.len() {
                messages.push(jobs);
                return messages;
            }
            let rest = jobs.split_off(fitting.max(1));
            messages.push(std::mem::replace(&mut jobs, rest));
        }
    }

    fn send(
        &mut self,
        now: Duration,
        queue: QueueId,
        default_timeout: Option<Duration>,
        index: usize,
        jobs: Vec<TakenJob>,
        actions: &mut Vec<Action>,
    ) {
        let bytes: usize = jobs.iter().map(TakenJob::bytes).sum();
        let session = &mut self.sessions[index];
        session.seq += 1;
        session.outstanding += jobs.len();
        session.unacknowledged_bytes += bytes;
        session.unacknowledged.push_back(Sent {
            seq: session.seq,
            at: now,
            bytes,
            ids: jobs.iter().map(|job| job.id).collect(),
        });
        for job in &jobs {
            let own = job.options.as_ref().and_then(|options| options.timeout_ms);
            let deadline = own.map(Duration::from_millis).or(default_timeout).map(|t| now + t);
            let lease = Lease {
                queue,
                attempt: job.attempt,
                seq: session.seq,
                completing: false,
                deadline,
            };
            // A job that was cancelled and retried comes back before this broker has heard of the
            // cancel.
            if let Some(older) = session.leases.insert(job.id, lease) {
                if let Some(at) = older.deadline {
                    self.deadlines.remove(&(at, index, job.id));
                }
                if !older.completing {
                    session.outstanding -= 1;
                    if let Some(state) = self.queues.get_mut(&older.queue) {
                        state.held -= 1;
                    }
                }
            }
            if let Some(at) = deadline {
                self.deadlines.insert((at, index, job.id));
            }
        }
        let delivery = Delivery { seq: session.seq, queue, jobs };
        actions.push(Action::Deliver { session: session.id, delivery });
    }
}
