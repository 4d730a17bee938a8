use std::{
    borrow::Cow,
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use currant_proto::v1;
use serde::Serialize;

use crate::{clock, error::Error, retry_policy::RetryPolicy, span, time::to_proto, unique::Unique};

/// A job to be stored. The broker checks the limits and names each wrong field in
/// [`Error::InvalidArgument`].
#[derive(Clone, Debug, PartialEq)]
pub struct NewJob {
    queue: Cow<'static, str>,
    kind: Cow<'static, str>,
    payload: Bytes,
    content_type: Cow<'static, str>,
    priority: Option<i32>,
    start: Start,
    expiry: Option<Expiry>,
    max_attempts: u32,
    retry: Option<RetryPolicy>,
    timeout: Option<Duration>,
    tags: Vec<String>,
    metadata: BTreeMap<String, String>,
    traceparent: String,
    unique: Option<Unique>,
    key: String,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Start {
    Now,
    At(SystemTime),
    After(Duration),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Expiry {
    At(SystemTime),
    After(Duration),
}

impl NewJob {
    /// A job whose payload is `payload` as JSON. Queue and kind have 1 to 128 characters of
    /// `A-Z a-z 0-9 . _ : / -`, starting with a letter or digit. [`Error::Payload`] if the payload
    /// can't be written as JSON.
    pub fn json<T: Serialize + ?Sized>(
        queue: impl Into<Cow<'static, str>>,
        kind: impl Into<Cow<'static, str>>,
        payload: &T,
    ) -> Result<NewJob, Error> {
        let payload = serde_json::to_vec(payload).map_err(Error::Payload)?;
        Ok(NewJob::raw(queue, kind, payload).content_type("application/json"))
    }

    /// A job whose payload is any bytes, at most 1 MiB by the broker's default.
    pub fn raw(
        queue: impl Into<Cow<'static, str>>,
        kind: impl Into<Cow<'static, str>>,
        payload: impl Into<Bytes>,
    ) -> NewJob {
        NewJob {
            queue: queue.into(),
            kind: kind.into(),
            payload: payload.into(),
            content_type: Cow::Borrowed(""),
            priority: None,
            start: Start::Now,
            expiry: None,
            max_attempts: 0,
            retry: None,
            timeout: None,
            tags: Vec::new(),
            metadata: BTreeMap::new(),
            traceparent: String::new(),
            unique: None,
            key: String::new(),
        }
    }

    /// MIME type of the payload, at most 128 characters. Default: `application/json` for
    /// [`json`](NewJob::json), none for [`raw`](NewJob::raw).
    pub fn content_type(mut self, content_type: impl Into<Cow<'static, str>>) -> NewJob {
        self.content_type = content_type.into();
        self
    }

    /// -100 to 100. Higher runs first; within one priority first in, first out. Default: the queue's (0).
    pub fn priority(mut self, priority: i32) -> NewJob {
        self.priority = Some(priority);
        self
    }

    /// It may start at this time, by the database's clock; a time that has passed means at once. At
    /// most 10 years ahead. Replaces [`delay`](NewJob::delay).
    pub fn run_at(mut self, time: SystemTime) -> NewJob {
        self.start = Start::At(time);
        self
    }

    /// It may start this long after it is stored, at most 10 years. Replaces
    /// [`run_at`](NewJob::run_at).
    pub fn delay(mut self, delay: Duration) -> NewJob {
        self.start = Start::After(delay);
        self
    }

    /// After this time, by the database's clock, no attempt begins any more: the job is cancelled when its
    /// turn comes. Replaces [`expire_after`](NewJob::expire_after).
    pub fn expire_at(mut self, time: SystemTime) -> NewJob {
        self.expiry = Some(Expiry::At(time));
        self
    }

    /// The same, this long after the broker received it: 1 ms to 10 years. Replaces
    /// [`expire_at`](NewJob::expire_at).
    pub fn expire_after(mut self, delay: Duration) -> NewJob {
        self.expiry = Some(Expiry::After(delay));
        self
    }

    /// After so many failed attempts the job is dead: 1 to 1000. Default: the queue's (25).
    pub fn max_attempts(mut self, max_attempts: u32) -> NewJob {
        self.max_attempts = max_attempts;
        self
    }

    /// How long to wait after a failure. Default: its kind's or the queue's.
    pub fn retry(mut self, policy: RetryPolicy) -> NewJob {
        self.retry = Some(policy);
        self
    }

    /// How long one attempt may run: 1 ms to 30 days. Default: the queue's (no limit).
    pub fn timeout(mut self, timeout: Duration) -> NewJob {
        self.timeout = Some(timeout);
        self
    }

    /// Adds a tag, by which the job is found: at most 16 of at most 64 characters each.
    pub fn tag(mut self, tag: impl Into<String>) -> NewJob {
        self.tags.push(tag.into());
        self
    }

    /// Adds metadata, for the worker; the job is found by the tag `name=value`. At most 16 entries; a name
    /// of 1 to 64 characters without `=`, a value of at most 256.
    pub fn metadata(mut self, name: impl Into<String>, value: impl Into<String>) -> NewJob {
        self.metadata.insert(name.into(), value.into());
        self
    }

    /// W3C trace context for the worker, at most 128 characters. Default: none; with the feature `otel`
    /// that of the span `send` around the call.
    pub fn traceparent(mut self, traceparent: impl Into<String>) -> NewJob {
        self.traceparent = traceparent.into();
        self
    }

    /// At most one job with this key in the queue at a time. The id that is returned may thus be that of
    /// another job.
    pub fn unique(mut self, unique: Unique) -> NewJob {
        self.unique = Some(unique);
        self
    }

    /// Whose job it is, a tenant or an account: 1 to 128 characters. Keys of a queue take turns, and what
    /// may be under way of each can be limited by [`QueueSettings`](crate::QueueSettings).
    pub fn key(mut self, key: impl Into<String>) -> NewJob {
        self.key = key.into();
        self
    }

    #[cfg(feature = "otel")]
    pub(crate) fn queue_name(&self) -> &str {
        &self.queue
    }

    #[cfg(feature = "testing")]
    pub(crate) fn kind_name(&self) -> &str {
        &self.kind
    }

    pub(crate) fn into_proto(self) -> v1::NewJob {
        let NewJob { queue, kind, payload, content_type, priority, start, expiry, .. } = self;
        let NewJob {
            max_attempts, retry, timeout, tags, metadata, traceparent, unique, key, ..
        } = self;
        v1::NewJob {
            queue: queue.into_owned(),
            kind: kind.into_owned(),
            payload,
            content_type: content_type.into_owned(),
            priority,
            max_attempts,
            retry: retry.map(RetryPolicy::into_proto),
            timeout: timeout.map(to_proto),
            tags,
            metadata,
            traceparent: if traceparent.is_empty() { span::traceparent() } else { traceparent },
            unique: unique.map(Unique::into_proto),
            expiry: expiry.map(|expiry| match expiry {
                Expiry::At(time) => v1::new_job::Expiry::ExpireAt(time.into()),
                Expiry::After(delay) => v1::new_job::Expiry::ExpireAfter(to_proto(delay)),
            }),
            key,
            start: match start {
                Start::Now => None,
                Start::At(time) => Some(v1::new_job::Start::RunAt(time.into())),
                Start::After(delay) => Some(v1::new_job::Start::Delay(to_proto(delay))),
            },
        }
    }
}

/// A key that nobody else has. Later ones are greater, so that they go to the end of Postgres'
/// index of keys instead of all over it.
pub(crate) fn fresh_key() -> String {
    format!("{:011x}{:016x}", clock::unix_millis(), fastrand::u64(..))
}

/// One Enqueue. A queue or kind that all jobs share is sent once.
pub(crate) fn request(idempotency_key: String, mut jobs: Vec<NewJob>) -> v1::EnqueueRequest {
    // A unique job's own key makes a repetition safe.
    let unique = jobs.iter().any(|job| job.unique.is_some());
    v1::EnqueueRequest {
        idempotency_key: if unique { String::new() } else { idempotency_key },
        queue: take_shared(&mut jobs, |job| &mut job.queue),
        kind: take_shared(&mut jobs, |job| &mut job.kind),
        jobs: jobs.into_iter().map(NewJob::into_proto).collect(),
    }
}

/// Takes a name out of all jobs if it is the same in all.
fn take_shared(
    jobs: &mut [NewJob],
    name: impl Fn(&mut NewJob) -> &mut Cow<'static, str>,
) -> String {
    let Some((first, others)) = jobs.split_first_mut() else { return String::new() };
    let shared = name(first);
    if others.iter_mut().any(|job| name(job) != shared) {
        return String::new();
    }
    let shared = std::mem::take(shared).into_owned();
    for job in others {
        *name(job) = Cow::Borrowed("");
    }
    shared
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_field_goes_on_the_wire() {
        let job = NewJob::json("q", "k", &[1, 2])
            .unwrap()
            .priority(5)
            .delay(Duration::from_secs(3))
            .expire_after(Duration::from_secs(4))
            .max_attempts(4)
            .retry(RetryPolicy::exponential(Duration::from_secs(1)).factor(3.0).jitter(0.0))
            .timeout(Duration::from_millis(1500))
            .tag("a")
            .tag("b")
            .metadata("c", "d")
            .traceparent("00-1-2-01")
            .unique(Unique::key("one"))
            .key("acme");
        let v1::NewJob {
            queue,
            kind,
            payload,
            content_type,
            priority,
            start,
            expiry,
            max_attempts,
            retry,
            timeout,
            tags,
            traceparent,
            metadata,
            unique,
            key,
        } = job.into_proto();
        assert_eq!((&*queue, &*kind, &*payload), ("q", "k", &b"[1,2]"[..]));
        assert_eq!((&*content_type, priority, max_attempts), ("application/json", Some(5), 4));
        let delay = prost_types::Duration { seconds: 3, nanos: 0 };
        assert_eq!(start, Some(v1::new_job::Start::Delay(delay)));
        let expires = prost_types::Duration { seconds: 4, nanos: 0 };
        assert_eq!(expiry, Some(v1::new_job::Expiry::ExpireAfter(expires)));
        assert_eq!(RetryPolicy::from_proto(retry.unwrap()).unwrap().jitter, Some(0.0));
        assert_eq!(timeout, Some(prost_types::Duration { seconds: 1, nanos: 500_000_000 }));
        assert_eq!(metadata["c"], "d");
        assert_eq!(unique.map(|unique| unique.key).as_deref(), Some("one"));
        assert_eq!(key, "acme");
        assert_eq!((tags, &*traceparent), (vec!["a".to_owned(), "b".to_owned()], "00-1-2-01"));
    }

    #[test]
    fn a_shared_name_is_sent_once_and_others_stay() {
        let sent =
            request("k".into(), vec![NewJob::raw("q", "a", "1"), NewJob::raw("q", "b", "2")]);
        assert_eq!((&*sent.queue, &*sent.kind), ("q", ""));
        assert_eq!((&*sent.jobs[1].queue, &*sent.jobs[1].kind), ("", "b"));
    }

    #[test]
    fn no_two_keys_are_alike() {
        let keys: std::collections::HashSet<_> = (0..1000).map(|_| fresh_key()).collect();
        assert!(keys.len() == 1000 && keys.iter().all(|key| key.len() == 27));
    }
}
