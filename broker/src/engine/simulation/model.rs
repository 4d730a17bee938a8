use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{
    domain::{JobId, JobOptions, QueueId, ReadyIn, TakenJob},
    engine::{Action, Dispatcher, Limits, Walked},
};

const ACKNOWLEDGE: Duration = Duration::from_secs(15);
pub(in crate::engine) const LIMITS: Limits = Limits {
    sessions_max: 10,
    claim_rows_max: 5,
    limited_keys_max: 2,
    buffered_bytes_max: 1 << 20,
    unacknowledged_bytes_max: 1 << 20,
    hold_max: Duration::from_millis(200),
    completing_max: 6,
    message_bytes_max: 500,
    message_jobs_max: 3,
    session_timeout: Duration::from_secs(20),
    reconnect_grace: Duration::from_secs(10),
    acknowledge_timeout: ACKNOWLEDGE,
    keep_alive_interval: Duration::from_secs(10),
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Ready,
    Taken,
    Done,
    Cancelled,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) queue: QueueId,
    pub(super) priority: i16,
    pub(super) phase: Phase,
    pub(super) attempt: i32,
    /// 0: none.
    pub(super) key: u8,
}

impl Row {
    pub(super) fn ready_in(self) -> ReadyIn {
        ReadyIn { queue: self.queue, keyed: self.key > 0 }
    }
}

pub(super) fn key_named(key: u8) -> Option<Arc<str>> {
    (key > 0).then(|| format!("key {key}").into())
}

/// The claims among the actions come back with nothing, and those that follow; the rest of the actions stays.
pub(in crate::engine) fn nothing_is_ready(
    engine: &mut Dispatcher,
    now: Duration,
    actions: &mut Vec<Action>,
) {
    while let Some(at) = actions
        .iter()
        .position(|action| matches!(action, Action::Claim { .. } | Action::ClaimKeys { .. }))
    {
        let took = Duration::ZERO;
        match actions.remove(at) {
            Action::Claim { queue, limit, .. } => {
                engine.claimed(now, took, queue, limit, Vec::new(), actions);
            }
            Action::ClaimKeys { queue, .. } => {
                engine.claimed_keys(now, took, queue, &Walked::default(), Vec::new(), actions);
            }
            _ => {}
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Worker {
    pub(super) epoch: u64,
    pub(super) attached: bool,
    pub(super) credit: usize,
    pub(super) queues: Vec<QueueId>,
    pub(super) held: BTreeMap<JobId, i32>,
    pub(super) received_seq: u64,
}

/// A fifth of the jobs expire, each at a time of its own.
pub(super) fn expires_at(id: JobId) -> Option<i64> {
    (id.0 % 5 == 0).then_some(1_000_000 + id.0 * 700_000 % 30_000_000)
}

/// The same as `taken`, as the simulation's rows have it.
pub(super) fn taken_row(id: JobId, attempt: i32, priority: i16) -> TakenJob {
    let options = JobOptions { expires_at: expires_at(id), ..JobOptions::default() };
    TakenJob { options: Some(Box::new(options)), ..taken(id, attempt, priority) }
}

pub(in crate::engine) fn taken(id: JobId, attempt: i32, priority: i16) -> TakenJob {
    TakenJob {
        id,
        attempt,
        priority,
        failures: 0,
        max_attempts: None,
        run_at: None,
        kind: String::new(),
        payload: Bytes::new(),
        options: None,
        key: None,
    }
}
