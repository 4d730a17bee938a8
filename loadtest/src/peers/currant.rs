//! A trial of Currant: `run`, `drain` and `latency` as they are.

use anyhow::{Context, Result, ensure};

use super::{
    measure::{Figure, Found, Measure},
    system::{LIGHT_RATE, SINGLE_IN_FLIGHT},
};
use crate::{
    cli::{Cli, Command, LatencyOptions, Options},
    drain, latency,
    report::Report,
    run,
    settings::Settings,
};

/// Of the single calls.
const IN_FLIGHT: u32 = 4;

/// The settings of `run`, but for what the measure says.
pub(super) fn settings(measure: Measure, jobs: u64, payload_bytes: u32) -> Result<Settings> {
    let options =
        Options { jobs: Some(jobs), payload_bytes: Some(payload_bytes), ..Options::default() };
    let command = match measure {
        Measure::Batches => Command::Run(options),
        Measure::Backlog => Command::Drain(options),
        Measure::Single => Command::Run(Options {
            batch: Some(1),
            producers: Some(SINGLE_IN_FLIGHT / IN_FLIGHT),
            in_flight: Some(IN_FLIGHT),
            ..options
        }),
        Measure::Light => Command::Latency(LatencyOptions {
            options: Options { rate: Some(LIGHT_RATE), ..options },
            sql: false,
            backlog: 0,
        }),
    };
    let cli = Cli { command: Some(command), options: Options::default() };
    Settings::resolve(cli).map(|(settings, _)| settings)
}

/// The figures, and the report that they are from.
pub(super) async fn measure(measure: Measure, settings: &Settings) -> Result<(Found, Report)> {
    let report = match measure {
        Measure::Batches | Measure::Single => run::run(settings).await?,
        Measure::Backlog => drain::run(settings).await?,
        Measure::Light => latency::run(settings).await?,
    };
    // Delivering again is allowed when something fails. Here nothing does.
    ensure!(
        report.passed && report.figures.redelivered == Some(0),
        "Currant, {}: the check failed: {:?}",
        measure.name(),
        report.verification
    );
    let figures = &report.figures;
    let found = match measure {
        Measure::Batches => vec![(Figure::EndToEndJobsPerS, figures.end_to_end_jobs_per_s)],
        Measure::Single => vec![(Figure::SingleJobsPerS, figures.end_to_end_jobs_per_s)],
        Measure::Backlog => vec![
            (Figure::EnqueueJobsPerS, figures.enqueue_jobs_per_s),
            (Figure::DrainJobsPerS, figures.drain_jobs_per_s),
        ],
        Measure::Light => {
            let start = figures.start_latency_ms.as_ref();
            vec![
                (Figure::LightP50Ms, start.map(|start| start.p50)),
                (Figure::LightP99Ms, start.map(|start| start.p99)),
            ]
        }
    };
    let known = |(figure, value): (Figure, Option<f64>)| Some((figure, value?));
    let found: Option<Found> = found.into_iter().map(known).collect();
    Ok((found.context("a figure of Currant is missing")?, report))
}
