use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use super::{backlog::sweep_rest, gate::Gate, places::Shares};
use crate::domain::{JobId, TakenJob};

/// A claim of jobs with keys: from key to key in their order, of each a few.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyClaim {
    /// Behind this key; empty: from the first.
    pub after: Arc<str>,
    /// Not behind this one.
    pub until: Option<Arc<str>>,
    /// How many keys are looked at.
    pub keys_max: usize,
    /// How many jobs of each are taken, but for these.
    pub each: usize,
    pub shares: BTreeMap<Arc<str>, usize>,
    /// How many each would have if keys weren't limited.
    pub unlimited: usize,
    /// Where they are.
    pub limited: Option<LimitedClaim>,
    /// How many jobs are taken in all.
    pub limit: usize,
}

/// Of a queue that limits its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitedClaim {
    /// For which the broker owns the queue.
    pub term: i64,
    /// The first by its id, if none before it waits for another attempt.
    pub ordered: bool,
}

/// How far a claim came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Walked {
    /// How many keys with ready jobs it found, and the last of them.
    pub keys: usize,
    pub last: Option<Arc<str>>,
}

/// Whose turn it is among the keys of a queue.
///
/// Claims go round: each begins behind the key at which the one before ended. What was noted as ready is
/// looked for until a round, from the first key to the last, has left nothing behind.
///
/// - `waiting`: there may be ready jobs with keys in the database; `sure`: not only because nobody has looked.
/// - `again`: this round has left jobs behind, or some came during it.
#[derive(Debug, Default)]
pub(super) struct Keys {
    waiting: bool,
    sure: bool,
    again: bool,
    /// In flight, if there is one.
    claim: Option<KeyClaim>,
    after: Arc<str>,
    /// Of this round, so far: keys that had ready jobs, jobs that were taken, and how long it ran.
    found: usize,
    taken: usize,
    took: Duration,
    /// Keys of the last round, and of the last claim: so many there are about.
    last_found: usize,
    last_walked: usize,
    not_before: Duration,
    /// Whether a key got less than its share for want of a place.
    left_out: bool,
    /// Whether jobs without a key had the last turn.
    others_had_turn: bool,
}

/// Keys that a claim looks at, at most; beyond those that it takes jobs of.
const KEYS_MAX: usize = 1000;
const KEYS_MORE: usize = 10;
/// After a failed claim.
const CLAIM_PAUSE: Duration = Duration::from_millis(250);

impl Keys {
    /// Jobs with keys may have become ready.
    pub(super) fn note(&mut self) {
        self.forget();
        self.sure = true;
    }

    /// Nobody knows whether there are ready jobs with keys.
    pub(super) fn forget(&mut self) {
        self.again |= self.waiting && (self.claim.is_some() || self.found > 0);
        self.waiting = true;
    }

    /// Whether ready jobs with keys were heard of: no other job of the queue is to overtake them.
    pub(super) fn are_waiting(&self) -> bool {
        self.waiting && self.sure
    }

    /// Of so much room what jobs without a key may take: as much as one key. Where that can't be halved, or
    /// nothing is known of jobs with keys, in turns.
    pub(super) fn leave(&mut self, now: Duration, room: usize) -> usize {
        if !self.may_claim(now) {
            return room;
        }
        if self.sure && room > 1 {
            return (room / (self.last_found.max(1) + 1)).max(1);
        }
        self.others_had_turn = !self.others_had_turn;
        if self.others_had_turn { room } else { room / 2 }
    }

    fn may_claim(&self, now: Duration) -> bool {
        self.waiting && self.claim.is_none() && now >= self.not_before
    }

    /// A place that a key had is free. A claim in flight may have left the key out, as it was told.
    pub(super) fn place_freed(&mut self) {
        let limited = |claim: &KeyClaim| claim.limited.is_some();
        if std::mem::take(&mut self.left_out) || self.claim.as_ref().is_some_and(limited) {
            self.note();
        }
    }

    pub(super) fn has_left_out(&self) -> bool {
        self.left_out
    }

    /// Starts the next claim of up to `limit` jobs, if there may be some. `gate`: of a queue with limits.
    pub(super) fn next_claim(
        &mut self,
        now: Duration,
        limit: usize,
        gate: Option<&mut Gate>,
    ) -> Option<KeyClaim> {
        if !self.may_claim(now) || limit == 0 {
            return None;
        }
        let unlimited =
            limit.checked_div(self.last_found.max(self.last_walked)).unwrap_or(0).max(1);
        let mut claim = KeyClaim {
            after: Arc::clone(&self.after),
            until: None,
            keys_max: limit + KEYS_MORE,
            each: unlimited,
            shares: BTreeMap::new(),
            unlimited,
            limited: None,
            limit,
        };
        if let Some((shares, limited)) =
            gate.and_then(|gate| gate.key_shares(now, &claim.after, unlimited))
        {
            let Shares { each, known, until } = shares;
            let nothing = each == 0 && known.values().all(|share| *share == 0);
            if nothing && until.is_none() {
                self.left_out = true;
                return None;
            }
            claim.keys_max += known.len();
            claim = KeyClaim { each, shares: known, until, limited: Some(limited), ..claim };
        }
        claim.keys_max = claim.keys_max.min(KEYS_MAX);
        self.claim = Some(claim.clone());
        Some(claim)
    }

    /// The claim came back with these jobs, in no order. `took`: how long it ran. Returns how many were wanted.
    pub(super) fn claimed(
        &mut self,
        now: Duration,
        took: Duration,
        walked: &Walked,
        jobs: &[TakenJob],
    ) -> usize {
        let Some(claim) = self.claim.take() else { return 0 };
        let mut taken: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
        for key in jobs.iter().filter_map(|job| job.key.as_ref()) {
            *taken.entry(key).or_default() += 1;
        }
        let many = walked.keys >= claim.keys_max;
        self.last_walked = if many { usize::MAX } else { walked.keys };
        let full = jobs.len() >= claim.limit;
        let share = |key: &Arc<str>| claim.shares.get(key).copied().unwrap_or(claim.each);
        self.again |= full || taken.values().any(|jobs| *jobs >= claim.unlimited);
        if claim.limited.is_some() {
            let no_place = claim.each == 0 || claim.shares.values().any(|share| *share == 0);
            self.left_out |= no_place || taken.iter().any(|(key, jobs)| *jobs >= share(key));
        }
        self.sure |= !jobs.is_empty();
        self.taken += jobs.len();
        self.took += took;
        let last_taken = taken.last_key_value().map(|(key, _)| Arc::clone(key));
        self.found += if full { taken.len() } else { walked.keys };
        let all_walked = walked.keys < claim.keys_max;
        let reached = if full {
            last_taken
        } else if all_walked {
            claim.until
        } else {
            walked.last.clone()
        };
        match reached {
            Some(key) => self.after = key,
            None => self.end_round(now),
        }
        claim.limit
    }

    /// In the order of turns: the first job of each key, then the second of each.
    pub(super) fn in_turns(jobs: &mut [TakenJob]) {
        jobs.sort_unstable_by_key(|job| (Reverse(job.priority), job.id));
        let mut counts: BTreeMap<Option<Arc<str>>, usize> = BTreeMap::new();
        let mut turns: HashMap<JobId, usize> = HashMap::new();
        for job in jobs.iter() {
            let count = counts.entry(job.key.clone()).or_default();
            turns.insert(job.id, *count);
            *count += 1;
        }
        // The walk's order of keys is that of their bytes.
        jobs.sort_by(|one, other| {
            turns[&one.id].cmp(&turns[&other.id]).then_with(|| one.key.cmp(&other.key))
        });
    }

    fn end_round(&mut self, now: Duration) {
        if self.taken == 0 {
            // It looked at what could not be taken: not more than a share of the time.
            self.not_before = now + sweep_rest(self.took);
        }
        self.waiting = std::mem::take(&mut self.again);
        self.sure &= self.waiting;
        self.last_found = std::mem::take(&mut self.found);
        (self.taken, self.took) = (0, Duration::ZERO);
        self.after = Arc::default();
    }

    /// Returns how many jobs were wanted.
    pub(super) fn claim_failed(&mut self, now: Duration) -> usize {
        let Some(claim) = self.claim.take() else { return 0 };
        self.again = true;
        self.not_before = now + CLAIM_PAUSE;
        claim.limit
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::engine::simulation::taken;

    const NOW: Duration = Duration::from_secs(1);

    /// What stands in the database: keys and how many ready jobs they have.
    struct World {
        keys: Keys,
        ready: BTreeMap<Arc<str>, usize>,
    }

    impl World {
        fn new(ready: &[(&str, usize)]) -> Self {
            let mut world = Self { keys: Keys::default(), ready: BTreeMap::new() };
            for (key, jobs) in ready {
                world.store(key, *jobs);
            }
            world
        }

        fn store(&mut self, key: &str, jobs: usize) {
            *self.ready.entry(key.into()).or_default() += jobs;
            self.keys.note();
        }

        /// The keys that a claim of so many jobs has served, with the number of jobs. `None`: there is none.
        fn claim(&mut self, limit: usize) -> Option<Vec<(String, usize)>> {
            let claim = self.keys.next_claim(NOW, limit, None)?;
            let (mut walked, mut jobs, mut served) = (Walked::default(), Vec::new(), Vec::new());
            for (key, ready) in self.ready.iter_mut().filter(|(key, _)| **key > claim.after) {
                if walked.keys == claim.keys_max {
                    break;
                }
                let share = claim.shares.get(key).copied().unwrap_or(claim.each);
                let share = share.min(*ready).min(limit - jobs.len());
                *ready -= share;
                jobs.extend(
                    (0..share)
                        .map(|_| TakenJob { key: Some(Arc::clone(key)), ..taken(JobId(1), 1, 0) }),
                );
                walked = Walked { keys: walked.keys + 1, last: Some(Arc::clone(key)) };
                if share > 0 {
                    served.push((key.to_string(), share));
                }
            }
            self.ready.retain(|_, ready| *ready > 0);
            self.keys.claimed(NOW, Duration::from_millis(1), &walked, &jobs);
            Some(served)
        }
    }

    fn served(of: &[(&str, usize)]) -> Option<Vec<(String, usize)>> {
        Some(of.iter().map(|(key, jobs)| ((*key).to_owned(), *jobs)).collect())
    }

    #[test]
    fn keys_take_turns_and_one_alone_has_all() {
        let mut world = World::new(&[("a", 1000)]);
        assert_eq!(world.claim(10), served(&[("a", 1)]), "who knows how many there are");
        assert_eq!(world.claim(10), served(&[("a", 10)]));
        world.store("b", 1);
        // From behind the key that had its turn.
        assert_eq!(world.claim(10), served(&[("b", 1)]));
        assert_eq!(world.claim(10), served(&[("a", 5)]), "there were two");
        world.store("b", 100);
        world.store("c", 100);
        assert_eq!(world.claim(10), served(&[("a", 10)]), "it was alone");
        assert_eq!(world.claim(10), served(&[("b", 3), ("c", 3)]));
        assert_eq!(world.claim(9), served(&[("a", 3), ("b", 3), ("c", 3)]));
    }

    #[test]
    fn of_many_keys_each_has_one_job_in_its_turn() {
        let mut world = World::new(&[("a", 5), ("b", 5), ("c", 5), ("d", 5)]);
        assert_eq!(world.claim(3), served(&[("a", 1), ("b", 1), ("c", 1)]));
        assert_eq!(world.claim(3), served(&[("d", 1)]));
        assert_eq!(world.claim(3), served(&[("a", 1), ("b", 1), ("c", 1)]));
    }

    #[test]
    fn a_claim_that_left_nothing_is_the_last() {
        let mut world = World::new(&[("a", 1), ("b", 2)]);
        assert_eq!(world.claim(10), served(&[("a", 1), ("b", 1)]));
        assert_eq!(world.claim(10), served(&[("b", 1)]));
        assert_eq!(world.claim(10), None);
        world.store("c", 1);
        assert_eq!(world.claim(10), served(&[("c", 1)]));
        assert_eq!(world.claim(10), None);
    }

    #[test]
    fn a_place_that_becomes_free_during_a_claim_is_not_forgotten() {
        let mut keys = Keys::default();
        keys.note();
        let mut claim = keys.next_claim(NOW, 10, None).unwrap();
        claim.shares.insert("a".into(), 0);
        claim.limited = Some(LimitedClaim { term: 1, ordered: true });
        keys.claim = Some(claim);
        keys.place_freed();
        let walked = Walked { keys: 1, last: Some("a".into()) };
        keys.claimed(NOW, Duration::ZERO, &walked, &[]);
        assert!(keys.next_claim(NOW, 10, None).is_some());
    }

    #[test]
    fn the_first_of_each_key_come_before_the_second_ones() {
        let job = |id, key: &str, priority| TakenJob {
            key: Some(key.into()),
            ..taken(JobId(id), 1, priority)
        };
        let mut jobs =
            [job(1, "b", 0), job(2, "a", 0), job(3, "b", 5), job(4, "a", 0), job(5, "c", 0)];
        Keys::in_turns(&mut jobs);
        assert_eq!(jobs.map(|job| job.id.0), [2, 3, 5, 4, 1]);
    }

    #[test]
    fn what_comes_during_a_claim_is_looked_for_by_the_next() {
        let mut world = World::new(&[("a", 1)]);
        let claim = world.keys.next_claim(NOW, 10, None).unwrap();
        assert_eq!(world.keys.next_claim(NOW, 10, None), None, "one at a time");
        world.keys.note();
        let walked = Walked { keys: 1, last: Some("a".into()) };
        let job = TakenJob { key: Some("a".into()), ..taken(JobId(1), 1, 0) };
        world.keys.claimed(NOW, Duration::ZERO, &walked, &[job]);
        assert_eq!((claim.each, claim.limit), (1, 10));
        assert!(world.keys.are_waiting() && world.keys.next_claim(NOW, 10, None).is_some());
    }

    #[test]
    fn jobs_without_a_key_have_as_much_as_one_key() {
        let mut world = World::new(&[]);
        world.keys.forget();
        assert!(!world.keys.are_waiting());
        assert_eq!([world.keys.leave(NOW, 8), world.keys.leave(NOW, 8)], [8, 4]);
        for key in ["a", "b", "c"] {
            world.store(key, 100);
        }
        assert_eq!(world.keys.leave(NOW, 8), 4, "nothing is known of the keys yet");
        for _ in 0..3 {
            world.claim(400);
        }
        assert!(!world.keys.are_waiting());
        world.store("a", 1);
        assert_eq!(world.keys.leave(NOW, 8), 2);
        assert_eq!([world.keys.leave(NOW, 1), world.keys.leave(NOW, 1)], [1, 0]);
    }
}
