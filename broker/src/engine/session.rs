use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use foldhash::{HashMap, HashMapExt};

use super::{dispatcher::SessionId, fill::PACK_WORK, line::Load};
use crate::domain::{Attempt, JobId, QueueId};

/// A session's right to one attempt.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) queue: QueueId,
    pub(super) attempt: i32,
    /// The Assignments that carried it; 0: presented by the worker.
    pub(super) seq: u64,
    /// Its completion is on the way to the database: it needs no credit any more.
    pub(super) completing: bool,
    pub(super) deadline: Option<Duration>,
    /// `None`: by another broker, or to a session before this one.
    pub(super) delivered_at: Option<Duration>,
}

/// Assignments that the worker hasn't acknowledged.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) seq: u64,
    pub(super) at: Duration,
    pub(super) bytes: usize,
    pub(super) ids: Vec<JobId>,
}

/// One worker: its stream, its credit and what it holds.
///
/// `attached` from the opening of a stream to its end; detached it keeps its leases for a grace. Only
/// the stream of the newest epoch counts.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: SessionId,
    pub(super) worker: Arc<str>,
    pub(super) epoch: u64,
    pub(super) attached: bool,
    pub(super) detached_at: Duration,
    /// When it last showed life by a call of its own.
    pub(super) seen_at: Duration,
    pub(super) keep_alive_at: Duration,
    pub(super) queues: Vec<QueueId>,
    /// Whose turn it is among them.
    pub(super) turn: usize,
    pub(super) max_in_flight: usize,
    pub(super) concurrency: usize,
    /// The mean of its handlers, up to `PACK_WORK`: what it hasn't said it takes for long.
    pub(super) run_time: Duration,
    /// Leases that aren't completing.
    pub(super) outstanding: usize,
    pub(super) leases: HashMap<JobId, Lease>,
    pub(super) seq: u64,
    pub(super) unacknowledged: VecDeque<Sent>,
    pub(super) unacknowledged_bytes: usize,
    /// Attempts that it held when they were cancelled, and hasn't reported since; bounded, and where
    /// one is missing the worker is told that it is lost.
    pub(super) cancelled: HashSet<Attempt>,
    /// Deliveries taken back since it last acknowledged one.
    pub(super) taken_back: u32,
}

impl Session {
    pub(super) fn new(id: SessionId, now: Duration) -> Self {
        Self {
            id,
            worker: Arc::default(),
            epoch: 0,
            attached: false,
            detached_at: now,
            seen_at: now,
            keep_alive_at: now,
            queues: Vec::new(),
            turn: 0,
            max_in_flight: 0,
            concurrency: 0,
            run_time: PACK_WORK,
            outstanding: 0,
            leases: HashMap::new(),
            seq: 0,
            unacknowledged: VecDeque::new(),
            unacknowledged_bytes: 0,
            cancelled: HashSet::new(),
            taken_back: 0,
        }
    }

    /// How many jobs more it may be given.
    pub(super) fn free(&self, unacknowledged_bytes_max: usize) -> usize {
        if self.attached && self.unacknowledged_bytes < unacknowledged_bytes_max {
            self.max_in_flight.saturating_sub(self.outstanding)
        } else {
            0
        }
    }

    pub(super) fn load(&self) -> Load {
        Load { waits: self.outstanding >= self.concurrency, held: self.outstanding }
    }

    /// Of these attempts, those that it holds.
    pub(super) fn holds(&self, attempts: &HashSet<Attempt>) -> Vec<Attempt> {
        // Whichever are fewer are gone through.
        if self.leases.len() < attempts.len() {
            let held =
                self.leases.iter().map(|(id, lease)| Attempt { id: *id, number: lease.attempt });
            return held.filter(|attempt| attempts.contains(attempt)).collect();
        }
        let holds = |attempt: &&Attempt| {
            self.leases.get(&attempt.id).is_some_and(|lease| lease.attempt == attempt.number)
        };
        attempts.iter().filter(holds).copied().collect()
    }

    /// All Assignments up to this one have arrived.
    pub(super) fn acknowledge(&mut self, seq: u64) {
        while let Some(sent) = self.unacknowledged.pop_front_if(|sent| sent.seq <= seq) {
            self.unacknowledged_bytes -= sent.bytes;
            self.taken_back = 0;
        }
    }

    pub(super) fn acknowledged(&self, lease: &Lease) -> bool {
        self.unacknowledged.front().is_none_or(|sent| lease.seq < sent.seq)
    }
}
