//! What time brings: one duty, one file. Each runs until the broker stops, and survives a database
//! that is away.

mod cancel;
mod heartbeat;
mod limits;
mod listen;
mod loads;
mod orphans;
mod poll;
mod promote;
mod prune;
mod queues;
mod rescue;
mod schedules;
mod tick;
mod tokens;
mod watch;

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::{engine::PrunerLimits, pipeline::Core, store::Address};

/// Intervals; see the configuration reference.
#[derive(Clone, Debug)]
pub struct TimerSettings {
    /// Where to LISTEN; `None`: poll only.
    pub listen_address: Option<Address>,
    pub connect_timeout: Duration,
    pub heartbeat_interval: Duration,
    pub dead_after: Duration,
    pub adoption_grace: Duration,
    /// Jobs with older ids are stragglers: rescue finds them by name, all others by range. Longer than
    /// any insert takes, so that what is on its way lies in the range.
    pub straggler_age: Duration,
    /// Between looks at the backlog while LISTEN works.
    pub sweep_interval: Duration,
    /// Between looks at the backlog without LISTEN.
    pub poll_interval: Duration,
    pub pruner: PrunerLimits,
    /// Between telling others what has changed of the load of queues.
    pub loads_interval: Duration,
    /// Between looks at the tokens.
    pub tokens_interval: Duration,
    /// How long tokens that ended and audit records are kept.
    pub audit_age: Duration,
}

/// Starts all duties. `stop` ends them; `dead` is cancelled when other brokers hold this one for dead.
pub fn start(
    core: &Arc<Core>,
    settings: &TimerSettings,
    stop: &CancellationToken,
    dead: &CancellationToken,
) {
    let listening = listen::Listening::default();
    let duties: [std::pin::Pin<Box<dyn Future<Output = ()> + Send>>; 14] = [
        Box::pin(tick::tick(Arc::clone(core))),
        Box::pin(heartbeat::heartbeat(Arc::clone(core), settings.clone(), dead.clone())),
        Box::pin(listen::listen(Arc::clone(core), settings.clone(), listening.clone())),
        Box::pin(poll::poll(Arc::clone(core), settings.clone(), listening.clone())),
        Box::pin(promote::promote(Arc::clone(core), settings.clone(), listening)),
        Box::pin(orphans::orphans(Arc::clone(core))),
        Box::pin(prune::prune(Arc::clone(core), settings.clone())),
        Box::pin(cancel::cancel(Arc::clone(core))),
        Box::pin(tokens::tokens(Arc::clone(core), settings.clone())),
        Box::pin(watch::watch(Arc::clone(core))),
        Box::pin(queues::queues(Arc::clone(core))),
        Box::pin(limits::limits(Arc::clone(core))),
        Box::pin(loads::loads(Arc::clone(core), settings.loads_interval)),
        Box::pin(schedules::schedules(Arc::clone(core), settings.clone())),
    ];
    for duty in duties {
        let stop = stop.clone();
        tokio::spawn(async move { stop.run_until_cancelled(duty).await });
    }
}

/// A random share of up to a tenth more, so that brokers don't march in step.
fn jittered(interval: Duration) -> Duration {
    interval.mul_f64(1.0 + fastrand::f64() / 10.0)
}
