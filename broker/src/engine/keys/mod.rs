use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{backlog::sweep_rest, gate::Gate, places::Shares, turns::Turns};
use crate::domain::{KeyWeights, TakenJob};

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
    /// How many they would have if keys weren't limited.
    pub turns: Turns,
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
    /// What is left of the turn that the last claim broke off, of the key behind `after`.
    rest: Option<(Arc<str>, usize)>,
    pub(super) weights: KeyWeights,
    /// Of this round, so far: what the keys weigh that had ready jobs, jobs that were taken, and how long it ran.
    found: usize,
    taken: usize,
    took: Duration,
    /// What the keys of the last round weigh, and of the last claim: so many turns there are about.
    last_found: usize,
    last_walked: usize,
    /// What they weighed in the last round that found any.
    usual: usize,
    /// The next claim is the first since there were none.
    begins: bool,
    not_before: Duration,
    /// And with news since.
    not_before_told: Duration,
    /// Whether a key got less than its share for want of a place.
    left_out: bool,
    /// Whether jobs without a key had the last turn.
    others_had_turn: bool,
}

/// Keys that a claim looks at, at most; beyond those that it takes jobs of.
const KEYS_MAX: usize = 1000;
const KEYS_MORE: usize = 10;
/// As many keys, at least, are thought to share what a claim may take after a time without any.
const KEYS_UNTOLD: usize = 10;
/// After a failed claim.
const CLAIM_PAUSE: Duration = Duration::from_millis(250);

impl Keys {
    /// Jobs with keys may have become ready.
    pub(super) fn note(&mut self) {
        self.forget();
        self.sure = true;
        self.not_before = self.not_before.min(self.not_before_told);
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

    #[cfg(test)]
    pub(super) fn look(&self) -> bool {
        self.waiting || self.claim.is_some()
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

    /// When the next claim may look for jobs that were heard of.
    pub(super) fn rests_until(&self, now: Duration) -> Option<Duration> {
        let rests = self.are_waiting() && self.claim.is_none() && self.not_before > now;
        rests.then_some(self.not_before)
    }

    /// Time let jobs of some key through. A claim in flight may have left the key out, as it was told.
    pub(super) fn refilled(&mut self) {
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
        let among = match self.last_found.max(self.last_walked) {
            found if found > 0 && !self.begins => found,
            // One more than its only job: so that it shows that there is no other.
            _ if self.usual > 0 => self.usual.max(KEYS_UNTOLD).min(limit / 2),
            _ => limit,
        };
        let each = limit.checked_div(among).unwrap_or(limit).max(1);
        let turns = Turns { each, weights: self.weights.clone(), rest: self.rest.clone() };
        let others = turns.others(&self.after).map(|(key, turn)| (Arc::clone(key), turn));
        let mut claim = KeyClaim {
            after: Arc::clone(&self.after),
            until: None,
            keys_max: limit + KEYS_MORE,
            each,
            shares: others.collect(),
            turns,
            limited: None,
            limit,
        };
        if let Some((shares, limited)) =
            gate.and_then(|gate| gate.key_shares(now, &claim.after, &claim.turns))
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

    /// The claim came back with these jobs, in no order. `took`: how long it ran. Returns how many were wanted, and
    /// the keys that had all that their limits let them.
    pub(super) fn claimed(
        &mut self,
        now: Duration,
        took: Duration,
        walked: &Walked,
        jobs: &[TakenJob],
    ) -> (usize, Vec<Arc<str>>) {
        let Some(claim) = self.claim.take() else { return (0, Vec::new()) };
        self.begins = false;
        let mut taken: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
        for key in jobs.iter().filter_map(|job| job.key.as_ref()) {
            *taken.entry(key).or_default() += 1;
        }
        // Of keys without a place it isn't known which they are.
        let weight = walked.keys + claim.turns.weigh(taken.keys().copied()) - taken.len();
        let many = walked.keys >= claim.keys_max;
        self.last_walked = if many { usize::MAX } else { weight };
        let full = jobs.len() >= claim.limit;
        let share = |key: &Arc<str>| claim.shares.get(key).copied().unwrap_or(claim.each);
        let limited = |key: &Arc<str>| claim.limited.is_some() && share(key) < claim.turns.of(key);
        let had_all: Vec<Arc<str>> = taken
            .iter()
            .filter(|(key, jobs)| limited(key) && **jobs >= share(key))
            .map(|(key, _)| Arc::clone(key))
            .collect();
        self.again |= full || taken.iter().any(|(key, jobs)| *jobs >= claim.turns.of(key));
        if claim.limited.is_some() {
            let no_place = claim.each == 0 || claim.shares.values().any(|share| *share == 0);
            self.left_out |= no_place || !had_all.is_empty();
        }
        self.sure |= !jobs.is_empty();
        self.taken += jobs.len();
        self.took += took;
        self.rest = taken
            .last_key_value()
            .filter(|_| full)
            .and_then(|(key, jobs)| claim.turns.left(key, *jobs, share(key)));
        let rest = self.rest.is_some();
        let mut ended = taken.keys().take(taken.len() - usize::from(rest));
        self.found += if full { claim.turns.weigh(ended.clone().copied()) } else { weight };
        let reached = if full {
            Some(ended.next_back().map_or(claim.after, |key| Arc::clone(key)))
        } else if !many {
            claim.until
        } else {
            walked.last.clone()
        };
        match reached {
            Some(key) => self.after = key,
            None => self.end_round(now),
        }
        (claim.limit, had_all)
    }

    fn end_round(&mut self, now: Duration) {
        if self.taken == 0 {
            // It looked at what could not be taken: not more than a share of the time; with news, at most half.
            self.not_before = now + sweep_rest(self.took);
            self.not_before_told = self.not_before.min(now + self.took);
        }
        self.waiting = std::mem::take(&mut self.again);
        self.sure &= self.waiting;
        self.begins = !self.waiting;
        if self.sure {
            self.not_before = self.not_before.min(self.not_before_told);
        }
        self.last_found = std::mem::take(&mut self.found);
        self.usual = if self.last_found > 0 { self.last_found } else { self.usual };
        (self.taken, self.took) = (0, Duration::ZERO);
        self.after = Arc::default();
    }

    /// Returns how many jobs were wanted.
    pub(super) fn claim_failed(&mut self, now: Duration) -> usize {
        let Some(claim) = self.claim.take() else { return 0 };
        self.again = true;
        self.not_before = now + CLAIM_PAUSE;
        self.not_before_told = self.not_before;
        claim.limit
    }
}

#[cfg(test)]
mod tests;
