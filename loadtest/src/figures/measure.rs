//! Measures a row: its steps in turns, as often as asked for, each bounded in time.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use tokio::time::timeout;

use super::{
    outcome::Outcome,
    row::{Row, Sizes},
};
use crate::{
    cli::Cli,
    measure,
    probe::machine::Machine,
    report::{Report, table},
    settings::{Mode, Settings},
};

/// A step may take so many times what it is expected to take, and so long besides.
const LATE_FACTOR: u32 = 4;
const LATE: Duration = Duration::from_secs(120);

/// What is assumed to tell beforehand how long things take; about half of what 2 cores do.
const JOBS_PER_S: u64 = 70_000;
const CALLS_PER_S: u64 = 12_000;
const BYTES_PER_S: u64 = 60_000_000;
const ROWS_PER_S: u64 = 100_000;
const CONNECTIONS_PER_S: u64 = 800;
/// Starting and stopping a stack.
const STACK: Duration = Duration::from_secs(5);
/// `--limit`: before and after.
const LIMITS: Duration = Duration::from_secs(30);

/// Measures it, whatever fails: that stands in the outcome. Says what it ran on.
pub(super) async fn row(
    row: &Row,
    sizes: &Sizes,
    runs: u32,
    machine: &mut Option<Machine>,
) -> Outcome {
    let mut outcome = Outcome::new(row);
    let start = Instant::now();
    for run in 1..=runs {
        let mut reports: Vec<Report> = Vec::with_capacity(row.steps.len());
        outcome.steps.clear();
        for step in row.steps {
            let command = step(sizes, &reports);
            eprintln!("\n{}, {run} of {runs}: currant-loadtest {command}", row.name);
            let report = one(&command).await;
            outcome.steps.push(command);
            match report {
                Ok(report) => reports.push(report),
                Err(error) => {
                    eprintln!("FAILED: {error:#}");
                    outcome.fail(format!("{error:#}"));
                    break;
                }
            }
        }
        // Without the reports that are missing, only the figures that need them are.
        outcome.add(row, &reports);
        *machine = reports.pop().map(|report| report.machine).or(machine.take());
        for figure in &outcome.figures {
            let last = figure.values.last().map_or("–".to_owned(), |value| format!("{value:.2}"));
            eprintln!("  {:<52} {last:>14}", figure.what);
        }
    }
    outcome.seconds = start.elapsed().as_secs_f64();
    outcome
}

/// One step, on a fresh stack. A failed check is an error.
async fn one(command: &str) -> Result<Report> {
    let settings = settings(command)?;
    let most = expected(&settings) * LATE_FACTOR + LATE;
    let report = timeout(most, measure(&settings)).await;
    let report = report
        .with_context(|| format!("`{command}` wasn't done within {} s", most.as_secs()))?
        .with_context(|| format!("`{command}`"))?;
    ensure!(report.passed, "`{command}` failed its check\n{}", table::render(&report));
    Ok(report)
}

pub(super) fn settings(command: &str) -> Result<Settings> {
    let words = std::iter::once("currant-loadtest").chain(command.split_whitespace());
    Ok(Settings::resolve(Cli::try_parse_from(words)?)?.0)
}

/// How long a row takes, about.
pub(super) fn expected_for(row: &Row, sizes: &Sizes, runs: u32) -> Result<Duration> {
    let steps = row.steps.iter().map(|step| Ok(expected(&settings(&step(sizes, &[]))?)));
    Ok(steps.sum::<Result<Duration>>()? * runs)
}

/// How long a step takes, about.
fn expected(settings: &Settings) -> Duration {
    let seconds = |count: u64, per_s: u64| Duration::from_millis(count * 1000 / per_s);
    let duration = Duration::from_secs(settings.duration_seconds.unwrap_or(0).into());
    let jobs = match (settings.mode, settings.duration_seconds) {
        (Mode::Idle, _) => {
            // 11 s until Postgres' counters are complete.
            let connecting = seconds(settings.workers.into(), CONNECTIONS_PER_S);
            return STACK + connecting + Duration::from_secs(11) + duration;
        }
        (Mode::Run, Some(seconds)) => JOBS_PER_S * u64::from(seconds),
        (Mode::Mixed, _) => settings.jobs * 2,
        _ => settings.jobs,
    };
    let load = if settings.duration_seconds.is_some() {
        duration
    } else {
        let enqueued_first = matches!(settings.mode, Mode::Drain | Mode::Mixed);
        let passes = if enqueued_first { 3 } else { 2 };
        let by_jobs = seconds(jobs, JOBS_PER_S) * passes / 2;
        let by_calls = seconds(jobs / u64::from(settings.batch), CALLS_PER_S);
        let by_bytes = seconds(jobs * u64::from(settings.payload_bytes), BYTES_PER_S);
        by_jobs.max(by_calls).max(by_bytes)
    };
    // Stored before, and drained after it.
    let load = load + 3 * seconds(settings.backlog, JOBS_PER_S);
    // The check reads every row, and Postgres writes out what it has before it ends.
    let check = seconds(jobs + settings.backlog, JOBS_PER_S * 6);
    let history = seconds(settings.history, ROWS_PER_S);
    let limits = if settings.limit { LIMITS } else { Duration::ZERO };
    STACK + history + load + check + limits
}
