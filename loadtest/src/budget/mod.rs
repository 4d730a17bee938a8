//! `budget`: what a job costs in counts that don't depend on the machine, compared with the bounds of
//! `budget.toml`. For CI: a regression of a statement, an allocation or an index shows here whatever else
//! the machine does.
//!
//! The load is sequential, so that every batch has a known size. Each shape is run with some jobs and
//! with twice as many, each time by a broker of its own on empty tables; the difference is what those
//! jobs cost, without start and end. What the broker does by the clock is put off until it is over.

mod bounds;
mod counters;
mod load;

use anyhow::{Context, Result, ensure};
use currant_broker::{private_postgres::PrivatePostgres, store};
use tokio::task::spawn_blocking;

use self::{
    bounds::{Bounds, Figures},
    counters::{Counters, CountersProbe},
};
use crate::{allocations, broker_process::BrokerProcess, stack};

/// Counts don't depend on what makes commits durable, and vary with what Postgres does by the clock.
const POSTGRES_SETTINGS: [(&str, &str); 4] = [
    ("shared_preload_libraries", "pg_stat_statements"),
    ("fsync", "off"),
    ("autovacuum", "off"),
    ("checkpoint_timeout", "1d"),
];

/// Nothing by the clock within the minute that this takes.
const BROKER_SETTINGS: [(&str, &str); 9] = [
    ("broker.heartbeat_interval_ms", "60000"),
    ("broker.dead_after_ms", "600000"),
    ("broker.load_interval_ms", "600000"),
    ("database.statement_timeout_ms", "600000"),
    ("dispatch.poll_interval_ms", "600000"),
    ("dispatch.sweep_interval_ms", "3600000"),
    ("session.acknowledge_timeout_ms", "3600000"),
    ("session.keep_alive_interval_ms", "600000"),
    ("session.timeout_ms", "3600000"),
];

/// How jobs come and go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// Calls of `BATCH` jobs, each finished before the next.
    Direct,
    /// The same calls with no worker there, then a worker that takes a batch at a time.
    Backlog,
    /// Calls of one job.
    Single,
}

const SHAPES: [Shape; 3] = [Shape::Direct, Shape::Backlog, Shape::Single];
const BATCH: u32 = 1000;

impl Shape {
    /// Of the smaller run.
    fn batches(self) -> u32 {
        match self {
            Shape::Direct | Shape::Backlog => 30,
            Shape::Single => 300,
        }
    }

    fn batch(self) -> u32 {
        if self == Shape::Single { 1 } else { BATCH }
    }
}

/// The subcommand. False: something costs more than it may.
pub(crate) async fn run() -> Result<bool> {
    ensure!(
        allocations::count().is_some(),
        "this build doesn't count allocations: build it with --features count-allocations"
    );
    let bounds = Bounds::read()?;
    let postgres = stack::start_postgres(&POSTGRES_SETTINGS).await?;
    store::migrate(&postgres.dsn().as_str().into()).await?;
    let probe = CountersProbe::connect(&postgres).await?;
    let mut within = true;
    for shape in SHAPES {
        let once = measure(&postgres, &probe, shape, shape.batches()).await?;
        let twice = measure(&postgres, &probe, shape, 2 * shape.batches()).await?;
        let jobs = u64::from(shape.batches() * shape.batch());
        let figures = Figures::of(&once, &twice, jobs);
        within &= bounds.compare(shape, &figures);
    }
    drop(probe);
    spawn_blocking(|| postgres.stop()).await?.context("Postgres didn't stop")?;
    println!("{}", if within { "within the budget" } else { "OVER THE BUDGET of budget.toml" });
    Ok(within)
}

/// What a broker costs from its start to its end, with so many batches between.
async fn measure(
    postgres: &PrivatePostgres,
    probe: &CountersProbe,
    shape: Shape,
    batches: u32,
) -> Result<Counters> {
    probe.empty_tables().await?;
    let before = probe.look().await?;
    let mut broker = BrokerProcess::serve(&postgres.dsn(), &BROKER_SETTINGS)?;
    let endpoint = broker.endpoint();
    stack::until_serving(&endpoint, None, Some(&mut broker)).await?;
    load::run(&endpoint, shape, batches).await?;
    let allocations = spawn_blocking(|| broker.stop()).await??;
    let after = probe.look().await?;
    let allocations = allocations.context("the broker didn't say how often it allocated")?;
    Ok(after.since(&before, allocations))
}
