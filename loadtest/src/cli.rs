//! The command line. Options are the same for every subcommand; what they default to may differ.

use std::{ffi::OsString, path::PathBuf};

use clap::{Args, Parser, Subcommand, builder::PossibleValuesParser};

use crate::{channels::Token, chaos, figures, looks::LooksOptions, peers};

/// Load tests for Currant. With no argument: a private Postgres, a broker process, 100,000 jobs
/// through 5 workers, every one of them checked, and a report.
#[derive(Debug, Parser)]
#[command(name = "currant-loadtest", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) options: Options,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Closed loop: producers enqueue as fast as they are answered while workers run the jobs (the
    /// default).
    Run(Options),
    /// Open loop: jobs are sent at a fixed rate whether or not earlier ones were answered, and
    /// latency counts from the time at which each was meant to be sent.
    Latency(LatencyOptions),
    /// What workers without work cost: transactions per second, memory of the broker.
    Idle(Options),
    /// `run` for several numbers of workers, each on a fresh stack.
    Sweep(SweepOptions),
    /// Enqueues a backlog with no workers, then starts workers and times them.
    Drain(Options),
    /// Enqueues a backlog with no workers, then drains it while producers enqueue into other queues
    /// until it is gone.
    Mixed(Options),
    /// What Postgres does without a broker: a yardstick, and the broker's own statements.
    Limit(Options),
    /// Every figure that Currant is held against, repeated, as one table.
    Figures(FiguresOptions),
    /// Other job queues beside Currant, in turns, on this machine.
    Peers(peers::Options),
    /// What a job costs in counts that are the same on every machine, compared with the bounds of
    /// budget.toml: transactions, statements, WAL, allocations, HOT updates. For CI.
    Budget,
    /// How long looks at jobs and queues take while the table is large.
    Looks(LooksOptions),
    /// Brokers, workers and Postgres under faults, and a checker that judges what became of the jobs.
    Chaos(chaos::Options),
    /// Half of what this machine does for ten minutes, with small faults: nothing may grow.
    Soak(chaos::SoakOptions),
    /// A worker of `chaos`, as a process of its own.
    #[command(hide = true)]
    ChaosWorker(chaos::WorkerArgs),
    /// The broker, as a process of its own.
    #[command(hide = true)]
    BrokerProcess {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct LatencyOptions {
    #[command(flatten)]
    pub(crate) options: Options,
    /// Enqueue by SQL, `SELECT currant.enqueue(…)`, instead of gRPC.
    #[arg(long)]
    pub(crate) sql: bool,
    /// Jobs of one further key that are in the first queue before, and of which as many run all the time as may
    /// [default: 0]. With several queues the latency in the others is told apart.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=10_000_000),
          requires = "keys", default_value_t = 0)]
    pub(crate) backlog: u64,
}

#[derive(Debug, Args)]
pub(crate) struct SweepOptions {
    #[command(flatten)]
    pub(crate) options: Options,
    /// Numbers of workers to try.
    #[arg(long, value_delimiter = ',', default_value = "5,10,20,100,1000",
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) points: Vec<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct FiguresOptions {
    /// Measure these rows only.
    #[arg(long, value_name = "NAME", value_delimiter = ',',
          value_parser = PossibleValuesParser::new(figures::names()))]
    pub(crate) only: Vec<String>,
    /// Repetitions of each row.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) runs: u32,
    /// Seconds of the sustained row.
    #[arg(long, value_name = "SECONDS", default_value_t = 300,
          value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub(crate) sustained: u32,
    /// Seconds for which the old snapshot is held.
    #[arg(long, value_name = "SECONDS", default_value_t = 60,
          value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub(crate) snapshot: u32,
    /// Percent of the jobs and rows of a full measurement, for a first look.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) percent: u32,
    /// Where to write the figures.
    #[arg(long, value_name = "PATH", default_value = "figures.json")]
    pub(crate) json: PathBuf,
    /// Where to write the table, which is printed too.
    #[arg(long, value_name = "PATH")]
    pub(crate) markdown: Option<PathBuf>,
}

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Options {
    /// Test this broker, for example http://127.0.0.1:7070, instead of a private stack.
    #[arg(long, value_name = "URL")]
    pub(crate) endpoint: Option<String>,
    /// The Postgres behind --endpoint; without it, figures and checks from the database are left
    /// out. No TLS.
    #[arg(long, value_name = "URL", requires = "endpoint")]
    pub(crate) database_url: Option<String>,
    /// The secret of a token that --endpoint wants, with the scopes enqueue and work.
    #[arg(
        long,
        value_name = "SECRET",
        env = "CURRANT_TOKEN",
        hide_env_values = true,
        requires = "endpoint"
    )]
    pub(crate) token: Option<Token>,
    /// Authorities that the certificate of an https:// endpoint may be of, in PEM [default: the system's].
    #[arg(long, value_name = "PATH", requires = "endpoint")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Jobs to run [default: 100000; with --duration: until it is over; latency: rate × duration;
    /// mixed: of the backlog].
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub(crate) jobs: Option<u64>,
    /// Workers, each a session of its own [default: 5; idle: 100].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) workers: Option<u32>,
    /// How many jobs of each queue workers may have at a time [default: no limit].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) queue_concurrency_max: Option<u32>,
    /// How many jobs of each queue may go to workers in a second [default: no limit].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) queue_rate: Option<u32>,
    /// Keys that the jobs have in turns; 0: none have one [default: 0].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub(crate) keys: Option<u32>,
    /// How many jobs of each key workers may have at a time [default: no limit].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000),
          requires = "keys")]
    pub(crate) key_concurrency_max: Option<u32>,
    /// Handlers that one worker runs at the same time [default: 100].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) concurrency: Option<u32>,
    /// Jobs that one worker holds beyond those that run [default: 300].
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub(crate) prefetch: Option<u32>,
    /// Queues; calls take turns, every worker serves all of them [default: 1].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) queues: Option<u32>,
    /// Producers [default: 2].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) producers: Option<u32>,
    /// Calls that one producer has under way at a time [default: 2].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) in_flight: Option<u32>,
    /// Jobs a call [default: 1000; latency: 1; limit: 500].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) batch: Option<u32>,
    /// Bytes of a payload; at least 16, which hold its stamp [default: 100].
    #[arg(long, value_parser = clap::value_parser!(u32).range(16..=1_048_576))]
    pub(crate) payload_bytes: Option<u32>,
    /// How long a handler sleeps, in milliseconds [default: 0].
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=3_600_000))]
    pub(crate) work_ms: Option<u32>,
    /// Jobs per second of the open loop [default: 100].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) rate: Option<u32>,
    /// Seconds of load; limit: seconds a measurement [default: latency 10, idle 10, limit 4; run:
    /// as long as the jobs take].
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub(crate) duration: Option<u32>,
    /// The first share of the jobs that counts neither for latency nor for throughput [default: 5].
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=90))]
    pub(crate) warmup_percent: Option<u32>,
    /// Connections of the producers, and as many of the workers; 0: one for each worker [default: 4].
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub(crate) channels: Option<u32>,
    /// Threads of the load's own runtime [default: 1].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) load_threads: Option<u32>,
    /// Measure `limit` before and after, for the fractions of it (run and drain); latency: what an
    /// INSERT takes without a broker.
    #[arg(long)]
    pub(crate) limit: bool,
    /// Jobs in the table that finished before, in the same queues [default: 0].
    #[arg(long, value_name = "ROWS", value_parser = clap::value_parser!(u64).range(0..=100_000_000))]
    pub(crate) history: Option<u64>,
    /// Keep a transaction with an old snapshot open during the load.
    #[arg(long)]
    pub(crate) old_snapshot: bool,
    /// Seconds at the beginning and at the end that are compared [default: a tenth of the time].
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub(crate) window: Option<u32>,
    /// A setting of the private broker, such as dispatch.hold_ms_max=0; can be given several times.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE", value_parser = broker_setting)]
    pub(crate) broker_settings: Vec<(String, String)>,
    /// Where to write the figures.
    #[arg(long, value_name = "PATH", default_value = "report.json")]
    pub(crate) json: PathBuf,
    /// Where to write the page.
    #[arg(long, value_name = "PATH", default_value = "report.html")]
    pub(crate) report: PathBuf,
}

/// Name and value; whether there is such a setting the broker says.
fn broker_setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("SECTION.KEY=VALUE is wanted")?;
    let plain =
        |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    match name.split_once('.') {
        Some((section, key)) if plain(section) && plain(key) => {
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => Err(format!("{name:?} is no setting, such as dispatch.hold_ms_max")),
    }
}
