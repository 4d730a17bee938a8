use std::collections::BTreeSet;

use super::{
    KEYS, QUEUES, World,
    model::{Phase, Row, key_named},
};
use crate::{
    domain::{Attempt, JobId, KeyLimits, QueueId, QueueLimits, QueueRules, TakenJob},
    engine::{Action, Running},
};

impl World {
    pub(super) fn rules_of(&self, queue: QueueId) -> QueueRules {
        let untouched = QueueRules { version: 0, ..QueueRules::UNTOLD };
        self.rules.get(&queue).cloned().unwrap_or(untouched)
    }

    /// A limit is written, as any broker may do.
    pub(super) fn limit(&mut self, queue: QueueId, concurrency: Option<u32>) {
        let limits = QueueLimits { concurrency, ..self.rules_of(queue).limits };
        self.write(queue, QueueRules { limits, ..self.rules_of(queue) });
    }

    /// What keys may have is written, as any broker may do.
    pub(super) fn limit_keys(&mut self, queue: QueueId, concurrency: Option<u32>, ordered: bool) {
        let key = KeyLimits { concurrency, rate: None, ordered };
        let limits = QueueLimits { key, ..self.rules_of(queue).limits };
        self.write(queue, QueueRules { limits, ..self.rules_of(queue) });
    }

    /// A key is given a weight, as any broker may do.
    pub(super) fn weigh(&mut self, queue: QueueId, key: u8, weight: u16) {
        let key_weights = key_named(key).map(|key| (key, weight)).into_iter().collect();
        self.write(queue, QueueRules { key_weights, ..self.rules_of(queue) });
    }

    /// Of jobs that go to a worker none is more than its key may have, wherever they are.
    pub(super) fn check_keys(&self, queue: QueueId, jobs: &[TakenJob]) {
        let Some(KeyLimits { concurrency, ordered, .. }) =
            self.told.get(&queue).map(|rules| rules.limits.key)
        else {
            return;
        };
        let max = if ordered { Some(1) } else { concurrency };
        let Some(max) = max.map(|max| max as usize) else { return };
        for job in jobs.iter().filter(|job| job.key.is_some()) {
            assert!(self.owned.contains(&queue), "delivered though another broker owns it");
            let key = self.rows[&job.id].key;
            let of_key = |(_, row): &(&JobId, &Row)| row.queue == queue && row.key == key;
            let of_key = || self.rows.iter().filter(of_key);
            let taken = of_key().filter(|(_, row)| row.phase == Phase::Taken).count();
            assert!(taken <= max, "more of a key than may be under way");
        }
    }

    /// Ready jobs of keys that have a place are looked for, if anybody has said that they are there.
    pub(super) fn check_looked_for(&mut self) {
        for (queue, key) in (0..QUEUES).flat_map(|queue| (1..=KEYS).map(move |key| (queue, key))) {
            let queue = QueueId(queue);
            let ready = |row: &Row| (row.queue, row.key, row.phase) == (queue, key, Phase::Ready);
            if self.silent.contains(&queue) || !self.rows.values().any(ready) {
                continue;
            }
            let limits = self.told.get(&queue).map_or(KeyLimits::NONE, |rules| rules.limits.key);
            let name = key_named(key).unwrap();
            let standing = self.dispatcher.key_standing(self.now, queue, &name);
            let has_place = match standing {
                Some(standing) => {
                    let max = if limits.ordered { Some(1) } else { limits.concurrency };
                    let free = max.is_none_or(|max| standing.under_way < u64::from(max));
                    free && !standing.beyond_count
                }
                None => !limits.are_any(),
            };
            let looked_for = self.dispatcher.looks_for_keys(queue);
            assert!(looked_for || !has_place, "nobody looks for {name} of {queue:?}");
        }
    }

    /// This broker comes to own a limited queue, while another has an attempt of it perhaps; or gives it
    /// up.
    pub(super) fn own(
        &mut self,
        queue: QueueId,
        owned: bool,
        elsewhere: bool,
        actions: &mut Vec<Action>,
    ) {
        if !self.told.get(&queue).is_some_and(|rules| rules.limits.are_any()) {
            return;
        }
        if !owned {
            self.owned.remove(&queue);
            self.terms.remove(&queue);
            self.dispatcher.disown(self.now, queue, actions);
            return;
        }
        // Who owns it is the only one to take its jobs.
        if elsewhere && !self.owned.contains(&queue) {
            let id = self.id();
            let key = u8::try_from(id.0 % 3).unwrap();
            let row = Row { queue, priority: 0, phase: Phase::Taken, attempt: 1, key };
            self.rows.insert(id, row);
            self.elsewhere.insert((queue, Attempt { id, number: 1 }));
        }
        self.owned.insert(queue);
        let running: Vec<Running> = self
            .rows
            .iter()
            .filter(|(_, row)| row.queue == queue && row.phase == Phase::Taken)
            .map(|(id, row)| Running {
                attempt: Attempt { id: *id, number: row.attempt },
                key: key_named(row.key),
            })
            .collect();
        let term = self.terms.values().max().copied().unwrap_or_default() + 1;
        self.terms.insert(queue, term);
        self.dispatcher.own(self.now, queue, (term, running), actions);
    }

    /// What other brokers had is done, and what nobody has any more isn't under way.
    pub(super) fn look_elsewhere(&mut self, actions: &mut Vec<Action>) {
        for (_, attempt) in std::mem::take(&mut self.elsewhere) {
            if self.is_under_way(attempt) {
                self.rows.get_mut(&attempt.id).unwrap().phase = Phase::Done;
                *self.completed.entry(attempt.id).or_default() += 1;
            }
        }
        for limited in self.dispatcher.limited_queues() {
            let over = limited.elsewhere.into_iter().filter(|attempt| !self.is_under_way(*attempt));
            let over: Vec<Attempt> = over.collect();
            self.dispatcher.over_elsewhere(self.now, limited.queue, &over, actions);
        }
    }

    /// Of a limited queue jobs went only to workers while there was a place for them, and only where it is
    /// owned.
    pub(super) fn check_limits(&self, delivered: &BTreeSet<QueueId>) {
        for (queue, load) in self.dispatcher.queue_loads() {
            if let Some(limit) = self.limit_of(queue)
                && delivered.contains(&queue)
            {
                assert!(self.owned.contains(&queue), "delivered though another broker owns it");
                // What a worker took along counts here as held, as long as it may come back.
                let here: BTreeSet<Attempt> = self
                    .dispatcher
                    .jobs()
                    .map(|(key, number)| Attempt { id: key.id, number })
                    .collect();
                let counts = |(of, attempt): &&(QueueId, Attempt)| {
                    *of == queue && self.is_under_way(*attempt) && !here.contains(attempt)
                };
                let elsewhere = self.elsewhere.iter().filter(counts).count();
                assert!(load.held + elsewhere <= limit, "more than may be under way");
            }
        }
    }

    pub(super) fn is_under_way(&self, attempt: Attempt) -> bool {
        let row = self.rows[&attempt.id];
        (row.phase, row.attempt) == (Phase::Taken, attempt.number)
    }

    /// As the dispatcher was told.
    fn limit_of(&self, queue: QueueId) -> Option<usize> {
        self.told.get(&queue)?.limits.concurrency.map(|max| max as usize)
    }
}
