//! The systems, and the settings of each that did best on two cores.

use clap::ValueEnum;
use serde::Serialize;
use serde_json::{Value, json};

use super::{measure::Measure, redis::Persistence};

/// Jobs per second of `light`.
pub(super) const LIGHT_RATE: u32 = 100;
/// Jobs a call where they are enqueued in batches.
pub(super) const BATCH: u32 = 1000;
/// Calls under way where each has one job.
pub(super) const SINGLE_IN_FLIGHT: u32 = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum System {
    Currant,
    GraphileWorker,
    /// BullMQ on a Redis that writes nothing to disk.
    BullmqMemory,
    /// BullMQ on a Redis that answers after fsync.
    BullmqFsync,
}

impl System {
    pub(super) const ALL: [System; 4] =
        [System::Currant, System::GraphileWorker, System::BullmqMemory, System::BullmqFsync];

    pub(super) fn title(self) -> &'static str {
        match self {
            System::Currant => "Currant",
            System::GraphileWorker => "graphile-worker",
            System::BullmqMemory => "BullMQ, in memory",
            System::BullmqFsync => "BullMQ, fsync",
        }
    }

    /// What a crash of the machine leaves of the jobs that were acknowledged.
    pub(super) fn survives_a_crash(self) -> bool {
        self != System::BullmqMemory
    }

    /// Whether a job is still there when it is finished.
    pub(super) fn keeps_finished_jobs(self) -> bool {
        self == System::Currant
    }

    /// The module in `loadtest/peers`; None for ourselves.
    pub(super) fn module(self) -> Option<&'static str> {
        match self {
            System::Currant => None,
            System::GraphileWorker => Some("graphile_worker"),
            System::BullmqMemory | System::BullmqFsync => Some("bullmq"),
        }
    }

    /// None: it is on Postgres.
    pub(super) fn redis(self) -> Option<Persistence> {
        match self {
            System::Currant | System::GraphileWorker => None,
            System::BullmqMemory => Some(Persistence::None),
            System::BullmqFsync => Some(Persistence::EveryWrite),
        }
    }

    /// As many as take some 3 to 8 seconds on two cores.
    pub(super) fn jobs(self, measure: Measure) -> u64 {
        let [batches, backlog, single] = match self {
            System::Currant => [600_000, 500_000, 150_000],
            System::GraphileWorker => [150_000, 200_000, 4000],
            System::BullmqMemory => [30_000, 50_000, 30_000],
            System::BullmqFsync => [30_000, 50_000, 20_000],
        };
        match measure {
            Measure::Batches => batches,
            Measure::Backlog => backlog,
            Measure::Single => single,
            Measure::Light => 1000,
        }
    }

    /// Of another system: what its program in `loadtest/peers` is told. Currant's are those of `run`.
    pub(super) fn settings(self, measure: Measure) -> Value {
        let (batch, in_flight) = match measure {
            Measure::Batches | Measure::Backlog => (BATCH, 2),
            // Of `light` these are the warm-up's.
            Measure::Single | Measure::Light => (1, SINGLE_IN_FLIGHT),
        };
        match self {
            System::Currant => Value::Null,
            System::GraphileWorker => json!({
                "worker_processes": 2,
                "batch": batch,
                "in_flight": in_flight,
                "producer_connections": 10,
                "worker": {
                    "concurrentJobs": 100,
                    "localQueue": { "size": 5000 },
                    "completeJobBatchDelay": 0,
                    "failJobBatchDelay": 0,
                    "maxPoolSize": 10,
                },
            }),
            System::BullmqMemory | System::BullmqFsync => json!({
                "worker_processes": 1,
                "batch": batch,
                "in_flight": in_flight,
                "connection": {},
                "worker": {
                    "concurrency": 100,
                    "removeOnComplete": { "count": 0 },
                    "removeOnFail": { "count": 0 },
                },
            }),
        }
    }
}

/// Lays `over` onto `under`, object by object.
pub(super) fn merge(under: &mut Value, over: &Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (name, value) in over {
                merge(under.entry(name).or_insert(Value::Null), value);
            }
        }
        (under, over) => *under = over.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_to_try_replace_single_ones() {
        let mut settings = System::GraphileWorker.settings(Measure::Batches);
        merge(&mut settings, &json!({ "worker": { "localQueue": { "size": 500 } }, "new": [1] }));
        assert_eq!(settings["worker"]["localQueue"]["size"], 500);
        assert_eq!(settings["worker"]["concurrentJobs"], 100);
        assert_eq!(settings["new"], json!([1]));
    }
}
