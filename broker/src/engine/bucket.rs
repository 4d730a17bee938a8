use std::time::Duration;

use crate::domain::RateLimit;

/// Starts of jobs at a rate: a bucket that fills by time and that each start takes from. In whole numbers:
/// a nanosecond fills in `jobs` parts, of which a start takes as many as the period has nanoseconds.
#[derive(Debug)]
pub(super) struct Bucket {
    rate: RateLimit,
    parts: u128,
    /// When that was.
    at: Duration,
}

/// Starts are let through in lots, not more often than this: each costs a look at the sessions.
const PAUSE: Duration = Duration::from_millis(10);

impl Bucket {
    /// An empty one: what was taken before isn't known.
    pub(super) fn new(now: Duration, rate: RateLimit) -> Self {
        Self { rate, parts: 0, at: now }
    }

    /// How many jobs may start now.
    pub(super) fn holds(&mut self, now: Duration) -> usize {
        self.fill(now);
        usize::try_from(self.parts / self.price()).unwrap_or(usize::MAX)
    }

    /// So many start, not more than it holds.
    pub(super) fn take(&mut self, jobs: usize) {
        self.parts = self.parts.saturating_sub(jobs as u128 * self.price());
    }

    /// When the next lot is there, if nothing is taken until then.
    pub(super) fn next_lot(&mut self, now: Duration) -> Duration {
        self.fill(now);
        let until = |parts: u128| {
            let nanos = parts.saturating_sub(self.parts).div_ceil(u128::from(self.rate.jobs));
            Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
        };
        let (one, all) = (until(self.price()), until(self.full()));
        now + one.max(PAUSE.min(all))
    }

    /// When it is full, if nothing is taken until then. `None`: it is.
    pub(super) fn full_at(&mut self, now: Duration) -> Option<Duration> {
        self.fill(now);
        let nanos = (self.full() - self.parts).div_ceil(u128::from(self.rate.jobs));
        (nanos > 0).then(|| now + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }

    /// From now on another rate. What is in it stays, as far as it may hold so much.
    pub(super) fn change(&mut self, now: Duration, rate: RateLimit) {
        let held = self.holds(now) as u128;
        self.rate = rate;
        self.parts = (held * self.price()).min(self.full());
    }

    fn fill(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.at).as_nanos();
        self.at = self.at.max(now);
        self.parts = (self.parts + passed * u128::from(self.rate.jobs)).min(self.full());
    }

    fn price(&self) -> u128 {
        u128::from(self.rate.period_ms) * 1_000_000
    }

    fn full(&self) -> u128 {
        u128::from(self.rate.burst) * self.price()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rate(jobs: u32, period_ms: u64, burst: u32) -> RateLimit {
        RateLimit { jobs, period_ms, burst }
    }

    #[test]
    fn it_begins_empty_and_holds_a_burst_at_most() {
        let mut bucket = Bucket::new(Duration::ZERO, rate(10, 1000, 5));
        assert_eq!(bucket.holds(Duration::ZERO), 0);
        assert_eq!(bucket.holds(Duration::from_millis(299)), 2);
        assert_eq!(bucket.holds(Duration::from_secs(60)), 5);
        bucket.take(5);
        assert_eq!(bucket.next_lot(Duration::from_secs(60)), Duration::from_millis(60_100));
    }

    #[test]
    fn lots_are_waited_for_where_jobs_are_many() {
        let mut many = Bucket::new(Duration::ZERO, rate(100_000, 1000, 100_000));
        assert_eq!(many.next_lot(Duration::ZERO), PAUSE);
        let mut small = Bucket::new(Duration::ZERO, rate(1000, 1000, 2));
        assert_eq!(small.next_lot(Duration::ZERO), Duration::from_millis(2));
    }

    #[test]
    fn what_is_in_it_stays_when_the_rate_changes() {
        let mut bucket = Bucket::new(Duration::ZERO, rate(10, 1000, 10));
        bucket.change(Duration::from_millis(500), rate(1, 3_600_000, 3));
        assert_eq!(bucket.holds(Duration::from_millis(500)), 3);
        bucket.change(Duration::from_millis(500), rate(1, 1, 10));
        assert_eq!(bucket.holds(Duration::from_millis(500)), 3);
    }

    proptest! {
        /// In any span of time at most a burst and what the rate gives in that span; and all of that, for
        /// one who takes whatever there is at every lot.
        #[test]
        fn never_more_than_the_rate_and_no_less(
            jobs in 1u32..2000, period_ms in 1u64..100_000, burst in 1u32..500, lots in 1usize..300,
        ) {
            let limit = rate(jobs, period_ms, burst);
            let mut bucket = Bucket::new(Duration::ZERO, limit);
            let mut starts: Vec<(Duration, u128)> = Vec::new();
            let mut now = Duration::ZERO;
            for _ in 0..lots {
                now = bucket.next_lot(now);
                let held = bucket.holds(now);
                prop_assert!(held > 0, "a lot is never empty");
                bucket.take(held);
                starts.push((now, held as u128));
            }
            let given_in = |span: Duration| span.as_nanos() * u128::from(jobs) / bucket.price();
            let total: u128 = starts.iter().map(|(_, count)| count).sum();
            // A lot that waits for a full bucket comes up to a nanosecond late.
            let late = Duration::from_nanos(lots as u64);
            prop_assert!(total >= given_in(now - late.min(now)), "it gave less than it could");
            for (at, (from, _)) in starts.iter().enumerate() {
                let mut sum = 0;
                for (to, count) in &starts[at..] {
                    sum += count;
                    prop_assert!(sum <= u128::from(burst) + given_in(*to - *from));
                }
            }
        }
    }
}
