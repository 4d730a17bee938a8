//! Every setting. The comments are the users' reference: what it does, in which unit, and when to
//! change it; default and range are added to them. Durations end in `_ms`, sizes in `_bytes_max` or
//! `bytes_…`.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Secret;

/// All settings of a broker.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The Postgres that keeps the jobs. Workers never connect to it.
    pub database: Database,
    /// The port that producers and workers call.
    pub grpc: Grpc,
    /// The port with `/metrics`, `/health/live` and `/health/ready`, and the dashboard.
    pub http: Http,
    /// TLS of both ports. The files are read again when they change.
    pub tls: Tls,
    /// Who may call.
    pub access: Access,
    /// This broker among the brokers of one database.
    pub broker: Broker,
    /// Storing jobs: everybody's requests of a moment go into one INSERT.
    pub enqueue: Enqueue,
    /// Recording outcomes: everybody's completions of a moment go into one UPDATE.
    pub complete: Complete,
    /// Workers' streams.
    pub session: Session,
    /// Taking jobs from the database into memory and giving them to sessions.
    pub dispatch: Dispatch,
    /// What applies to a job for which neither it nor its queue says otherwise.
    pub queue_defaults: QueueDefaults,
    /// How long finished jobs are kept. One broker of a database deletes them, at a pace. A job that
    /// hasn't finished is never deleted. An idempotency key is remembered for as long as the job that it
    /// came with: keep jobs for longer than callers may repeat a call.
    pub retention: Retention,
    /// Recurring jobs.
    pub schedules: Schedules,
    /// Log lines, on standard error.
    pub log: Log,
    /// Spans of the broker, in the traces that jobs bring along.
    pub telemetry: Telemetry,
}

/// See [`Config::database`].
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Database {
    /// Where the database is: `postgres://user:password@host/database` or
    /// `host=… user=… dbname=…`. Required. May lead through a pooler that keeps sessions; for one that
    /// doesn't see `transaction_pooler`. With `sslmode=require` the connection is by TLS, and always
    /// verified: the certificate must be of a trusted authority and for the host's name. Without, it is not
    /// by TLS. Other modes and options of TLS aren't supported.
    #[schemars(with = "String")]
    pub url: Secret,
    /// Where to LISTEN, when `url` leads through a pooler that doesn't let it. Unset: the same as
    /// `url`. Empty: no LISTEN, the broker looks every `dispatch.poll_interval_ms`.
    #[schemars(with = "Option<String>")]
    pub listen_url: Option<Secret>,
    /// Authorities that the database's certificate may be of, in PEM. Empty: the system's.
    pub ca_file: String,
    /// Whether `url` leads through a pooler that gives each transaction another connection, such as
    /// PgBouncer with `pool_mode = transaction`. Statements aren't prepared then, which costs Postgres
    /// more. `listen_url` has to be set: to a URL that leads to Postgres itself, which migrations take
    /// too, or empty.
    pub transaction_pooler: bool,
    /// Connections, whatever the number of workers; one more is for LISTEN.
    #[schemars(range(min = 2, max = 64))]
    pub pool_size: usize,
    /// How long a connection may take to come about, in milliseconds.
    #[schemars(range(min = 10, max = 60_000))]
    pub connect_timeout_ms: u64,
    /// After how many milliseconds Postgres ends a statement, which is then tried again.
    #[schemars(range(min = 100, max = 600_000))]
    pub statement_timeout_ms: u64,
    /// Whether a completion is answered only when it is on disk. `false` gives more throughput; jobs
    /// finished in the last moments before a crash of Postgres may then run again.
    /// Enqueues are always on disk before they are answered.
    pub completion_synchronous_commit: bool,
}

impl Default for Database {
    fn default() -> Self {
        Self {
            url: Secret::default(),
            listen_url: None,
            ca_file: String::new(),
            transaction_pooler: false,
            pool_size: 6,
            connect_timeout_ms: 5000,
            statement_timeout_ms: 30_000,
            completion_synchronous_commit: true,
        }
    }
}

/// See [`Config::grpc`].
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Grpc {
    /// Address and port to listen on; port 0 takes a free one.
    #[schemars(with = "String")]
    pub listen: SocketAddr,
    /// The largest message taken, in bytes. A larger one is refused with OUT_OF_RANGE.
    #[schemars(range(min = 65_536, max = 67_108_864))]
    pub message_bytes_max: usize,
    /// Producers' calls under way at once, streams not counted. Further ones are refused with
    /// RESOURCE_EXHAUSTED and a time to wait. Workers' calls are always taken.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub concurrent_requests_max: usize,
    /// Bytes of messages that have come and aren't whole yet, of all calls. Beyond half of it producers'
    /// calls are refused with RESOURCE_EXHAUSTED and a time to wait, beyond it all. At least twice
    /// `message_bytes_max`.
    #[schemars(range(min = 131_072, max = 17_179_869_184_u64))]
    pub reading_bytes_max: usize,
    /// Watch calls that wait for jobs at once. A further one is refused with RESOURCE_EXHAUSTED.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub watches_max: usize,
    /// Connections at once. A further one is closed, and so is one that the process's limit on
    /// descriptors leaves no room for: the broker raises that as far as it may when it starts.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub connections_max: usize,
    /// How long a connection may take to begin with HTTP/2, its TLS handshake included, in milliseconds.
    #[schemars(range(min = 10, max = 600_000))]
    pub opening_ms_max: u64,
    /// After how many milliseconds without a byte a connection is asked by a ping whether it is there. It is
    /// closed if it doesn't answer within as many.
    #[schemars(range(min = 10, max = 3_600_000))]
    pub ping_interval_ms: u64,
    /// Calls and streams at once on one connection; a client waits with further ones.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub streams_per_connection_max: u32,
}

impl Default for Grpc {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7070)),
            message_bytes_max: 4 << 20,
            concurrent_requests_max: 4096,
            reading_bytes_max: 256 << 20,
            watches_max: 10_000,
            connections_max: 20_000,
            opening_ms_max: 10_000,
            ping_interval_ms: 20_000,
            streams_per_connection_max: 20_000,
        }
    }
}

/// See [`Config::http`].
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// Address and port to listen on; port 0 takes a free one.
    #[schemars(with = "String")]
    pub listen: SocketAddr,
    /// Queues with figures of their own at `/metrics`, those first that this broker has to do with first;
    /// all others are summed as `_other`. Each costs some 50 series.
    #[schemars(range(min = 0, max = 10_000))]
    pub metered_queues_max: usize,
    /// Connections at once. A further one is closed.
    #[schemars(range(min = 1, max = 100_000))]
    pub connections_max: usize,
    /// How long a connection is kept on which nothing is answered, in milliseconds: more than the
    /// interval at which metrics are read.
    #[schemars(range(min = 10, max = 3_600_000))]
    pub idle_ms_max: u64,
    /// Whether `/ui/` shows the dashboard, and `/api/` answers what it calls: every RPC as JSON, by the same
    /// tokens and scopes.
    pub dashboard: bool,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7071)),
            metered_queues_max: 100,
            connections_max: 256,
            idle_ms_max: 75_000,
            dashboard: true,
        }
    }
}

/// See [`Config::tls`].
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// The certificate, and those between it and its root, in PEM. Empty: no TLS.
    pub certificate_file: String,
    /// The certificate's private key, in PEM.
    pub key_file: String,
    /// Authorities of clients' certificates, in PEM. A client with a certificate of theirs may call
    /// without a token, if something is granted to a name in it: `currant-broker token create
    /// --certificate`. Empty: clients' certificates aren't looked at.
    pub client_ca_file: String,
    /// How often the files are looked at, in milliseconds.
    #[schemars(range(min = 100, max = 86_400_000))]
    pub look_interval_ms: u64,
}

impl Tls {
    /// Whether the ports are by TLS.
    pub fn is_on(&self) -> bool {
        !self.certificate_file.is_empty()
    }
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            certificate_file: String::new(),
            key_file: String::new(),
            client_ca_file: String::new(),
            look_interval_ms: 10_000,
        }
    }
}

/// See [`Config::access`].
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Access {
    /// Whether calls need a token. Make the first one with `currant-broker token create`.
    pub required: bool,
    /// Lets the broker listen on other addresses than the loopback interface's without TLS or without
    /// tokens. Everybody who reaches the ports may then do everything, or read everything.
    pub insecure: bool,
    /// Valid tokens that there may be, in the database and in memory.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub tokens_max: usize,
    /// How often the broker looks which tokens are valid, in milliseconds. Where LISTEN works it hears of
    /// changes at once; this is how long a revoked token may work on where it doesn't.
    #[schemars(range(min = 100, max = 600_000))]
    pub look_interval_ms: u64,
    /// How long records of what admins did are kept, and tokens that were revoked or have expired, in
    /// milliseconds.
    #[schemars(range(min = 60_000, max = 315_360_000_000_u64))]
    pub audit_ms: u64,
}

impl Default for Access {
    fn default() -> Self {
        Self {
            required: false,
            insecure: false,
            tokens_max: 10_000,
            look_interval_ms: 10_000,
            audit_ms: 7_776_000_000,
        }
    }
}

/// See [`Config::broker`].
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Broker {
    /// Tells brokers of one database apart; no two running ones may share it. A broker that starts
    /// under the name of one that died needn't wait for `dead_after_ms`, only for
    /// `adoption_grace_ms`. Empty: the host's name and the port of `grpc.listen`.
    #[schemars(length(max = 200))]
    pub name: String,
    /// Threads of the runtime. One is as fast as two for batched load and faster for single calls;
    /// more than one pays off only when it is busy all the time.
    #[schemars(range(min = 1, max = 64))]
    pub threads: usize,
    /// How long a stopping broker lets workers finish what they hold, in milliseconds. What is left
    /// then is handed to the other brokers or to the next start.
    #[schemars(range(min = 0, max = 3_600_000))]
    pub drain_deadline_ms: u64,
    /// How often the broker says in the database that it lives, in milliseconds.
    #[schemars(range(min = 100, max = 60_000))]
    pub heartbeat_interval_ms: u64,
    /// After how much silence other brokers take a broker for dead, in milliseconds. More than
    /// twice `heartbeat_interval_ms`.
    #[schemars(range(min = 500, max = 600_000))]
    pub dead_after_ms: u64,
    /// How long the workers of a dead broker may take to come back with the jobs that they hold, in
    /// milliseconds. Only what nobody claims by then runs again.
    #[schemars(range(min = 0, max = 600_000))]
    pub adoption_grace_ms: u64,
    /// How often the broker says in the database what it has of each queue, in milliseconds, if that has
    /// changed. The statistics of queues are as old as that, and a drain waits for it.
    #[schemars(range(min = 100, max = 600_000))]
    pub load_interval_ms: u64,
}

impl Default for Broker {
    fn default() -> Self {
        Self {
            name: String::new(),
            threads: 1,
            drain_deadline_ms: 25_000,
            heartbeat_interval_ms: 3000,
            dead_after_ms: 15_000,
            adoption_grace_ms: 10_000,
            load_interval_ms: 1000,
        }
    }
}

/// See [`Config::enqueue`].
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Enqueue {
    /// Jobs in one request.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub jobs_per_request_max: usize,
    /// The largest payload of a job, in bytes. At most half of `grpc.message_bytes_max`.
    #[schemars(range(min = 1, max = 33_554_432))]
    pub payload_bytes_max: usize,
    /// Rows that one INSERT takes; a larger request still goes in one piece.
    #[schemars(range(min = 1, max = 100_000))]
    pub rows_per_flush_max: usize,
    /// Payload bytes that one INSERT takes; a larger request still goes in one piece.
    #[schemars(range(min = 1024, max = 268_435_456))]
    pub bytes_per_flush_max: usize,
    /// INSERTs under way at once. The second begins only when its batch is full.
    #[schemars(range(min = 1, max = 16))]
    pub flushes_in_flight_max: usize,
    /// Jobs that wait to be stored. A request beyond is refused with RESOURCE_EXHAUSTED and a time
    /// to wait.
    #[schemars(range(min = 1, max = 100_000_000))]
    pub pending_jobs_max: usize,
    /// Payload bytes that wait to be stored; beyond as for `pending_jobs_max`.
    #[schemars(range(min = 65_536, max = 17_179_869_184_u64))]
    pub pending_bytes_max: usize,
}

impl Default for Enqueue {
    fn default() -> Self {
        Self {
            jobs_per_request_max: 10_000,
            payload_bytes_max: 1 << 20,
            rows_per_flush_max: 2000,
            bytes_per_flush_max: 1 << 20,
            flushes_in_flight_max: 2,
            pending_jobs_max: 200_000,
            pending_bytes_max: 64 << 20,
        }
    }
}

/// See [`Config::complete`].
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Complete {
    /// Completions in one request.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub completions_per_request_max: usize,
    /// The largest result of a job, in bytes. At most half of `grpc.message_bytes_max`.
    #[schemars(range(min = 0, max = 33_554_432))]
    pub result_bytes_max: usize,
    /// Rows that one UPDATE takes; a statement is prepared for every step up to it.
    #[schemars(range(min = 1, max = 1024))]
    pub rows_per_flush_max: usize,
    /// Result bytes that one UPDATE takes; a larger single completion still goes through.
    #[schemars(range(min = 1024, max = 268_435_456))]
    pub bytes_per_flush_max: usize,
    /// UPDATEs under way at once. The second begins only when its batch is full.
    #[schemars(range(min = 1, max = 16))]
    pub flushes_in_flight_max: usize,
    /// Completions that wait to be recorded. A request beyond is refused with RESOURCE_EXHAUSTED
    /// and a time to wait.
    #[schemars(range(min = 1, max = 100_000_000))]
    pub pending_items_max: usize,
    /// Result bytes that wait to be recorded; beyond as for `pending_items_max`.
    #[schemars(range(min = 65_536, max = 17_179_869_184_u64))]
    pub pending_bytes_max: usize,
}

impl Default for Complete {
    fn default() -> Self {
        Self {
            completions_per_request_max: 10_000,
            result_bytes_max: 1 << 20,
            rows_per_flush_max: 1024,
            bytes_per_flush_max: 1 << 20,
            flushes_in_flight_max: 2,
            pending_items_max: 200_000,
            pending_bytes_max: 64 << 20,
        }
    }
}

/// See [`Config::session`].
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Session {
    /// Open streams. A further Subscribe is refused with RESOURCE_EXHAUSTED.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub sessions_max: usize,
    /// Jobs that one session may ask to hold at once.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_in_flight_max: u32,
    /// Queues that one session may subscribe to.
    #[schemars(range(min = 1, max = 10_000))]
    pub queues_max: usize,
    /// How often a worker is told to send a heartbeat, in milliseconds.
    #[schemars(range(min = 50, max = 600_000))]
    pub heartbeat_interval_ms: u64,
    /// How often every stream carries a KeepAlive, in milliseconds; less than what proxies on the way
    /// allow an idle stream.
    #[schemars(range(min = 50, max = 600_000))]
    pub keep_alive_interval_ms: u64,
    /// After how many milliseconds without a heartbeat a session is over and its jobs run
    /// elsewhere. More than twice `heartbeat_interval_ms`.
    #[schemars(range(min = 200, max = 3_600_000))]
    pub timeout_ms: u64,
    /// How long a worker whose stream broke may take to come back to the jobs that it holds, in
    /// milliseconds.
    #[schemars(range(min = 0, max = 3_600_000))]
    pub reconnect_grace_ms: u64,
    /// After how many milliseconds a delivery that the worker hasn't acknowledged is taken back.
    /// More than twice `heartbeat_interval_ms`, since heartbeats carry the acknowledgements.
    #[schemars(range(min = 200, max = 3_600_000))]
    pub acknowledge_timeout_ms: u64,
    /// Payload bytes on their way to one session that it hasn't acknowledged.
    #[schemars(range(min = 65_536, max = 1_073_741_824))]
    pub unacknowledged_bytes_max: usize,
    /// The largest checkpoint of a job, in bytes. At most half of `grpc.message_bytes_max`.
    #[schemars(range(min = 0, max = 33_554_432))]
    pub checkpoint_bytes_max: usize,
}

impl Default for Session {
    fn default() -> Self {
        Self {
            sessions_max: 20_000,
            max_in_flight_max: 10_000,
            queues_max: 256,
            heartbeat_interval_ms: 5000,
            keep_alive_interval_ms: 10_000,
            timeout_ms: 20_000,
            reconnect_grace_ms: 10_000,
            acknowledge_timeout_ms: 15_000,
            unacknowledged_bytes_max: 16 << 20,
            checkpoint_bytes_max: 32 << 10,
        }
    }
}

/// See [`Config::dispatch`].
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Dispatch {
    /// Queues in the database beyond which no call creates one: it is refused with
    /// RESOURCE_EXHAUSTED.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub queues_max: usize,
    /// Jobs that one claim takes from the backlog.
    #[schemars(range(min = 1, max = 10_000))]
    pub claim_rows_max: usize,
    /// How long an enqueue may be held back, in milliseconds, when the broker's memory for the
    /// queue is full or a backlog is before it, but at the pace of the queue's workers that will
    /// soon be over: that saves the way through the backlog. 0: not at all.
    #[schemars(range(min = 0, max = 1000))]
    pub hold_ms_max: u64,
    /// How often a queue's backlog is searched from its beginning, in milliseconds, for what a
    /// lost wake-up or another broker left behind.
    #[schemars(range(min = 100, max = 3_600_000))]
    pub sweep_interval_ms: u64,
    /// How often the backlog is looked at while there is no LISTEN, in milliseconds.
    #[schemars(range(min = 10, max = 600_000))]
    pub poll_interval_ms: u64,
    /// Payload bytes of jobs in memory, over all queues; beyond, jobs stay in the database.
    #[schemars(range(min = 1_048_576, max = 68_719_476_736_u64))]
    pub buffered_bytes_max: usize,
    /// Keys of a queue that limits them with something under way, or with a rate that isn't full; beyond, jobs
    /// of further keys stay in the database.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub limited_keys_max: usize,
}

impl Default for Dispatch {
    fn default() -> Self {
        Self {
            queues_max: 10_000,
            claim_rows_max: 1000,
            hold_ms_max: 400,
            sweep_interval_ms: 15_000,
            poll_interval_ms: 1000,
            buffered_bytes_max: 256 << 20,
            limited_keys_max: 100_000,
        }
    }
}

/// See [`Config::queue_defaults`].
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct QueueDefaults {
    /// How often a job may fail before it is dead.
    #[schemars(range(min = 1, max = 1000))]
    pub max_attempts: u16,
    /// How many workers a job may be lost with before it is dead, however often it may still fail: one
    /// that kills its workers shouldn't kill all of them.
    #[schemars(range(min = 1, max = 1000))]
    pub worker_losses_max: u16,
    /// The wait after the first failure, in milliseconds.
    #[schemars(range(min = 1, max = 315_360_000_000_u64))]
    pub retry_base_ms: u64,
    /// The longest wait, in milliseconds.
    #[schemars(range(min = 1, max = 315_360_000_000_u64))]
    pub retry_max_ms: u64,
    /// By what the wait grows with each failure.
    #[schemars(range(min = 1, max = 100))]
    pub retry_factor: f64,
    /// The part of a wait that is random, so that jobs that failed together don't come back
    /// together: 0.1 varies it by up to a tenth in both directions.
    #[schemars(range(min = 0, max = 1))]
    pub retry_jitter: f64,
    /// How long an attempt may run, in milliseconds; it fails then. 0: as long as its worker lives.
    #[schemars(range(min = 0, max = 2_592_000_000_u64))]
    pub timeout_ms: u64,
}

impl Default for QueueDefaults {
    fn default() -> Self {
        Self {
            max_attempts: 25,
            worker_losses_max: 5,
            retry_base_ms: 1000,
            retry_max_ms: 3_600_000,
            retry_factor: 2.0,
            retry_jitter: 0.1,
            timeout_ms: 0,
        }
    }
}

/// See [`Config::retention`].
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// How long a job is kept after it succeeded, in milliseconds: a minute or more. 0: for ever.
    #[schemars(range(min = 0, max = 315_360_000_000_u64))]
    pub succeeded_ms: u64,
    /// How long a job is kept after it was cancelled; as for `succeeded_ms`.
    #[schemars(range(min = 0, max = 315_360_000_000_u64))]
    pub cancelled_ms: u64,
    /// How long a dead job is kept to be looked at; as for `succeeded_ms`.
    #[schemars(range(min = 0, max = 315_360_000_000_u64))]
    pub dead_ms: u64,
    /// Rows a second that pruning goes over at most. More than what is stored in a second, in the mean of
    /// a day; it does less when the database is busy.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub rows_per_second_max: u32,
    /// Rows that one DELETE goes over. Fewer make shorter statements, which with large payloads may be
    /// worth it.
    #[schemars(range(min = 1, max = 100_000))]
    pub rows_per_slice_max: usize,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            succeeded_ms: 604_800_000,
            cancelled_ms: 604_800_000,
            dead_ms: 2_592_000_000,
            rows_per_second_max: 20_000,
            rows_per_slice_max: 2000,
        }
    }
}

/// See [`Config::schedules`].
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Schedules {
    /// A TOML file of schedules (docs/schedules.md), which hold from the broker's start. Those of an
    /// earlier file that aren't in it any more are deleted; give all brokers of a database the same one.
    /// Empty: none, and schedules are left as they are.
    pub file: String,
}

/// See [`Config::log`].
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// What is logged: a level (`error`, `warn`, `info`, `debug`, `trace`), or levels by module such
    /// as `info,currant_broker=debug`. What `h2` and `rustls` say of clients that break the rules is
    /// logged only where they are named: any stranger could fill the log with it.
    pub filter: String,
    /// `text` for people, `json` (an object a line) for log collectors.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self { filter: "info".into(), format: LogFormat::Text }
    }
}

/// See [`Log::format`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// An object a line.
    Json,
}

/// See [`Config::telemetry`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Telemetry {
    /// Where OTLP is taken over gRPC, such as `http://127.0.0.1:4317`; by TLS with `https://`. Empty: no spans,
    /// and nothing is paid for them. Only jobs whose `traceparent` says that the trace is recorded have some.
    pub otlp_endpoint: String,
    /// Authorities that the collector's certificate may be of, in PEM. Empty: the system's.
    pub otlp_ca_file: String,
}
