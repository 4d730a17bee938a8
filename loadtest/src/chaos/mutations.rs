//! Brokers broken on purpose, what provokes each, and what the checker has to call it.

use std::time::Duration;

use anyhow::{Result, bail, ensure};

use super::{fault::Fault, judge::Wrong, schedule::Planned};

/// A mutation of `currant-broker`'s feature `mutations`, by the same name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mutation {
    pub(super) name: &'static str,
    pub(super) expected: Wrong,
    /// The fault that provokes it, how long it lasts and how often it comes; none: load is enough.
    provoked_by: Option<(Fault, u64, u32)>,
}

/// The worker that reports what it has lost too.
const ZOMBIE: usize = 3;
const REST: Duration = Duration::from_millis(2500);

const MUTATIONS: [Mutation; 11] = [
    Mutation {
        name: "ack-before-commit",
        expected: Wrong::Lost,
        provoked_by: Some((Fault::CutConnections, 3000, 2)),
    },
    Mutation {
        name: "no-fencing",
        expected: Wrong::StaleApplied,
        provoked_by: Some((Fault::StopWorker { worker: ZOMBIE }, 5000, 3)),
    },
    Mutation { name: "forgotten-sweep", expected: Wrong::StuckReady, provoked_by: None },
    Mutation { name: "lost-wakeup", expected: Wrong::Late, provoked_by: None },
    Mutation { name: "leaked-credit", expected: Wrong::StuckTaken, provoked_by: None },
    Mutation {
        name: "rescue-of-the-living",
        expected: Wrong::RerunOfTheLiving,
        provoked_by: Some((Fault::KillBroker { broker: 0, failover: false }, 200, 4)),
    },
    Mutation { name: "open-gate", expected: Wrong::OverLimit, provoked_by: None },
    Mutation { name: "open-keys", expected: Wrong::OverKeyLimit, provoked_by: None },
    Mutation { name: "deaf-to-pauses", expected: Wrong::BegunInPause, provoked_by: None },
    Mutation { name: "no-expiry", expected: Wrong::BegunExpired, provoked_by: None },
    Mutation { name: "forgotten-keys", expected: Wrong::UniqueTwice, provoked_by: None },
];

/// The one of this name, or all of them.
pub(super) fn named(name: &str) -> Result<Vec<Mutation>> {
    ensure!(
        cfg!(feature = "mutations"),
        "this build has no mutations: build it with --features mutations"
    );
    if name == "all" {
        return Ok(MUTATIONS.to_vec());
    }
    let found = MUTATIONS.iter().find(|mutation| mutation.name == name);
    let Some(mutation) = found else {
        let names = MUTATIONS.map(|mutation| mutation.name).join(", ");
        bail!("{name:?} is no mutation; there are: all, {names}");
    };
    Ok(vec![*mutation])
}

impl Mutation {
    pub(super) fn plan(&self) -> Vec<Planned> {
        let Some((fault, ms, times)) = self.provoked_by else { return Vec::new() };
        let lasts = Duration::from_millis(ms);
        (0..times).map(|_| Planned { rest: REST, lasts, fault }).collect()
    }
}
