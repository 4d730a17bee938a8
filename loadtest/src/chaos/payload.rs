//! What a job asks its handler for; in its payload, as JSON.

use serde::{Deserialize, Serialize};

/// The kind of every job that is judged.
pub(super) const KIND: &str = "chaos";
/// Of a soak: nothing is done and nothing written down.
pub(super) const BULK_KIND: &str = "bulk";

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
    /// Which others it may not be beside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) unique: Option<Scope>,
}

/// Of a unique job; the scope's name is its key as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Scope {
    Waiting,
    Unfinished,
    Period,
}

impl Scope {
    pub(super) const ALL: [Scope; 3] = [Scope::Waiting, Scope::Unfinished, Scope::Period];

    /// As SQL names it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Scope::Waiting => "waiting",
            Scope::Unfinished => "unfinished",
            Scope::Period => "period",
        }
    }
}

/// What a handler returns: which attempt of which job it was.
pub(super) fn result(job: i64, attempt: u32) -> String {
    format!("{job}/{attempt}")
}
