//! Of each key no more at a time than promised, no more in a time, and in order.

use std::collections::BTreeMap;

use super::{
    Violation, Wrong,
    job::JobView,
    limits::{crowd, kept_runs},
};
use crate::chaos::queues::{
    KEY_CONCURRENCY_MAX, KEY_RATE_BURST, KEY_RATE_PER_SECOND, KEYED, ORDERED,
};

/// The broker's clock and this one run differently by less.
const CLOCKS: f64 = 1.01;

pub(super) fn check(jobs: &BTreeMap<i64, JobView<'_>>, found: &mut Vec<Violation>) {
    for (queue, max) in [(KEYED, KEY_CONCURRENCY_MAX), (ORDERED, 1)] {
        for (key, jobs) in by_key(jobs, queue) {
            let mut say = |wrong, what: String| {
                found.push(Violation::of_queue(wrong, queue, format!("key {key}: {what}")));
            };
            let runs = jobs.iter().flat_map(|job| kept_runs(job)).collect();
            if let Some(what) = crowd(runs, max) {
                say(Wrong::OverKeyLimit, what);
            }
            if queue == KEYED
                && let Some(what) = too_fast(&jobs)
            {
                say(Wrong::OverKeyRate, what);
            }
            if queue == ORDERED
                && let Some(what) = overtaken(&jobs)
            {
                say(Wrong::KeyOutOfOrder, what);
            }
        }
    }
}

/// In the order of their ids.
fn by_key<'a>(
    jobs: &'a BTreeMap<i64, JobView<'a>>,
    queue: &str,
) -> BTreeMap<&'a str, Vec<&'a JobView<'a>>> {
    let mut keys: BTreeMap<&str, Vec<&JobView<'_>>> = BTreeMap::new();
    for job in jobs.values().filter(|job| job.is_of(queue)) {
        if let Some(key) = job.row.and_then(|row| row.key.as_deref()) {
            keys.entry(key).or_default().push(job);
        }
    }
    keys
}

/// Attempts of jobs that were stored within a span went to workers within it if they began within it.
fn too_fast(jobs: &[&JobView<'_>]) -> Option<String> {
    let mut begun: Vec<(i64, i64)> = Vec::new();
    for job in jobs {
        let created_at = job.row.map_or(i64::MAX, |row| row.created_at());
        let mut attempts: Vec<u32> = Vec::new();
        for run in &job.runs {
            if !attempts.contains(&run.attempt) {
                attempts.push(run.attempt);
                begun.push((run.started_at, created_at));
            }
        }
    }
    begun.sort_unstable();
    for job in jobs {
        let from = job.row?.created_at();
        let within = begun.iter().filter(|(_, created_at)| *created_at >= from);
        for (count, (at, _)) in (1..).zip(within) {
            let seconds = (at - from) as f64 / 1e6;
            let rate = seconds * f64::from(KEY_RATE_PER_SECOND) * CLOCKS;
            if f64::from(count) > f64::from(KEY_RATE_BURST) + rate {
                return Some(format!("{count} attempts in the {seconds} s after job {}", job.id));
            }
        }
    }
    None
}

/// What is stored when another one is made comes before it, and is over when that begins.
fn overtaken(jobs: &[&JobView<'_>]) -> Option<String> {
    for (place, job) in jobs.iter().enumerate() {
        let (Some(row), Some(run)) = (job.row, job.runs.first()) else { continue };
        for earlier in &jobs[..place] {
            let Some(first) = earlier.row else { continue };
            let stored = earlier.acknowledged_at.is_some_and(|at| at < row.created_at());
            let waits = stored || first.payload.call == row.payload.call;
            if waits && first.finished_at.is_none_or(|at| at > run.started_at) {
                return Some(format!("{run:?} of job {} began before {first:?} was over", job.id));
            }
        }
    }
    None
}
