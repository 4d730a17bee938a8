//! The result of a run, and its three forms: a table, `report.json`, `report.html`.
//!
//! The keys are documented in docs/loadtest.md and stable: programs read them.

mod html;
pub(crate) mod json;
pub(crate) mod plot;
mod series;
pub(crate) mod table;

use std::{
    fs,
    io::{self, Write},
    path::Path,
};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use serde::Serialize;

pub(crate) use self::series::{Series, Windows};
use crate::{
    histogram::Percentiles,
    limit::Limits,
    probe::{machine::Machine, postgres::JobTable},
    settings::Settings,
    verify::Verification,
};

/// Version of the keys; grows when one changes its meaning or goes.
const VERSION: u32 = 2;

/// Everything that a run has to say.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) version: u32,
    /// True if nothing was lost or finished twice and every handler start is accounted for.
    pub(crate) passed: bool,
    #[serde(flatten)]
    pub(crate) figures: Figures,
    pub(crate) details: Details,
    pub(crate) verification: Option<Verification>,
    pub(crate) limit: Option<Limits>,
    pub(crate) sweep: Option<Vec<SweepPoint>>,
    pub(crate) windows: Option<Windows>,
    pub(crate) table: Option<JobTable>,
    pub(crate) series: Option<Series>,
    pub(crate) settings: Settings,
    pub(crate) machine: Machine,
    /// Without the database's address.
    pub(crate) command_line: String,
    /// RFC 3339, UTC.
    pub(crate) finished_at: String,
    #[serde(skip)]
    pub(crate) start_histogram: Option<Histogram<u32>>,
    #[serde(skip)]
    pub(crate) enqueue_histogram: Option<Histogram<u32>>,
}

/// The stable figures. None, null in JSON: not measured by this subcommand or not on this machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Figures {
    pub(crate) end_to_end_jobs_per_s: Option<f64>,
    pub(crate) enqueue_jobs_per_s: Option<f64>,
    pub(crate) drain_jobs_per_s: Option<f64>,
    pub(crate) start_latency_ms: Option<Percentiles>,
    /// `latency --backlog` with several queues: of those without the backlog; `start_latency_ms` is of the first.
    pub(crate) elsewhere_start_latency_ms: Option<Percentiles>,
    pub(crate) enqueue_latency_ms: Option<Percentiles>,
    pub(crate) insert_latency_ms: Option<Percentiles>,
    pub(crate) lost: Option<u64>,
    pub(crate) finished_twice: Option<u64>,
    pub(crate) redelivered: Option<u64>,
    pub(crate) transactions_per_job: Option<f64>,
    pub(crate) wal_bytes_per_job: Option<f64>,
    pub(crate) hot_update_percent: Option<f64>,
    pub(crate) claimed_percent: Option<f64>,
    pub(crate) postgres_cpu_us_per_job: Option<f64>,
    pub(crate) broker_cpu_us_per_job: Option<f64>,
    pub(crate) load_cpu_us_per_job: Option<f64>,
    pub(crate) broker_rss_bytes: Option<u64>,
    pub(crate) postgres_connections: Option<u32>,
    pub(crate) idle_transactions_per_s: Option<f64>,
    pub(crate) fraction_of_limit: Option<f64>,
    pub(crate) fraction_of_own_limit: Option<f64>,
}

/// More that a run knows.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Details {
    /// Jobs acknowledged, warm-up included.
    pub(crate) jobs: Option<u64>,
    /// From the start of what is measured to the last completion.
    pub(crate) seconds: Option<f64>,
    /// Handler starts of the worker that had most.
    pub(crate) busiest_worker_jobs: Option<u32>,
    /// Handler starts of the worker that had fewest.
    pub(crate) idlest_worker_jobs: Option<u32>,
    /// How long handlers worked, in the mean; None without `--work-ms`.
    pub(crate) handler_ms: Option<f64>,
    /// Jobs acknowledged and not finished when the last Enqueue was answered: a queue that grew.
    pub(crate) unfinished_after_load: Option<u64>,
    /// `idle`: how long it took until all workers were connected.
    pub(crate) connect_seconds: Option<f64>,
    /// `idle`: growth of the broker's resident memory, for each worker.
    pub(crate) broker_rss_bytes_per_worker: Option<f64>,
}

/// One run of a sweep.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct SweepPoint {
    pub(crate) workers: u32,
    pub(crate) passed: bool,
    #[serde(flatten)]
    pub(crate) figures: Figures,
}

impl Figures {
    pub(crate) fn take_verification(&mut self, found: &Verification) {
        self.lost = Some(found.lost);
        self.finished_twice = Some(found.finished_twice);
        self.redelivered = Some(found.redelivered);
    }
}

impl Report {
    /// Empty, and passed.
    pub(crate) fn new(settings: &Settings, machine: Machine) -> Report {
        Report {
            version: VERSION,
            passed: true,
            figures: Figures::default(),
            details: Details::default(),
            verification: None,
            limit: None,
            sweep: None,
            windows: None,
            table: None,
            series: None,
            settings: settings.clone(),
            machine,
            command_line: command_line(std::env::args()),
            finished_at: now(),
            start_histogram: None,
            enqueue_histogram: None,
        }
    }

    /// Writes both files and prints the table.
    pub(crate) fn publish(&self, json: &Path, html: &Path) -> Result<()> {
        write(json, &json::render(self)?)?;
        write(html, &html::render(self)?)?;
        let table = table::render(self);
        let (html, json) = (html.display(), json.display());
        print(&format!("{table}\nwritten: {html} and {json}"))
    }
}

/// RFC 3339, UTC.
pub(crate) fn now() -> String {
    chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

pub(crate) fn print(table: &str) -> Result<()> {
    match writeln!(io::stdout(), "{table}") {
        // A reader that has seen enough, such as `head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed.context("can't print the table"),
    }
}

pub(crate) fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("can't write {}", path.display()))
}

/// The program's name without its folder; the database's address may hold a password.
pub(crate) fn command_line(args: impl Iterator<Item = String>) -> String {
    let mut hide_next = false;
    let words = args.enumerate().map(|(number, word)| {
        let hide = std::mem::replace(&mut hide_next, word == "--database-url");
        if hide {
            "***".to_owned()
        } else if word.starts_with("--database-url=") {
            "--database-url=***".to_owned()
        } else if number == 0 {
            word.rsplit('/').next().unwrap_or_default().to_owned()
        } else {
            word
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]

    use clap::Parser;

    use super::*;
    use crate::{cli::Cli, watch::Sample};

    /// A report with something of everything.
    pub(crate) fn example() -> Report {
        let (settings, _) = Settings::resolve(Cli::parse_from(["currant-loadtest"])).unwrap();
        let mut report = Report::new(&settings, Machine::look(None));
        let mut histogram = Histogram::new_with_bounds(1, 3_600_000_000, 3).unwrap();
        for us in [300, 900, 1000, 1100, 25_000] {
            histogram.record(us).unwrap();
        }
        report.figures.end_to_end_jobs_per_s = Some(123_456.7);
        report.figures.start_latency_ms = Percentiles::of(&histogram);
        report.figures.take_verification(&Verification::default());
        report.verification = Some(Verification::default());
        report.start_histogram = Some(histogram.clone());
        report.enqueue_histogram = Some(histogram);
        let samples: Vec<_> = (0..200)
            .map(|n| Sample {
                at_ns: n * 10_000_000,
                acknowledged: n * 1000,
                finished: n * 900,
                stolen_ms: 0,
            })
            .collect();
        report.series = Series::of(&samples, 0);
        report
    }

    #[test]
    fn the_command_line_shows_no_address_of_a_database() {
        let words = ["/x/currant-loadtest", "--database-url", "postgres://me:secret@h/d", "--jobs"];
        let line = command_line(words.into_iter().map(str::to_owned));
        assert_eq!(line, "currant-loadtest --database-url *** --jobs");
        let line = command_line(["a", "--database-url=secret"].into_iter().map(str::to_owned));
        assert_eq!(line, "a --database-url=***");
    }
}
