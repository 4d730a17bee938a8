//! The runtime under a broker, and the signals that end it.

use anyhow::Context;
use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{Signal, SignalKind, signal},
};
use tokio_util::sync::CancellationToken;

use crate::{
    app::{self, Addresses},
    config::Config,
};

/// With one thread there is no other to hand work to, which single calls feel.
pub(super) fn build(threads: usize) -> anyhow::Result<Runtime> {
    let mut builder = match threads {
        1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    if threads > 1 {
        builder.worker_threads(threads);
    }
    builder.enable_all().build().context("starting the runtime")
}

/// Runs a broker until SIGTERM or SIGINT, drains, returns. Calls `ready` when it answers.
pub(super) fn serve(config: Config, ready: impl FnOnce(Addresses)) -> anyhow::Result<()> {
    let runtime = build(config.broker.threads)?;
    let shutdown = CancellationToken::new();
    runtime.block_on(async {
        let mut signals = Signals::register()?;
        let stop = shutdown.clone();
        tokio::spawn(async move {
            let signal = signals.next().await;
            tracing::info!(signal, "stopping; a second signal exits at once");
            stop.cancel();
            let signal = signals.next().await;
            tracing::warn!(signal, "exiting at once");
            std::process::exit(EXIT_AT_ONCE);
        });
        app::serve(config, shutdown, ready).await
    })
}

/// As shells report a process that SIGINT ended.
const EXIT_AT_ONCE: i32 = 130;

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn register() -> anyhow::Result<Self> {
        let register = |kind| signal(kind).context("registering for signals");
        Ok(Self {
            terminate: register(SignalKind::terminate())?,
            interrupt: register(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
