//! The yardstick: what this Postgres does with plain statements of the same kind on the same table when
//! there is no broker and nobody sends rows. Three ways of a job's life, each in batches:
//!
//! - direct: INSERT already taken, one HOT UPDATE to finish;
//! - backlog: INSERT ready, a claim, the UPDATE to finish;
//! - append-only: INSERT already taken, INSERT of a completion; no UPDATE at all. The fastest that a
//!   table which keeps its jobs can be: `fraction_of_limit` is measured against it.
//!
//! Rows are made by Postgres itself (generate_series), ids by the client, as a broker would.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures_util::future::try_join_all;
use serde::Serialize;
use tokio::task::spawn_blocking;
use tokio_postgres::{Client, Config, Statement};

use crate::{
    broker_process::migrate,
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
/// Rows that a table has before, so that plans are those of a table in use.
const SEED_ROWS: u32 = 50_000;

/// Medians of the three.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Limits {
    pub(crate) append_only: Rate,
    pub(crate) direct: Rate,
    pub(crate) backlog: Rate,
}

/// What Postgres does, and what it costs it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Rate {
    pub(crate) jobs_per_s: f64,
    pub(crate) wal_bytes_per_job: f64,
    pub(crate) cpu_us_per_job: Option<f64>,
}

/// A way of life: its table and its statements, in order.
struct Design {
    table: &'static str,
    fillfactor: u32,
    insert: Insert,
    finish: Finish,
}

enum Insert {
    Taken,
    Ready,
}

enum Finish {
    Update,
    Append,
}

/// In the order of the fields of `Limits`.
const DESIGNS: [Design; 3] = [
    Design { table: "append", fillfactor: 100, insert: Insert::Taken, finish: Finish::Append },
    Design { table: "direct", fillfactor: 50, insert: Insert::Taken, finish: Finish::Update },
    Design { table: "backlog", fillfactor: 50, insert: Insert::Ready, finish: Finish::Update },
];

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
    let measured = match settings.mode {
        Mode::Drain => figures.drain_jobs_per_s,
        _ => figures.end_to_end_jobs_per_s,
    };
    figures.fraction_of_limit = measured.map(|rate| rate / limits.append_only.jobs_per_s);
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

/// On a fresh private server with the broker's own schema. Returns its settings too.
async fn measure(options: &Options) -> Result<(Limits, Vec<(String, String)>)> {
    eprintln!(
        "measuring what Postgres does alone, {} s",
        DESIGNS.len() * options.repetitions * options.time.as_secs() as usize
    );
    let postgres = start_postgres().await?;
    let dsn = postgres.dsn();
    let url = dsn.clone();
    spawn_blocking(move || migrate(&url)).await??;
    let probe = PostgresProbe::connect(&dsn, Some(postgres.postmaster_pid())).await?;
    let config = dsn.parse().context("the private server's address can't be read")?;
    set_up(&config, options).await?;

    let mut rates = DESIGNS.map(|_| Vec::new());
    for repetition in 0..options.repetitions {
        for (design, rates) in DESIGNS.iter().zip(&mut rates) {
            rates.push(measure_one(design, repetition, &config, &probe, options).await?);
        }
    }
    let settings = probe.settings().await?;
    spawn_blocking(|| postgres.stop()).await?.context("Postgres didn't stop")?;
    let [append_only, direct, backlog] = rates.map(median);
    Ok((Limits { append_only, direct, backlog }, settings))
}

async fn set_up(config: &Config, options: &Options) -> Result<()> {
    let client = probe::postgres::connect(config).await?;
    client
        .batch_execute(
            "-- limit_schema
            CREATE SCHEMA limits;
            CREATE TABLE limits.completion (
                queue_id int NOT NULL, job_id bigint NOT NULL, finished_at timestamptz NOT NULL,
                attempt int NOT NULL, outcome smallint NOT NULL, result bytea,
                PRIMARY KEY (queue_id, job_id))",
        )
        .await?;
    for Design { table, fillfactor, .. } in &DESIGNS {
        let payload_bytes = options.payload_bytes;
        client
            .batch_execute(&format!(
                "-- limit_table
                CREATE TABLE limits.{table} (LIKE currant.job INCLUDING ALL)
                    WITH (fillfactor = {fillfactor});
                INSERT INTO limits.{table} (id, queue_id, attempt, priority, phase, kind, payload)
                SELECT -g, 1, 1, 0, 2, 'noop', decode(repeat('ab', {payload_bytes}), 'hex')
                FROM generate_series(1, {SEED_ROWS}) g"
            ))
            .await?;
    }
    for statement in ["VACUUM ANALYZE", "CHECKPOINT"] {
        client.batch_execute(statement).await?;
    }
    Ok(())
}

/// All connections at once, each on a queue of its own, for the time given.
async fn measure_one(
    design: &Design,
    repetition: usize,
    config: &Config,
    probe: &PostgresProbe,
    options: &Options,
) -> Result<Rate> {
    let connection = |number| Connection::open(config, design, number, repetition, options);
    let connections = try_join_all((1..=options.connections).map(connection)).await?;
    let before = probe.counters().await?;
    let start = Instant::now();
    let deadline = start + options.time;
    let jobs = try_join_all(connections.into_iter().map(|c| c.work_until(deadline))).await?;
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

/// One client with its prepared statements; each statement is a transaction.
struct Connection {
    client: Client,
    insert: Statement,
    claim: Option<Statement>,
    finish: Statement,
    queue: i32,
    next_id: i64,
    batch: i32,
    payload: Vec<u8>,
}

impl Connection {
    async fn open(
        config: &Config,
        design: &Design,
        number: u32,
        repetition: usize,
        options: &Options,
    ) -> Result<Connection> {
        let client = probe::postgres::connect(config).await?;
        // As the broker's own connections.
        client
            .batch_execute(
                "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off;
                 SET enable_memoize = off; SET plan_cache_mode = force_generic_plan; SET jit = off",
            )
            .await?;
        let table = design.table;
        let claim = match design.insert {
            Insert::Taken => None,
            Insert::Ready => Some(client.prepare(&claim_sql(table)).await?),
        };
        Ok(Connection {
            insert: client.prepare(&insert_sql(table, &design.insert)).await?,
            claim,
            finish: client.prepare(&finish_sql(table, &design.finish)).await?,
            client,
            queue: i32::try_from(number)?,
            next_id: (repetition as i64 + 1) << 40,
            batch: i32::try_from(options.batch)?,
            payload: vec![0xab; options.payload_bytes as usize],
        })
    }

    /// Returns how many jobs it took through their life.
    async fn work_until(mut self, deadline: Instant) -> Result<u64> {
        let mut jobs = 0;
        while Instant::now() < deadline {
            let Connection { client, queue, batch, payload, next_id: first, .. } = &self;
            client.execute(&self.insert, &[queue, first, batch, payload]).await?;
            let ids: Vec<i64> = match &self.claim {
                Some(claim) => {
                    let low = first - 1;
                    client.query_one(claim, &[queue, &low, &i64::from(*batch)]).await?.get(0)
                }
                None => (*first..*first + i64::from(*batch)).collect(),
            };
            let finished = client.execute(&self.finish, &[queue, &ids]).await?;
            anyhow::ensure!(finished == *batch as u64, "a batch of {batch} finished {finished}");
            self.next_id += i64::from(self.batch);
            jobs += finished;
        }
        Ok(jobs)
    }
}

fn insert_sql(table: &str, insert: &Insert) -> String {
    let (phase, attempt, owner) = match insert {
        Insert::Taken => (2, 1, "1"),
        Insert::Ready => (1, 0, "NULL::int"),
    };
    format!(
        "-- limit_insert
        INSERT INTO limits.{table} (queue_id, id, kind, priority, phase, owner, attempt, payload)
        SELECT $1::int, $2::bigint + g, 'noop', 0, {phase}, {owner}, {attempt}, $4::bytea
        FROM generate_series(0, $3::int - 1) g"
    )
}

fn claim_sql(table: &str) -> String {
    format!(
        "-- limit_claim
        WITH claimed AS (
            UPDATE limits.{table} SET phase = 2, owner = 1, attempt = attempt + 1, claimed_at = now()
            WHERE queue_id = $1::int AND id = ANY (ARRAY(
                SELECT id FROM limits.{table}
                WHERE queue_id = $1::int AND phase = 1 AND priority = 0 AND id > $2::bigint
                ORDER BY id LIMIT $3::bigint FOR UPDATE SKIP LOCKED))
            RETURNING id)
        SELECT array_agg(id) FROM claimed"
    )
}

fn finish_sql(table: &str, finish: &Finish) -> String {
    match finish {
        Finish::Update => format!(
            "-- limit_update
            UPDATE limits.{table} j SET outcome = 1, result = NULL, finished_at = now()
            FROM unnest($2::bigint[]) AS v (id)
            WHERE j.queue_id = $1::int AND j.id = v.id AND j.attempt = 1 AND j.phase = 2
              AND j.outcome IS NULL"
        ),
        Finish::Append => "-- limit_append
            INSERT INTO limits.completion (queue_id, job_id, finished_at, attempt, outcome)
            SELECT $1::int, id, now(), 1, 1 FROM unnest($2::bigint[]) AS v (id)"
            .to_owned(),
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
