//! The dispatcher: one verb, one file.
//!
//! Invariants, checked by `simulation`:
//! - a session holds at most its credit;
//! - an attempt is in one place: the buffer of its queue, or the leases of one session;
//! - `Queue::held` and `Queue::credit` are the sums over its sessions;
//! - a session with room has a place in the line of each of its queues, not behind its load;
//! - a queue without attached sessions keeps nothing in memory, and one that is paused, or limited and not
//!   owned by this broker, nothing undelivered;
//! - of a limited queue nothing is delivered while as many attempts as may be are with workers.

mod admit;
mod cancel;
#[cfg(test)]
mod check;
mod claim;
mod complete;
mod configure;
mod deliver;
mod drain;
mod expire;
mod heartbeat;
mod keys;
mod limit;
mod load;
mod report;
mod store;
mod subscribe;

use std::{
    collections::{self, BTreeSet},
    sync::Arc,
    time::Duration,
};

use foldhash::{HashMap, HashMapExt, HashSet, HashSetExt};
use slab::Slab;

pub use self::{
    admit::Admission,
    claim::{FailCause, Hungry},
    complete::Completing,
    heartbeat::{Heartbeat, ToStop, UnknownSession},
    limit::{LimitedQueue, Running},
    load::{Load, QueueLoad, SessionLoad},
    store::Storing,
    subscribe::{Opened, SessionRequest},
};
use super::{
    ClaimFrom, KeyClaim, backlog::Backlog, buffer::Buffer, gate::Gate, keys::Keys, line::Line,
    pace::Pace, session::Session,
};
use crate::domain::{Attempt, JobId, JobKey, QueueId, QueueRules, TakenJob};

/// Names a session; chosen at random when it begins, kept by the worker over reconnects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub u128);

/// Bounds and intervals; see the configuration reference.
#[derive(Clone, Debug)]
pub struct Limits {
    pub sessions_max: usize,
    pub claim_rows_max: usize,
    /// Of one queue.
    pub limited_keys_max: usize,
    pub buffered_bytes_max: usize,
    pub unacknowledged_bytes_max: usize,
    /// Of the jobs of one Assignments, unless it is a single one.
    pub message_bytes_max: usize,
    pub message_jobs_max: usize,
    /// How long an enqueue may wait for room.
    pub hold_max: Duration,
    /// Completions on their way to the database above which no job is delivered.
    pub completing_max: usize,
    pub session_timeout: Duration,
    pub reconnect_grace: Duration,
    pub acknowledge_timeout: Duration,
    pub keep_alive_interval: Duration,
}

/// What the pipeline has to do, in this order.
#[derive(Debug)]
pub enum Action {
    Deliver {
        session: SessionId,
        delivery: Delivery,
    },
    LeaseLost {
        session: SessionId,
        attempts: Vec<Attempt>,
        reason: LostReason,
    },
    /// Tell the worker that these were cancelled.
    Cancel {
        session: SessionId,
        attempts: Vec<Attempt>,
    },
    KeepAlive {
        session: SessionId,
        seq: u64,
    },
    Drain {
        session: SessionId,
    },
    /// End the session's stream.
    Close {
        session: SessionId,
    },
    Claim {
        queue: QueueId,
        from: ClaimFrom,
        limit: usize,
    },
    ClaimKeys {
        queue: QueueId,
        claim: KeyClaim,
    },
    /// Make them ready again in the database, not counted as failures.
    GiveBack {
        jobs: Vec<(JobKey, i32)>,
    },
    /// Cancel these, whose time to start has passed.
    Expire {
        jobs: Vec<(JobKey, i32)>,
    },
    /// Fail these attempts, which the session had.
    Fail {
        session: SessionId,
        worker: Arc<str>,
        jobs: Vec<(JobKey, i32)>,
        cause: FailCause,
    },
}

/// One Assignments message.
#[derive(Debug)]
pub struct Delivery {
    pub seq: u64,
    pub queue: QueueId,
    pub jobs: Vec<TakenJob>,
}

/// Why a live worker loses an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LostReason {
    Timeout,
    Unacknowledged,
}

/// See the module's doc.
#[derive(Debug)]
pub struct Dispatcher {
    limits: Limits,
    queues: HashMap<QueueId, Queue>,
    sessions: Slab<Session>,
    /// By names that may be a client's: hashed so that none can be chosen to collide.
    by_id: collections::HashMap<SessionId, usize>,
    /// Of the last stream opened, whichever session's: a session that is forgotten and comes back must
    /// not meet an older stream of its own under the same number.
    epoch: u64,
    /// Attempts with a timeout: when, whose.
    deadlines: BTreeSet<(Duration, usize, JobId)>,
    /// Cancelled before they came into memory, if they come: until when they may.
    expected: HashMap<Attempt, Duration>,
    buffered_bytes: usize,
    completing: usize,
    /// Of those completing, whose sessions have ended: nobody else remembers them until their outcome is stored.
    ending: HashSet<(JobKey, i32)>,
    /// Too many completions are on their way: no deliveries until they're half as many.
    throttled: bool,
    draining: bool,
    /// When queues whose jobs wait for time to pass are looked at again.
    wakes: BTreeSet<(Duration, QueueId)>,
    /// Limited queues of which a lease has ended, to be delivered.
    freed: Vec<QueueId>,
    wants_to_own: bool,
    lives_until: Duration,
    /// The database's time at the engine's 0, in microseconds since 1970.
    database_started: i64,
    /// Whether a queue has limited its keys.
    counts_keys: bool,
}

#[derive(Debug)]
struct Queue {
    buffer: Buffer,
    backlog: Backlog,
    /// The backlog of jobs with keys.
    keys: Keys,
    line: Line,
    /// Sum of their credit.
    credit: usize,
    /// Leases of all sessions that aren't completing.
    held: usize,
    /// On their way into memory: taken in an insert, or asked for by a claim.
    reserved: usize,
    /// Let through to be stored, see `admit`.
    admitted: usize,
    pace: Pace,
    /// The mean of the jobs of the last claim.
    claimed_bytes: usize,
    rules: QueueRules,
    /// Of a limited queue.
    gate: Option<Box<Gate>>,
    /// When it is looked at again, because time lets more through.
    wake_at: Option<Duration>,
    /// Since the broker started: jobs stored, attempts reported.
    enqueued: u64,
    completed: u64,
    /// Whether sessions or jobs of it were here; else its rules are all that is known.
    in_use: bool,
}

/// What a job of the backlog may take in memory, before the first was seen.
const CLAIMED_BYTES: usize = 1 << 20;

impl Queue {
    fn new() -> Self {
        Self {
            buffer: Buffer::default(),
            backlog: Backlog::new(),
            keys: Keys::default(),
            line: Line::new(),
            credit: 0,
            held: 0,
            reserved: 0,
            admitted: 0,
            pace: Pace::default(),
            claimed_bytes: CLAIMED_BYTES,
            rules: QueueRules::UNTOLD,
            gate: None,
            wake_at: None,
            enqueued: 0,
            completed: 0,
            in_use: false,
        }
    }

    /// A job has come into memory.
    fn take(&mut self, now: Duration, job: TakenJob) {
        if self.buffer.is_empty() && self.held == 0 {
            self.pace.work_came(now);
        }
        self.buffer.push(job);
    }

    /// What stands in the database changes without us, or has: somebody has to look.
    fn forget_backlog(&mut self) {
        self.backlog.forget();
        self.keys.forget();
    }

    fn in_memory(&self) -> usize {
        self.buffer.len() + self.held + self.reserved
    }

    /// How many jobs may be in memory: what the sessions can hold, and as many waiting. None of a paused
    /// queue, or of a limited one that another broker owns: so it takes nothing, claims nothing and holds no
    /// call back.
    fn cap(&self) -> usize {
        if self.line.is_empty() || self.rules.paused {
            return 0;
        }
        2 * self.gate.as_ref().map_or(self.credit, |gate| gate.useful(self.credit))
    }

    fn room(&self) -> usize {
        self.cap().saturating_sub(self.in_memory())
    }

    /// Whether a job of this priority comes before one that waits in memory.
    fn is_urgent(&self, priority: i16) -> bool {
        self.buffer.lowest_priority().is_some_and(|lowest| lowest < priority)
    }

    /// Room for a job of this priority: an urgent one may displace others, the memory has half as
    /// much again for it.
    fn room_for(&self, priority: i16) -> usize {
        let cap = if self.is_urgent(priority) { self.cap() + self.cap() / 2 } else { self.cap() };
        cap.saturating_sub(self.in_memory())
    }
}

impl Dispatcher {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            queues: HashMap::new(),
            sessions: Slab::new(),
            by_id: collections::HashMap::new(),
            epoch: 0,
            deadlines: BTreeSet::new(),
            expected: HashMap::new(),
            buffered_bytes: 0,
            completing: 0,
            ending: HashSet::new(),
            throttled: false,
            draining: false,
            wakes: BTreeSet::new(),
            freed: Vec::new(),
            wants_to_own: false,
            lives_until: Duration::ZERO,
            database_started: 0,
            counts_keys: false,
        }
    }

    /// All jobs that this broker holds and of whose end nothing is under way, but for what their workers report;
    /// in no order.
    pub fn jobs(&self) -> impl Iterator<Item = (JobKey, i32)> + '_ {
        let buffered = self.queues.iter().flat_map(|(queue, state)| {
            state.buffer.iter().map(|job| (JobKey { queue: *queue, id: job.id }, job.attempt))
        });
        let leased = self.sessions.iter().flat_map(|(_, session)| {
            session
                .leases
                .iter()
                .map(|(id, lease)| (JobKey { queue: lease.queue, id: *id }, lease.attempt))
        });
        buffered.chain(leased).chain(self.ending.iter().copied())
    }

    /// When `tick` is due for the timeout of an attempt, or for jobs that wait for their rate or a rest's end. Everything else
    /// wants it a few times a second.
    pub fn next_deadline(&self) -> Option<Duration> {
        let timeout = self.deadlines.first().map(|(at, ..)| *at);
        let wake = self.wakes.first().map(|(at, _)| *at);
        [timeout, wake].into_iter().flatten().min()
    }

    fn queue(&mut self, id: QueueId) -> &mut Queue {
        let queue = self.queues.entry(id).or_insert_with(Queue::new);
        queue.in_use = true;
        queue
    }
}
