//! Which faults come when, decided by the seed alone.

use std::time::Duration;

use clap::ValueEnum;
use fastrand::Rng;

use super::{
    bounds,
    fault::{Fault, Kind, Link, Swallows, Trouble},
};

/// A fault, how long all is well before it, and how long it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Planned {
    pub(super) rest: Duration,
    pub(super) lasts: Duration,
    pub(super) fault: Fault,
}

/// What there is to be harmed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Targets {
    pub(super) brokers: usize,
    pub(super) workers: usize,
    /// The first workers, whose clocks can be set; 0: none of them.
    pub(super) clocks: usize,
}

/// Between the end of a fault and the next: long enough to see the rate come back.
const REST_MS: std::ops::Range<u64> = 1200..2500;
const CALM_EVERY: usize = 5;
/// A disturbance that leases survive.
const SHORT_MS: std::ops::Range<u64> = 200..1500;
/// One that they don't.
const LONG_MS: std::ops::Range<u64> = 4000..5500;
/// A process that is started again by a supervisor.
const DOWN_MS: std::ops::Range<u64> = 100..1000;

/// The same for the same arguments. Kinds come in rounds, so that none is left out for long; no `only`
/// means all of them.
pub(super) fn plan(seed: u64, duration: Duration, only: &[Kind], targets: Targets) -> Vec<Planned> {
    let mut rng = Rng::with_seed(seed);
    let mut planned = Vec::new();
    let mut planned_for = Duration::ZERO;
    let mut round: Vec<Kind> = Vec::new();
    while planned_for < duration {
        let Some(kind) = round.pop() else {
            let all = if only.is_empty() { Kind::value_variants() } else { only };
            let can = |kind: &&Kind| targets.clocks > 0 || **kind != Kind::JumpClock;
            round.extend(all.iter().filter(can));
            rng.shuffle(&mut round);
            continue;
        };
        let (fault, lasts) = draw(&mut rng, kind, targets);
        let rest = Duration::from_millis(rng.u64(REST_MS));
        // Now and then so long that what the last ones did has to be over.
        let calm = planned.len() % CALM_EVERY == CALM_EVERY - 1;
        let rest = if calm { calm_after(&planned) } else { rest };
        planned.push(Planned { rest, lasts, fault });
        planned_for += rest + lasts;
    }
    planned
}

/// After the last ones, whose consequences may overlap.
pub(super) fn calm_after(planned: &[Planned]) -> Duration {
    let last = planned.iter().rev().take(2);
    last.map(|planned| bounds::calm(planned.fault.kind())).max().unwrap_or_default()
}

fn draw(rng: &mut Rng, kind: Kind, targets: Targets) -> (Fault, Duration) {
    let broker = rng.usize(..targets.brokers);
    let worker = rng.usize(..targets.workers);
    let long = rng.bool();
    let either = if long { LONG_MS } else { SHORT_MS };
    let (fault, range) = match kind {
        Kind::KillBroker => (Fault::KillBroker { broker, failover: rng.bool() }, DOWN_MS),
        Kind::DrainBroker => (Fault::DrainBroker { broker }, DOWN_MS),
        Kind::KillWorker => (Fault::KillWorker { worker }, DOWN_MS),
        Kind::PostgresFast => (Fault::PostgresFast, DOWN_MS),
        Kind::PostgresImmediate => (Fault::PostgresImmediate, DOWN_MS),
        Kind::CutConnections => (Fault::CutConnections, 1000..3000),
        Kind::ExhaustConnections => (Fault::ExhaustConnections, 1000..4000),
        Kind::StopBroker => (Fault::StopBroker { broker }, either),
        Kind::StopWorker => (Fault::StopWorker { worker }, either),
        Kind::LockTable => (Fault::LockTable, 500..3000),
        Kind::TinyTimeout => (Fault::TinyTimeout { broker }, 1500..3000),
        Kind::SlowDisk => (Fault::SlowDisk, 1000..4000),
        Kind::JumpClock => {
            let worker = worker.min(targets.clocks.saturating_sub(1));
            (Fault::JumpClock { worker, ahead: rng.bool() }, 2000..5000)
        }
        Kind::Latency => {
            let late = Duration::from_millis(rng.u64(20..200));
            (link(rng, broker, worker, Trouble::Latency(late)), 1000..4000)
        }
        Kind::Resets => (link(rng, broker, worker, Trouble::Resets), 1000..3000),
        Kind::BlackHole => {
            let swallows = [Swallows::Requests, Swallows::Answers, Swallows::Both][rng.usize(..3)];
            (link(rng, broker, worker, Trouble::BlackHole(swallows)), either)
        }
        Kind::Drip => (link(rng, broker, worker, Trouble::Drip), 1000..4000),
    };
    (fault, Duration::from_millis(rng.u64(range)))
}

fn link(rng: &mut Rng, broker: usize, worker: usize, trouble: Trouble) -> Fault {
    let link = match rng.u8(..3) {
        0 => Link::Client(broker),
        1 => Link::Worker(worker),
        _ => Link::Postgres(broker),
    };
    Fault::Link { link, trouble }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const TARGETS: Targets = Targets { brokers: 2, workers: 4, clocks: 3 };

    fn plan_of(seed: u64, seconds: u64) -> Vec<Planned> {
        plan(seed, Duration::from_secs(seconds), &[], TARGETS)
    }

    #[test]
    fn the_same_seed_is_the_same_schedule_and_another_one_is_not() {
        assert_eq!(plan_of(7, 600), plan_of(7, 600));
        assert_ne!(plan_of(7, 600), plan_of(8, 600));
        let (short, long) = (plan_of(7, 60), plan_of(7, 600));
        assert_eq!(short, long[..short.len()], "a longer run begins as a shorter one");
    }

    #[test]
    fn all_kinds_come_with_rests_between() {
        let planned = plan_of(1, 120);
        assert!(planned.iter().all(|one| one.rest >= Duration::from_millis(REST_MS.start)));
        let kinds: BTreeSet<Kind> = planned.iter().map(|one| one.fault.kind()).collect();
        assert_eq!(kinds.len(), Kind::value_variants().len(), "{kinds:?}");
    }

    #[test]
    fn every_fifth_fault_has_the_time_to_be_over() {
        let planned = plan_of(1, 300);
        for at in (CALM_EVERY - 1..planned.len()).step_by(CALM_EVERY) {
            for before in &planned[at - 2..at] {
                assert!(planned[at].rest >= bounds::calm(before.fault.kind()));
            }
        }
    }

    #[test]
    fn clocks_that_can_not_be_set_are_left_alone() {
        let targets = Targets { clocks: 0, ..TARGETS };
        let planned = plan(1, Duration::from_secs(120), &[], targets);
        let kinds: BTreeSet<Kind> = planned.iter().map(|one| one.fault.kind()).collect();
        assert_eq!(kinds.len(), Kind::value_variants().len() - 1, "{kinds:?}");
    }

    #[test]
    fn only_the_kinds_that_are_asked_for_come() {
        let only = [Kind::Drip, Kind::KillWorker];
        let planned = plan(3, Duration::from_secs(60), &only, TARGETS);
        assert!(planned.len() > 4 && planned.iter().all(|one| only.contains(&one.fault.kind())));
    }
}
