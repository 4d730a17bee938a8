use std::{collections::HashSet, time::Duration};

use super::{Action, Dispatcher};
use crate::domain::{Attempt, JobId, JobKey, QueueId};

/// Cancelled attempts that one session is reminded of. It is told that further ones are lost.
const REMINDED_MAX: usize = 1000;
/// Cancelled attempts that may be on their way into memory. Further ones may be delivered, and run in
/// vain.
const EXPECTED_MAX: usize = 10_000;

impl Dispatcher {
    /// Attempts were cancelled in the database. What is in the buffer leaves it. The lease of what a
    /// session holds ends, and the worker is told, now and with each heartbeat until it reports the
    /// attempt. What is neither here nor there may be on its way into memory: it is expected for as
    /// long as `expect`, and left aside when it comes. Returns the jobs that were in the buffer.
    pub fn cancelled(
        &mut self,
        now: Duration,
        jobs: &[(JobKey, i32)],
        expect: Duration,
        actions: &mut Vec<Action>,
    ) -> Vec<JobKey> {
        let mut buffered = Vec::new();
        let mut elsewhere = HashSet::new();
        for &(key, number) in jobs {
            let state = self.queues.get_mut(&key.queue);
            if let Some(job) = state.and_then(|state| state.buffer.remove(key.id, number)) {
                self.buffered_bytes -= job.bytes();
                buffered.push(key);
            } else {
                elsewhere.insert(Attempt { id: key.id, number });
            }
        }
        self.cancel_leases(now, &mut elsewhere, actions);
        for attempt in elsewhere {
            if self.expected.len() < EXPECTED_MAX {
                self.expected.insert(attempt, now + expect);
            }
        }
        for &(key, number) in jobs {
            self.over(now, key.queue, Attempt { id: key.id, number });
        }
        let mut queues: Vec<QueueId> = buffered.iter().map(|key| key.queue).collect();
        queues.dedup();
        for queue in queues {
            self.claim_more(now, queue, actions);
        }
        self.deliver_freed(now, actions);
        buffered
    }

    /// Takes those that sessions hold out of `attempts`.
    fn cancel_leases(
        &mut self,
        now: Duration,
        attempts: &mut HashSet<Attempt>,
        actions: &mut Vec<Action>,
    ) {
        let indexes: Vec<usize> = self.sessions.iter().map(|(index, _)| index).collect();
        for index in indexes {
            if attempts.is_empty() {
                return;
            }
            let mut held = self.sessions[index].holds(attempts);
            for attempt in &held {
                attempts.remove(attempt);
            }
            // The verdict of a completion on its way tells the worker.
            held.retain(|attempt| !self.sessions[index].leases[&attempt.id].completing);
            if held.is_empty() {
                continue;
            }
            for attempt in &held {
                self.end_lease(index, attempt.id);
                let reminded = &mut self.sessions[index].cancelled;
                if reminded.len() < REMINDED_MAX {
                    reminded.insert(*attempt);
                }
            }
            let session = self.sessions[index].id;
            actions.push(Action::Cancel { session, attempts: held });
            self.deliver_session(now, index, actions);
            self.claim_for_session(now, index, actions);
        }
    }

    /// Whether a job that comes into memory was cancelled on its way.
    pub(super) fn is_cancelled(&self, id: JobId, number: i32) -> bool {
        !self.expected.is_empty() && self.expected.contains_key(&Attempt { id, number })
    }

    /// Forgets what won't come any more.
    pub(super) fn expire_expected(&mut self, now: Duration) {
        if !self.expected.is_empty() {
            self.expected.retain(|_, until| *until > now);
        }
    }
}
