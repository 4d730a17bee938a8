use super::*;
use crate::domain::{JobId, KeyWeights, RateLimit};

const NOW: Duration = Duration::from_secs(100);

fn attempt(id: i64) -> Attempt {
    Attempt { id: JobId(id), number: 1 }
}

fn places(limits: KeyLimits) -> Places {
    Places::new(NOW, limits, 100, [])
}

fn each(jobs: usize) -> Turns {
    Turns { each: jobs, weights: KeyWeights::NONE, rest: None }
}

fn known(shares: &Shares) -> Vec<(&str, usize)> {
    shares.known.iter().map(|(key, share)| (&**key, *share)).collect()
}

#[test]
fn a_key_has_as_many_as_it_may_from_the_claim_until_it_is_over() {
    let limits = KeyLimits { concurrency: Some(2), ..KeyLimits::NONE };
    let mut places = places(limits);
    let a: Arc<str> = "a".into();
    assert_eq!(places.shares(NOW, "", &each(5)).each, 2);
    assert!(places.take(NOW, attempt(1), &a) && places.take(NOW, attempt(2), &a));
    assert!(!places.take(NOW, attempt(3), &a));
    assert_eq!(places.unsure().collect::<Vec<_>>(), [attempt(3)]);
    assert_eq!(places.over(NOW, attempt(3)), Freed::Place, "it has none too many");
    assert_eq!(known(&places.shares(NOW, "", &each(5))), [("a", 0)]);
    assert_eq!(known(&places.shares(NOW, "a", &each(5))), []);
    places.deliver(NOW, attempt(1));
    places.move_to(attempt(1), Place::Unsure);
    assert_eq!(known(&places.shares(NOW, "", &each(5))), [("a", 0)]);
    assert_eq!(places.over(NOW, attempt(1)), Freed::Awaited);
    assert_eq!(places.over(NOW, attempt(1)), Freed::Nothing);
    assert_eq!(known(&places.shares(NOW, "", &each(5))), [("a", 1)]);
    assert_eq!(places.over(NOW, attempt(2)), Freed::Place, "nobody was left out since");
    assert!(places.keys.is_empty() && places.attempts.is_empty());
}

#[test]
fn in_order_there_is_one() {
    let limits = KeyLimits { concurrency: Some(9), ordered: true, ..KeyLimits::NONE };
    let running =
        [(attempt(7), ("a".into(), Place::Unsure)), (attempt(8), ("b".into(), Place::Held))];
    let mut places = Places::new(NOW, limits, 100, running);
    assert_eq!(places.unsure().collect::<Vec<_>>(), [attempt(7)]);
    let standing = |under_way, job| KeyStanding { under_way, job, ..KeyStanding::default() };
    assert_eq!(places.standing(NOW, "a"), standing(1, Some(JobId(7))));
    assert_eq!(places.standing(NOW, "c"), standing(0, None));
    let shares = places.shares(NOW, "", &each(3));
    assert_eq!((shares.each, known(&shares)), (1, vec![("a", 0), ("b", 0)]));
}

#[test]
fn a_rate_counts_deliveries_and_an_entry_goes_when_its_bucket_is_full() {
    let rate = RateLimit { jobs: 10, period_ms: 1000, burst: 2 };
    let mut places = places(KeyLimits { rate: Some(rate), ..KeyLimits::NONE });
    let a: Arc<str> = "a".into();
    assert_eq!(places.shares(NOW, "", &each(5)).each, 0, "the bucket begins empty");
    assert_eq!(places.next_event(NOW), Some(NOW + Duration::from_millis(100)));
    let later = NOW + Duration::from_secs(10);
    assert_eq!(places.shares(later, "", &each(5)).each, 2);
    assert!(places.take(later, attempt(1), &a) && places.take(later, attempt(2), &a));
    assert!(!places.take(later, attempt(3), &a), "promised to those");
    places.over(later, attempt(3));
    for id in [1, 2] {
        places.deliver(later, attempt(id));
        places.over(later, attempt(id));
    }
    assert_eq!(known(&places.shares(later, "", &each(5))), [("a", 0)]);
    assert!(places.standing(later, "a").rate_spent && !places.standing(later, "b").rate_spent);
    let at = later + Duration::from_millis(100);
    assert_eq!(places.next_event(later), Some(at));
    places.expire(at);
    assert_eq!(known(&places.shares(at, "", &each(5))), [("a", 1)]);
    places.expire(later + Duration::from_millis(200));
    assert!(places.keys.is_empty() && places.events.is_empty());
}

#[test]
fn a_key_that_weighs_more_has_more_as_far_as_it_has_places() {
    let mut places = places(KeyLimits { concurrency: Some(4), ..KeyLimits::NONE });
    let weights = [("a".into(), 3), ("b".into(), 9), ("c".into(), 2)].into_iter().collect();
    let turns = Turns { each: 1, weights, rest: None };
    assert!(places.take(NOW, attempt(1), &"c".into()) && places.take(NOW, attempt(2), &"d".into()));
    let shares = places.shares(NOW, "", &turns);
    assert_eq!((shares.each, known(&shares)), (1, vec![("a", 3), ("b", 4), ("c", 2)]));
    for id in 3..6 {
        assert!(places.take(NOW, attempt(id), &"c".into()));
    }
    assert_eq!(known(&places.shares(NOW, "b", &turns)), [("c", 0)]);
}

#[test]
fn beyond_as_many_keys_as_are_counted_no_further_one_gets_a_place() {
    let limits = KeyLimits { concurrency: Some(2), ..KeyLimits::NONE };
    let running = [(attempt(1), ("a".into(), Place::Held))];
    let mut places = Places::new(NOW, limits, 1, running);
    let shares = places.shares(NOW, "", &each(5));
    assert_eq!((shares.each, known(&shares)), (0, vec![("a", 1)]));
    let mut beyond = |key| places.standing(NOW, key).beyond_count;
    assert_eq!((beyond("a"), beyond("b")), (false, true));
    assert!(!places.take(NOW, attempt(2), &"b".into()));
    let shares = places.shares(NOW, "", &each(5));
    assert_eq!((shares.each, known(&shares), places.keys()), (0, vec![("a", 1)], 2));
    assert_eq!(places.over(NOW, attempt(1)), Freed::Awaited, "another key may have it");
    assert_eq!(places.over(NOW, attempt(2)), Freed::Awaited);
    assert_eq!((places.keys(), places.shares(NOW, "", &each(5)).each), (0, 2));
}

#[test]
fn what_a_claim_says_of_keys_is_bounded() {
    let limits = KeyLimits { concurrency: Some(1), ..KeyLimits::NONE };
    let running = (0..1500).map(|id| (attempt(id), (format!("{id:04}").into(), Place::Held)));
    let mut places = Places::new(NOW, limits, 10_000, running);
    let first = places.shares(NOW, "", &each(1));
    assert_eq!((first.known.len(), first.until.as_deref()), (1000, Some("0999")));
    let second = places.shares(NOW, "0999", &each(1));
    assert_eq!((second.known.len(), second.until), (500, None));
}
