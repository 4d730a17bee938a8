#![allow(clippy::unwrap_used)]

use super::*;
use crate::{domain::JobId, engine::simulation::taken};

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
fn a_key_that_weighs_three_has_three_times_as_many_jobs_however_few_are_wanted() {
    for limit in 1..20 {
        let mut world = World::new(&[("a", 3000), ("b", 3000), ("c", 3000)]);
        world.keys.weights = [("b".into(), 3)].into_iter().collect();
        let mut served: BTreeMap<String, usize> = BTreeMap::new();
        for _ in 0..200 {
            for (key, jobs) in world.claim(limit).unwrap() {
                *served.entry(key).or_default() += jobs;
            }
        }
        let [a, b, c] = ["a", "b", "c"].map(|key| served[key]);
        assert!(a.abs_diff(c) <= limit && b.abs_diff(3 * a) <= 3 * limit, "{limit}: {served:?}");
        assert!(a + b + c >= 100 * limit, "{limit}: {served:?}");
    }
}

#[test]
fn a_turn_that_a_claim_breaks_off_goes_on_in_the_next_one() {
    let mut world = World::new(&[("a", 9), ("b", 9), ("c", 9)]);
    world.keys.weights = [("b".into(), 3)].into_iter().collect();
    assert_eq!(world.claim(3), served(&[("a", 1), ("b", 2)]));
    assert_eq!(world.claim(3), served(&[("b", 1), ("c", 1)]));
    assert_eq!(world.claim(1), served(&[("a", 1)]));
    assert_eq!(world.claim(1), served(&[("b", 1)]));
    world.keys.next_claim(NOW, 1, None).unwrap();
    world.keys.claim_failed(NOW);
    world.keys.not_before = NOW;
    assert_eq!(world.claim(9), served(&[("b", 2), ("c", 1)]));
}

#[test]
fn a_job_of_a_key_now_and_then_takes_one_claim_each() {
    let mut world = World::new(&[("a", 1)]);
    assert_eq!(world.claim(100), served(&[("a", 1)]));
    assert_eq!(world.claim(100), served(&[]), "it had all that it might");
    assert_eq!(world.claim(100), None);
    for _ in 0..3 {
        world.store("a", 1);
        assert_eq!(world.claim(100), served(&[("a", 1)]));
        assert_eq!(world.claim(100), None, "it had fewer than it might");
    }
    // Not more than a tenth, whoever comes first.
    world.claim(100);
    world.store("a", 1000);
    world.store("b", 1);
    assert_eq!(world.claim(100), served(&[("a", 10), ("b", 1)]));
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
    keys.refilled();
    let walked = Walked { keys: 1, last: Some("a".into()) };
    keys.claimed(NOW, Duration::ZERO, &walked, &[]);
    assert!(keys.next_claim(NOW, 10, None).is_some());
}

#[test]
fn after_a_round_for_nothing_what_is_told_waits_as_long_as_the_round_took_and_the_rest_longer() {
    let (took, ms) = (Duration::from_millis(20), Duration::from_millis);
    let nothing = |keys: &mut Keys, now| {
        keys.next_claim(now, 10, None).unwrap();
        keys.claimed(now, took, &Walked::default(), &[]);
    };
    let mut keys = Keys::default();
    keys.note();
    nothing(&mut keys, NOW);
    assert_eq!(keys.rests_until(NOW), None, "for nothing");
    keys.forget();
    assert_eq!(keys.next_claim(NOW + ms(339), 10, None), None);
    assert_eq!(keys.rests_until(NOW), None, "nobody is sure");
    nothing(&mut keys, NOW + ms(340));
    let now = NOW + ms(341);
    keys.note();
    assert_eq!(keys.rests_until(now), Some(NOW + ms(360)));
    assert_eq!(keys.next_claim(NOW + ms(359), 10, None), None);
    // Told while it is looked for.
    keys.next_claim(NOW + ms(360), 10, None).unwrap();
    keys.note();
    keys.claimed(NOW + ms(380), took, &Walked::default(), &[]);
    assert_eq!(keys.rests_until(NOW + ms(380)), Some(NOW + ms(400)));
    // Nor does news end the pause after a failure.
    keys.next_claim(NOW + ms(400), 10, None).unwrap();
    keys.claim_failed(NOW + ms(400));
    keys.note();
    assert_eq!(keys.rests_until(NOW + ms(400)), Some(NOW + ms(650)));
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
