//! `sweep`: the same run for several numbers of workers, each on a stack of its own.

use anyhow::{Context, Result};

use crate::{
    report::{Report, SweepPoint},
    run,
    settings::Settings,
};

pub(crate) async fn run(settings: &Settings) -> Result<Report> {
    let mut points = Vec::with_capacity(settings.points.len());
    let mut last = None;
    for &workers in &settings.points {
        eprintln!("{workers} workers");
        let report = run::run(&Settings { workers, ..settings.clone() }).await?;
        let passed = report.passed;
        points.push(SweepPoint { workers, passed, figures: report.figures });
        last = Some(report.machine);
    }
    let machine = last.context("no numbers of workers to try")?;
    let mut report = Report::new(settings, machine);
    report.passed = points.iter().all(|point| point.passed);
    let sum = |count: fn(&SweepPoint) -> Option<u64>| points.iter().map(count).sum();
    report.figures.lost = sum(|point| point.figures.lost);
    report.figures.finished_twice = sum(|point| point.figures.finished_twice);
    report.figures.redelivered = sum(|point| point.figures.redelivered);
    report.sweep = Some(points);
    Ok(report)
}
