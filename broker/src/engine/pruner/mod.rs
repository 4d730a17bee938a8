#[cfg(test)]
mod tests;
mod walk;

use std::{collections::BTreeMap, time::Duration};

use self::walk::Walk;
use crate::domain::{JobId, Pruned, QueueId, Retention, Slice};

/// How much pruning does at once and in a second.
#[derive(Clone, Debug)]
pub struct PrunerLimits {
    pub rows_per_slice_max: usize,
    /// Rows gone over, whether they're deleted or stay.
    pub rows_per_second_max: u32,
}

/// Between two looks what is due.
const LOOK_MS_MAX: i64 = 60_000;

/// Says which jobs to go over next, to prune those that are over their retention.
///
/// It walks through each queue in the order of ids, which are times: what is younger than the shortest
/// retention needn't be looked at. It goes on from where it was: behind it lie index entries of what it
/// has deleted, which Postgres keeps until it vacuums. It comes back for what stayed behind, when the
/// first of that may be over its retention, and now and then from the very beginning.
///
/// Times are the database's, in milliseconds since 1970.
#[derive(Debug)]
pub struct Pruner {
    limits: PrunerLimits,
    /// Of queues that say nothing, and so of those that come.
    default_ms: Option<i64>,
    /// As many as there are queues whose jobs aren't all kept for ever.
    walks: BTreeMap<QueueId, Walk>,
}

impl Pruner {
    /// `default`: of queues that say nothing.
    pub fn new(limits: PrunerLimits, default: Retention) -> Self {
        Self { limits, default_ms: default.shortest_ms(), walks: BTreeMap::new() }
    }

    /// How often to look what is due: rarely, compared to how long jobs are kept.
    pub fn look_interval(&self) -> Duration {
        let known = self.walks.values().map(|walk| walk.shortest_ms);
        let shortest_ms = known.chain(self.default_ms).min();
        let ms = shortest_ms.map_or(LOOK_MS_MAX, |ms| (ms / 100).clamp(1000, LOOK_MS_MAX));
        Duration::from_millis(ms.unsigned_abs())
    }

    /// These queues are there, and no others. One whose retention has changed is walked through anew.
    pub fn set_queues(&mut self, now_ms: i64, queues: &[(QueueId, Retention)]) {
        let mut walks = std::mem::take(&mut self.walks);
        let mut walk = |&(queue, retention): &(QueueId, Retention)| {
            let known = walks.remove(&queue).filter(|walk| walk.retention == retention);
            Some((queue, known.or_else(|| Walk::new(now_ms, retention))?))
        };
        self.walks = queues.iter().filter_map(&mut walk).collect();
    }

    /// The queues of which to ask what the first job behind the given one is.
    pub fn unknown(&mut self, now_ms: i64) -> Vec<(QueueId, JobId)> {
        let mut unknown = Vec::new();
        for (queue, walk) in &mut self.walks {
            walk.turn_back(now_ms);
            if walk.look_at_ms <= now_ms {
                unknown.push((*queue, walk.position));
            }
        }
        unknown
    }

    /// The answer for queues of which `unknown` asked: those without are left out of `found`.
    pub fn set_next(
        &mut self,
        now_ms: i64,
        asked: &[(QueueId, JobId)],
        found: &[(QueueId, JobId)],
    ) {
        for (queue, _) in asked {
            let Some(walk) = self.walks.get_mut(queue) else { continue };
            walk.next = None;
            // Whatever comes is younger than now.
            walk.look_at_ms = now_ms + walk.shortest_ms;
        }
        for (queue, next) in found {
            let Some(walk) = self.walks.get_mut(queue) else { continue };
            walk.position = JobId(next.0 - 1);
            walk.next = Some(*next);
            walk.look_at_ms = next.created_ms() + walk.shortest_ms;
        }
        for (queue, _) in asked {
            if let Some(walk) = self.walks.get_mut(queue)
                && walk.next.is_none_or(|next| next >= walk.first_too_young(now_ms))
            {
                walk.arrived(now_ms);
            }
        }
    }

    /// What to go over next: in the queue whose next job is the oldest. `None`: nothing is old enough.
    pub fn next_slice(&self, now_ms: i64) -> Option<Slice> {
        let due = |(queue, walk): (&QueueId, &Walk)| {
            Some((walk.next.filter(|next| *next < walk.first_too_young(now_ms))?, *queue))
        };
        let (_, queue) = self.walks.iter().filter_map(due).min()?;
        let walk = self.walks.get(&queue)?;
        let old = |retention_ms: Option<i64>| retention_ms.map(|ms| now_ms - ms);
        Some(Slice {
            queue,
            after: walk.position,
            before: walk.first_too_young(now_ms),
            rows_max: self.limits.rows_per_slice_max,
            succeeded_before_ms: old(walk.retention.succeeded_ms),
            cancelled_before_ms: old(walk.retention.cancelled_ms),
            dead_before_ms: old(walk.retention.dead_ms),
        })
    }

    /// A slice has been gone over.
    pub fn pruned(&mut self, now_ms: i64, slice: &Slice, pruned: &Pruned) {
        if let Some(walk) = self.walks.get_mut(&slice.queue) {
            walk.pruned(now_ms, slice, pruned);
        }
    }

    /// How long to rest after so many rows, which took so long: by the pace that is set, and at least as
    /// long again, so that no more than half of the time of one connection goes into pruning.
    pub fn rest(&self, rows: usize, took: Duration) -> Duration {
        let due = Duration::from_secs_f64(rows as f64 / f64::from(self.limits.rows_per_second_max));
        due.saturating_sub(took).max(took)
    }
}
