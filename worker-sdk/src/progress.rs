//! What handlers say of the attempt that they run.

use std::{fmt, future::Future, pin::Pin, time::SystemTime};

use bytes::Bytes;
use currant_proto::v1;

use crate::{error::Error, job::Job, time::from_timestamp, worker::attempts::Attempt};

const MESSAGE_CHARS_MAX: usize = 256;
/// The most that a broker takes by default.
pub(crate) const CHECKPOINT_BYTES_MAX: u32 = 32 << 10;

pub(crate) type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// Who hears it: a worker's reporter, or a test.
pub(crate) trait Report: fmt::Debug + Send + Sync {
    fn progress(&self, attempt: Attempt, percent: f32, message: String);
    fn checkpoint(&self, attempt: Attempt, state: Bytes) -> Answer<'_, ()>;
    fn last_checkpoint(&self, attempt: Attempt) -> Answer<'_, Option<Bytes>>;
}

impl<T> Job<T> {
    /// Says how far this attempt has come: 0 to 100 percent, and in words, cut at 256 characters. Shown by
    /// [`Client::get`](crate::Client::get) and [`Client::watch`](crate::Client::watch). Returns at once;
    /// the newest is sent every tenth of a second, with those of other jobs.
    pub fn progress(&self, percent: f32, message: impl Into<String>) {
        let percent = if percent.is_nan() { 0.0 } else { percent.clamp(0.0, 100.0) };
        let message: String = message.into().chars().take(MESSAGE_CHARS_MAX).collect();
        if let Some(reporter) = &self.reporter {
            reporter.progress(self.attempt(), percent, message.replace('\0', "\u{fffd}"));
        }
    }

    /// Stores what the next attempt goes on from, should this one fail: see
    /// [`last_checkpoint`](Job::last_checkpoint). Returns when it is stored, which takes a moment: not for
    /// each step. At most 32 KiB by the broker's default. [`Error::Lost`] if the attempt isn't this
    /// worker's any more: stop.
    pub async fn checkpoint(&self, state: impl Into<Bytes>) -> Result<(), Error> {
        match &self.reporter {
            Some(reporter) => reporter.checkpoint(self.attempt(), state.into()).await,
            None => Err(Error::Lost),
        }
    }

    /// The last checkpoint of this job, if there is one: ask at the beginning. The first attempt has none.
    pub async fn last_checkpoint(&self) -> Result<Option<Bytes>, Error> {
        match &self.reporter {
            Some(reporter) if self.attempt > 1 => reporter.last_checkpoint(self.attempt()).await,
            _ => Ok(None),
        }
    }

    pub(crate) fn attempt(&self) -> Attempt {
        Attempt { job: self.id, number: self.attempt }
    }
}

/// How far a job has come, as its worker has reported it last.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct JobProgress {
    /// Which attempt said so.
    pub attempt: u32,
    /// 0 to 100, if it said so.
    pub percent: Option<f32>,
    /// Empty if it said nothing.
    pub message: String,
    /// By the broker's clock.
    pub reported_at: Option<SystemTime>,
}

impl JobProgress {
    pub(crate) fn from_proto(progress: v1::Progress) -> Result<JobProgress, Error> {
        let v1::Progress { attempt, percent, message, reported_at } = progress;
        let reported_at = from_timestamp(reported_at)?;
        Ok(JobProgress { attempt, percent, message, reported_at })
    }
}

/// An error that names the limit, for a checkpoint that is over it.
pub(crate) fn check_size(state: &Bytes, bytes_max: u32) -> Result<(), Error> {
    if state.len() <= bytes_max as usize {
        return Ok(());
    }
    Err(Error::InvalidArgument {
        message: format!("checkpoint: at most {bytes_max} bytes; this has {}", state.len()),
        violations: Vec::new(),
    })
}
