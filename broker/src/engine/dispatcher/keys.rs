use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use super::{Action, Dispatcher};
use crate::{
    domain::{Attempt, JobKey, KeyStanding, QueueId, TakenJob},
    engine::places::{Freed, Place, Places},
};

// Where keys are limited, each attempt of a job with one has a place from its claim until the database has its
// outcome. Nothing here is done while no queue does that.

impl Dispatcher {
    fn places(&mut self, queue: QueueId) -> Option<&mut Places> {
        if !self.counts_keys {
            return None;
        }
        self.queues.get_mut(&queue)?.gate.as_mut()?.places.as_mut()
    }

    pub(super) fn places_of_all(&self) -> impl Iterator<Item = &Places> {
        let queues = self.queues.values().filter(|_| self.counts_keys);
        queues.filter_map(|state| state.gate.as_ref()?.places.as_ref())
    }

    /// How a key stands, if this broker counts what is under way of the queue's keys.
    pub fn key_standing(
        &mut self,
        now: Duration,
        queue: QueueId,
        key: &str,
    ) -> Option<KeyStanding> {
        Some(self.places(queue)?.standing(now, key))
    }

    /// Jobs were claimed. Those for which there is no place are given back. `had_all`: keys that had all that they
    /// might; if one has a place now it has become free meanwhile.
    pub(super) fn place_claimed(
        &mut self,
        now: Duration,
        queue: QueueId,
        had_all: &[Arc<str>],
        jobs: &mut Vec<TakenJob>,
        actions: &mut Vec<Action>,
    ) {
        let Some(places) = self.places(queue) else { return };
        let mut beyond = Vec::new();
        jobs.retain(|job| {
            let attempt = Attempt { id: job.id, number: job.attempt };
            let placed = job.key.as_ref().is_none_or(|key| places.take(now, attempt, key));
            if !placed {
                beyond.push((JobKey { queue, id: job.id }, job.attempt));
            }
            placed
        });
        if had_all.iter().any(|key| places.has_place(now, key)) {
            self.queue(queue).keys.note();
        }
        if !beyond.is_empty() {
            actions.push(Action::GiveBack { jobs: beyond });
        }
    }

    /// Their leases, or their places in the buffer, have ended; what becomes of them is on its way to the
    /// database.
    pub(super) fn key_unsure(&mut self, queue: QueueId, attempt: Attempt) {
        if let Some(places) = self.places(queue) {
            places.move_to(attempt, Place::Unsure);
        }
    }

    /// The database says that the attempt is over.
    pub(super) fn key_over(&mut self, now: Duration, queue: QueueId, attempt: Attempt) {
        let freed = self.places(queue).map_or(Freed::Nothing, |places| places.over(now, attempt));
        if freed == Freed::Awaited {
            self.queue(queue).keys.note();
        }
        if freed != Freed::Nothing {
            self.freed(queue);
        }
    }

    /// Time lets jobs of keys through, perhaps.
    pub(super) fn expire_places(&mut self, now: Duration) {
        if self.counts_keys {
            for gate in self.queues.values_mut().filter_map(|state| state.gate.as_mut()) {
                if let Some(places) = &mut gate.places {
                    places.expire(now);
                }
            }
        }
    }

    /// What is known of the attempts with keys that are under way.
    pub(super) fn count_keys(
        &mut self,
        now: Duration,
        queue: QueueId,
        running: Vec<super::Running>,
        here: &HashSet<Attempt>,
    ) -> Option<Places> {
        let state = self.queues.get(&queue)?;
        let limits = state.gate.as_ref()?.key_limits();
        if !limits.are_any() {
            return None;
        }
        self.counts_keys = true;
        // What waits in memory from before is there whatever the database says of it.
        let buffered = state.buffer.iter().filter_map(|job| {
            let attempt = Attempt { id: job.id, number: job.attempt };
            Some((attempt, (Arc::clone(job.key.as_ref()?), Place::Buffered)))
        });
        let mut placed: HashMap<Attempt, (Arc<str>, Place)> = buffered.collect();
        for one in running {
            let place = if here.contains(&one.attempt) { Place::Held } else { Place::Unsure };
            if let Some(key) = one.key {
                placed.entry(one.attempt).or_insert((key, place));
            }
        }
        Some(Places::new(now, limits, self.limits.limited_keys_max, placed))
    }
}
