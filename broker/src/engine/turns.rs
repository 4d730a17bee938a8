use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crate::domain::{JobId, KeyWeights, TakenJob};

/// How many jobs of each key a claim is to take where nothing limits the key: as many of one as of any other,
/// times what it weighs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turns {
    pub(super) each: usize,
    pub(super) weights: KeyWeights,
    /// A key whose turn the claim before broke off, and how many jobs are left of that turn.
    pub(super) rest: Option<(Arc<str>, usize)>,
}

impl Turns {
    /// Of a key.
    pub(super) fn of(&self, key: &str) -> usize {
        match &self.rest {
            Some((rest, jobs)) if **rest == *key => *jobs,
            _ => self.each * self.weights.of(key),
        }
    }

    /// The keys behind this one that may have other turns than most, with theirs.
    pub(super) fn others(&self, after: &str) -> impl Iterator<Item = (&Arc<str>, usize)> {
        let rest = self.rest.iter().map(|(key, _)| key).filter(move |key| ***key > *after);
        self.weights.behind(after).chain(rest).map(|key| (key, self.of(key)))
    }

    /// What these keys weigh together.
    pub(super) fn weigh<'a>(&self, keys: impl Iterator<Item = &'a Arc<str>>) -> usize {
        keys.map(|key| self.weights.of(key)).sum()
    }

    /// What is left of the turn of the last key that a full claim took jobs of. Where no key weighs more than
    /// another its turn is over all the same.
    pub(super) fn left(
        &self,
        key: &Arc<str>,
        taken: usize,
        share: usize,
    ) -> Option<(Arc<str>, usize)> {
        let broken_off = taken < share && !self.weights.are_none();
        broken_off.then(|| (Arc::clone(key), self.of(key) - taken))
    }
}

/// In the order of turns: the first jobs of each key, then the second ones; as many at once as a key weighs.
pub(super) fn in_turns(jobs: &mut [TakenJob], weights: &KeyWeights) {
    jobs.sort_unstable_by_key(|job| (Reverse(job.priority), job.id));
    let mut counts: BTreeMap<Option<Arc<str>>, usize> = BTreeMap::new();
    let mut turns: HashMap<JobId, usize> = HashMap::new();
    for job in jobs.iter() {
        let count = counts.entry(job.key.clone()).or_default();
        turns.insert(job.id, *count / job.key.as_ref().map_or(1, |key| weights.of(key)));
        *count += 1;
    }
    // The walk's order of keys is that of their bytes.
    jobs.sort_by(|one, other| {
        turns[&one.id].cmp(&turns[&other.id]).then_with(|| one.key.cmp(&other.key))
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::simulation::taken;

    #[test]
    fn the_first_of_each_key_come_before_the_second_ones_and_as_many_at_once_as_it_weighs() {
        let job = |id, key: &str, priority| TakenJob {
            key: Some(key.into()),
            ..taken(JobId(id), 1, priority)
        };
        let mut jobs =
            [job(1, "b", 0), job(2, "a", 0), job(3, "b", 5), job(4, "a", 0), job(5, "c", 0)];
        in_turns(&mut jobs, &KeyWeights::NONE);
        assert_eq!(jobs.clone().map(|job| job.id.0), [2, 3, 5, 4, 1]);
        in_turns(&mut jobs, &[("b".into(), 2)].into_iter().collect());
        assert_eq!(jobs.map(|job| job.id.0), [2, 3, 1, 5, 4]);
    }

    #[test]
    fn a_turn_is_what_a_key_weighs_or_what_is_left_of_it() {
        let weights: KeyWeights = [("b".into(), 3), ("d".into(), 2)].into_iter().collect();
        let turns = Turns { each: 2, weights, rest: Some(("c".into(), 1)) };
        assert_eq!(["a", "b", "c", "d"].map(|key| turns.of(key)), [2, 6, 1, 4]);
        let behind =
            |after| turns.others(after).map(|(key, turn)| (&**key, turn)).collect::<Vec<_>>();
        assert_eq!(behind(""), [("b", 6), ("d", 4), ("c", 1)]);
        assert_eq!(behind("c"), [("d", 4)]);
        assert_eq!(turns.left(&"b".into(), 2, 6), Some(("b".into(), 4)));
        assert_eq!(turns.left(&"b".into(), 2, 2), None, "it had no place for more");
        let alike = Turns { weights: KeyWeights::NONE, rest: None, ..turns };
        assert_eq!(alike.left(&"b".into(), 1, 2), None);
    }
}
