use super::{Dispatcher, Queue};
use crate::domain::QueueId;

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
}

/// The same for one queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueLoad {
    /// Attached.
    pub sessions: usize,
    /// Sum of what these may hold.
    pub credit: usize,
    /// Attempts that aren't completing.
    pub held: usize,
    pub buffered: usize,
    /// Ready rows, roughly; `None`: nobody knows.
    pub backlog: Option<usize>,
}

impl Dispatcher {
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
        }
    }

    /// Of the queues that have sessions, or had some.
    pub fn queue_loads(&self) -> impl Iterator<Item = (QueueId, QueueLoad)> + '_ {
        let load = |queue: &Queue| QueueLoad {
            sessions: queue.line.len(),
            credit: queue.credit,
            held: queue.held,
            buffered: queue.buffer.len(),
            backlog: queue.backlog.rows(),
        };
        self.queues.iter().map(move |(id, queue)| (*id, load(queue)))
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
