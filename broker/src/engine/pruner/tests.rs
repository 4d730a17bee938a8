use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::domain::first_id_at_ms;

const DAY: i64 = 24 * 3_600_000;
const NOW: i64 = 1_800_000_000_000;
const QUEUE: QueueId = QueueId(1);

const FOR_EVER: Retention = Retention { succeeded_ms: None, cancelled_ms: None, dead_ms: None };

fn retention(dead_ms: Option<i64>) -> Retention {
    Retention { succeeded_ms: Some(7 * DAY), cancelled_ms: Some(8 * DAY), dead_ms }
}

/// With one queue.
fn pruner(dead_ms: Option<i64>) -> Pruner {
    let limits = PrunerLimits { rows_per_slice_max: 10, rows_per_second_max: 1000 };
    let mut pruner = Pruner::new(limits, FOR_EVER);
    pruner.set_queues(NOW, &[(QUEUE, retention(dead_ms))]);
    pruner
}

#[derive(Clone, Copy, Debug)]
enum Fate {
    Open,
    Succeeded(i64),
    Dead(i64),
}

/// A queue as the database has it; counts what is read.
#[derive(Default)]
struct Table {
    jobs: BTreeMap<JobId, Fate>,
    rows: usize,
    looks: usize,
}

impl Table {
    fn store(&mut self, ms: i64, fate: Fate) -> JobId {
        let mut id = first_id_at_ms(ms);
        while self.jobs.contains_key(&id) {
            id = id.successor();
        }
        self.jobs.insert(id, fate);
        id
    }

    fn look(&mut self, pruner: &mut Pruner, now: i64) {
        let asked = pruner.unknown(now);
        self.looks += asked.len();
        let next = |(queue, id): &(QueueId, JobId)| {
            let (next, _) = self.jobs.range(JobId(id.0 + 1)..).next()?;
            Some((*queue, *next))
        };
        let found: Vec<_> = asked.iter().filter_map(next).collect();
        pruner.set_next(now, &asked, &found);
    }

    fn prune(&mut self, slice: &Slice, now: i64) -> Pruned {
        let mut pruned = Pruned::default();
        let inside = self.jobs.range(JobId(slice.after.0 + 1)..slice.before);
        let inside: Vec<_> = inside.take(slice.rows_max).map(|(id, fate)| (*id, *fate)).collect();
        for (id, fate) in inside {
            pruned.rows += 1;
            pruned.last = Some(id);
            let (finished, before) = match fate {
                Fate::Open => {
                    pruned.open = true;
                    pruned.kept = pruned.kept.or(Some(id));
                    continue;
                }
                Fate::Succeeded(at) => (at, slice.succeeded_before_ms),
                Fate::Dead(at) => (at, slice.dead_before_ms),
            };
            let Some(before) = before else { continue };
            if finished < before {
                self.jobs.remove(&id);
                pruned.jobs += 1;
            } else {
                pruned.kept = pruned.kept.or(Some(id));
                let ms = pruned.kept_ms.unwrap_or(i64::MAX).min(finished - before);
                pruned.kept_ms = Some(ms);
            }
        }
        assert!(slice.before <= first_id_at_ms(now - 7 * DAY), "it reads what is too young");
        self.rows += pruned.rows;
        pruned
    }

    /// Looks, and prunes all that is due.
    fn round(&mut self, pruner: &mut Pruner, now: i64) {
        self.look(pruner, now);
        while let Some(slice) = pruner.next_slice(now) {
            let pruned = self.prune(&slice, now);
            pruner.pruned(now, &slice, &pruned);
        }
    }
}

#[test]
fn looks_are_as_frequent_as_the_shortest_retention_wants_it() {
    let limits = PrunerLimits { rows_per_slice_max: 1, rows_per_second_max: 1 };
    let short = |ms| Retention { dead_ms: Some(ms), ..FOR_EVER };
    let mut pruner = Pruner::new(limits.clone(), short(600_000));
    assert_eq!(pruner.look_interval(), Duration::from_secs(6), "a queue may come");
    pruner.set_queues(NOW, &[(QUEUE, short(1))]);
    assert_eq!(pruner.look_interval(), Duration::from_secs(1));
    assert_eq!(Pruner::new(limits, FOR_EVER).look_interval(), Duration::from_secs(60));
}

#[test]
fn a_queue_whose_jobs_are_kept_for_ever_is_not_looked_at() {
    let mut pruner = pruner(None);
    pruner.set_queues(NOW, &[(QUEUE, FOR_EVER)]);
    assert!(pruner.unknown(NOW + 365 * DAY).is_empty());
}

#[test]
fn a_queue_is_walked_through_anew_by_a_new_retention_and_others_are_not() {
    let (mut pruner, mut table) = (pruner(None), Table::default());
    for days in 1..9 {
        table.store(NOW - days * DAY, Fate::Succeeded(NOW - days * DAY));
    }
    table.round(&mut pruner, NOW);
    assert_eq!((table.jobs.len(), table.looks), (7, 1));
    let (other, short) = (QueueId(2), Retention { succeeded_ms: Some(3 * DAY), ..FOR_EVER });
    pruner.set_queues(NOW, &[(QUEUE, short), (other, retention(None))]);
    let asked = pruner.unknown(NOW);
    let id = |days: i64| first_id_at_ms(NOW - days * DAY);
    pruner.set_next(NOW, &asked, &[(QUEUE, id(7)), (other, id(4))]);
    let slice = pruner.next_slice(NOW).map(|slice| (slice.queue, slice.before));
    assert_eq!(slice, Some((QUEUE, id(3))));
    pruner.set_queues(NOW, &[(QUEUE, short), (other, retention(None))]);
    assert!(!pruner.unknown(NOW).contains(&(QUEUE, JobId(0))), "nothing has changed");
}

#[test]
fn an_empty_or_young_queue_is_looked_at_once_until_something_may_be_due() {
    let (mut pruner, mut table) = (pruner(None), Table::default());
    for minute in 0..7 * 24 * 60 {
        table.round(&mut pruner, NOW + minute * 60_000);
        if minute == 1 {
            table.store(NOW + 60_000, Fate::Succeeded(NOW + 90_000));
        }
    }
    // The rest are those from the beginning, once a day.
    assert!(table.looks <= 7, "{} looks", table.looks);
    table.round(&mut pruner, NOW + 7 * DAY + 2 * 60_000);
    assert!(table.jobs.is_empty(), "{:?}", table.jobs);
}

#[test]
fn each_row_is_gone_over_once_and_what_finished_lately_stays() {
    let (mut pruner, mut table) = (pruner(Some(30 * DAY)), Table::default());
    let open = table.store(NOW - 20 * DAY, Fate::Open);
    let dead = table.store(NOW - 20 * DAY, Fate::Dead(NOW - 19 * DAY));
    let late = table.store(NOW - 20 * DAY, Fate::Succeeded(NOW - 1));
    for _ in 0..500 {
        table.store(NOW - 9 * DAY, Fate::Succeeded(NOW - 8 * DAY));
    }
    let young = table.store(NOW - 6 * DAY, Fate::Succeeded(NOW - 6 * DAY));
    table.round(&mut pruner, NOW);
    let stay = BTreeSet::from([open, dead, late, young]);
    assert_eq!(table.jobs.keys().copied().collect::<BTreeSet<_>>(), stay);
    assert_eq!(table.rows, 503);
    // No hurry to come back: none of them is due within a day.
    for minute in 1..24 * 60 {
        table.round(&mut pruner, NOW + minute * 60_000);
    }
    assert_eq!(table.rows, 503);
}

#[test]
fn what_stayed_behind_is_pruned_when_its_time_has_come_without_reading_from_the_beginning() {
    let (mut pruner, mut table) = (pruner(Some(30 * DAY)), Table::default());
    for _ in 0..300 {
        table.store(NOW - 40 * DAY, Fate::Succeeded(NOW - 40 * DAY));
    }
    let kept = table.store(NOW - 9 * DAY, Fate::Succeeded(NOW - 7 * DAY + 2 * 3_600_000));
    table.store(NOW - 9 * DAY, Fate::Dead(NOW - 9 * DAY));
    table.round(&mut pruner, NOW);
    assert_eq!((table.rows, table.jobs.len()), (302, 2));
    table.round(&mut pruner, NOW + 3_600_000);
    assert_eq!(table.rows, 302);
    let later = NOW + 2 * 3_600_000 + 1;
    assert_eq!(pruner.unknown(later), [(QUEUE, JobId(kept.0 - 1))]);
    table.round(&mut pruner, later);
    assert_eq!((table.rows, table.jobs.len()), (304, 1));
}

#[test]
fn what_is_kept_for_ever_is_gone_over_once_a_day() {
    let (mut pruner, mut table) = (pruner(None), Table::default());
    let dead = table.store(NOW - 20 * DAY, Fate::Dead(NOW - 20 * DAY));
    for minute in 0..24 * 60 {
        table.round(&mut pruner, NOW + minute * 60_000);
    }
    assert_eq!(table.rows, 1);
    // Somebody lets it run again, and it succeeds.
    table.jobs.insert(dead, Fate::Succeeded(NOW + DAY));
    for hour in 24..9 * 24 {
        table.round(&mut pruner, NOW + hour * 3_600_000);
    }
    assert!(table.jobs.is_empty(), "{:?}", table.jobs);
}

#[test]
fn a_walk_that_takes_long_is_followed_by_a_longer_rest() {
    let (mut pruner, mut table) = (pruner(Some(30 * DAY)), Table::default());
    let kept = table.store(NOW - 9 * DAY, Fate::Succeeded(NOW - 7 * DAY + 3_600_000));
    table.look(&mut pruner, NOW);
    let slice = pruner.next_slice(NOW).expect("it is old enough");
    let pruned = table.prune(&slice, NOW);
    let end = NOW + 2 * 3_600_000;
    pruner.pruned(end, &slice, &pruned);
    let behind = (QUEUE, JobId(kept.0 - 1));
    assert!(!pruner.unknown(NOW + 20 * 3_600_000 - 1).contains(&behind));
    assert!(pruner.unknown(NOW + 20 * 3_600_000).contains(&behind));
}

#[test]
fn the_oldest_of_all_queues_comes_first_and_a_queue_that_is_gone_is_forgotten() {
    let mut pruner = pruner(None);
    let (one, two) = (QueueId(1), QueueId(2));
    let week = retention(None);
    pruner.set_queues(NOW, &[(one, week), (two, week)]);
    let asked = pruner.unknown(NOW);
    let id = |days: i64| first_id_at_ms(NOW - days * DAY);
    pruner.set_next(NOW, &asked, &[(one, id(8)), (two, id(9))]);
    assert_eq!(pruner.next_slice(NOW).expect("due").queue, two);
    pruner.set_queues(NOW, &[(one, week)]);
    assert_eq!(pruner.next_slice(NOW).expect("due").queue, one);
}

#[test]
fn it_rests_by_its_pace_and_at_least_as_long_as_it_worked() {
    let pruner = pruner(None);
    let ms = Duration::from_millis;
    assert_eq!(pruner.rest(10, ms(2)), ms(8));
    assert_eq!(pruner.rest(10, ms(9)), ms(9));
    assert_eq!(pruner.rest(0, ms(3)), ms(3));
}

proptest! {
    /// Whatever there is: nothing goes before its time, and all goes some time after it.
    #[test]
    fn all_goes_after_its_time_and_nothing_before(
        jobs in prop::collection::vec((0i64..60, 0i64..40, 0u8..3), 1..60),
        step_hours in 1i64..40,
    ) {
        let (mut pruner, mut table) = (pruner(Some(30 * DAY)), Table::default());
        let mut times = BTreeMap::new();
        for (age, ran, fate) in jobs {
            let stored = NOW - age * DAY;
            let ended = stored + ran * DAY;
            let (fate, goes) = match fate {
                0 => (Fate::Succeeded(ended), ended + 7 * DAY),
                1 => (Fate::Dead(ended), ended + 30 * DAY),
                _ => (Fate::Open, i64::MAX),
            };
            times.insert(table.store(stored, fate), goes);
        }
        let mut now = NOW;
        while now < NOW + 100 * DAY {
            table.round(&mut pruner, now);
            for (id, goes) in &times {
                let there = table.jobs.contains_key(id);
                prop_assert!(there || *goes < now, "{id} went before its time");
                prop_assert!(!there || *goes > now - 2 * DAY - step_hours * 3_600_000, "{id} stays");
            }
            now += step_hours * 3_600_000;
        }
    }
}
