/// How a family's values are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Grows; its rate is what tells.
    Counter,
    /// As it is at the moment.
    Gauge,
    Histogram,
}

impl Kind {
    /// As Prometheus calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A label, and the values that it has; none are listed where what is in use decides.
#[derive(Clone, Copy, Debug)]
pub struct Label {
    pub name: &'static str,
    pub values: &'static [&'static str],
}

/// Metrics of one name.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    pub name: &'static str,
    pub kind: Kind,
    pub unit: &'static str,
    pub labels: &'static [Label],
    pub meaning: &'static str,
}

use Kind::{Counter, Gauge, Histogram};

/// The queue, by the word of OpenTelemetry's conventions for messaging.
const BY_QUEUE: &[Label] = &[QUEUE];
const QUEUE: Label = Label { name: "messaging_destination_name", values: &[] };
const BY_FLUSH: &[Label] =
    &[Label { name: "flush", values: &["enqueue", "complete", "settle", "progress"] }];
/// Settlements have their share of what completions may.
const BY_BUDGET: &[Label] =
    &[Label { name: "budget", values: &["enqueue", "complete", "progress"] }];
const BY_STATEMENT: &[Label] = &[Label { name: "statement", values: &[] }];
const OUTCOME: Label = Label { name: "outcome", values: &["succeeded", "dead", "cancelled"] };

const fn family(
    name: &'static str,
    kind: Kind,
    unit: &'static str,
    labels: &'static [Label],
    meaning: &'static str,
) -> Family {
    Family { name, kind, unit, labels, meaning }
}

/// All that a broker measures, in the order of the reference.
#[rustfmt::skip]
pub const FAMILIES: [Family; 74] = [
    // By queue; written by `text`.
    family("currant_jobs_enqueued_total", Counter, "jobs", BY_QUEUE,
        "Stored by a call of a client, scheduled ones among them. Jobs that SQL stores aren't counted."),
    family("currant_jobs_delivered_total", Counter, "jobs", BY_QUEUE,
        "Sent to a worker, each time that one is."),
    family("currant_jobs_completed_total", Counter, "jobs", &[QUEUE, OUTCOME],
        "That are over, by an outcome that a worker or this broker has recorded. What `Cancel` ends is in `currant_cancels_total`."),
    family("currant_attempts_failed_total", Counter, "attempts", BY_QUEUE,
        "Attempts that ended with a failure: of a handler, by their timeout, or with their worker."),
    family("currant_attempts_retried_total", Counter, "attempts", BY_QUEUE,
        "Of those that failed, the ones after which the job is tried again. The others made their jobs dead."),
    family("currant_start_latency_seconds", Histogram, "seconds", BY_QUEUE,
        "From when a job was stored, or its `run_at` if that is later, to the delivery of its first attempt; to the millisecond."),
    family("messaging_process_duration_seconds", Histogram, "seconds", BY_QUEUE,
        "From the delivery of an attempt to its report, whatever it reports: the time in the worker, also before its handler starts."),
    family("currant_queue_sessions", Gauge, "sessions", BY_QUEUE,
        "Open streams of workers that take this queue."),
    family("currant_queue_credit", Gauge, "jobs", BY_QUEUE,
        "What these sessions may hold in all. One that takes several queues counts in each."),
    family("currant_queue_attempts_held", Gauge, "attempts", BY_QUEUE,
        "With workers, not reported yet."),
    family("currant_queue_jobs_buffered", Gauge, "jobs", BY_QUEUE,
        "In this broker's memory, not delivered yet."),
    family("currant_queue_jobs_backlog", Gauge, "jobs", BY_QUEUE,
        "Ready in the database, in no broker's memory; roughly, as far as this broker has heard of them. Absent until it has looked."),
    family("currant_queue_paused", Gauge, "0 or 1", BY_QUEUE,
        "Whether it is paused."),
    family("currant_queue_jobs", Gauge, "jobs", &[QUEUE, Label { name: "state", values: &["scheduled", "ready", "succeeded", "dead", "cancelled"] }],
        "In the database, by state: each broker tells the same, so take the maximum and not the sum. Scheduled ones exactly up to 10,000 of all queues, ready and dead ones up to 1,000; all else is estimated by a sample of the table. Read when somebody scrapes, every 15 s at most; absent while the database can't be read. A queue in which jobs are ready is there whoever stored them, and whether or not a worker takes it. Those that run are the sum of `currant_queue_attempts_held`."),
    family("currant_queue_oldest_ready_seconds", Gauge, "seconds", BY_QUEUE,
        "For how long the ready job that has waited longest has been ready, 0 if there is none; as `currant_queue_jobs`."),
    // What jobs go through.
    family("currant_requests_refused_total", Counter, "calls", &[],
        "Producers' calls beyond `grpc.concurrent_requests_max`."),
    family("currant_messages_refused_total", Counter, "messages", &[],
        "That came while as much was being read as `grpc.reading_bytes_max` allows."),
    family("currant_reading_bytes", Gauge, "bytes", &[],
        "That have come of messages which aren't whole yet."),
    family("currant_reading_bytes_max", Gauge, "bytes", &[],
        "`grpc.reading_bytes_max`; beyond half of it producers' calls are refused, beyond it all."),
    family("currant_enqueues_held_total", Counter, "calls", &[],
        "Held back for a moment until memory had room."),
    family("currant_jobs_claimed_total", Counter, "jobs", &[Label { name: "by", values: &["cursor", "sweep", "keys"] }],
        "Taken from the backlog. What is enqueued and not claimed was taken while it was stored."),
    family("currant_assignments_total", Counter, "messages", &[],
        "Messages that carried the delivered jobs."),
    family("currant_jobs_expired_total", Counter, "jobs", &[],
        "Cancelled by this broker, since their time to start had passed, or would have passed before their next attempt."),
    family("currant_jobs_given_back_total", Counter, "jobs", &[],
        "Taken by this broker and made ready again, without a failure."),
    family("currant_attempts_failed_by_broker_total", Counter, "attempts", &[Label { name: "error_type", values: &["timeout", "worker_lost"] }],
        "Ended by the broker: over their timeout, or their worker was gone for too long."),
    family("currant_complete_calls_total", Counter, "calls", &[],
        "Calls of `Complete`."),
    family("currant_completions_total", Counter, "reports", &[Label { name: "verdict", values: &["applied", "duplicate", "stale", "not_found"] }],
        "Workers' reports, by what they were answered."),
    family("currant_settlements_total", Counter, "attempts", &[Label { name: "next", values: &["ready", "scheduled", "dead", "cancelled"] }],
        "Attempts that didn't succeed, by how their job goes on."),
    family("currant_jobs_promoted_total", Counter, "jobs", &[],
        "Scheduled jobs that were made ready at their time."),
    family("currant_schedule_fires_total", Counter, "jobs", &[],
        "Stored by schedules at their times, by this broker. `RunNow` is a call of a client."),
    family("currant_cancels_total", Counter, "jobs", &[Label { name: "verdict", values: &["cancelled", "requested", "finished", "not_found"] }],
        "Jobs of calls of `Cancel`, and of `ChangeAll` where it cancels, by what became of them."),
    family("currant_jobs_retried_total", Counter, "jobs", &[],
        "Dead or cancelled jobs that a call let run again."),
    family("currant_jobs_deleted_total", Counter, "jobs", &[],
        "Deleted by a call."),
    family("currant_jobs_rescued_total", Counter, "jobs", &[],
        "Of dead brokers, made ready again by this one."),
    family("currant_jobs_pruned_total", Counter, "jobs", &[],
        "Deleted after their retention."),
    family("currant_prune_lag_seconds", Gauge, "seconds", &[],
        "For how long the oldest job of the last slice had been over its retention, at the broker that prunes; 0 when nothing is due."),
    family("currant_watches", Gauge, "calls", &[],
        "That watch jobs here; at most `grpc.watches_max`."),
    // Pipelines.
    family("currant_flush_rows", Histogram, "rows", BY_FLUSH,
        "Jobs or outcomes of one flush."),
    family("currant_flush_seconds", Histogram, "seconds", BY_FLUSH,
        "How long a flush took, until its callers were answered."),
    family("currant_flushes_in_flight", Gauge, "flushes", BY_FLUSH,
        "Under way."),
    family("currant_pending_rows", Gauge, "rows", BY_BUDGET,
        "Jobs or outcomes that wait to be written or are being written."),
    family("currant_pending_rows_max", Gauge, "rows", BY_BUDGET,
        "Beyond it calls are refused: `enqueue.pending_jobs_max`, `complete.pending_items_max`."),
    family("currant_pending_bytes", Gauge, "bytes", BY_BUDGET,
        "What these take."),
    family("currant_pending_bytes_max", Gauge, "bytes", BY_BUDGET,
        "Beyond it calls are refused: `pending_bytes_max`."),
    // Workers and memory.
    family("currant_sessions", Gauge, "sessions", &[],
        "Of workers, those among them whose stream broke and that may come back."),
    family("currant_sessions_max", Gauge, "sessions", &[],
        "`session.sessions_max`."),
    family("currant_credit", Gauge, "jobs", &[],
        "What all sessions with a stream may hold."),
    family("currant_attempts_held", Gauge, "attempts", &[],
        "With workers, those among them whose outcome is being recorded."),
    family("currant_limited_keys", Gauge, "keys", &[],
        "Of queues that limit their keys and that this broker owns: with something under way, or a rate that isn't full."),
    family("currant_jobs_buffered", Gauge, "jobs", &[],
        "In memory, not delivered yet."),
    family("currant_buffered_bytes", Gauge, "bytes", &[],
        "What these take, and what is on its way into memory."),
    family("currant_buffered_bytes_max", Gauge, "bytes", &[],
        "Beyond it jobs stay in the database: `dispatch.buffered_bytes_max`."),
    // The database.
    family("currant_pool_connections", Gauge, "connections", &[Label { name: "state", values: &["idle", "in_use"] }],
        "Open connections of the pool."),
    family("currant_pool_connections_max", Gauge, "connections", &[],
        "`database.pool_size`."),
    family("currant_pool_waiting", Gauge, "statements", &[],
        "That wait for a connection."),
    family("currant_statement_seconds", Histogram, "seconds", BY_STATEMENT,
        "How long statements took, by name."),
    family("currant_statement_errors_total", Counter, "statements", BY_STATEMENT,
        "That failed."),
    family("currant_tokens", Gauge, "tokens", &[],
        "Valid at the last look; 0 where none are required."),
    family("currant_callers_refused_total", Counter, "calls", &[Label { name: "code", values: &["unauthenticated", "permission_denied", "unimplemented"] }],
        "Calls that their caller may not make, by what they were answered. Queues that a token isn't for aren't counted."),
    family("currant_connections", Gauge, "connections", &[Label { name: "port", values: &["grpc", "http"] }],
        "Open at each port, those in their handshake among them."),
    family("currant_connections_max", Gauge, "connections", &[Label { name: "port", values: &["grpc", "http"] }],
        "Beyond it they are closed: `grpc.connections_max`, or as many as the limit on descriptors leaves room for; `http.connections_max`."),
    family("currant_connections_refused_total", Counter, "connections", &[Label { name: "reason", values: &["full", "descriptors", "silence", "handshake"] }],
        "Closed before they were of use: by `connections_max`; for lack of descriptors (each time that none could be accepted); for saying nothing, or nothing that can be answered, for too long; by a failed handshake of TLS."),
    family("currant_certificates_read_total", Counter, "times", &[Label { name: "result", values: &["changed", "failed"] }],
        "Certificates were read anew, or couldn't be at a look: then those from before stay in use."),
    family("currant_listening", Gauge, "0 or 1", &[],
        "Whether LISTEN works; without it the backlog is polled."),
    family("currant_listener_failures_total", Counter, "failures", &[],
        "The connection of LISTEN was lost, or none came about."),
    family("currant_notices_total", Counter, "notices", &[],
        "Heard from other brokers and from SQL."),
    family("currant_heartbeat_failures_total", Counter, "failures", &[],
        "Heartbeats of this broker that could not be written. After `broker.dead_after_ms` of them others rescue its jobs."),
    family("currant_brokers_dead_total", Counter, "brokers", &[],
        "Others that this one has found dead."),
    // The process.
    family("currant_build_info", Gauge, "1", &[Label { name: "version", values: &[env!("CARGO_PKG_VERSION")] }],
        "The version of the broker."),
    family("currant_tasks", Gauge, "tasks", &[],
        "Of the runtime: some for each connection, stream and call, and those that are always there."),
    family("process_resident_memory_bytes", Gauge, "bytes", &[],
        "Memory that the process has, on Linux: docs/limits.md says how much that can become."),
    family("process_open_fds", Gauge, "descriptors", &[],
        "Of the process, on Linux. New connections are closed before the last are used."),
    family("currant_spans_total", Counter, "spans", &[Label { name: "result", values: &["sent", "dropped"] }],
        "Of the broker, for `telemetry.otlp_endpoint`; dropped are those that it didn't take, or not in time."),
    family("currant_draining", Gauge, "0 or 1", &[],
        "Whether the broker takes no work any more."),
];
