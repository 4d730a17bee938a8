//! What Postgres does on this machine when there is no broker. Three ways of a job's life, each in batches,
//! on one server with the broker's schema:
//!
//! - append-only: the yardstick that `fraction_of_limit` is measured against, see `append_only`;
//! - direct: COPY already taken, one HOT UPDATE to finish;
//! - backlog: COPY ready, a claim, the UPDATE to finish;
//! - enqueue: COPY ready, and nothing more.
//!
//! The last three are the broker's own statements, see `own`: `fraction_of_own_limit` is measured against
//! them. Beside an open loop it is not a rate that is asked for but a time: see `paced`.

mod append_only;
mod own;
mod paced;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use currant_broker::store;
use futures_util::future::try_join_all;
use serde::Serialize;
use tokio::task::spawn_blocking;
use tokio_postgres::Config;

use self::own::OwnStore;
use crate::{
    jobs::binary_batch,
    probe::{self, machine::Machine, postgres::PostgresProbe},
    report::Report,
    settings::{Mode, Settings},
    stack::start_postgres,
};

/// Interleaved repetitions of each; the median counts.
const REPETITIONS: usize = 3;
/// A measurement before and after a run is shorter.
const ASIDE_SECONDS: u64 = 3;
const ASIDE_BATCH: u32 = 500;
const CONNECTIONS: u32 = 2;
/// A table in use, no empty one.
const SEED_ROWS: u32 = 50_000;

/// Medians.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Limits {
    pub(crate) append_only: Rate,
    pub(crate) direct: Rate,
    pub(crate) backlog: Rate,
    pub(crate) enqueue: Rate,
}

/// What Postgres does, and what it costs it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Rate {
    pub(crate) jobs_per_s: f64,
    pub(crate) wal_bytes_per_job: f64,
    pub(crate) cpu_us_per_job: Option<f64>,
}

/// A way of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Design {
    AppendOnly,
    Direct,
    Backlog,
    Enqueue,
}

/// In the order of the fields of `Limits`.
const DESIGNS: [Design; 4] = [Design::AppendOnly, Design::Direct, Design::Backlog, Design::Enqueue];

/// The subcommand.
pub(crate) async fn run(settings: &Settings) -> Result<Report> {
    let seconds = settings.duration_seconds.unwrap_or(4).into();
    let options = Options {
        batch: settings.batch,
        connections: settings.producers,
        payload_bytes: settings.payload_bytes,
        time: Duration::from_secs(seconds),
        repetitions: REPETITIONS,
    };
    let (limits, postgres) = measure(&options).await?;
    let mut report = Report::new(settings, Machine::look(Some(postgres)));
    report.limit = Some(limits);
    Ok(report)
}

/// Measures the limit beside a run, before and after it, when the settings ask for it.
pub(crate) async fn around<F>(settings: &Settings, run: F) -> Result<Report>
where
    F: AsyncFnOnce(&Settings) -> Result<Report>,
{
    if !settings.limit {
        return run(settings).await;
    }
    if settings.mode == Mode::Latency {
        return paced::around(settings, run).await;
    }
    let options = Options {
        batch: ASIDE_BATCH,
        connections: CONNECTIONS,
        payload_bytes: settings.payload_bytes,
        time: Duration::from_secs(ASIDE_SECONDS),
        repetitions: 1,
    };
    let (before, _) = measure(&options).await?;
    let mut report = run(settings).await?;
    let (after, _) = measure(&options).await?;
    let limits = Limits::mean(&before, &after);
    let figures = &mut report.figures;
    let (measured, own) = match settings.mode {
        Mode::Drain => (figures.drain_jobs_per_s, &limits.backlog),
        _ => (figures.end_to_end_jobs_per_s, &limits.direct),
    };
    figures.fraction_of_limit = measured.map(|rate| rate / limits.append_only.jobs_per_s);
    figures.fraction_of_own_limit = measured.map(|rate| rate / own.jobs_per_s);
    report.limit = Some(limits);
    Ok(report)
}

struct Options {
    batch: u32,
    connections: u32,
    payload_bytes: u32,
    /// Of one measurement.
    time: Duration,
    repetitions: usize,
}

impl Options {
    /// As the load's: it can't be compressed.
    fn payload(&self) -> Bytes {
        binary_batch(0, 1, 0, self.payload_bytes).next().unwrap_or_default()
    }
}

/// On a fresh private server. Returns its settings too.
async fn measure(options: &Options) -> Result<(Limits, Vec<(String, String)>)> {
    eprintln!(
        "measuring what Postgres does alone, {} s",
        DESIGNS.len() * options.repetitions * options.time.as_secs() as usize
    );
    let postgres = start_postgres(&[]).await?;
    let url = postgres.dsn();
    store::migrate(&url.as_str().into()).await?;
    let probe = PostgresProbe::connect(&url, Some(postgres.postmaster_pid())).await?;
    let config = url.parse().context("the private server's address can't be read")?;
    set_up(&config, options).await?;
    let servers = Servers { own: OwnStore::open(&url, options.connections).await?, config };

    let mut rates = DESIGNS.map(|_| Vec::new());
    // Each connection has a queue that is nobody else's.
    let mut queue = 1;
    for _ in 0..options.repetitions {
        for (design, rates) in DESIGNS.into_iter().zip(&mut rates) {
            let connections = servers.open(design, queue, options).await?;
            queue += options.connections.cast_signed();
            rates.push(measure_one(connections, &probe, options).await?);
        }
    }
    drop(servers);
    let settings = probe.settings().await?;
    spawn_blocking(|| postgres.stop()).await?.context("Postgres didn't stop")?;
    let [append_only, direct, backlog, enqueue] = rates.map(median);
    Ok((Limits { append_only, direct, backlog, enqueue }, settings))
}

async fn set_up(config: &Config, options: &Options) -> Result<()> {
    let client = probe::postgres::connect(config).await?;
    append_only::set_up(&client).await?;
    let payload_bytes = options.payload_bytes;
    client
        .batch_execute(&format!(
            "-- limit_seed
            INSERT INTO currant.job (id, queue_id, attempt, priority, phase, kind, payload)
            SELECT -g, 0, 1, 0, 2, 'noop', decode(repeat('ab', {payload_bytes}), 'hex')
            FROM generate_series(1, {SEED_ROWS}) g"
        ))
        .await?;
    for statement in ["VACUUM ANALYZE", "CHECKPOINT"] {
        client.batch_execute(statement).await?;
    }
    Ok(())
}

/// All connections at once, for the time given.
async fn measure_one(
    connections: Vec<Connection>,
    probe: &PostgresProbe,
    options: &Options,
) -> Result<Rate> {
    let before = probe.counters().await?;
    let start = Instant::now();
    let deadline = start + options.time;
    let work = connections.into_iter().map(|one| one.work_until(deadline, options.batch));
    let jobs = try_join_all(work).await?;
    let seconds = start.elapsed().as_secs_f64();
    let after = probe.counters().await?;
    let jobs = jobs.iter().sum::<u64>() as f64;
    let cpu = after.cpu.zip(before.cpu).map(|(after, before)| after.saturating_sub(before));
    Ok(Rate {
        jobs_per_s: jobs / seconds,
        wal_bytes_per_job: (after.wal_bytes - before.wal_bytes) as f64 / jobs,
        cpu_us_per_job: cpu.map(|cpu| cpu.as_secs_f64() * 1e6 / jobs),
    })
}

/// Where connections come from.
struct Servers {
    config: Config,
    own: OwnStore,
}

impl Servers {
    /// Those of one measurement, with the queues from `queue` on.
    async fn open(&self, design: Design, queue: i32, options: &Options) -> Result<Vec<Connection>> {
        let mut connections = Vec::new();
        for queue in (queue..).take(options.connections as usize) {
            connections.push(match design {
                Design::AppendOnly => Connection::AppendOnly(
                    append_only::Connection::open(&self.config, queue, options).await?,
                ),
                Design::Direct | Design::Backlog | Design::Enqueue => {
                    let own = self.own.clone();
                    Connection::Own(own::Connection::new(own, design, queue, options))
                }
            });
        }
        Ok(connections)
    }
}

enum Connection {
    AppendOnly(append_only::Connection),
    Own(own::Connection),
}

impl Connection {
    /// Returns how many jobs it took through their life.
    async fn work_until(mut self, deadline: Instant, batch: u32) -> Result<u64> {
        let mut jobs = 0;
        while Instant::now() < deadline {
            let finished = match &mut self {
                Connection::AppendOnly(connection) => connection.batch().await?,
                Connection::Own(connection) => connection.batch().await?,
            };
            ensure!(finished == u64::from(batch), "a batch of {batch} finished {finished}");
            jobs += finished;
        }
        Ok(jobs)
    }
}

/// By rate; the upper one of two.
fn median(mut rates: Vec<Rate>) -> Rate {
    rates.sort_by(|a, b| a.jobs_per_s.total_cmp(&b.jobs_per_s));
    rates[rates.len() / 2]
}

impl Limits {
    fn mean(one: &Limits, two: &Limits) -> Limits {
        Limits {
            append_only: Rate::mean(&one.append_only, &two.append_only),
            direct: Rate::mean(&one.direct, &two.direct),
            backlog: Rate::mean(&one.backlog, &two.backlog),
            enqueue: Rate::mean(&one.enqueue, &two.enqueue),
        }
    }
}

impl Rate {
    fn mean(one: &Rate, two: &Rate) -> Rate {
        let mean = |a: f64, b: f64| (a + b) / 2.0;
        Rate {
            jobs_per_s: mean(one.jobs_per_s, two.jobs_per_s),
            wal_bytes_per_job: mean(one.wal_bytes_per_job, two.wal_bytes_per_job),
            cpu_us_per_job: one.cpu_us_per_job.zip(two.cpu_us_per_job).map(|(a, b)| mean(a, b)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(jobs_per_s: f64) -> Rate {
        Rate { jobs_per_s, wal_bytes_per_job: 1.0, cpu_us_per_job: None }
    }

    #[test]
    fn the_median_is_by_rate() {
        let rates = [3.0, 1.0, 2.0].map(rate).to_vec();
        assert_eq!(median(rates).jobs_per_s, 2.0);
    }

    #[test]
    fn the_mean_keeps_unknown_cpu_unknown() {
        let mean = Rate::mean(&rate(1.0), &rate(3.0));
        assert_eq!((mean.jobs_per_s, mean.cpu_us_per_job), (2.0, None));
    }
}
