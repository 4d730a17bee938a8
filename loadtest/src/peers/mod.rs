//! `peers`: other job queues beside Currant on the same machine, in turns. See docs/peers.md.
//!
//! The other systems run as Node programs of ours, `loadtest/peers`; Currant as `run`, `drain` and
//! `latency` measure it. Every trial has a server of its own, and counts every job: one that is missing
//! or ran twice fails the whole.

mod chart;
mod crew;
mod currant;
mod install;
mod measure;
mod options;
mod peer;
mod program;
mod redis;
mod results;
mod system;
mod table;

use anyhow::{Context, Result};
use tokio::task::spawn_blocking;

pub(crate) use self::options::Options;
use self::{
    install::Node,
    measure::{Figure, Found, Measure},
    peer::{Plan, Tools},
    results::Results,
    system::{LIGHT_RATE, System},
};
use crate::report;

/// The subcommand: measures, prints the table, writes figures and chart.
pub(crate) async fn run(options: &Options) -> Result<()> {
    let tools = tools(options).await?;
    let mut results = Results::new(options.repetitions, options.payload_bytes);
    for repetition in 1..=options.repetitions {
        for &measure in &options.measures {
            for &system in &options.systems {
                let what = format!("{}, {}", system.title(), measure.name());
                eprint!("{repetition}/{} {what}: ", options.repetitions);
                let found = trial(system, measure, options, tools.as_ref(), &mut results).await;
                let found = found.with_context(|| what)?;
                eprintln!("{}", found.iter().map(in_short).collect::<Vec<_>>().join(", "));
                results.add(system, &found);
            }
        }
    }
    results.finish();
    report::write(&options.json, &report::json::render(&results)?)?;
    report::write(&options.chart, &chart::draw(&results)?)?;
    let (json, chart) = (options.json.display(), options.chart.display());
    let table = table::render(&results);
    report::print(&format!("{table}\nwritten: {json} and {chart}"))
}

/// None where only Currant is measured.
async fn tools(options: &Options) -> Result<Option<Tools>> {
    if options.systems.iter().all(|system| system.module().is_none()) {
        return Ok(None);
    }
    let redis = options.systems.iter().any(|system| system.redis().is_some());
    let redis_server = if redis { Some(install::redis_server()?) } else { None };
    let node = spawn_blocking(Node::install).await??;
    Ok(Some(Tools { node, redis_server }))
}

async fn trial(
    system: System,
    measure: Measure,
    options: &Options,
    tools: Option<&Tools>,
    results: &mut Results,
) -> Result<Found> {
    let jobs = match measure {
        Measure::Light => u64::from(LIGHT_RATE) * u64::from(options.light_seconds),
        _ => options.jobs.unwrap_or_else(|| system.jobs(measure)),
    };
    if system == System::Currant {
        let settings = currant::settings(measure, jobs, options.payload_bytes)?;
        let (found, report) = currant::measure(measure, &settings).await?;
        results.describe_currant(measure, &settings, report.machine)?;
        return Ok(found);
    }
    let tools = tools.context("other systems need Node")?;
    let mut settings = system.settings(measure);
    if let Some(other) = &options.settings {
        system::merge(&mut settings, other);
    }
    let payload_bytes = options.payload_bytes;
    let plan = Plan { system, measure, jobs, payload_bytes, settings };
    let (found, mut versions) = peer::measure(&plan, tools).await?;
    if let Some(server) = tools.redis_server.as_deref().filter(|_| system.redis().is_some()) {
        versions.insert("redis".to_owned(), install::redis_version(server)?.into());
    }
    results.describe(&plan, versions);
    Ok(found)
}

fn in_short((figure, value): &(Figure, f64)) -> String {
    let unit = if figure.is_latency() { "ms" } else { "jobs/s" };
    format!("{} {unit}", figure.number(*value))
}
