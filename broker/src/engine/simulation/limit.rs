use std::collections::BTreeSet;

use super::{
    World,
    model::{Phase, Row},
};
use crate::{
    domain::{Attempt, QueueId, QueueLimits, QueueRules},
    engine::Action,
};

impl World {
    pub(super) fn rules_of(&self, queue: QueueId) -> QueueRules {
        let untouched =
            QueueRules { version: 0, paused: false, timeout_ms: None, limits: QueueLimits::NONE };
        self.rules.get(&queue).copied().unwrap_or(untouched)
    }

    /// A limit is written, as any broker may do.
    pub(super) fn limit(&mut self, queue: QueueId, concurrency: Option<u32>) {
        let limits = QueueLimits { concurrency, rate: None };
        self.write(queue, QueueRules { limits, ..self.rules_of(queue) });
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
        if self.limit_of(queue).is_none() {
            return;
        }
        if !owned {
            self.owned.remove(&queue);
            self.dispatcher.disown(self.now, queue, actions);
            return;
        }
        if elsewhere {
            let id = self.id();
            self.rows.insert(id, Row { queue, priority: 0, phase: Phase::Taken, attempt: 1 });
            self.elsewhere.insert((queue, Attempt { id, number: 1 }));
        }
        self.owned.insert(queue);
        let running: Vec<Attempt> = self
            .rows
            .iter()
            .filter(|(_, row)| row.queue == queue && row.phase == Phase::Taken)
            .map(|(id, row)| Attempt { id: *id, number: row.attempt })
            .collect();
        self.dispatcher.own(self.now, queue, running, actions);
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
                let counts = |(of, attempt): &&(QueueId, Attempt)| {
                    *of == queue && self.is_under_way(*attempt)
                };
                let elsewhere = self.elsewhere.iter().filter(counts).count();
                assert!(load.held + elsewhere <= limit, "more than may be under way");
            }
        }
    }

    fn is_under_way(&self, attempt: Attempt) -> bool {
        let row = self.rows[&attempt.id];
        (row.phase, row.attempt) == (Phase::Taken, attempt.number)
    }

    /// As the dispatcher was told.
    fn limit_of(&self, queue: QueueId) -> Option<usize> {
        self.told.get(&queue)?.limits.concurrency.map(|max| max as usize)
    }
}
