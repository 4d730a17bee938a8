//! The options with their defaults filled in, as they stand in the report.

use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use serde::Serialize;

use crate::{
    channels::Token,
    cli::{Cli, Command, Options},
};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mode {
    Run,
    Latency,
    Idle,
    Sweep,
    Drain,
    Mixed,
    Limit,
}

impl Mode {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Mode::Run => "run",
            Mode::Latency => "latency",
            Mode::Idle => "idle",
            Mode::Sweep => "sweep",
            Mode::Drain => "drain",
            Mode::Mixed => "mixed",
            Mode::Limit => "limit",
        }
    }
}

/// Everything that decides a result, with units in the names. Serialised into the report.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Settings {
    pub(crate) mode: Mode,
    /// None: a private stack.
    pub(crate) endpoint: Option<String>,
    /// May hold a password: never in the report.
    #[serde(skip)]
    pub(crate) database_url: Option<String>,
    #[serde(skip)]
    pub(crate) token: Option<Token>,
    #[serde(skip)]
    pub(crate) ca_file: Option<PathBuf>,
    /// Upper bound; what `duration_seconds` leaves unsent doesn't count. `mixed`: the backlog's.
    pub(crate) jobs: u64,
    pub(crate) workers: u32,
    pub(crate) concurrency: u32,
    pub(crate) prefetch: u32,
    pub(crate) queues: u32,
    /// Of each queue; None: no limit.
    pub(crate) queue_concurrency_max: Option<u32>,
    /// In a second.
    pub(crate) queue_rate: Option<u32>,
    /// 0: jobs have none.
    pub(crate) keys: u32,
    pub(crate) key_concurrency_max: Option<u32>,
    /// Of one further key, stored before the workers come: `latency`.
    pub(crate) backlog: u64,
    pub(crate) producers: u32,
    pub(crate) in_flight: u32,
    pub(crate) batch: u32,
    pub(crate) payload_bytes: u32,
    pub(crate) work_ms: u32,
    /// None: closed loop.
    pub(crate) rate: Option<u32>,
    pub(crate) duration_seconds: Option<u32>,
    pub(crate) warmup_percent: u32,
    pub(crate) channels: u32,
    pub(crate) load_threads: u32,
    /// Jobs are enqueued by SQL.
    pub(crate) sql: bool,
    /// `limit` is measured too.
    pub(crate) limit: bool,
    /// Jobs in the table that finished before the load.
    pub(crate) history: u64,
    /// A transaction is open all the time.
    pub(crate) old_snapshot: bool,
    /// None: a tenth of the time.
    pub(crate) window_seconds: Option<u32>,
    /// The private broker's, by name; the others have their defaults.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) broker_settings: Vec<(String, String)>,
    /// Numbers of workers of a sweep.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) points: Vec<u32>,
}

/// Jobs per second that no run reaches; bounds what `--duration` prepares for.
const JOBS_PER_SECOND_MAX: u64 = 1_000_000;
/// Jobs that `mixed` enqueues beside each of its backlog, at most.
const DIRECT_TO_BACKLOG_MAX: u64 = 20;
/// Jobs a call of those that `latency` stores before.
pub(crate) const BACKLOG_BATCH: u32 = 1000;
/// A broker's default limits: credit of one session, bytes of one message.
const CREDIT_MAX: u32 = 10_000;
const MESSAGE_BYTES_MAX: u64 = 4 << 20;
/// What a job costs on the wire besides its payload, at most.
const JOB_OVERHEAD_BYTES: u64 = 64;

impl Settings {
    /// Fills in the defaults of the mode and checks what the options say together.
    pub(crate) fn resolve(cli: Cli) -> Result<(Settings, Options)> {
        let backlog = match &cli.command {
            Some(Command::Latency(latency)) => latency.backlog,
            _ => 0,
        };
        let (mode, options, sql, points) = match cli.command {
            None => (Mode::Run, cli.options, false, Vec::new()),
            Some(Command::Run(o)) => (Mode::Run, o, false, Vec::new()),
            Some(Command::Latency(l)) => (Mode::Latency, l.options, l.sql, Vec::new()),
            Some(Command::Idle(o)) => (Mode::Idle, o, false, Vec::new()),
            Some(Command::Sweep(s)) => (Mode::Sweep, s.options, false, s.points),
            Some(Command::Drain(o)) => (Mode::Drain, o, false, Vec::new()),
            Some(Command::Mixed(o)) => (Mode::Mixed, o, false, Vec::new()),
            Some(Command::Limit(o)) => (Mode::Limit, o, false, Vec::new()),
            Some(
                Command::Figures(_)
                | Command::Peers(_)
                | Command::Looks(_)
                | Command::Budget
                | Command::Chaos(_)
                | Command::Soak(_)
                | Command::ChaosWorker(_)
                | Command::BrokerProcess { .. },
            ) => {
                bail!("not a measurement of its own")
            }
        };
        let settings = Settings { backlog, ..Settings::with_defaults(mode, &options, sql, points) };
        settings.check()?;
        Ok((settings, options))
    }

    fn with_defaults(mode: Mode, o: &Options, sql: bool, points: Vec<u32>) -> Settings {
        let duration_seconds = o.duration.or(match mode {
            Mode::Latency | Mode::Idle => Some(10),
            Mode::Limit => Some(4),
            Mode::Run | Mode::Sweep | Mode::Drain | Mode::Mixed => None,
        });
        let rate = (mode == Mode::Latency).then(|| o.rate.unwrap_or(100));
        let jobs = o.jobs.unwrap_or(match (rate, duration_seconds) {
            (Some(rate), Some(seconds)) => u64::from(rate) * u64::from(seconds),
            (None, Some(seconds)) if mode == Mode::Run || mode == Mode::Sweep => {
                JOBS_PER_SECOND_MAX * u64::from(seconds)
            }
            _ => 100_000,
        });
        Settings {
            mode,
            endpoint: o.endpoint.clone(),
            database_url: o.database_url.clone(),
            token: o.token.clone(),
            ca_file: o.ca_file.clone(),
            jobs,
            workers: o.workers.unwrap_or(if mode == Mode::Idle { 100 } else { 5 }),
            concurrency: o.concurrency.unwrap_or(100),
            prefetch: o.prefetch.unwrap_or(300),
            queues: o.queues.unwrap_or(1),
            queue_concurrency_max: o.queue_concurrency_max,
            queue_rate: o.queue_rate,
            keys: o.keys.unwrap_or(0),
            key_concurrency_max: o.key_concurrency_max,
            backlog: 0,
            producers: o.producers.unwrap_or(2),
            in_flight: o.in_flight.unwrap_or(2),
            batch: o.batch.unwrap_or(match mode {
                Mode::Latency => 1,
                Mode::Limit => 500,
                Mode::Run | Mode::Idle | Mode::Sweep | Mode::Drain | Mode::Mixed => 1000,
            }),
            payload_bytes: o.payload_bytes.unwrap_or(100),
            work_ms: o.work_ms.unwrap_or(0),
            rate,
            duration_seconds,
            warmup_percent: o.warmup_percent.unwrap_or(5),
            channels: o.channels.unwrap_or(4),
            load_threads: o.load_threads.unwrap_or(1),
            sql,
            limit: o.limit,
            history: o.history.unwrap_or(0),
            old_snapshot: o.old_snapshot,
            window_seconds: o.window,
            broker_settings: o.broker_settings.clone(),
            points,
        }
    }

    fn check(&self) -> Result<()> {
        ensure!(
            self.concurrency + self.prefetch <= CREDIT_MAX,
            "--concurrency and --prefetch together: at most {CREDIT_MAX}, the credit of a session"
        );
        let batch = if self.backlog > 0 { self.batch.max(BACKLOG_BATCH) } else { self.batch };
        let call_bytes = u64::from(batch) * (u64::from(self.payload_bytes) + JOB_OVERHEAD_BYTES);
        ensure!(
            call_bytes <= MESSAGE_BYTES_MAX || self.mode == Mode::Limit,
            "{batch} jobs of --payload-bytes {} would be a message of about {call_bytes} bytes; at \
             most {MESSAGE_BYTES_MAX}",
            self.payload_bytes
        );
        ensure!(
            !(self.endpoint.is_some() && (self.limit || self.mode == Mode::Limit)),
            "the limit is measured on a private Postgres: without --endpoint"
        );
        ensure!(!(self.sql && self.keys > 0), "--keys is for jobs by gRPC: without --sql");
        ensure!(
            !(self.sql && self.endpoint.is_some() && self.database_url.is_none()),
            "--sql with --endpoint needs --database-url"
        );
        ensure!(
            !(self.endpoint.is_some() && (self.history > 0 || !self.broker_settings.is_empty())),
            "--history and --set are for the private stack: without --endpoint"
        );
        ensure!(
            !(self.old_snapshot && self.endpoint.is_some() && self.database_url.is_none()),
            "--old-snapshot with --endpoint needs --database-url"
        );
        Ok(())
    }

    /// How many numbers jobs can have.
    pub(crate) fn numbers(&self) -> u64 {
        match self.mode {
            Mode::Mixed => self.jobs * (1 + DIRECT_TO_BACKLOG_MAX),
            _ => self.backlog + self.jobs,
        }
    }

    /// The first job that counts, where the number of jobs is known: the warm-up share, rounded up
    /// to whole calls; none when that would be all of them. Jobs of a backlog don't count; in `mixed` all
    /// others do.
    pub(crate) fn warmup_jobs(&self) -> u64 {
        let batch = u64::from(self.batch);
        if self.mode == Mode::Mixed {
            return self.jobs.div_ceil(batch) * batch;
        }
        let share = self.jobs * u64::from(self.warmup_percent);
        let jobs = share.div_ceil(100).div_ceil(batch) * batch;
        self.backlog + if jobs >= self.jobs { 0 } else { jobs }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use clap::Parser;

    use super::*;

    fn settings(args: &str) -> Result<Settings> {
        let args = std::iter::once("currant-loadtest").chain(args.split_whitespace());
        Settings::resolve(Cli::try_parse_from(args)?).map(|(settings, _)| settings)
    }

    #[test]
    fn no_argument_is_a_run_of_100_000_jobs() {
        let plain = settings("").unwrap();
        assert_eq!((plain.mode, plain.jobs, plain.workers), (Mode::Run, 100_000, 5));
        assert_eq!(plain.warmup_jobs(), 5000);
        assert_eq!(settings("--jobs 7").unwrap().jobs, settings("run --jobs 7").unwrap().jobs);
    }

    #[test]
    fn an_open_loop_sends_rate_times_duration() {
        let latency = settings("latency --rate 20000 --batch 20 --duration 30").unwrap();
        assert_eq!((latency.jobs, latency.rate), (600_000, Some(20_000)));
        assert_eq!(settings("latency").unwrap().batch, 1);
        let behind = settings("latency --backlog 2000 --keys 1").unwrap();
        assert_eq!((behind.numbers(), behind.warmup_jobs()), (3000, 2050));
    }

    #[test]
    fn warm_up_is_whole_calls_and_never_everything() {
        assert_eq!(settings("--jobs 10000 --batch 300").unwrap().warmup_jobs(), 600);
        assert_eq!(settings("--jobs 1000").unwrap().warmup_jobs(), 0);
        assert_eq!(settings("--warmup-percent 0").unwrap().warmup_jobs(), 0);
    }

    #[test]
    fn settings_of_the_broker_are_kept_in_order() {
        let run = settings("run --set dispatch.hold_ms_max=0 --set log.filter=a=b").unwrap();
        let expected = [("dispatch.hold_ms_max", "0"), ("log.filter", "a=b")];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(run.broker_settings, expected);
    }

    #[test]
    fn options_that_contradict_each_other_are_refused() {
        for args in [
            "--concurrency 9000 --prefetch 2000",
            "--batch 1000 --payload-bytes 10000",
            "limit --endpoint http://127.0.0.1:7070",
            "latency --sql --endpoint http://127.0.0.1:7070",
            "--database-url postgres://localhost",
            "--key-concurrency-max 3",
            "latency --sql --keys 3",
            "latency --backlog 3",
            "latency --backlog 3 --keys 1 --payload-bytes 10000",
            "--payload-bytes 15",
            "--token currant_1_00",
            "--ca-file ca.pem",
            "--history 5 --endpoint http://127.0.0.1:7070",
            "--old-snapshot --endpoint http://127.0.0.1:7070",
            "--set dispatch.hold_ms_max",
            "--set hold_ms_max=0",
            "--set dispatch.hold_ms_max=0 --endpoint http://127.0.0.1:7070",
        ] {
            assert!(settings(args).is_err(), "{args}");
        }
    }
}
