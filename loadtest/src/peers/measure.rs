//! What is measured, and the figures that come of it.

use clap::ValueEnum;
use serde::Serialize;

use crate::report::table::{millis, whole};

/// A trial, on a server of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Measure {
    /// Producers and workers at the same time, 1,000 jobs a call.
    Batches,
    /// Jobs are enqueued while no worker is there, then workers come.
    Backlog,
    /// Producers and workers at the same time, a job a call, 64 calls under way.
    Single,
    /// 100 jobs per second, a job a call.
    Light,
}

impl Measure {
    pub(super) const ALL: [Measure; 4] =
        [Measure::Batches, Measure::Backlog, Measure::Single, Measure::Light];

    pub(super) fn name(self) -> &'static str {
        match self {
            Measure::Batches => "batches",
            Measure::Backlog => "backlog",
            Measure::Single => "single",
            Measure::Light => "light",
        }
    }
}

/// In the order in which they are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Figure {
    EndToEndJobsPerS,
    DrainJobsPerS,
    EnqueueJobsPerS,
    SingleJobsPerS,
    LightP50Ms,
    LightP99Ms,
}

impl Figure {
    pub(super) const ALL: [Figure; 6] = [
        Figure::EndToEndJobsPerS,
        Figure::DrainJobsPerS,
        Figure::EnqueueJobsPerS,
        Figure::SingleJobsPerS,
        Figure::LightP50Ms,
        Figure::LightP99Ms,
    ];

    /// For the table and the chart.
    pub(super) fn title(self) -> &'static str {
        match self {
            Figure::EndToEndJobsPerS => "End to end, 1,000 jobs a call: jobs/s",
            Figure::DrainJobsPerS => "Draining a backlog: jobs/s",
            Figure::EnqueueJobsPerS => "Enqueueing, 1,000 jobs a call, no workers: jobs/s",
            Figure::SingleJobsPerS => "End to end, one job a call, 64 calls at a time: jobs/s",
            Figure::LightP50Ms => "100 jobs/s: enqueue to start of the handler, median, ms",
            Figure::LightP99Ms => {
                "100 jobs/s: enqueue to start of the handler, 99th percentile, ms"
            }
        }
    }

    /// Jobs as whole numbers, milliseconds with what digits they need.
    pub(super) fn number(self, value: f64) -> String {
        if self.is_latency() { millis(value) } else { whole(value) }
    }

    pub(super) fn is_latency(self) -> bool {
        matches!(self, Figure::LightP50Ms | Figure::LightP99Ms)
    }
}

/// One trial's figures.
pub(super) type Found = Vec<(Figure, f64)>;
