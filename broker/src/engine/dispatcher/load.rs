use std::{sync::Arc, time::Duration};

use foldhash::{HashMap, HashMapExt};

use super::{Dispatcher, Queue, SessionId};
use crate::{
    domain::{Here, JobKey, QueueId},
    engine::{places::Places, session::Session},
};

/// What the broker has in memory, and for whom.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Those among them whose stream broke and that may come back.
    pub sessions: usize,
    /// Sum of what the attached ones may hold.
    pub credit: usize,
    /// Attempts that sessions hold, those completing among them.
    pub held: usize,
    /// Jobs that no session has yet.
    pub buffered: usize,
    /// Of these, and of what is on its way into memory.
    pub buffered_bytes: usize,
    /// Keys of which something is known, where they are limited.
    pub limited_keys: usize,
}

/// The same for one queue, and what came and went since the broker started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueLoad {
    /// Attached.
    pub sessions: usize,
    /// Sum of what these may hold.
    pub credit: usize,
    /// What is left of that.
    pub free: usize,
    /// Attempts that aren't completing.
    pub held: usize,
    /// Attempts that are; counted while the queue is paused, when a drain may wait for them.
    pub completing: usize,
    pub buffered: usize,
    /// Jobs on their way into memory.
    pub reserved: usize,
    /// Ready rows, roughly; `None`: nobody knows.
    pub backlog: Option<usize>,
    /// Jobs that were stored here.
    pub enqueued: u64,
    /// Attempts of which workers have reported an outcome.
    pub completed: u64,
}

/// A session as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionLoad {
    pub session: SessionId,
    pub worker: Arc<str>,
    pub queues: Vec<QueueId>,
    pub max_in_flight: usize,
    pub concurrency: usize,
    /// Attempts that it holds, those completing among them.
    pub held: usize,
    pub attached: bool,
    /// When the worker showed life last.
    pub seen_at: Duration,
}

impl QueueLoad {
    /// Jobs with workers, in memory, or on their way there.
    pub fn in_memory(&self) -> usize {
        self.held + self.completing + self.buffered + self.reserved
    }
}

impl Dispatcher {
    /// A job was stored that starts later.
    pub fn scheduled(&mut self, queue: QueueId) {
        self.queue(queue).enqueued += 1;
    }

    /// Goes over all sessions and queues.
    pub fn load(&self) -> Load {
        let sessions = || self.sessions.iter().map(|(_, session)| session);
        let attached = sessions().filter(|session| session.attached);
        Load {
            sessions: self.sessions.len(),
            credit: attached.map(|session| session.max_in_flight).sum(),
            held: self.held_count(),
            buffered: self.buffered_count(),
            buffered_bytes: self.buffered_bytes,
            limited_keys: self.places_of_all().map(Places::keys).sum(),
        }
    }

    /// The first sessions from this place on that are wanted, each with its place.
    pub fn session_loads(
        &self,
        from: usize,
        limit: usize,
        wanted: impl Fn(&[QueueId]) -> bool,
    ) -> Vec<(usize, SessionLoad)> {
        let sessions = self.sessions.iter().skip_while(|(place, _)| *place < from);
        let wanted = sessions.filter(|(_, session)| wanted(&session.queues));
        let load = |session: &Session| SessionLoad {
            session: session.id,
            worker: Arc::clone(&session.worker),
            queues: session.queues.clone(),
            max_in_flight: session.max_in_flight,
            concurrency: session.concurrency,
            held: session.leases.len(),
            attached: session.attached,
            seen_at: session.seen_at,
        };
        wanted.take(limit).map(|(place, session)| (place, load(session))).collect()
    }

    /// Of the queues that are in use here, or were, in no order.
    pub fn queue_loads(&self) -> impl Iterator<Item = (QueueId, QueueLoad)> + '_ {
        let completing = self.completing_of_paused();
        let load = move |id: &QueueId, queue: &Queue| QueueLoad {
            sessions: queue.line.len(),
            credit: queue.credit,
            // Sessions may hold jobs of their other queues: who has room stands in line.
            free: queue.line.first().map_or(0, |_| queue.credit.saturating_sub(queue.held)),
            held: queue.held,
            completing: completing.get(id).copied().unwrap_or(0),
            buffered: queue.buffer.len(),
            reserved: queue.reserved,
            backlog: queue.backlog.rows(),
            enqueued: queue.enqueued,
            completed: queue.completed,
        };
        let in_use = self.queues.iter().filter(|(_, queue)| queue.in_use);
        in_use.map(move |(id, queue)| (*id, load(id, queue)))
    }

    /// Goes over all leases, if a queue is paused.
    fn completing_of_paused(&self) -> HashMap<QueueId, usize> {
        let mut completing = HashMap::new();
        if self.queues.values().any(|queue| queue.rules.paused) {
            let leases = self.sessions.iter().flat_map(|(_, session)| session.leases.values());
            for lease in leases.filter(|lease| lease.completing) {
                if self.queues.get(&lease.queue).is_some_and(|queue| queue.rules.paused) {
                    *completing.entry(lease.queue).or_default() += 1;
                }
            }
        }
        completing
    }

    /// Where an attempt is, if it is in memory.
    pub fn place_of(&self, key: JobKey, attempt: i32) -> Option<Here> {
        let leased = |session: &Session| {
            session.leases.get(&key.id).is_some_and(|lease| lease.attempt == attempt)
        };
        let session = self.sessions.iter().map(|(_, session)| session).find(|one| leased(one));
        let buffered = || {
            let mut jobs = self.queues.get(&key.queue)?.buffer.iter();
            jobs.find(|job| job.id == key.id && job.attempt == attempt).map(|_| Here::Buffered)
        };
        session.map(|session| Here::Leased(session.worker.to_string())).or_else(buffered)
    }

    /// Jobs that no session has yet.
    pub fn buffered_count(&self) -> usize {
        self.queues.values().map(|queue| queue.buffer.len()).sum()
    }

    /// Attempts that sessions hold, those completing among them.
    pub fn held_count(&self) -> usize {
        self.sessions.iter().map(|(_, session)| session.leases.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{domain::QueueRules, engine::simulation::LIMITS};

    #[test]
    fn a_queue_of_which_only_the_rules_are_known_is_not_in_use() {
        let mut engine = Dispatcher::new(LIMITS);
        let rules = QueueRules { version: 1, ..QueueRules::UNTOLD };
        engine.configure(Duration::from_secs(1), QueueId(1), rules, &mut Vec::new());
        assert_eq!(engine.queue_loads().count(), 0);
        engine.scheduled(QueueId(1));
        let load = QueueLoad { enqueued: 1, ..QueueLoad::default() };
        assert_eq!(engine.queue_loads().collect::<Vec<_>>(), [(QueueId(1), load)]);
    }
}
