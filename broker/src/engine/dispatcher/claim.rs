use std::time::Duration;

use super::{Action, Dispatcher};
use crate::{
    domain::{Attempt, JobId, JobKey, QueueId, ReadyIn, TakenJob},
    engine::{ClaimFrom, Walked, turns::in_turns},
};

/// Why the broker fails an attempt by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailCause {
    /// The worker's session ended while it held the job.
    WorkerLost,
    /// The attempt ran longer than its timeout.
    Timeout,
}

/// Places whose sessions have room: where jobs are known to wait, and the others.
#[derive(Debug, Default)]
pub struct Hungry {
    pub known: Vec<ReadyIn>,
    pub unknown: Vec<ReadyIn>,
}

impl Hungry {
    pub fn is_empty(&self) -> bool {
        self.known.is_empty() && self.unknown.is_empty()
    }
}

impl Dispatcher {
    /// Ready rows may stand in the database of which this broker doesn't know.
    pub fn notified(&mut self, now: Duration, ready: ReadyIn, actions: &mut Vec<Action>) {
        let ReadyIn { queue, keyed } = ready;
        if let Some(state) = self.queues.get_mut(&queue) {
            if keyed {
                state.keys.note();
                // It plans when to claim, if not now.
                self.deliver_queue(now, queue, actions);
            } else {
                state.backlog.notify();
                self.claim_more(now, queue, actions);
            }
        }
    }

    /// Nobody has listened for a while: each queue with sessions looks at its backlog, as soon as it has room.
    pub fn missed_notices(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let served = self.queues.iter().filter(|(_, state)| !state.line.is_empty());
        let served: Vec<QueueId> = served.map(|(queue, _)| *queue).collect();
        for place in served.into_iter().flat_map(ReadyIn::either) {
            self.notified(now, place, actions);
        }
    }

    /// A ready row without a key stands in the database: promoted, released or stored by this broker.
    pub fn ready(
        &mut self,
        now: Duration,
        queue: QueueId,
        rows: impl IntoIterator<Item = (i16, JobId)>,
        actions: &mut Vec<Action>,
    ) {
        let state = self.queue(queue);
        for (priority, id) in rows {
            state.backlog.note(priority, id);
        }
        self.claim_more(now, queue, actions);
    }

    /// Where jobs would find sessions that have room for more.
    pub fn hungry(&self) -> Hungry {
        let mut hungry = Hungry::default();
        for (queue, state) in &self.queues {
            if state.line.is_empty() || state.room() == 0 {
                continue;
            }
            for place in ReadyIn::either(*queue) {
                let known = match place.keyed {
                    true => state.keys.are_waiting(),
                    false => state.backlog.highest().is_some(),
                };
                if known { &mut hungry.known } else { &mut hungry.unknown }.push(place);
            }
        }
        hungry
    }

    /// A claim committed. `took`: how long it ran; `limit`: as in the action.
    pub fn claimed(
        &mut self,
        now: Duration,
        took: Duration,
        queue: QueueId,
        limit: usize,
        mut jobs: Vec<TakenJob>,
        actions: &mut Vec<Action>,
    ) {
        jobs.sort_unstable_by_key(|job| (std::cmp::Reverse(job.priority), job.id));
        let rows: Vec<(i16, JobId)> = jobs.iter().map(|job| (job.priority, job.id)).collect();
        self.queue(queue).backlog.claimed(now, took, limit, &rows);
        jobs.retain(|job| !self.is_cancelled(job.id, job.attempt));
        self.arrived(now, queue, limit, jobs, actions);
    }

    /// A claim of jobs with keys committed.
    pub fn claimed_keys(
        &mut self,
        now: Duration,
        took: Duration,
        queue: QueueId,
        walked: &Walked,
        mut jobs: Vec<TakenJob>,
        actions: &mut Vec<Action>,
    ) {
        let (limit, had_all) = self.queue(queue).keys.claimed(now, took, walked, &jobs);
        jobs.retain(|job| !self.is_cancelled(job.id, job.attempt));
        self.place_claimed(now, queue, &had_all, &mut jobs, actions);
        in_turns(&mut jobs, &self.queue(queue).keys.weights);
        self.arrived(now, queue, limit, jobs, actions);
    }

    /// What a claim of up to `limit` jobs took is in memory.
    fn arrived(
        &mut self,
        now: Duration,
        queue: QueueId,
        limit: usize,
        jobs: Vec<TakenJob>,
        actions: &mut Vec<Action>,
    ) {
        let bytes: usize = jobs.iter().map(TakenJob::bytes).sum();
        let state = self.queue(queue);
        if let Some(mean) = bytes.checked_div(jobs.len()) {
            state.claimed_bytes = mean.max(1);
        }
        state.reserved -= limit;
        for job in jobs {
            state.take(now, job);
        }
        self.buffered_bytes += bytes;
        self.deliver_queue(now, queue, actions);
    }

    /// A claim failed; whether it committed may be unknown.
    pub fn claim_failed(&mut self, now: Duration, queue: QueueId, limit: usize) {
        let state = self.queue(queue);
        state.reserved -= limit;
        state.backlog.claim_failed(now);
    }

    /// The same of a claim of jobs with keys. Where keys are limited the broker has lost count: the queue isn't
    /// its own until it owns it anew.
    pub fn claim_keys_failed(&mut self, now: Duration, queue: QueueId, actions: &mut Vec<Action>) {
        let state = self.queue(queue);
        state.reserved -= state.keys.claim_failed(now);
        // It may have committed, and what it took counts then: that is read anew.
        if let Some(gate) = state.gate.as_mut().filter(|gate| gate.places.is_some()) {
            gate.disown(now);
            self.wants_to_own = true;
            self.give_back_excess(queue, actions);
        }
    }

    /// Starts a claim where there is a backlog and room for a worthwhile number of rows: of jobs without keys,
    /// and of those with, which leave the others as much room as one of their own.
    pub(super) fn claim_more(&mut self, now: Duration, queue: QueueId, actions: &mut Vec<Action>) {
        if self.draining || self.throttled || self.buffered_bytes > self.limits.buffered_bytes_max {
            return;
        }
        let rows_max = self.limits.claim_rows_max;
        let Some(state) = self.queues.get_mut(&queue) else { return };
        let room =
            state.backlog.highest().map_or(state.room(), |priority| state.room_for(priority));
        // The low mark: a claim of a few rows costs as much as one of many.
        let worthwhile = state.buffer.is_empty() || room >= rows_max.min(state.cap() / 4);
        if state.line.is_empty() || room == 0 || !worthwhile {
            return;
        }
        let bytes = self.limits.buffered_bytes_max.saturating_sub(self.buffered_bytes);
        let mut left = room.min(rows_max).min((bytes / state.claimed_bytes).max(1));
        let limit = state.keys.leave(now, left);
        if limit > 0
            && let Some(from) = state.backlog.next_claim(now)
        {
            left -= limit;
            state.reserved += limit;
            actions.push(Action::Claim { queue, from, limit });
        }
        let room = state.room();
        if let Some(claim) = state.keys.next_claim(now, left.min(room), state.gate.as_deref_mut()) {
            state.reserved += claim.limit;
            actions.push(Action::ClaimKeys { queue, claim });
        }
    }

    /// Gives back what is in memory beyond what the sessions can use, the least urgent first.
    pub(super) fn give_back_excess(&mut self, queue: QueueId, actions: &mut Vec<Action>) {
        let draining = self.draining;
        let Some(state) = self.queues.get_mut(&queue) else { return };
        let cap = if draining { 0 } else { state.cap() + state.cap() / 2 };
        let excess = (state.buffer.len() + state.held).saturating_sub(cap).min(state.buffer.len());
        if excess == 0 {
            return;
        }
        let jobs = state.buffer.take_last(excess);
        self.buffered_bytes -= jobs.iter().map(TakenJob::bytes).sum::<usize>();
        for job in jobs.iter().filter(|job| job.key.is_some()) {
            self.key_unsure(queue, Attempt { id: job.id, number: job.attempt });
        }
        let jobs = jobs.iter().map(|job| (JobKey { queue, id: job.id }, job.attempt)).collect();
        actions.push(Action::GiveBack { jobs });
    }
}

impl ClaimFrom {
    /// A word for metrics and spans.
    pub fn name(self) -> &'static str {
        match self {
            ClaimFrom::Sweep => "sweep",
            ClaimFrom::Cursor { .. } => "cursor",
        }
    }
}
