//! Load tests for Currant: jobs through a real broker on a real Postgres, every one of them checked.
//! See docs/loadtest.md.

#![allow(
    clippy::disallowed_methods,
    reason = "a load test reads clocks and keeps time with a thread: that is its work"
)]

mod allocations;
mod broker_process;
mod budget;
mod channels;
mod chaos;
mod cli;
mod clock;
mod drain;
mod figures;
mod histogram;
mod history;
mod idle;
mod jobs;
mod latency;
mod limit;
mod looks;
mod mixed;
mod old_snapshot;
mod open_loop;
mod pacer;
mod peers;
mod probe;
mod producers;
mod queue_limits;
mod recorder;
mod report;
mod run;
mod sessions;
mod settings;
mod stack;
mod sweep;
mod trial;
mod verify;
mod watch;
mod workers;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    cli::{Cli, Command},
    report::Report,
    settings::{Mode, Settings},
};

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Some(Command::BrokerProcess { args }) = cli.command {
        return broker_process::be_the_broker(args);
    }
    if let Some(Command::ChaosWorker(args)) = cli.command {
        return chaos::be_a_worker(args);
    }
    match load_test(cli) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// True if every job was found where it should be.
fn load_test(cli: Cli) -> Result<bool> {
    raise_open_files_limit();
    match &cli.command {
        Some(Command::Figures(options)) => return until_interrupted(1, figures::run(options)),
        Some(Command::Budget) => return until_interrupted(1, budget::run()),
        Some(Command::Chaos(options)) => return until_interrupted(1, chaos::run(options)),
        Some(Command::Soak(options)) => return until_interrupted(1, chaos::soak(options)),
        _ => {}
    }
    if let Some(Command::Peers(options)) = &cli.command {
        return until_interrupted(1, peers::run(options)).map(|()| true);
    }
    if let Some(Command::Looks(options)) = &cli.command {
        return until_interrupted(1, looks::run(options)).map(|()| true);
    }
    let (settings, options) = Settings::resolve(cli)?;
    let report = until_interrupted(settings.load_threads, measure(&settings))?;
    report.publish(&options.json, &options.report)?;
    Ok(report.passed)
}

fn until_interrupted<T>(threads: u32, work: impl Future<Output = Result<T>>) -> Result<T> {
    let mut builder = match threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    builder.worker_threads(threads as usize).enable_all();
    let runtime = builder.build().context("can't start the runtime")?;
    runtime.block_on(async {
        tokio::select! {
            done = work => done,
            error = interrupted() => error,
        }
    })
}

async fn measure(settings: &Settings) -> Result<Report> {
    match settings.mode {
        Mode::Run => limit::around(settings, run::run).await,
        Mode::Drain => limit::around(settings, drain::run).await,
        Mode::Mixed => limit::around(settings, mixed::run).await,
        Mode::Latency => limit::around(settings, latency::run).await,
        Mode::Idle => idle::run(settings).await,
        Mode::Sweep => sweep::run(settings).await,
        Mode::Limit => limit::run(settings).await,
    }
}

/// SIGINT and SIGTERM end the run in order: dropping it stops the broker and Postgres.
async fn interrupted<T>() -> Result<T> {
    let mut terminate = signal(SignalKind::terminate()).context("can't listen for SIGTERM")?;
    tokio::select! {
        pressed = tokio::signal::ctrl_c() => pressed.context("can't listen for SIGINT")?,
        _ = terminate.recv() => {}
    }
    bail!("interrupted")
}

/// Ten thousand connections need as many files, here and in the broker, which inherits the limit.
/// Where it can't be raised, opening the connections will say so.
fn raise_open_files_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}
