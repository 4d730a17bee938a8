use std::{
    collections::BTreeMap,
    fmt,
    num::ParseIntError,
    str::FromStr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use currant_proto::v1;
use http::Extensions;
use tokio_util::sync::CancellationToken;

use crate::{progress::Report, time::from_proto};

/// The id of a job. Ids grow with time; as text they are decimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub i64);

impl JobId {
    /// When the job was stored, by the broker's clock, to the millisecond.
    pub fn enqueued_at(self) -> SystemTime {
        let millis = u64::try_from(self.0 >> 22).unwrap_or(0);
        SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

impl FromStr for JobId {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<JobId, ParseIntError> {
        text.parse().map(JobId)
    }
}

impl From<i64> for JobId {
    fn from(id: i64) -> JobId {
        JobId(id)
    }
}

impl From<JobId> for i64 {
    fn from(id: JobId) -> i64 {
        id.0
    }
}

/// One attempt at a job, as a handler gets it. `T` is the payload: a type of yours, or [`Bytes`].
///
/// `(id, attempt)` names this run. A job may be run more than once (delivery is at least once): work
/// that must not happen twice should be keyed by `id`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Job<T> {
    /// The job.
    pub id: JobId,
    /// The number of this run, from 1; it only grows, and numbers may be skipped.
    pub attempt: u32,
    /// The queue that the job came from.
    pub queue: Arc<str>,
    /// What the handler is registered for.
    pub kind: String,
    /// The work itself.
    pub payload: T,
    /// MIME type of the payload; empty if the client didn't say.
    pub content_type: String,
    /// -100 to 100; higher runs first.
    pub priority: i32,
    /// Attempts so far that count against `max_attempts`.
    pub failures: u32,
    /// After so many failures the job is dead.
    pub max_attempts: u32,
    /// How long this attempt may run, counted from its delivery. None: no limit.
    pub timeout: Option<Duration>,
    /// As given by the client.
    pub tags: Vec<String>,
    /// As given by the client.
    pub metadata: BTreeMap<String, String>,
    /// W3C trace context of the client; empty if it gave none.
    pub traceparent: String,
    /// Whose job it is; empty if the client didn't say.
    pub key: String,
    /// Fires when the attempt should stop: somebody cancelled the job, the attempt is no longer this
    /// worker's, its timeout is over, or the shutdown's time is. A cancelled job stays cancelled,
    /// whatever the handler returns.
    pub cancellation: CancellationToken,
    /// What [layers](crate::WorkerBuilder::layer) hand on to those within them and to the handler, by its type:
    /// who the job is for, a connection, a clock. Empty at first, which costs nothing.
    pub extensions: Extensions,
    /// Through which it reports; none without a worker.
    pub(crate) reporter: Option<Arc<dyn Report>>,
}

impl<T> Job<T> {
    /// When the job was stored, by the broker's clock, to the millisecond.
    pub fn enqueued_at(&self) -> SystemTime {
        self.id.enqueued_at()
    }

    /// The same job with another payload, which comes from the old one.
    pub fn map<U>(self, convert: impl FnOnce(T) -> U) -> Job<U> {
        Job {
            id: self.id,
            attempt: self.attempt,
            queue: self.queue,
            kind: self.kind,
            payload: convert(self.payload),
            content_type: self.content_type,
            priority: self.priority,
            failures: self.failures,
            max_attempts: self.max_attempts,
            timeout: self.timeout,
            tags: self.tags,
            metadata: self.metadata,
            traceparent: self.traceparent,
            key: self.key,
            cancellation: self.cancellation,
            extensions: self.extensions,
            reporter: self.reporter,
        }
    }
}

impl Job<Bytes> {
    pub(crate) fn from_assignment(
        assignment: v1::Assignment,
        queue: Arc<str>,
        reporter: Option<Arc<dyn Report>>,
    ) -> Job<Bytes> {
        let v1::Assignment {
            job_id,
            attempt,
            kind,
            payload,
            content_type,
            priority,
            failures,
            max_attempts,
            timeout,
            tags,
            traceparent,
            metadata,
            key,
        } = assignment;
        Job {
            id: JobId(job_id),
            attempt,
            queue,
            kind,
            payload,
            content_type,
            priority,
            failures,
            max_attempts,
            timeout: from_proto(timeout),
            tags,
            metadata,
            traceparent,
            key,
            cancellation: CancellationToken::new(),
            extensions: Extensions::new(),
            reporter,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_tell_the_time_and_parse() {
        let id = JobId(1_700_000_000_123 << 22 | 77);
        let since = id.enqueued_at().duration_since(SystemTime::UNIX_EPOCH);
        assert_eq!(since.map(|time| time.as_millis()).ok(), Some(1_700_000_000_123));
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn a_handler_gets_what_was_assigned() {
        let assignment = v1::Assignment {
            job_id: 5,
            attempt: 3,
            kind: "send".into(),
            payload: Bytes::from_static(b"x"),
            content_type: "text/plain".into(),
            priority: -4,
            failures: 2,
            max_attempts: 9,
            timeout: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
            tags: vec!["a".into()],
            traceparent: "00-1-2-01".into(),
            metadata: BTreeMap::from([("a".into(), "b".into())]),
            key: "acme".into(),
        };
        let job = Job::from_assignment(assignment, "emails".into(), None).map(|bytes| bytes.len());
        assert_eq!((job.id, job.attempt, &*job.queue, &*job.kind), (JobId(5), 3, "emails", "send"));
        assert_eq!((job.payload, job.priority, job.failures, job.max_attempts), (1, -4, 2, 9));
        assert_eq!(job.timeout, Some(Duration::from_secs(1)));
        assert_eq!((&*job.content_type, &*job.traceparent), ("text/plain", "00-1-2-01"));
        assert_eq!((&*job.tags, &*job.metadata["a"]), (&["a".to_owned()][..], "b"));
        assert_eq!(job.key, "acme");
    }
}
