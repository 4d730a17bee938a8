//! A trial of another system: its server, a process that produces, processes that work.
//!
//! First come jobs that warm the processes up, their JIT compiler above all; they are finished before
//! the clock starts. So no figure has a start-up in it, and none has what earlier jobs left.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use currant_broker::private_postgres::PrivatePostgres;
use serde_json::{Map, Value, json};
use tokio::{task::spawn_blocking, try_join};
use tokio_postgres::config::Host;

use super::{
    crew::Crew,
    install::Node,
    measure::{Figure, Found, Measure},
    program::{Answer, Enqueued, Program, Tally},
    redis::Redis,
    system::{LIGHT_RATE, System},
};
use crate::{
    histogram::{Latencies, Percentiles},
    stack::start_postgres,
};

/// Jobs that don't count, first of all.
const WARMUP_JOBS: u64 = 20_000;
/// Fewer do where jobs come one by one, which takes longer.
const WARMUP_SINGLE_JOBS: u64 = 2000;

/// What a trial needs to know.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) system: System,
    pub(super) measure: Measure,
    pub(super) jobs: u64,
    pub(super) payload_bytes: u32,
    pub(super) settings: Value,
}

/// What the other systems need on this machine.
#[derive(Clone, Debug)]
pub(super) struct Tools {
    pub(super) node: Node,
    /// None: no system on Redis is measured.
    pub(super) redis_server: Option<PathBuf>,
}

/// The figures, and the versions of what was measured.
pub(super) async fn measure(plan: &Plan, tools: &Tools) -> Result<(Found, Map<String, Value>)> {
    let server = Server::start(plan.system, tools).await?;
    let mut trial = Trial::start(plan, tools, &server.address()?).await?;
    let versions = trial.producer.versions.clone();
    let found = match plan.measure {
        Measure::Batches => trial.end_to_end(Figure::EndToEndJobsPerS).await,
        Measure::Single => trial.end_to_end(Figure::SingleJobsPerS).await,
        Measure::Backlog => trial.backlog().await,
        Measure::Light => trial.light().await,
    };
    let found = found?;
    trial.crew.stop().await?;
    trial.producer.stop().await?;
    server.stop().await?;
    Ok((found, versions))
}

enum Server {
    Postgres(PrivatePostgres),
    Redis(Redis),
}

impl Server {
    /// Fresh and empty.
    async fn start(system: System, tools: &Tools) -> Result<Server> {
        let Some(persistence) = system.redis() else {
            return start_postgres(&[]).await.map(Server::Postgres);
        };
        let binary = tools.redis_server.as_deref().context("no redis-server was looked for")?;
        Redis::start(binary, persistence).await.map(Server::Redis)
    }

    /// As the drivers for Node take it.
    fn address(&self) -> Result<Value> {
        let postgres = match self {
            Server::Redis(redis) => return Ok(json!({ "path": redis.socket() })),
            Server::Postgres(postgres) => postgres.dsn(),
        };
        let config: tokio_postgres::Config = postgres.parse()?;
        let Some(Host::Unix(socket)) = config.get_hosts().first() else {
            bail!("the private Postgres has no socket");
        };
        Ok(json!({
            "host": socket,
            "port": config.get_ports().first(),
            "user": config.get_user(),
            "database": config.get_dbname(),
        }))
    }

    async fn stop(self) -> Result<()> {
        match self {
            Server::Redis(redis) => redis.stop().await,
            Server::Postgres(postgres) => {
                spawn_blocking(|| postgres.stop()).await?.context("Postgres didn't stop")
            }
        }
    }
}

struct Trial<'a> {
    plan: &'a Plan,
    /// Jobs that don't count. Numbers begin with theirs.
    warmup: u64,
    producer: Program,
    crew: Crew,
}

impl Trial<'_> {
    /// Everything is connected and warm, and nothing is left to do.
    async fn start<'a>(plan: &'a Plan, tools: &Tools, server: &Value) -> Result<Trial<'a>> {
        let module = plan.system.module().context("not another system")?;
        let single = matches!(plan.measure, Measure::Single | Measure::Light);
        let warmup = if single { WARMUP_SINGLE_JOBS } else { WARMUP_JOBS };
        let config = |role| {
            json!({
                "system": module,
                "role": role,
                "server": server,
                "settings": plan.settings,
                "payload_bytes": plan.payload_bytes,
                "jobs": warmup + plan.jobs,
                "latency_from": (plan.measure == Measure::Light).then_some(warmup),
            })
        };
        // First the producer: it makes the tables.
        let name = format!("{}'s producer", plan.system.title());
        let producer = Program::start(&tools.node, &name, &config("producer")).await?;
        let name = format!("{}'s worker", plan.system.title());
        let processes =
            plan.settings["worker_processes"].as_u64().context("no worker_processes")?;
        let mut crew = Crew::start(&tools.node, &name, &config("worker"), processes).await?;
        crew.work().await?;
        let mut trial = Trial { plan, warmup, producer, crew };
        trial.enqueue(0, warmup).await?;
        trial.enqueued_and_finished(0, warmup).await?;
        Ok(trial)
    }

    /// Producer and workers at the same time.
    async fn end_to_end(&mut self, figure: Figure) -> Result<Found> {
        self.enqueue(self.warmup, self.plan.jobs).await?;
        let (enqueued, end_us) = self.enqueued_and_finished(self.warmup, self.plan.jobs).await?;
        self.check().await?;
        Ok(vec![(figure, self.rate(enqueued.start_us, end_us))])
    }

    /// The workers, warm as they are, rest; all is enqueued; then they start again.
    async fn backlog(&mut self) -> Result<Found> {
        self.crew.rest().await?;
        self.enqueue(self.warmup, self.plan.jobs).await?;
        let answer = self.producer.answer().await?;
        let enqueued = stored(&answer, self.plan.jobs)?;
        let start_us = self.crew.work().await?;
        let end_us = self.crew.finish(self.warmup + self.plan.jobs).await?;
        self.check().await?;
        Ok(vec![
            (Figure::EnqueueJobsPerS, self.rate(enqueued.start_us, enqueued.end_us)),
            (Figure::DrainJobsPerS, self.rate(start_us, end_us)),
        ])
    }

    async fn light(&mut self) -> Result<Found> {
        let (first, jobs) = (self.warmup, self.plan.jobs);
        let pace = json!({ "first": first, "jobs": jobs, "rate": LIGHT_RATE });
        self.producer.command("pace", pace).await?;
        self.enqueued_and_finished(first, jobs).await?;
        let latencies = Latencies::new(1);
        for us in self.check().await?.iter().flat_map(|tally| &tally.latencies_us) {
            latencies.record_ns(us * 1000);
        }
        let latencies = latencies.merged();
        ensure!(latencies.len() == jobs, "{} of {jobs} latencies were told", latencies.len());
        let percentiles = Percentiles::of(&latencies).context("no job was measured")?;
        Ok(vec![(Figure::LightP50Ms, percentiles.p50), (Figure::LightP99Ms, percentiles.p99)])
    }

    /// Tells the producer; it answers when all calls are answered.
    async fn enqueue(&mut self, first: u64, jobs: u64) -> Result<()> {
        let Value::Object(settings) = &self.plan.settings else {
            bail!("settings are an object");
        };
        let (batch, in_flight) = (&settings["batch"], &settings["in_flight"]);
        let enqueue =
            json!({ "first": first, "jobs": jobs, "batch": batch, "in_flight": in_flight });
        self.producer.command("enqueue", enqueue).await
    }

    /// What the producer says of the jobs from `first` on, and when the last of them was finished.
    async fn enqueued_and_finished(&mut self, first: u64, jobs: u64) -> Result<(Enqueued, u64)> {
        // Both at once: the failure of one shows at once.
        let (answer, end_us) = try_join!(self.producer.answer(), self.crew.finish(first + jobs))?;
        Ok((stored(&answer, jobs)?, end_us))
    }

    /// Every job started once and is finished, and the system has none left.
    async fn check(&mut self) -> Result<Vec<Tally>> {
        let what = || format!("{}, {}", self.plan.system.title(), self.plan.measure.name());
        let tallies = self.crew.tallies(self.warmup + self.plan.jobs).await;
        let tallies = tallies.with_context(what)?;
        self.producer.command("left", json!({})).await?;
        let left = self.producer.answer().await?.left()?;
        ensure!(left == 0, "{}: {left} jobs are left", what());
        Ok(tallies)
    }

    fn rate(&self, from_us: u64, to_us: u64) -> f64 {
        self.plan.jobs as f64 / (to_us.saturating_sub(from_us) as f64 / 1e6)
    }
}

/// What was enqueued; an error unless every job was stored.
fn stored(answer: &Answer, jobs: u64) -> Result<Enqueued> {
    let enqueued = answer.enqueued()?;
    ensure!(enqueued.stored == jobs, "{jobs} jobs were enqueued, {} stored", enqueued.stored);
    Ok(enqueued)
}
