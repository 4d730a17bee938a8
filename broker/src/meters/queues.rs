use std::{collections::HashMap, sync::Arc};

use super::Histogram;
use crate::{
    domain::{QueueId, QueueStats},
    engine::QueueLoad,
};

/// The figures of one queue since the start.
#[derive(Clone, Debug, Default)]
pub struct QueueMeter {
    pub enqueued: u64,
    pub delivered: u64,
    pub succeeded: u64,
    pub dead: u64,
    pub cancelled: u64,
    /// Attempts.
    pub failed: u64,
    /// Of those, the ones after which another attempt follows.
    pub retried: u64,
    /// Of first attempts: from when the job could start to its delivery.
    pub start: Histogram,
    /// From the delivery of an attempt to the report of its outcome.
    pub run: Histogram,
    /// As last looked at.
    pub load: Option<QueueLoad>,
    /// As it was last read. Not of the others.
    pub depth: Option<QueueStats>,
    /// As this broker knows it. Not of the others.
    pub paused: Option<bool>,
}

/// By queue, for so many queues that were seen first; all others together.
#[derive(Debug)]
pub struct Meters {
    queues: HashMap<QueueId, QueueMeter>,
    queues_max: usize,
    others: QueueMeter,
    /// Whether something was counted there.
    has_others: bool,
}

/// What the others are shown as.
const OTHERS: &str = "_other";

impl Meters {
    pub fn new(queues_max: usize) -> Self {
        Self {
            queues: HashMap::new(),
            queues_max,
            others: QueueMeter::default(),
            has_others: false,
        }
    }

    pub fn queue(&mut self, queue: QueueId) -> &mut QueueMeter {
        if self.queues.len() >= self.queues_max && !self.queues.contains_key(&queue) {
            self.has_others = true;
            return &mut self.others;
        }
        self.queues.entry(queue).or_default()
    }

    /// Replaces what was looked at before.
    pub fn set_loads(&mut self, loads: impl IntoIterator<Item = (QueueId, QueueLoad)>) {
        for meter in self.queues.values_mut().chain([&mut self.others]) {
            meter.load = None;
        }
        for (queue, load) in loads {
            let sum = self.queue(queue).load.get_or_insert_default();
            sum.sessions += load.sessions;
            sum.credit += load.credit;
            sum.held += load.held;
            sum.buffered += load.buffered;
            if let Some(backlog) = load.backlog {
                *sum.backlog.get_or_insert_default() += backlog;
            }
        }
    }

    /// Those that are counted each.
    pub fn queues(&self) -> Vec<QueueId> {
        self.queues.keys().copied().collect()
    }

    /// How many more can be counted each.
    pub fn room(&self) -> usize {
        self.queues_max.saturating_sub(self.queues.len())
    }

    /// Replaces what was known before.
    pub fn set_paused(&mut self, paused: impl Fn(QueueId) -> Option<bool>) {
        for (queue, meter) in &mut self.queues {
            meter.paused = paused(*queue);
        }
    }

    /// Replaces what was read before; `None`: nothing is known.
    pub fn set_depths(&mut self, depths: Option<&HashMap<QueueId, QueueStats>>) {
        for (queue, meter) in &mut self.queues {
            meter.depth = depths.and_then(|depths| depths.get(queue).copied());
        }
    }

    /// A copy with names, for whoever writes it down. What has no name yet is left for the next time.
    pub fn named(&self, name: impl Fn(QueueId) -> Option<Arc<str>>) -> Vec<(Arc<str>, QueueMeter)> {
        let known = self.queues.iter().filter_map(|(id, meter)| Some((name(*id)?, meter.clone())));
        let mut all: Vec<_> = known.collect();
        all.sort_by(|one, other| one.0.cmp(&other.0));
        if self.has_others {
            all.push((OTHERS.into(), self.others.clone()));
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(meters: &Meters) -> Vec<(String, u64)> {
        let all = meters.named(|id| (id.0 != 9).then(|| format!("q{}", id.0).into()));
        all.into_iter().map(|(name, meter)| (name.to_string(), meter.enqueued)).collect()
    }

    #[test]
    fn the_first_queues_are_counted_each_and_the_others_together() {
        let mut meters = Meters::new(2);
        for queue in [2, 1, 3, 1, 4, 2, 2] {
            meters.queue(QueueId(queue)).enqueued += 1;
        }
        let expected = [("q1", 2), ("q2", 3), ("_other", 2)];
        assert_eq!(names(&meters), expected.map(|(name, count)| (name.to_owned(), count)));
    }

    #[test]
    fn a_queue_whose_name_is_not_known_is_left_out() {
        let mut meters = Meters::new(2);
        meters.queue(QueueId(9)).enqueued += 1;
        assert_eq!(names(&meters), []);
    }

    #[test]
    fn loads_are_summed_where_queues_are_and_forgotten_with_the_next() {
        let mut meters = Meters::new(1);
        let load = |held, backlog| QueueLoad { held, backlog, ..QueueLoad::default() };
        meters.set_loads([
            (QueueId(1), load(1, None)),
            (QueueId(2), load(2, None)),
            (QueueId(3), load(3, Some(7))),
        ]);
        assert_eq!(meters.queue(QueueId(1)).load, Some(load(1, None)));
        assert_eq!(meters.queue(QueueId(2)).load, Some(load(5, Some(7))));
        meters.set_loads([]);
        assert_eq!(meters.queue(QueueId(1)).load, None);
    }
}
