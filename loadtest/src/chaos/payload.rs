//! What a job asks its handler for; in its payload, as JSON.

use serde::{Deserialize, Serialize};

/// The kind of every job.
pub(super) const KIND: &str = "chaos";
/// Every worker has all of them.
pub(super) const QUEUES: [&str; 2] = ["chaos-a", "chaos-b"];
/// Only one worker, with one handler at a time, has this one.
pub(super) const ORDER_QUEUE: &str = "chaos-order";

/// Together `call` and `index` are of one job alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Payload {
    pub(super) call: String,
    pub(super) index: u32,
    /// Jobs of the call.
    pub(super) jobs: u32,
    /// How long the handler takes.
    pub(super) ms: u64,
    /// Attempts up to this one fail.
    pub(super) fail: u32,
}

/// What a handler returns: which attempt of which job it was.
pub(super) fn result(job: i64, attempt: u32) -> String {
    format!("{job}/{attempt}")
}
