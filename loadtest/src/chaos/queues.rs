//! The queues of the load, and what is promised for each.

use std::time::Duration;

use anyhow::Result;
use currant_worker_sdk::{Client, QueueSettings, RateLimit};

/// Without settings; rates and waits are measured on these.
pub(super) const PLAIN: [&str; 2] = ["chaos-a", "chaos-b"];
/// So many attempts at a time.
pub(super) const LIMITED: &str = "chaos-limited";
pub(super) const CONCURRENCY_MAX: usize = 3;
/// Of each key so many attempts at a time, and so many in a time.
pub(super) const KEYED: &str = "chaos-keyed";
pub(super) const KEY_CONCURRENCY_MAX: usize = 2;
pub(super) const KEY_RATE_PER_SECOND: u32 = 5;
pub(super) const KEY_RATE_BURST: u32 = 4;
/// Of each key one at a time, in order.
pub(super) const ORDERED: &str = "chaos-ordered";
pub(super) const KEYS: [&str; 4] = ["north", "east", "south", "west"];
/// Jobs of which there may be one with a key.
pub(super) const UNIQUE: &str = "chaos-unique";
pub(super) const UNIQUE_PERIOD: Duration = Duration::from_secs(2);
/// Paused and resumed during the faults.
pub(super) const PAUSED: &str = "chaos-paused";
/// More than workers can hold, stored just before some of them or their broker are stopped.
pub(super) const BURST: &str = "chaos-burst";
/// Of a soak; only workers in Rust have it.
pub(super) const BULK: &str = "chaos-bulk";
/// Every worker has all of them.
pub(super) const SERVED: [&str; 8] =
    [PLAIN[0], PLAIN[1], LIMITED, KEYED, ORDERED, UNIQUE, PAUSED, BURST];
/// Only one worker, with one handler at a time, has this one.
pub(super) const ORDER: &str = "chaos-order";

/// Before the first job.
pub(super) async fn configure(client: &Client) -> Result<()> {
    let limited =
        QueueSettings { concurrency_max: Some(CONCURRENCY_MAX as u32), ..QueueSettings::default() };
    let rate = RateLimit { burst: KEY_RATE_BURST, ..RateLimit::per_second(KEY_RATE_PER_SECOND) };
    let keyed = QueueSettings {
        key_concurrency_max: Some(KEY_CONCURRENCY_MAX as u32),
        key_rate: Some(rate),
        ..QueueSettings::default()
    };
    let ordered = QueueSettings { key_ordered: true, ..QueueSettings::default() };
    for (queue, settings) in [(LIMITED, limited), (KEYED, keyed), (ORDERED, ordered)] {
        client.configure_queue(queue, settings).await?;
    }
    Ok(())
}

/// Whether a broker has to come to own it before anything of it is delivered.
pub(super) fn is_limited(queue: &str) -> bool {
    [LIMITED, KEYED, ORDERED].contains(&queue)
}
