//! What a figure is made of: values in the reports of a repetition.

use crate::{histogram::Percentiles, report::Report};

pub(super) fn end_to_end(reports: &[Report], step: usize) -> Option<f64> {
    reports.get(step)?.figures.end_to_end_jobs_per_s
}

pub(super) fn of_limit(reports: &[Report], step: usize) -> Option<f64> {
    reports.get(step)?.figures.fraction_of_limit
}

pub(super) fn drain(reports: &[Report], step: usize) -> Option<f64> {
    reports.get(step)?.figures.drain_jobs_per_s
}

pub(super) fn enqueue(reports: &[Report], step: usize) -> Option<f64> {
    reports.get(step)?.figures.enqueue_jobs_per_s
}

pub(super) fn insert(reports: &[Report], step: usize) -> Option<Percentiles> {
    reports.get(step)?.figures.insert_latency_ms
}

pub(super) fn start(reports: &[Report], step: usize) -> Option<Percentiles> {
    reports.get(step)?.figures.start_latency_ms
}

pub(super) fn elsewhere(reports: &[Report], step: usize) -> Option<Percentiles> {
    reports.get(step)?.figures.elsewhere_start_latency_ms
}

pub(super) fn last_to_first(reports: &[Report], step: usize) -> Option<f64> {
    reports.get(step)?.windows.as_ref()?.last_to_first
}

pub(super) fn spread(reports: &[Report], step: usize) -> Option<f64> {
    let details = &reports.get(step)?.details;
    let of = |jobs: Option<u32>| jobs.map(f64::from);
    ratio(of(details.busiest_worker_jobs), of(details.idlest_worker_jobs))
}

/// Ideal: every handler slot is always busy. With the time that handlers took by the clock, since a timer
/// rounds 10 ms up.
pub(super) fn of_ideal(reports: &[Report], step: usize) -> Option<f64> {
    let report = reports.get(step)?;
    let slots = f64::from(report.settings.workers) * f64::from(report.settings.concurrency);
    let ideal = slots * 1000.0 / report.details.handler_ms?;
    ratio(report.figures.end_to_end_jobs_per_s, Some(ideal))
}

pub(super) fn ratio(part: Option<f64>, whole: Option<f64>) -> Option<f64> {
    whole.filter(|whole| *whole > 0.0).and_then(|whole| Some(part? / whole))
}

pub(super) fn mebibytes(bytes: i64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
