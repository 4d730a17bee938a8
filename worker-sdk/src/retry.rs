//! When to try again, and how long to wait before.

use std::{error::Error as _, future::Future, time::Duration};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::time::{Instant, sleep, timeout_at};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::{clock, error::Error};

const DELAY_MIN: Duration = Duration::from_millis(50);
const DELAY_MAX: Duration = Duration::from_secs(5);

/// Waits that double from 50 ms to a maximum, up to half of each at random: clients that lost the
/// broker at the same moment don't come back at the same moment.
#[derive(Debug)]
pub(crate) struct Backoff(ExponentialBackoff);

impl Backoff {
    /// Up to 5 s.
    pub(crate) fn new() -> Backoff {
        Backoff::up_to(DELAY_MAX)
    }

    /// No wait is longer than `max`: at least 100 ms, at most 5 s.
    pub(crate) fn up_to(max: Duration) -> Backoff {
        let builder = ExponentialBuilder::new()
            .with_min_delay(DELAY_MIN)
            // The jitter adds up to as much again.
            .with_max_delay(max.clamp(2 * DELAY_MIN, DELAY_MAX) / 2)
            .without_max_times()
            .with_jitter()
            // Without a seed of ours every process would draw the same numbers.
            .with_jitter_seed(fastrand::u64(..));
        Backoff(builder.build())
    }

    /// The next wait.
    pub(crate) fn next(&mut self) -> Duration {
        self.0.next().unwrap_or(DELAY_MAX)
    }

    /// The next wait after this error: what the broker asks for, else the next of the backoff.
    pub(crate) fn after(&mut self, status: &Status) -> Duration {
        match requested_delay(status) {
            Some(delay) => delay.mul_f64(1.0 + 0.25 * fastrand::f64()),
            None => self.next(),
        }
    }
}

/// How a stream that broke off is asked for again: until the broker hasn't answered for so long.
#[derive(Debug)]
pub(crate) struct Reconnect {
    deadline: Duration,
    backoff: Backoff,
    /// Since when the broker doesn't answer.
    down_since: Option<Instant>,
}

impl Reconnect {
    pub(crate) fn new(deadline: Duration) -> Reconnect {
        Reconnect { deadline, backoff: Backoff::new(), down_since: None }
    }

    /// The broker has answered.
    pub(crate) fn answered(&mut self) {
        *self = Reconnect::new(self.deadline);
    }

    /// Waits before the next call, unless that has no point.
    pub(crate) async fn lost(&mut self, status: Status) -> Result<(), Error> {
        if !is_transient(&status) {
            return Err(status.into());
        }
        let now = clock::now();
        let since = *self.down_since.get_or_insert(now);
        if now.duration_since(since) >= self.deadline {
            return Err(Error::GaveUp { after: self.deadline, last: Some(Box::new(status)) });
        }
        sleep(self.backoff.after(&status)).await;
        Ok(())
    }
}

/// Whether the same call may succeed later: the broker says so, or the connection broke.
pub(crate) fn is_transient(status: &Status) -> bool {
    // A status that came from the broker has no source; one with a source was made on this side,
    // from an error of the transport.
    matches!(status.code(), Code::Unavailable | Code::ResourceExhausted)
        || status.source().is_some()
}

/// What google.rpc.RetryInfo asks for, at most an hour.
fn requested_delay(status: &Status) -> Option<Duration> {
    let delay = status.get_details_retry_info()?.retry_delay?;
    Some(delay.min(Duration::from_secs(3600)))
}

/// Repeats a call until it succeeds, fails for good, or the time is over.
pub(crate) async fn with_retry<T, F>(
    deadline: Duration,
    mut call: impl FnMut() -> F,
) -> Result<T, Error>
where
    F: Future<Output = Result<T, Status>>,
{
    let give_up_at = clock::now() + deadline;
    let mut backoff = Backoff::new();
    let mut last = None;
    loop {
        let status = match timeout_at(give_up_at, call()).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(status)) => status,
            Err(_) => return Err(Error::GaveUp { after: deadline, last }),
        };
        if !is_transient(&status) {
            return Err(status.into());
        }
        let delay = backoff.after(&status);
        last = Some(Box::new(status));
        if clock::now() + delay >= give_up_at {
            return Err(Error::GaveUp { after: deadline, last });
        }
        sleep(delay).await;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn waits_grow_to_the_maximum() {
        let mut backoff = Backoff::new();
        let first = backoff.next();
        assert!(first >= DELAY_MIN && first <= DELAY_MIN * 2, "{first:?}");
        let later: Vec<Duration> = (0..50).map(|_| backoff.next()).collect();
        assert!(later.iter().all(|delay| *delay <= DELAY_MAX));
        assert!(later[49] >= DELAY_MAX / 2);
        let mut short = Backoff::up_to(Duration::from_secs(1));
        assert!((0..50).all(|_| short.next() <= Duration::from_secs(1)));
    }

    #[test]
    fn what_the_broker_asks_for_wins() {
        let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(8)));
        let status = Status::with_error_details(Code::ResourceExhausted, "full", details);
        let delay = Backoff::new().after(&status);
        assert!(delay >= Duration::from_secs(8) && delay <= Duration::from_secs(10));
    }

    #[tokio::test]
    async fn transient_errors_are_repeated_and_others_are_not() {
        let calls = Cell::new(0);
        let answer = with_retry(Duration::from_secs(30), || {
            calls.set(calls.get() + 1);
            let first = calls.get() == 1;
            async move { if first { Err(Status::unavailable("drains")) } else { Ok(7) } }
        });
        assert!(matches!(answer.await, Ok(7)));
        let calls = Cell::new(0);
        let answer = with_retry(Duration::from_secs(30), || {
            calls.set(calls.get() + 1);
            async { Err::<(), _>(Status::invalid_argument("bad")) }
        });
        assert!(matches!(answer.await, Err(Error::InvalidArgument { .. })));
        assert_eq!(calls.get(), 1);
    }

    #[tokio::test]
    async fn the_deadline_ends_it() {
        let answer = with_retry(Duration::from_millis(120), || async {
            Err::<(), _>(Status::unavailable("away"))
        });
        assert!(matches!(answer.await, Err(Error::GaveUp { last: Some(_), .. })));
    }
}
