//! What the brokers are set to, and from it how soon after each fault all has to be as before.

use std::time::Duration;

use super::fault::Kind;

/// A worker that says nothing is held for lost; so is one whose stream has ended.
const SILENCE_MS: u64 = 3000;
const GRACE_MS: u64 = 3000;
/// A broker that says nothing is held for dead; its workers may then come back with what they hold.
const DEAD_AFTER_MS: u64 = 3000;
const ADOPTION_GRACE_MS: u64 = 3000;
const HEARTBEAT_MS: u64 = 500;
const STATEMENT_MS: u64 = 5000;
const CONNECT_MS: u64 = 1000;
pub(super) const RETRY_MAX_MS: u64 = 1000;
/// Between the looks after writes whose fate is unknown, and for one of these.
const ORPHANS_MS: u64 = 1500;
/// What has gathered meanwhile is worked off.
const GATHERED_MS: u64 = 2000;

/// As in production, but for the times: leases end after seconds. No job dies of its workers.
pub(super) const BROKER_SETTINGS: [(&str, u64); 15] = [
    ("database.connect_timeout_ms", CONNECT_MS),
    ("database.statement_timeout_ms", STATEMENT_MS),
    ("broker.drain_deadline_ms", 5000),
    ("broker.heartbeat_interval_ms", HEARTBEAT_MS),
    ("broker.dead_after_ms", DEAD_AFTER_MS),
    ("broker.adoption_grace_ms", ADOPTION_GRACE_MS),
    ("session.heartbeat_interval_ms", 500),
    ("session.keep_alive_interval_ms", 500),
    ("session.timeout_ms", SILENCE_MS),
    ("session.reconnect_grace_ms", GRACE_MS),
    ("session.acknowledge_timeout_ms", 3000),
    ("dispatch.sweep_interval_ms", 6000),
    ("queue_defaults.retry_base_ms", 200),
    ("queue_defaults.retry_max_ms", RETRY_MAX_MS),
    ("queue_defaults.worker_losses_max", 1000),
];

/// In tenths: a machine that is busy with other things takes longer.
const FACTOR: u64 = 15;
/// Until the rate of a second is known, and a little.
const SEEN_MS: u64 = 1500;

/// From the end of a fault of this kind until all jobs that waited or were lost run, and the rate is back.
fn bound_ms(kind: Kind) -> u64 {
    match kind {
        // The new process holds its predecessor for dead at once.
        Kind::KillBroker | Kind::TinyTimeout => ADOPTION_GRACE_MS + 2 * HEARTBEAT_MS,
        // Nothing was lost; others have to come to own its limited queues.
        Kind::DrainBroker => DEAD_AFTER_MS,
        Kind::KillWorker => GRACE_MS + RETRY_MAX_MS,
        Kind::LockTable => STATEMENT_MS,
        Kind::SlowDisk | Kind::JumpClock => GATHERED_MS,
        Kind::StopBroker => DEAD_AFTER_MS + ADOPTION_GRACE_MS + 2 * HEARTBEAT_MS,
        Kind::StopWorker => SILENCE_MS + GRACE_MS + RETRY_MAX_MS,
        // A write under way when its connection was lost may have taken jobs.
        Kind::PostgresFast
        | Kind::PostgresImmediate
        | Kind::CutConnections
        | Kind::ExhaustConnections
        // Of the link to Postgres, the worst one.
        | Kind::Latency
        | Kind::Resets
        | Kind::BlackHole
        | Kind::Drip => STATEMENT_MS + CONNECT_MS + ORPHANS_MS,
    }
}

/// The same, with the room that a busy machine needs.
pub(super) fn recovery(kind: Kind) -> Duration {
    Duration::from_millis(bound_ms(kind) * FACTOR / 10)
}

/// How long no other fault may come, so that the bound can be judged.
pub(super) fn calm(kind: Kind) -> Duration {
    recovery(kind) + Duration::from_millis(SEEN_MS)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use clap::ValueEnum;

    use super::*;

    #[test]
    fn the_page_has_the_bound_of_each_fault() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/chaos.md");
        let page = std::fs::read_to_string(page).unwrap();
        let (_, table) = page.split_once("## How soon all is as before").unwrap();
        for kind in Kind::value_variants() {
            let row = table.lines().find(|line| {
                line.split('|').nth(1).is_some_and(|kinds| kinds.contains(&format!("`{kind}`")))
            });
            let row = row.unwrap_or_else(|| panic!("no row of {kind}"));
            let column = |number| row.split('|').nth(number).unwrap().trim().to_owned();
            let seconds = |ms: u64| format!("{} s", ms as f64 / 1000.0);
            let bound = bound_ms(*kind);
            assert_eq!([column(3), column(4)], [bound, bound * FACTOR / 10].map(seconds), "{kind}");
        }
    }
}
