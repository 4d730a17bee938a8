//! What brokers say of themselves must be what was seen.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{
    Case, Row, Violation, Wrong, phase_at,
    rows::{CANCELLED, DEAD, SUCCEEDED},
};
use crate::chaos::{
    history::{Event, Phase, Producer, Verdict},
    metrics::sum,
    queues::UNIQUE,
};

const ENQUEUED: &str = "currant_jobs_enqueued_total";

/// Between a broker's answer and its line in the history.
const ANSWER_MICROS: i64 = 1_000_000;

/// What brokers have counted since they started, by series.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::chaos) struct Counters(pub(super) BTreeMap<&'static str, f64>);

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(in crate::chaos) struct Gauges {
    pub(super) held: f64,
    pub(super) buffered: f64,
}

impl Counters {
    /// From the `/metrics` of brokers.
    pub(in crate::chaos) fn of(texts: &[String]) -> Counters {
        let value = |series| match series {
            // Who stored a unique job that another one replaced isn't known.
            ENQUEUED => {
                let unique = format!("{ENQUEUED}{{messaging_destination_name=\"{UNIQUE}\"}}");
                sum(texts, ENQUEUED) - sum(texts, &unique)
            }
            series => sum(texts, series),
        };
        let all = expected(&Seen::default()).into_iter();
        Counters(all.map(|one| (one.series, value(one.series))).collect())
    }
}

impl Gauges {
    pub(in crate::chaos) fn of(texts: &[String]) -> Gauges {
        Gauges {
            held: sum(texts, "currant_attempts_held"),
            buffered: sum(texts, "currant_jobs_buffered"),
        }
    }

    pub(in crate::chaos) fn is_nothing(self) -> bool {
        self == Gauges::default()
    }
}

pub(super) fn check(case: &Case, found: &mut Vec<Violation>) {
    let quiet = expected_in_quiet(case).unwrap_or_default().into_iter();
    let quiet = quiet.map(|one| (&case.counters_in_quiet, one));
    let all = expected_in_all(case).into_iter().map(|one| (&case.counters_in_all, one));
    for (counters, Expected { series, least, most, .. }) in quiet.chain(all) {
        let counted = counters.0.get(series).copied().unwrap_or_default();
        if !(least as f64..=most as f64).contains(&counted) {
            let what = format!("the brokers count {counted} {series}, {least} to {most} were seen");
            let wrong = Wrong::MiscountedMetrics;
            found.push(Violation { wrong, job: None, what, evidence: vec![] });
        }
    }
    let Gauges { held, buffered } = case.gauges;
    if !case.gauges.is_nothing() {
        let what = format!("brokers hold {held} attempts and {buffered} jobs, and nothing is left");
        found.push(Violation { wrong: Wrong::HeldAtTheEnd, job: None, what, evidence: vec![] });
    }
}

/// At the end of the quiet phase, if it is known what was stored in it.
pub(super) fn expected_in_quiet(case: &Case) -> Option<Vec<Expected>> {
    let ends = phase_at(&case.history, Phase::QuietOver)?;
    let mut before = case.history.iter().take_while(|line| line.at < ends);
    let certain = before.all(|line| !matches!(line.event, Event::Unknown { .. }));
    certain.then(|| expected(&Seen::of(case, ends)))
}

/// At the end of all, whatever happened: a process that ends takes with it what it has counted since it was looked at.
pub(super) fn expected_in_all(case: &Case) -> Vec<Expected> {
    let all = expected(&Seen::of(case, i64::MAX)).into_iter();
    let all = all.filter(|one| one.holds == Holds::Always);
    all.map(|one| Expected { least: 0, ..one }).collect()
}

/// What history and database have of jobs that are over, in numbers.
#[derive(Debug, Default)]
struct Seen {
    jobs: usize,
    /// Over gRPC, and not unique.
    enqueued: usize,
    succeeded: usize,
    dead: usize,
    /// Cancelled: those for which nobody asked, and those that could expire.
    expired: [usize; 2],
    /// Cancelled after a failure. That was its last attempt's, or it was waiting for the next one.
    failed_before: usize,
    attempts: usize,
    failures: usize,
    claimed: usize,
    /// Attempts that handlers began, and first ones among them.
    begun: usize,
    begun_first: usize,
    failures_reported: usize,
    applied: usize,
    /// Answers that were given at least and at most.
    others: [BTreeMap<Verdict, usize>; 2],
    cancels_asked: usize,
    cancels: usize,
}

impl Seen {
    /// Of the jobs that were acknowledged before this time.
    fn of(case: &Case, ends: i64) -> Seen {
        let mut seen = Seen::default();
        let mut producers: HashMap<&str, Producer> = HashMap::new();
        let mut acknowledged: BTreeSet<i64> = BTreeSet::new();
        let mut asked: BTreeSet<i64> = BTreeSet::new();
        for line in case.history.iter().take_while(|line| line.at < ends) {
            match &line.event {
                Event::Acknowledged { call, by, jobs } => {
                    producers.insert(call, *by);
                    acknowledged.extend(jobs);
                }
                Event::Unknown { call, by, .. } => {
                    producers.insert(call, *by);
                }
                Event::CancelAsked { job } => {
                    asked.insert(*job);
                    seen.cancels_asked += 1;
                }
                Event::Cancelled { .. } => seen.cancels += 1,
                _ => {}
            }
        }
        let is_meant = |job: i64| ends == i64::MAX || acknowledged.contains(&job);
        for row in case.rows.iter().filter(|row| is_meant(row.id)) {
            let by = producers.get(row.payload.call.as_str());
            let counts = row.payload.unique.is_none() && by == Some(&Producer::Grpc);
            seen.enqueued += usize::from(counts);
            seen.add(row, asked.contains(&row.id));
        }
        seen.add_runs(case, ends, is_meant);
        seen
    }

    fn add(&mut self, row: &Row, asked: bool) {
        let cancelled = row.outcome == Some(CANCELLED);
        self.jobs += 1;
        self.succeeded += usize::from(row.outcome == Some(SUCCEEDED));
        self.dead += usize::from(row.outcome == Some(DEAD));
        self.expired[0] += usize::from(cancelled && !asked);
        self.expired[1] += usize::from(cancelled && row.expires_at.is_some());
        self.failed_before += usize::from(cancelled && row.failures > 0);
        self.attempts += row.attempt as usize;
        self.failures += row.failures as usize;
        self.claimed += usize::from(row.claimed_at.is_some());
    }

    fn add_runs(&mut self, case: &Case, ends: i64, is_meant: impl Fn(i64) -> bool) {
        let mut begun: BTreeSet<(i64, u32)> = BTreeSet::new();
        let mut failed: BTreeSet<(i64, u32)> = BTreeSet::new();
        for line in &case.history {
            match line.event {
                Event::Started { job, attempt } if is_meant(job) => {
                    begun.insert((job, attempt));
                }
                Event::Ended { job, attempt, succeeded: false } => {
                    failed.insert((job, attempt));
                }
                Event::Answered { job, attempt, verdict: Verdict::Applied } if is_meant(job) => {
                    self.applied += 1;
                    self.failures_reported += usize::from(failed.contains(&(job, attempt)));
                }
                Event::Answered { job, verdict, .. } if is_meant(job) => {
                    let ends = [-ANSWER_MICROS, ANSWER_MICROS].map(|by| ends.saturating_add(by));
                    for (ends, others) in ends.into_iter().zip(&mut self.others) {
                        *others.entry(verdict).or_default() += usize::from(line.at < ends);
                    }
                }
                _ => {}
            }
        }
        self.begun = begun.len();
        self.begun_first = begun.iter().filter(|(_, attempt)| *attempt == 1).count();
    }
}

/// Between which numbers a series has to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Expected {
    pub(super) series: &'static str,
    pub(super) least: usize,
    pub(super) most: usize,
    holds: Holds,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    /// As long as nothing is tried twice.
    InQuiet,
    /// `most` at any time: what isn't so in the database isn't counted.
    Always,
}

fn expected(seen: &Seen) -> Vec<Expected> {
    use Holds::{Always, InQuiet};
    let Seen { jobs, dead, expired, attempts, failures, failed_before, .. } = *seen;
    let exactly = |count| [count, count];
    let up_to = |most: usize, doubtful: usize| [most.saturating_sub(doubtful), most];
    let retried = up_to(failures.saturating_sub(dead), failed_before);
    // Attempts that have neither succeeded nor failed.
    let without = attempts.saturating_sub(seen.succeeded + failures);
    let others = |verdict| [0, 1].map(|at| seen.others[at].get(&verdict).copied().unwrap_or(0));
    let reports: usize = seen.others[1].values().sum();
    let by_broker = failures.saturating_sub(seen.failures_reported);
    let cancels = exactly(seen.cancels_asked);
    let finished = exactly(seen.cancels_asked.saturating_sub(seen.cancels));
    let all = [
        (ENQUEUED, exactly(seen.enqueued), Always),
        ("currant_jobs_completed_total{outcome=\"succeeded\"}", exactly(seen.succeeded), Always),
        ("currant_jobs_completed_total{outcome=\"dead\"}", exactly(dead), Always),
        ("currant_jobs_completed_total{outcome=\"cancelled\"}", expired, Always),
        ("currant_jobs_expired_total", expired, Always),
        ("currant_attempts_failed_total", up_to(failures, failed_before), Always),
        ("currant_attempts_retried_total", retried, Always),
        ("currant_jobs_promoted_total", retried, Always),
        ("currant_settlements_total{next=\"scheduled\"}", retried, Always),
        ("currant_settlements_total{next=\"dead\"}", exactly(dead), Always),
        ("currant_settlements_total{next=\"cancelled\"}", expired, Always),
        ("currant_settlements_total{next=\"ready\"}", [0, without], Always),
        ("currant_jobs_given_back_total", [0, without], InQuiet),
        ("currant_attempts_failed_by_broker_total", up_to(by_broker, failed_before), InQuiet),
        ("currant_jobs_delivered_total", [seen.begun, attempts], Always),
        ("currant_jobs_claimed_total", [seen.claimed, attempts], Always),
        ("currant_start_latency_seconds_count", [seen.begun_first, jobs], Always),
        (
            "messaging_process_duration_seconds_count",
            [seen.applied, seen.applied + reports],
            InQuiet,
        ),
        ("currant_completions_total{verdict=\"applied\"}", exactly(seen.applied), InQuiet),
        ("currant_completions_total{verdict=\"duplicate\"}", others(Verdict::Duplicate), InQuiet),
        ("currant_completions_total{verdict=\"stale\"}", others(Verdict::Stale), InQuiet),
        ("currant_completions_total{verdict=\"not_found\"}", others(Verdict::NotFound), InQuiet),
        ("currant_cancels_total", cancels, InQuiet),
        ("currant_cancels_total{verdict=\"finished\"}", finished, InQuiet),
        ("currant_jobs_rescued_total", exactly(0), InQuiet),
        // Nobody asks for any of these.
        ("currant_jobs_retried_total", exactly(0), Always),
        ("currant_jobs_deleted_total", exactly(0), Always),
        ("currant_jobs_pruned_total", exactly(0), Always),
        ("currant_schedule_fires_total", exactly(0), Always),
    ];
    let all = all.into_iter();
    all.map(|(series, [least, most], holds)| Expected { series, least, most, holds }).collect()
}
