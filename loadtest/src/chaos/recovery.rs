//! How long after the beginning of a fault all is as before.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Serialize;

use super::{
    fault::Kind,
    history::{Event, Line, Phase},
    judge::Row,
    queues::{BURST, PLAIN},
};

/// The rate is that of so long, looked at in such steps.
const WINDOW_MICROS: i64 = 1_000_000;
const STEP_MICROS: i64 = 100_000;
/// Of the rate before the first fault.
const FULL: f64 = 0.95;

/// What one fault cost, in milliseconds from its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Recovery {
    /// Until a second with the full rate began; none: not before the next fault.
    pub(super) full_rate_ms: Option<i64>,
    /// The longest that a job, stored before or during it, waited for its first start.
    pub(super) longest_wait_ms: i64,
    /// Until the last of the jobs that ran at its beginning, and had to run again, did so.
    pub(super) run_again_ms: Option<i64>,
}

/// Of each fault, in order.
pub(super) type Recoveries = BTreeMap<Kind, Vec<Recovery>>;

/// Jobs by what is measured on them.
#[derive(Debug, Default)]
pub(super) struct Load {
    rated: HashSet<i64>,
    waiting: HashSet<i64>,
}

impl Load {
    /// Of queues without limits and pauses; of a burst, only how long it waits.
    pub(super) fn of(rows: &[Row]) -> Load {
        let ids =
            |is: fn(&str) -> bool| rows.iter().filter(move |row| is(row.queue())).map(Row::id);
        let plain = |queue: &str| PLAIN.contains(&queue);
        Load { rated: ids(plain).collect(), waiting: ids(|queue| queue == BURST).collect() }
    }
}

pub(super) fn recoveries(history: &[Line], load: &Load) -> Recoveries {
    let mut recoveries = Recoveries::new();
    let phase = |wanted| {
        let begins = |line: &&Line| line.event == Event::Phase { phase: wanted };
        history.iter().find(begins).map(|line| line.at)
    };
    let (Some(begins), Some(settling)) = (phase(Phase::Faults), phase(Phase::Settling)) else {
        return recoveries;
    };
    let faults: Vec<(i64, Kind)> = history
        .iter()
        .filter_map(|line| match line.event {
            Event::Fault { kind, .. } => Some((line.at, kind)),
            _ => None,
        })
        .collect();
    let Some(&(first, _)) = faults.first() else { return recoveries };
    let seen = Seen::new(history, load);
    let full = FULL * seen.rate(begins, first);
    for (number, &(begins, kind)) in faults.iter().enumerate() {
        let until = faults.get(number + 1).map_or(settling, |next| next.0);
        let mut windows = (begins..=until - WINDOW_MICROS).step_by(STEP_MICROS as usize);
        let back = windows.find(|at| seen.rate(*at, at + WINDOW_MICROS) >= full);
        recoveries.entry(kind).or_default().push(Recovery {
            full_rate_ms: back.map(|at| (at - begins) / 1000),
            longest_wait_ms: seen.longest_wait(begins, until) / 1000,
            run_again_ms: seen.run_again(begins, until).map(|took| took / 1000),
        });
    }
    recoveries
}

#[derive(Default)]
struct Seen {
    /// When handlers returned, in order.
    ended: Vec<i64>,
    jobs: HashMap<i64, Times>,
}

#[derive(Default)]
struct Times {
    acknowledged: Option<i64>,
    /// Attempt, begin, and end if there was one.
    runs: Vec<(u32, i64, Option<i64>)>,
}

impl Seen {
    fn new(history: &[Line], load: &Load) -> Seen {
        let mut seen = Seen::default();
        let waits = |id: &i64| load.rated.contains(id) || load.waiting.contains(id);
        for line in history {
            match &line.event {
                Event::Acknowledged { jobs, .. } => {
                    for id in jobs.iter().filter(|id| waits(id)) {
                        seen.jobs.entry(*id).or_default().acknowledged = Some(line.at);
                    }
                }
                Event::Started { job, attempt } if waits(job) => {
                    seen.jobs.entry(*job).or_default().runs.push((*attempt, line.at, None));
                }
                Event::Ended { job, attempt, .. } if waits(job) => {
                    if load.rated.contains(job) {
                        seen.ended.push(line.at);
                    }
                    let runs = &mut seen.jobs.entry(*job).or_default().runs;
                    if let Some(run) = runs.iter_mut().find(|run| run.0 == *attempt) {
                        run.2 = Some(line.at);
                    }
                }
                _ => {}
            }
        }
        seen
    }

    fn rate(&self, from: i64, to: i64) -> f64 {
        let before = |end: i64| self.ended.partition_point(|at| *at < end);
        (before(to) - before(from)) as f64 / (to - from).max(1) as f64
    }

    fn longest_wait(&self, begins: i64, until: i64) -> i64 {
        let wait = |times: &Times| {
            let waits_from = times.acknowledged?.max(begins);
            let (_, start, _) = *times.runs.first()?;
            (waits_from < until && start > waits_from).then_some(start - waits_from)
        };
        self.jobs.values().filter_map(wait).max().unwrap_or_default()
    }

    fn run_again(&self, begins: i64, until: i64) -> Option<i64> {
        let again = |times: &Times| {
            let ran = |run: &&(u32, i64, Option<i64>)| {
                run.1 < begins && run.2.is_none_or(|end| end > begins)
            };
            let (attempt, ..) = times.runs.iter().find(ran)?;
            let later = times.runs.iter().find(|run| run.0 > *attempt && run.1 > begins)?;
            (later.1 < until).then_some(later.1 - begins)
        };
        self.jobs.values().filter_map(again).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::history::{Producer, Touches};

    #[test]
    fn rate_waits_and_reruns_are_taken_from_the_beginning_of_the_fault() {
        let at = |ms: i64, event| Line { at: ms * 1000, who: "".into(), event };
        let acknowledged = |job: i64| Event::Acknowledged {
            call: String::new(),
            by: Producer::Sql,
            jobs: vec![job],
        };
        let mut history = vec![
            at(0, Event::Phase { phase: Phase::Faults }),
            at(1999, Event::Started { job: 2, attempt: 1 }),
            at(1999, acknowledged(3)),
            at(2000, Event::Fault { kind: Kind::Drip, name: String::new(), touches: Touches::All }),
            at(2500, acknowledged(4)),
            at(2900, Event::Started { job: 3, attempt: 1 }),
            at(3100, Event::Started { job: 4, attempt: 1 }),
            at(3200, Event::Started { job: 2, attempt: 2 }),
            at(8000, Event::Phase { phase: Phase::Settling }),
        ];
        let ended = |ms| at(ms, Event::Ended { job: 1, attempt: 1, succeeded: true });
        history.extend((0..2000).step_by(10).map(ended));
        history.extend((3500..8000).step_by(10).map(ended));
        history.sort_by_key(|line| line.at);
        let load = Load { rated: (1..5).collect(), waiting: HashSet::new() };
        let expected =
            Recovery { full_rate_ms: Some(1500), longest_wait_ms: 900, run_again_ms: Some(1200) };
        assert_eq!(recoveries(&history, &load), BTreeMap::from([(Kind::Drip, vec![expected])]));
    }
}
