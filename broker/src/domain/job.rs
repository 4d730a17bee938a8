use std::{borrow::Cow, collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{JobId, Progress, QueueId, RetryPolicy, Unique};

pub const PRIORITY_MIN: i16 = -100;
pub const PRIORITY_MAX: i16 = 100;

/// When a job may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    Now,
    /// Microseconds since 1970, by the database's clock.
    AtMicros(i64),
    /// Microseconds after it is stored.
    AfterMicros(i64),
}

/// A job as asked for: checked, not yet stored.
#[derive(Clone, Debug)]
pub struct NewJob {
    pub queue: QueueId,
    pub kind: String,
    pub payload: Bytes,
    pub priority: i16,
    pub start: Start,
    /// `None`: the queue's default.
    pub max_attempts: Option<u16>,
    /// `None`: nothing but defaults, as with most jobs.
    pub options: Option<Box<JobOptions>>,
    /// As few jobs have it, and nothing of it is in the row.
    pub unique: Option<Box<Unique>>,
    /// Whose job it is.
    pub key: Option<Arc<str>>,
}

impl NewJob {
    /// What it takes in memory, roughly.
    pub fn bytes(&self) -> usize {
        self.payload.len() + self.kind.len() + 128
    }
}

/// What few jobs have. Stored as one JSON value, so that the others don't pay for it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobOptions {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryPolicy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// No attempt begins after it; microseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<i64>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub content_type: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub traceparent: String,
    /// With an idempotency key: how many jobs the call had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call_jobs: Option<u32>,
}

impl JobOptions {
    /// What the job is found by.
    pub fn searchable(&self) -> impl Iterator<Item = Cow<'_, str>> {
        let metadata = self.metadata.iter();
        let metadata = metadata.map(|(name, value)| Cow::Owned(format!("{name}={value}")));
        self.tags.iter().map(|tag| Cow::Borrowed(tag.as_str())).chain(metadata)
    }
}

/// Names a stored job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobKey {
    pub queue: QueueId,
    pub id: JobId,
}

/// One run of a job, from 1. Only the current one may write an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt {
    pub id: JobId,
    pub number: i32,
}

/// An attempt that this broker has taken over from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adopted {
    pub attempt: Attempt,
    pub queue: QueueId,
    /// The job's own. It counts anew.
    pub timeout: Option<Duration>,
}

/// A job that this broker has taken: in memory, or on its way to a worker.
#[derive(Clone, Debug)]
pub struct TakenJob {
    pub id: JobId,
    pub attempt: i32,
    pub priority: i16,
    pub failures: u16,
    /// `None`: the queue's default.
    pub max_attempts: Option<u16>,
    /// Its own time to start, in microseconds since 1970; `None`: at once, or nobody has asked the
    /// database.
    pub run_at: Option<i64>,
    pub kind: String,
    pub payload: Bytes,
    pub options: Option<Box<JobOptions>>,
    pub key: Option<Arc<str>>,
}

impl TakenJob {
    /// From when its first attempt could start, in microseconds since 1970; later ones had their wait
    /// before, and `None` is the answer.
    pub fn startable_at(&self) -> Option<i64> {
        let stored = self.id.created_ms() * 1000;
        (self.attempt == 1).then(|| self.run_at.unwrap_or(stored).max(stored))
    }

    /// No attempt begins after it; microseconds since 1970.
    pub fn expires_at(&self) -> Option<i64> {
        self.options.as_ref()?.expires_at
    }

    /// What it takes in memory, roughly.
    pub fn bytes(&self) -> usize {
        self.payload.len() + self.kind.len() + 128
    }
}

/// A job's state, as shown to people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Scheduled,
    Ready,
    Running,
    Succeeded,
    Dead,
    Cancelled,
}

impl State {
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Dead | Self::Cancelled)
    }
}

/// A job as it stands in the database.
#[derive(Clone, Debug)]
pub struct StoredJob {
    pub key: JobKey,
    pub kind: String,
    pub payload: Bytes,
    pub priority: i16,
    pub state: State,
    pub attempt: i32,
    pub failures: u16,
    pub max_attempts: Option<u16>,
    /// Microseconds since 1970, as are the others.
    pub run_at: Option<i64>,
    pub claimed_at: Option<i64>,
    pub finished_at: Option<i64>,
    pub result: Option<Bytes>,
    pub error: Option<String>,
    pub options: Option<Box<JobOptions>>,
    /// Whose job it is.
    pub job_key: Option<String>,
    /// Where it was asked for and a worker has reported some.
    pub progress: Option<Progress>,
}
