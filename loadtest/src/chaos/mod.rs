//! `chaos`: real brokers, workers and a Postgres under load, while a seeded schedule of faults goes on;
//! then a checker judges what producers were told and handlers saw against the database. See
//! docs/chaos.md.

mod bounds;
mod cluster;
mod credentials;
mod crew;
mod fault;
mod history;
mod inject;
mod judge;
mod metrics;
mod mutations;
mod options;
mod pauses;
mod payload;
mod producers;
mod proxy;
mod queues;
mod recovery;
mod schedule;
mod soak;
mod summary;
mod worker;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use currant_worker_sdk::{Client, NewJob};
use tokio::time::{Instant, sleep};

use self::{
    cluster::{Cluster, Setup},
    crew::Single,
    fault::Kind,
    history::{Event, Phase, Producer, Writer, file_name},
    judge::{Case, Counters, Gauges},
    mutations::Mutation,
    pauses::Pauses,
    payload::{KIND, Payload},
    producers::Producers,
    queues::ORDER,
    schedule::{Planned, plan},
    summary::{Facts, Summary},
};
pub(crate) use self::{
    options::Options,
    soak::{SoakOptions, soak},
    worker::{WorkerArgs, be_a_worker},
};

/// Load without faults, at the beginning and once more before the first fault.
const QUIET: Duration = Duration::from_secs(4);
/// Until each worker has run something: a Python takes its time to start.
const WORK_MAX: Duration = Duration::from_secs(30);
/// After it all of its jobs are over.
const QUIET_SETTLE_MAX: Duration = Duration::from_secs(15);
/// After the last fault every job is over: the longest way is that of a write that was under way when
/// its broker died, which the second rescue finds.
const SETTLE_MAX: Duration = Duration::from_secs(120);
/// With a mutation, which is meant to be found and not to be waited for.
const SETTLE_MUTATED_MAX: Duration = Duration::from_secs(20);
/// When the last job is over, until no broker holds anything.
const GAUGES_MAX: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(100);
/// Answers that have left the broker are written by the workers.
const ANSWERS: Duration = Duration::from_millis(500);
/// Jobs that show the order.
const ORDER_JOBS: u32 = 60;

/// The subcommand. False: a promise was broken, or a mutation not found.
pub(crate) async fn run(options: &Options) -> Result<bool> {
    let python = crew::python()?;
    let clock = crew::clock();
    let clock = clock.as_deref();
    let impossible = clock.is_none() && options.only.contains(&Kind::JumpClock);
    ensure!(!impossible, "jump-clock needs Debian's package libfaketime");
    let Some(name) = &options.mutation else {
        return one(options, None, &python, clock).await.map(|summary| summary.is_clean());
    };
    let mut missed = Vec::new();
    for mutation in mutations::named(name)? {
        println!("== {}", mutation.name);
        let summary = one(options, Some(mutation), &python, clock).await?;
        let caught = summary.has(mutation.expected);
        let word = if caught { "caught as" } else { "NOT CAUGHT as" };
        println!("{} was {word} {}", mutation.name, mutation.expected);
        if !caught {
            missed.push(mutation.name);
        }
    }
    Ok(missed.is_empty())
}

async fn one(
    options: &Options,
    mutation: Option<Mutation>,
    python: &Path,
    clock: Option<&Path>,
) -> Result<Summary> {
    let (directory, temporary) = directory(options)?;
    let duration = Duration::from_secs(options.duration.into());
    let planned = match mutation {
        Some(mutation) => mutation.plan(),
        None => plan(options.seed, duration, &options.only, Cluster::targets(clock)),
    };
    let control = Writer::open(&directory.join(file_name("control")))?;
    let name = mutation.map(|mutation| mutation.name);
    let run = Run { options, mutated: mutation.is_some(), directory: &directory, control };
    // Making tokens would bring the schema up to date before a broker of the version before has seen it.
    let secure = is_secure(options.seed) && options.previous.is_none();
    let setup = Setup {
        directory: &directory,
        python,
        secure,
        previous: options.previous.as_deref(),
        mutation: name,
        records: true,
        clock,
    };
    let cluster = Cluster::start(setup, run.control.clone()).await?;
    let (case, settled) = run.through(cluster, &planned).await.with_context(|| {
        format!("seed {}; history and logs are in {}", options.seed, directory.display())
    })?;
    let violations = judge::judge(&case);
    let facts = Facts {
        seed: options.seed,
        duration_seconds: options.duration,
        secure,
        mutation: name,
        settled_ms: settled.as_millis() as u64,
        command: command(options, name),
    };
    let summary = Summary::new(facts, &case, violations);
    summary.print();
    summary.write(&options.json)?;
    if temporary && (summary.is_clean() || mutation.is_some()) {
        fs::remove_dir_all(&directory).context("can't remove the history")?;
    } else {
        println!("history and logs are in {}", directory.display());
    }
    Ok(summary)
}

/// Every second seed is by TLS and with tokens.
fn is_secure(seed: u64) -> bool {
    seed % 2 == 1
}

/// Where history and logs go, and whether that is a temporary place.
fn directory(options: &Options) -> Result<(PathBuf, bool)> {
    if let Some(directory) = &options.keep {
        fs::create_dir_all(directory).context("can't make the directory to keep")?;
        return Ok((directory.clone(), false));
    }
    let directory = tempfile::Builder::new().prefix("currant-chaos-").tempdir()?;
    Ok((directory.keep(), true))
}

fn command(options: &Options, mutation: Option<&str>) -> String {
    let mut command =
        format!("currant-loadtest chaos --seed {} --duration {}", options.seed, options.duration);
    if !options.only.is_empty() {
        let only: Vec<String> = options.only.iter().map(ToString::to_string).collect();
        command += &format!(" --only {}", only.join(","));
    }
    if let Some(name) = mutation {
        command += &format!(" --mutation {name}");
    }
    command
}

struct Run<'a> {
    options: &'a Options,
    mutated: bool,
    directory: &'a Path,
    control: Writer,
}

impl Run<'_> {
    /// All phases. Returns what there is to judge, and how long the settling took.
    async fn through(&self, mut cluster: Cluster, planned: &[Planned]) -> Result<(Case, Duration)> {
        let producers = Writer::open(&self.directory.join(file_name("producers")))?;
        let counters_in_quiet = self.quiet(&mut cluster, &producers).await?;
        self.faults(&mut cluster, &producers, planned).await?;

        self.phase(Phase::Settling)?;
        let bound = if self.mutated { SETTLE_MUTATED_MAX } else { SETTLE_MAX };
        let begun = Instant::now();
        settle(&mut cluster, bound).await?;
        let settled = begun.elapsed();
        let mut metrics = metrics_at_rest(&cluster).await?;
        let gauges = Gauges::of(&metrics);
        metrics.extend_from_slice(cluster.metrics_of_ended());
        let counters_in_all = Counters::of(&metrics);
        let client = cluster.connect().await?;
        let rows = judge::read(&client).await?;
        drop(client);
        self.phase(Phase::Over)?;
        cluster.stop().await?;
        let history = history::read(self.directory)?;
        let panics = self.panics()?;
        let case = Case { history, rows, counters_in_quiet, counters_in_all, gauges, panics };
        Ok((case, settled))
    }

    fn phase(&self, phase: Phase) -> Result<()> {
        println!("{phase}");
        self.control.write(Event::Phase { phase })
    }

    /// Order with one worker, then load; returns the brokers' counters when all of that is over.
    async fn quiet(&self, cluster: &mut Cluster, history: &Writer) -> Result<Counters> {
        let first = cluster.addresses()[0];
        self.phase(Phase::Quiet)?;
        let load = self.load("quiet", cluster, history).await?;
        sleep(QUIET).await;
        let begun = Instant::now();
        while let Err(idle) = cluster.crew.check_all_work() {
            ensure!(begun.elapsed() < WORK_MAX, idle);
            sleep(POLL).await;
        }
        load.stop().await?;
        settle(cluster, QUIET_SETTLE_MAX).await?;
        sleep(ANSWERS).await;
        let counters = Counters::of(&cluster.metrics().await?);
        self.phase(Phase::QuietOver)?;
        order(&cluster.client(0).await?, history).await?;
        let single = Single::start(self.directory, first, &cluster.credentials, ORDER)?;
        settle(cluster, QUIET_SETTLE_MAX).await?;
        single.stop().await?;
        Ok(counters)
    }

    async fn faults(
        &self,
        cluster: &mut Cluster,
        history: &Writer,
        planned: &[Planned],
    ) -> Result<()> {
        self.phase(Phase::Faults)?;
        let load = self.load("chaos", cluster, history).await?;
        let addresses = cluster.addresses();
        let seed = self.options.seed;
        let pauses = Pauses::start(seed, &addresses, &cluster.credentials, &self.control).await?;
        sleep(QUIET).await;
        let begun = Instant::now();
        for planned in planned {
            rest(cluster, planned.rest).await?;
            println!("{:>7.1} s  {}", begun.elapsed().as_secs_f64(), planned.fault);
            inject::carry_out(cluster, &self.control, *planned).await?;
        }
        rest(cluster, schedule::calm_after(planned).max(QUIET)).await?;
        load.stop().await?;
        pauses.stop().await
    }

    async fn load(&self, name: &str, cluster: &Cluster, history: &Writer) -> Result<Producers> {
        Producers::start(name, self.options.seed, cluster, history).await
    }

    /// Lines of the brokers' logs that tell of a panic.
    fn panics(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for number in 0..cluster::BROKERS {
            let text = fs::read_to_string(self.directory.join(format!("broker-{number}.log")))?;
            let lines = text.lines().filter(|line| line.contains("panicked"));
            found.extend(lines.map(|line| format!("broker-{number}: {line}")));
        }
        Ok(found)
    }
}

/// Meanwhile what has ended by itself is started again.
async fn rest(cluster: &mut Cluster, time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    while Instant::now() < end {
        cluster.revive().await?;
        sleep(POLL).await;
    }
    Ok(())
}

/// Waits until no job is open; the checker says so when one still is after the bound.
async fn settle(cluster: &mut Cluster, bound: Duration) -> Result<()> {
    let begun = Instant::now();
    let client = cluster.connect().await?;
    while judge::open_jobs(&client).await? > 0 && begun.elapsed() < bound {
        cluster.revive().await?;
        sleep(POLL).await;
    }
    Ok(())
}

/// What the brokers say when they hold nothing, or the last that they say.
async fn metrics_at_rest(cluster: &Cluster) -> Result<Vec<String>> {
    let begun = Instant::now();
    loop {
        let texts = cluster.metrics().await?;
        if Gauges::of(&texts).is_nothing() || begun.elapsed() > GAUGES_MAX {
            return Ok(texts);
        }
        sleep(POLL).await;
    }
}

/// Jobs of several priorities, before anybody takes them.
async fn order(client: &Client, history: &Writer) -> Result<()> {
    for index in 0..ORDER_JOBS {
        let call = format!("order-{index}");
        let payload =
            Payload { call: call.clone(), index: 0, jobs: 1, ms: 1, fail: 0, unique: None };
        let job = NewJob::json(ORDER, KIND, &payload)?;
        let priority = [0, 3, -2, 0, 7][index as usize % 5];
        let id = client.enqueue_once(call.clone(), [job.priority(priority)]).await?;
        let jobs = id.iter().map(|id| id.0).collect();
        history.write(Event::Acknowledged { call, by: Producer::Grpc, jobs })?;
    }
    Ok(())
}
