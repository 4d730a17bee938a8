use std::collections::BTreeMap;

use bytes::Bytes;

use crate::domain::{JobId, QueueId, TakenJob};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Ready,
    Taken,
    Done,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) queue: QueueId,
    pub(super) priority: i16,
    pub(super) phase: Phase,
    pub(super) attempt: i32,
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

pub(in crate::engine) fn taken(id: JobId, attempt: i32, priority: i16) -> TakenJob {
    TakenJob {
        id,
        attempt,
        priority,
        failures: 0,
        max_attempts: None,
        kind: String::new(),
        payload: Bytes::new(),
        options: None,
    }
}
