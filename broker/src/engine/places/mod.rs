use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Bound,
    sync::Arc,
    time::Duration,
};

use super::{bucket::Bucket, turns::Turns};
use crate::{
    domain::{Attempt, KeyLimits, KeyStanding},
    mutation::{self, Mutation},
};

/// Where an attempt is that has its key's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Taken, and no session has it yet.
    Buffered,
    /// A session has it, or its outcome is on the way to the database.
    Held,
    /// Another broker's, or written as over without an answer so far: the database is asked.
    Unsure,
}

/// What the end of an attempt changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Freed {
    /// It didn't count.
    Nothing,
    Place,
    /// A place for which jobs wait, as far as is known.
    Awaited,
}

#[derive(Debug)]
struct Key {
    /// Its attempts under way.
    attempts: usize,
    /// Of these in the buffer: the bucket has been promised to them.
    buffered: usize,
    /// There was no room for the entry: it is there for what is being given back, and gets no place.
    beyond: bool,
    bucket: Option<Bucket>,
    /// Jobs of it may be ready for which a claim found no place.
    left_out: bool,
    /// When its bucket has a job again; or is full, so that nothing has to be known of it any more.
    event: Option<Duration>,
}

/// What of each key is under way, at the owner of a queue that limits it. A key has an entry while attempts of
/// it are under way or its bucket isn't full; all others are alike.
///
/// An attempt counts from the claim until the database has its outcome: so that in order the next one comes
/// only when it is known what becomes of the one before.
#[derive(Debug)]
pub(super) struct Places {
    limits: KeyLimits,
    /// Keys that have an entry, at most: beyond those no further one gets a place.
    keys_max: usize,
    /// Since then a bucket fills of which nothing else is known.
    since: Duration,
    keys: BTreeMap<Arc<str>, Key>,
    attempts: HashMap<Attempt, (Arc<str>, Place)>,
    events: BTreeSet<(Duration, Arc<str>)>,
}

/// What a claim may take of keys.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shares {
    /// Of those of which nothing is known.
    pub(super) each: usize,
    pub(super) known: BTreeMap<Arc<str>, usize>,
    /// Behind this one more is known.
    pub(super) until: Option<Arc<str>>,
}

/// Keys that a claim says something of.
const SHARES_MAX: usize = 1000;

impl Places {
    /// With these attempts under way, each with its key and where it is.
    pub(super) fn new(
        now: Duration,
        limits: KeyLimits,
        keys_max: usize,
        running: impl IntoIterator<Item = (Attempt, (Arc<str>, Place))>,
    ) -> Self {
        let mut places = Self {
            limits,
            keys_max,
            since: now,
            keys: BTreeMap::new(),
            attempts: HashMap::new(),
            events: BTreeSet::new(),
        };
        for (attempt, (key, place)) in running {
            places.insert(attempt, key, place);
        }
        places
    }

    fn insert(&mut self, attempt: Attempt, key: Arc<str>, place: Place) {
        let bucket = self.limits.rate.map(|rate| Bucket::new(self.since, rate));
        let beyond = place == Place::Unsure && self.keys.len() >= self.keys_max;
        let entry = self.keys.entry(Arc::clone(&key)).or_insert_with(|| Key {
            attempts: 0,
            buffered: 0,
            beyond,
            bucket,
            left_out: false,
            event: None,
        });
        if self.attempts.insert(attempt, (key, place)).is_none() {
            entry.attempts += 1;
            entry.buffered += usize::from(place == Place::Buffered);
        }
    }

    /// How many more of a key may be taken; `None`: of one without an entry.
    fn free(&mut self, now: Duration, key: Option<&str>) -> usize {
        let max = if self.limits.ordered { Some(1) } else { self.limits.concurrency };
        let max = max.filter(|_| !mutation::on(Mutation::OpenKeys));
        let max = max.map_or(usize::MAX, |max| max as usize);
        let keys = self.keys.len();
        match key.and_then(|key| self.keys.get_mut(key)) {
            Some(key) if key.beyond => 0,
            Some(key) => {
                let holds = key.bucket.as_mut().map_or(usize::MAX, |bucket| bucket.holds(now));
                max.saturating_sub(key.attempts).min(holds.saturating_sub(key.buffered))
            }
            None if keys >= self.keys_max => 0,
            None => {
                let rate = self.limits.rate;
                max.min(rate.map_or(usize::MAX, |rate| Bucket::new(self.since, rate).holds(now)))
            }
        }
    }

    pub(super) fn has_place(&mut self, now: Duration, key: &str) -> bool {
        self.free(now, Some(key)) > 0
    }

    /// Of keys behind `after`, in these turns.
    pub(super) fn shares(&mut self, now: Duration, after: &str, turns: &Turns) -> Shares {
        let behind = (Bound::Excluded(after), Bound::Unbounded);
        let mut names: BTreeSet<Arc<str>> = self
            .keys
            .range::<str, _>(behind)
            .take(SHARES_MAX)
            .map(|(key, _)| key.clone())
            .collect();
        let until = names.last().filter(|_| names.len() == SHARES_MAX).cloned();
        let within = |key: &&Arc<str>| until.as_ref().is_none_or(|until| *key <= until);
        names.extend(turns.others(after).map(|(key, _)| key).filter(within).cloned());
        let of_each = turns.each.min(self.free(now, None));
        let mut known = BTreeMap::new();
        for key in names {
            let free = self.free(now, Some(&key));
            let share = turns.of(&key).min(free);
            if free == 0 {
                self.leave_out(&key);
            }
            if share != of_each {
                known.insert(key, share);
            }
        }
        Shares { each: of_each, known, until }
    }

    fn leave_out(&mut self, key: &str) {
        if let Some(key) = self.keys.get_mut(key) {
            key.left_out = true;
        }
    }

    /// Keys that have an entry.
    pub(super) fn keys(&self) -> usize {
        self.keys.len()
    }

    /// How a key stands.
    pub(super) fn standing(&mut self, now: Duration, key: &str) -> KeyStanding {
        let full = self.keys.len() >= self.keys_max;
        let beyond_count = self.keys.get(key).map_or(full, |key| key.beyond);
        let since = self.since;
        let (under_way, rate_spent) = match self.keys.get_mut(key) {
            Some(Key { attempts, buffered, bucket, .. }) => {
                let spent = bucket.as_mut().is_some_and(|bucket| bucket.holds(now) <= *buffered);
                (*attempts, spent)
            }
            None => (0, self.limits.rate.is_some_and(|it| Bucket::new(since, it).holds(now) == 0)),
        };
        let attempts = || self.attempts.iter().filter(|(_, (of, _))| **of == *key);
        let job =
            (under_way > 0).then(|| attempts().map(|(attempt, _)| attempt.id).min()).flatten();
        KeyStanding { under_way: under_way as u64, job, rate_spent, beyond_count }
    }

    /// An attempt was claimed. `false`: there is no place for it.
    pub(super) fn take(&mut self, now: Duration, attempt: Attempt, key: &Arc<str>) -> bool {
        if self.attempts.contains_key(&attempt) {
            self.move_to(attempt, Place::Buffered);
            return true;
        }
        let free = self.free(now, Some(key)) > 0;
        if free {
            self.insert(attempt, Arc::clone(key), Place::Buffered);
        } else {
            // Somebody knows better: until it is given back.
            self.insert(attempt, Arc::clone(key), Place::Unsure);
        }
        // The claim may have seen more than it was to take.
        if !self.has_place(now, key) {
            self.leave_out(key);
        }
        free
    }

    /// It goes to a worker.
    pub(super) fn deliver(&mut self, now: Duration, attempt: Attempt) {
        let Some(key) = self.move_to(attempt, Place::Held) else { return };
        if let Some(bucket) = self.keys.get_mut(&key).and_then(|key| key.bucket.as_mut()) {
            bucket.holds(now);
            bucket.take(1);
        }
        self.plan(now, &key);
    }

    /// Where it is now, if it counts. Returns its key.
    pub(super) fn move_to(&mut self, attempt: Attempt, place: Place) -> Option<Arc<str>> {
        let (key, before) = self.attempts.get_mut(&attempt)?;
        let before = std::mem::replace(before, place);
        let entry = self.keys.get_mut(key)?;
        entry.buffered -= usize::from(before == Place::Buffered);
        entry.buffered += usize::from(place == Place::Buffered);
        Some(Arc::clone(key))
    }

    /// The database says that it is over.
    pub(super) fn over(&mut self, now: Duration, attempt: Attempt) -> Freed {
        let Some((key, place)) = self.attempts.remove(&attempt) else { return Freed::Nothing };
        let full = self.keys.len() >= self.keys_max;
        let mut left_out = false;
        if let Some(entry) = self.keys.get_mut(&key) {
            entry.attempts -= 1;
            entry.buffered -= usize::from(place == Place::Buffered);
            left_out = entry.left_out;
        }
        self.plan(now, &key);
        left_out &= self.has_place(now, &key);
        if let Some(entry) = self.keys.get_mut(&key).filter(|_| left_out) {
            entry.left_out = false;
        }
        if left_out || full { Freed::Awaited } else { Freed::Place }
    }

    /// Those of which the database is asked.
    pub(super) fn unsure(&self) -> impl Iterator<Item = Attempt> + '_ {
        let unsure = |(_, (_, place)): &(&Attempt, &(Arc<str>, Place))| *place == Place::Unsure;
        self.attempts.iter().filter(unsure).map(|(attempt, _)| *attempt)
    }

    /// Forgets the key, or says when it is to be looked at.
    fn plan(&mut self, now: Duration, key: &Arc<str>) {
        let Some(entry) = self.keys.get_mut(key) else { return };
        if let Some(at) = entry.event.take() {
            self.events.remove(&(at, Arc::clone(key)));
        }
        let wait = entry.bucket.as_mut().and_then(|bucket| {
            let empty = bucket.holds(now) <= entry.buffered;
            if empty { Some(bucket.next_lot(now)) } else { bucket.full_at(now) }
        });
        // Nothing went from the bucket of one beyond.
        let wait = wait.filter(|_| entry.attempts > 0 || !entry.beyond);
        if let Some(at) = wait {
            entry.event = Some(at);
            self.events.insert((at, Arc::clone(key)));
        } else if entry.attempts == 0 {
            self.keys.remove(key);
        }
    }

    /// When time lets jobs through: of a key with an entry, or of all others.
    pub(super) fn next_event(&self, now: Duration) -> Option<Duration> {
        let known = self.events.first().map(|(at, _)| *at);
        let unknown = self.limits.rate.and_then(|rate| {
            let mut bucket = Bucket::new(self.since, rate);
            (bucket.holds(now) == 0).then(|| bucket.next_lot(now))
        });
        [known, unknown].into_iter().flatten().min()
    }

    /// Time has passed.
    pub(super) fn expire(&mut self, now: Duration) {
        while let Some((at, key)) = self.events.first().cloned()
            && at <= now
        {
            self.plan(now, &key);
            // Not again at once.
            if self.events.first().is_some_and(|first| *first == (at, key)) {
                break;
            }
        }
    }

    #[cfg(test)]
    pub(super) fn attempts(&self) -> impl Iterator<Item = (Attempt, Place)> {
        self.attempts.iter().map(|(attempt, (_, place))| (*attempt, *place))
    }
}

#[cfg(test)]
mod tests;
