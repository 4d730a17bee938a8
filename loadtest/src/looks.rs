//! `looks`: what it takes to look at jobs and queues while the table is large.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::Args;
use currant_broker::store;
use currant_worker_sdk::{Client, JobFilter, JobId, JobState, Listing};
use tokio::{task::spawn_blocking, time::sleep};

use crate::{
    broker_process::BrokerProcess,
    probe,
    report::{
        self,
        table::{millis, whole},
    },
    stack::{start_postgres, until_serving},
};

#[derive(Clone, Debug, Args)]
pub(crate) struct LooksOptions {
    /// Jobs in the table.
    #[arg(long, default_value_t = 10_000_000,
          value_parser = clap::value_parser!(u64).range(10_000..=100_000_000))]
    pub(crate) rows: u64,
    /// How often each look is taken; one before them isn't counted.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) repetitions: u32,
    /// Keep broker and database, for looks of your own, until Ctrl-C.
    #[arg(long)]
    pub(crate) stay: bool,
    /// Where to write the figures.
    #[arg(long, value_name = "PATH", default_value = "looks.json")]
    pub(crate) json: PathBuf,
}

const QUEUE: &str = "looks";

const CREATE_QUEUE: &str = "/* looks_queue */
INSERT INTO currant.queue (name) VALUES ($1) RETURNING id";

/// Of a hundred jobs one is ready, one scheduled and one dead; the others have succeeded. Of a thousand one
/// has a tag, of a million one another kind. A millisecond apart, up to an hour ago.
const FILL: &str = "/* looks_fill */
INSERT INTO currant.job
    (queue_id, id, kind, priority, phase, owner, attempt, outcome, finished_at, run_at, payload, error)
SELECT $1::int, ($2::bigint - $3::bigint + n) << 22,
       CASE WHEN n % 1000000 = 500000 THEN 'rare' ELSE 'common' END, 0,
       CASE n % 100 WHEN 1 THEN 1 WHEN 2 THEN 0 ELSE 2 END,
       CASE WHEN n % 100 NOT IN (1, 2) THEN 0 END, CASE WHEN n % 100 IN (1, 2) THEN 0 ELSE 1 END,
       CASE WHEN n % 100 NOT IN (1, 2) THEN CASE n % 100 WHEN 3 THEN 2 ELSE 1 END END,
       CASE WHEN n % 100 NOT IN (1, 2) THEN to_timestamp(($2::bigint - $3::bigint + n) / 1000.0) END,
       CASE WHEN n % 100 = 2 THEN now() + interval '1 day' END,
       convert_to(repeat('x', 100), 'UTF8'),
       CASE WHEN n % 100 = 3 THEN CASE WHEN n % 100000 = 3 THEN 'no route' ELSE 'timeout' END END
FROM generate_series(0, $3::bigint - 1) AS n";

const DEAD: &str = "/* looks_dead */
INSERT INTO currant.dead_job SELECT queue_id, id FROM currant.job WHERE outcome = 2";

const TAGS: &str = "/* looks_tags */
INSERT INTO currant.tag
SELECT $1::int, ($2::bigint - $3::bigint + n) << 22, 'customer-7'
FROM generate_series(0, $3::bigint - 1, 1000) AS n";

const SIZE: &str = "/* looks_size */ SELECT pg_total_relation_size('currant.job')";

/// How long the broker has to learn how queues stand.
const SETTLE: Duration = Duration::from_secs(3);

/// One way to look.
struct Look {
    what: &'static str,
    /// What came.
    found: usize,
    took: Vec<Duration>,
}

pub(crate) async fn run(options: &LooksOptions) -> Result<()> {
    let postgres = start_postgres(&[]).await?;
    let dsn = postgres.dsn();
    store::migrate(&dsn.as_str().into()).await?;
    let (ready, bytes) = fill(&dsn, options.rows).await?;
    let mut broker = BrokerProcess::serve::<&str, &str>(&dsn, &[])?;
    until_serving(&broker.endpoint(), None, Some(&mut broker)).await?;
    sleep(SETTLE).await;
    let client = Client::connect(broker.endpoint()).await?;
    let looks = look(&client, ready, options.repetitions).await?;
    print!("{}", table(options.rows, bytes, &looks));
    std::fs::write(&options.json, serde_json::to_vec_pretty(&json(options, bytes, &looks))?)
        .with_context(|| format!("{} can't be written", options.json.display()))?;
    if options.stay {
        println!("broker {}, http://{}/ui/, psql \"{dsn}\"", broker.endpoint(), broker.http());
        std::future::pending::<()>().await;
    }
    broker.stop()?;
    spawn_blocking(|| postgres.stop()).await?.context("Postgres didn't stop")?;
    Ok(())
}

/// Fills the table, and returns a ready job and the table's size.
async fn fill(dsn: &str, rows: u64) -> Result<(JobId, i64)> {
    eprintln!("writing {rows} jobs");
    let config = dsn.parse().context("the database's address can't be read")?;
    let client = probe::postgres::connect(&config).await?;
    let queue: i32 = client.query_one(CREATE_QUEUE, &[&QUEUE]).await?.get(0);
    let latest_ms = chrono::Utc::now().timestamp_millis() - 3_600_000;
    let rows = i64::try_from(rows)?;
    for sql in [FILL, TAGS] {
        client.execute(sql, &[&queue, &latest_ms, &rows]).await?;
    }
    client.batch_execute(DEAD).await?;
    client.batch_execute("ANALYZE").await?;
    probe::postgres::settle(&client).await?;
    let bytes = client.query_one(SIZE, &[]).await?.get(0);
    // In the middle of those that are ready.
    let number = rows / 200 * 100 + 1;
    Ok((JobId::from((latest_ms - rows + number) << 22), bytes))
}

async fn look(client: &Client, ready: JobId, repetitions: u32) -> Result<Vec<Look>> {
    let jobs = || JobFilter::queue(QUEUE);
    let page = |filter: JobFilter| client.list(filter).page_size(100);
    let middle = ready.enqueued_at();
    let mut looks = Vec::new();
    for (what, listing) in [
        ("100 jobs, the oldest", page(jobs())),
        ("100 jobs, the newest", page(jobs()).newest_first()),
        ("100 jobs from the middle", page(jobs().created_from(middle))),
        ("100 ready", page(jobs().state(JobState::Ready))),
        ("100 scheduled", page(jobs().state(JobState::Scheduled))),
        ("100 dead, the newest", page(jobs().state(JobState::Dead)).newest_first()),
        (
            "100 dead, by a word of one error in 1,000",
            page(jobs().state(JobState::Dead).error("route")),
        ),
        ("100 with a tag that one in 1,000 has", page(jobs().tag("customer-7")).newest_first()),
        ("a page of a kind that one in a million has", page(jobs().kind("rare"))),
    ] {
        looks.push(repeat(what, repetitions, async || first_page(listing.clone()).await).await?);
    }
    let get = async || client.get(ready).await.map(|_| 1);
    looks.push(repeat("a job", repetitions, async || Ok(get().await?)).await?);
    let explain = async || client.explain(ready).await.map(|_| 1);
    looks
        .push(repeat("why a job isn't running", repetitions, async || Ok(explain().await?)).await?);
    let stats = async || client.queue_stats(QUEUE).await.map(|_| 1);
    looks.push(repeat("how the queue stands", repetitions, async || Ok(stats().await?)).await?);
    Ok(looks)
}

/// How many jobs the first page has.
async fn first_page(mut listing: Listing) -> Result<usize> {
    Ok(listing.next_page().await?.map_or(0, |jobs| jobs.len()))
}

async fn repeat(
    what: &'static str,
    repetitions: u32,
    look: impl AsyncFn() -> Result<usize>,
) -> Result<Look> {
    let found = look().await.with_context(|| what)?;
    let mut took = Vec::new();
    for _ in 0..repetitions {
        let start = Instant::now();
        let again = look().await.with_context(|| what)?;
        took.push(start.elapsed());
        anyhow::ensure!(again == found, "{what}: {found} jobs, then {again}");
    }
    took.sort_unstable();
    Ok(Look { what, found, took })
}

impl Look {
    fn median_ms(&self) -> f64 {
        ms(self.took[self.took.len() / 2])
    }

    fn max_ms(&self) -> f64 {
        self.took.last().copied().map_or(0.0, ms)
    }
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn table(rows: u64, bytes: i64, looks: &[Look]) -> String {
    let head = format!(
        "{} jobs, {} MiB\n\n| look | found | median, ms | longest, ms |\n| --- | --- | --- | --- |\n",
        whole(rows as f64),
        whole(bytes as f64 / 1_048_576.0)
    );
    let line = |look: &Look| {
        let (median, max) = (millis(look.median_ms()), millis(look.max_ms()));
        format!("| {} | {} | {median} | {max} |\n", look.what, look.found)
    };
    std::iter::once(head).chain(looks.iter().map(line)).collect()
}

fn json(options: &LooksOptions, bytes: i64, looks: &[Look]) -> serde_json::Value {
    let looks = looks.iter().map(|look| {
        serde_json::json!({
            "what": look.what,
            "found": look.found,
            "median_ms": look.median_ms(),
            "max_ms": look.max_ms(),
        })
    });
    serde_json::json!({
        "rows": options.rows,
        "table_bytes": bytes,
        "repetitions": options.repetitions,
        "looks": looks.collect::<Vec<_>>(),
        "finished_at": report::now(),
    })
}
