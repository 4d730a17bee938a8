//! What a row of the table is: command lines, and figures of their reports.

use rustix::process::{Resource, getrlimit};
use serde::Serialize;

use crate::{cli::FiguresOptions, report::Report};

/// Measured together, in turns.
pub(super) struct Row {
    /// For `--only`.
    pub(super) name: &'static str,
    /// One repetition: arguments of the load test, each on a fresh stack.
    pub(super) steps: &'static [Step],
    pub(super) figures: &'static [Figure],
}

/// Arguments of the load test; may depend on what the steps before have found in this repetition.
pub(super) type Step = fn(&Sizes, &[Report]) -> String;

/// One number of a repetition.
pub(super) struct Figure {
    pub(super) what: &'static str,
    pub(super) unit: Unit,
    pub(super) target: Target,
    /// From the reports of a repetition, in the order of the steps.
    pub(super) of: fn(&[Report]) -> Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Unit {
    JobsPerS,
    Jobs,
    Rows,
    Ratio,
    Millis,
    Seconds,
    PerS,
    Kibibytes,
    Mebibytes,
    Percent,
    Sessions,
}

/// What a median should be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Target {
    AtLeast(f64),
    AtMost(f64),
    Below(f64),
    /// Reported only.
    None,
}

impl Target {
    /// None: there is nothing to be met.
    pub(super) fn is_met(self, median: f64) -> Option<bool> {
        match self {
            Target::AtLeast(least) => Some(median >= least),
            Target::AtMost(most) => Some(median <= most),
            Target::Below(bound) => Some(median < bound),
            Target::None => None,
        }
    }
}

/// How much the rows do.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Sizes {
    /// Of the jobs and rows of a full measurement.
    pub(super) percent: u64,
    pub(super) sustained_seconds: u32,
    pub(super) snapshot_seconds: u32,
    pub(super) idle_workers: u64,
}

/// Sessions of the idle row, each on a connection of its own; fewer where not so many files may be open.
const IDLE_WORKERS: u64 = 10_000;
/// Files that a process needs for other things.
const FILES_BESIDE: u64 = 200;
/// Numbers of jobs are whole calls.
const ROUND_TO: u64 = 1000;

impl Sizes {
    pub(super) fn of(options: &FiguresOptions) -> Sizes {
        let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        Sizes {
            percent: options.percent.into(),
            sustained_seconds: options.sustained,
            snapshot_seconds: options.snapshot,
            idle_workers: IDLE_WORKERS.min(files.saturating_sub(FILES_BESIDE)).max(1),
        }
    }

    /// Jobs or rows.
    pub(super) fn jobs(&self, full: u64) -> u64 {
        (full * self.percent / 100).max(ROUND_TO).next_multiple_of(ROUND_TO)
    }

    /// Seconds of an open loop.
    pub(super) fn seconds(&self, full: u64) -> u64 {
        (full * self.percent).div_ceil(100)
    }
}
