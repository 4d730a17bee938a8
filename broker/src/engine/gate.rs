use std::{collections::HashSet, time::Duration};

use super::{
    bucket::Bucket,
    keys::LimitedClaim,
    places::{Places, Shares},
    turns::Turns,
};
use crate::{
    domain::{Attempt, KeyLimits, QueueLimits},
    mutation::{self, Mutation},
};

/// What a limited queue lets through. Only the broker that owns such a queue takes and delivers its jobs;
/// so what it counts is all there is.
#[derive(Debug)]
pub(super) struct Gate {
    limits: QueueLimits,
    bucket: Option<Bucket>,
    /// Whether this broker owns the queue.
    pub(super) owned: bool,
    /// Attempts under way that no session here has: those that were when it came to own the queue, and those
    /// whose leases have ended here. They count until the database says that they are over.
    pub(super) elsewhere: HashSet<Attempt>,
    /// What its keys have under way, where they are limited and this broker owns it.
    pub(super) places: Option<Places>,
    term: i64,
}

impl Gate {
    pub(super) fn new(now: Duration, limits: QueueLimits) -> Self {
        let bucket = limits.rate.map(|rate| Bucket::new(now, rate));
        Self { limits, bucket, owned: false, elsewhere: HashSet::new(), places: None, term: 0 }
    }

    /// Other limits hold from now on. Where they are other ones of keys, what these have under way has to be
    /// read first: as when the queue changes hands.
    pub(super) fn change(&mut self, now: Duration, limits: QueueLimits) {
        match (&mut self.bucket, limits.rate) {
            (Some(bucket), Some(rate)) => bucket.change(now, rate),
            (bucket, rate) => *bucket = rate.map(|rate| Bucket::new(now, rate)),
        }
        let of_keys = limits.key != self.limits.key;
        self.limits = limits;
        if of_keys {
            self.disown(now);
        }
    }

    pub(super) fn key_limits(&self) -> KeyLimits {
        self.limits.key
    }

    /// This broker owns the queue. The bucket begins empty, since another may have had its fill.
    pub(super) fn own(
        &mut self,
        now: Duration,
        term: i64,
        elsewhere: HashSet<Attempt>,
        places: Option<Places>,
    ) {
        (self.owned, self.term, self.elsewhere, self.places) = (true, term, elsewhere, places);
        self.bucket = self.limits.rate.map(|rate| Bucket::new(now, rate));
    }

    /// It doesn't, or what it has counted isn't all there is.
    pub(super) fn disown(&mut self, now: Duration) {
        self.own(now, 0, HashSet::new(), None);
        self.owned = false;
    }

    /// How many jobs of keys behind `after` may be taken in these turns.
    pub(super) fn key_shares(
        &mut self,
        now: Duration,
        after: &str,
        turns: &Turns,
    ) -> Option<(Shares, LimitedClaim)> {
        let places = self.places.as_mut()?;
        let limited = LimitedClaim { term: self.term, ordered: self.limits.key.ordered };
        Some((places.shares(now, after, turns), limited))
    }

    /// How many jobs may go to workers now, beside those that sessions here hold.
    pub(super) fn lets_through(&mut self, now: Duration, held: usize) -> usize {
        if !self.owned {
            return 0;
        }
        let rate = self.bucket.as_mut().map_or(usize::MAX, |bucket| bucket.holds(now));
        self.free(held).min(rate)
    }

    /// So many went.
    pub(super) fn took(&mut self, jobs: usize) {
        if let Some(bucket) = &mut self.bucket {
            bucket.take(jobs);
        }
    }

    /// When it lets more through only because time has passed: later than now. `None` where it isn't the
    /// rate that jobs wait for.
    pub(super) fn next_lot(&mut self, now: Duration, held: usize) -> Option<Duration> {
        let open = self.owned && self.free(held) > 0;
        let bucket = self.bucket.as_mut().filter(|_| open)?;
        (bucket.holds(now) == 0).then(|| bucket.next_lot(now))
    }

    /// Of so much credit, what is of use: what can run, or start within a second.
    pub(super) fn useful(&self, credit: usize) -> usize {
        if !self.owned {
            return 0;
        }
        let most = |limit: u64| usize::try_from(limit).unwrap_or(usize::MAX);
        let concurrency = self.limits.concurrency.map_or(usize::MAX, |max| most(max.into()));
        let rate = self.limits.rate.map_or(usize::MAX, |rate| {
            most((u64::from(rate.jobs) * 1000 / rate.period_ms).max(rate.burst.into()))
        });
        credit.min(concurrency).min(rate)
    }

    fn free(&self, held: usize) -> usize {
        let limit = self.limits.concurrency.filter(|_| !mutation::on(Mutation::OpenGate));
        let max = limit.map_or(usize::MAX, |max| max as usize);
        max.saturating_sub(held + self.elsewhere.len())
    }
}
