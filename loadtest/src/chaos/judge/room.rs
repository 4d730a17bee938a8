//! How long a job waited though it might have begun: where there are limits, others may have to be over first.

use std::collections::BTreeMap;

use super::job::{JobView, Run};
use crate::chaos::queues::{
    CONCURRENCY_MAX, KEY_CONCURRENCY_MAX, KEY_RATE_PER_SECOND, KEYED, LIMITED, ORDERED,
};

/// After a begin of its key there is room by the rate again, whatever was before.
const KEY_RATE_MICROS: i64 = 1_000_000 / KEY_RATE_PER_SECOND as i64;

/// Jobs that stand in each other's way: of one queue, or of one key of it.
pub(super) struct Rooms<'a>(BTreeMap<(&'a str, Option<&'a str>), Vec<&'a JobView<'a>>>);

impl<'a> Rooms<'a> {
    pub(super) fn of(jobs: &'a BTreeMap<i64, JobView<'a>>) -> Rooms<'a> {
        let mut rooms: BTreeMap<_, Vec<&JobView<'_>>> = BTreeMap::new();
        for job in jobs.values() {
            if let Some(name) = name(job) {
                rooms.entry(name).or_default().push(job);
            }
        }
        Rooms(rooms)
    }

    /// Of the time from and until, in microseconds, that in which nothing was in this job's way.
    pub(super) fn idle(&self, job: &JobView<'_>, from: i64, until: i64) -> i64 {
        if until <= from {
            return 0;
        }
        let Some((queue, others)) = name(job).and_then(|name| Some((name.0, self.0.get(&name)?)))
        else {
            return until.saturating_sub(from);
        };
        let changes = others.iter().flat_map(|other| changes(other));
        let within = changes.filter(|at| (from..until).contains(at));
        let mut edges: Vec<i64> = [from, until].into_iter().chain(within).collect();
        edges.sort_unstable();
        let spans = edges.windows(2).filter(|span| has_room(queue, job, others, span[0]));
        spans.map(|span| span[1].saturating_sub(span[0])).fold(0, i64::saturating_add)
    }
}

/// Queue, and key where the limit is a key's; none: there is no limit.
fn name<'a>(job: &JobView<'a>) -> Option<(&'a str, Option<&'a str>)> {
    let row = job.row?;
    match &*row.queue {
        LIMITED => Some((LIMITED, None)),
        queue @ (KEYED | ORDERED) => Some((queue, row.key.as_deref())),
        _ => None,
    }
}

/// When there may be room, or may be none any more.
fn changes(job: &JobView<'_>) -> Vec<i64> {
    let of_run =
        |run: &Run<'_>| [run.started_at, run.started_at + KEY_RATE_MICROS, ends_at(job, run)];
    let over = job.row.and_then(|row| row.finished_at);
    job.runs.iter().flat_map(of_run).chain(over).collect()
}

fn has_room(queue: &str, job: &JobView<'_>, others: &[&JobView<'_>], at: i64) -> bool {
    let runs = || others.iter().flat_map(|other| other.runs.iter().map(move |run| (other, run)));
    let begun = |run: &Run<'_>| run.started_at <= at;
    let under_way = || runs().filter(|(other, run)| begun(run) && at < ends_at(other, run)).count();
    match queue {
        LIMITED => under_way() < CONCURRENCY_MAX,
        KEYED => {
            let lately = |run: &Run<'_>| begun(run) && at < run.started_at + KEY_RATE_MICROS;
            under_way() < KEY_CONCURRENCY_MAX && !runs().any(|(_, run)| lately(run))
        }
        _ => {
            let over = |row: &super::Row| row.finished_at.is_some_and(|finished| finished <= at);
            let mut before = others.iter().filter(|other| other.id < job.id);
            before.all(|other| other.row.is_none_or(over))
        }
    }
}

/// A handler that was told to stop writes no end.
fn ends_at(job: &JobView<'_>, run: &Run<'_>) -> i64 {
    let over = || job.row.and_then(|row| row.finished_at);
    run.ended.map(|(at, _)| at).or_else(over).unwrap_or(i64::MAX)
}
