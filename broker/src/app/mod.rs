//! Builds a broker from its settings, runs it, drains it.

pub mod doctor;
mod ports;
mod schedules;
pub mod tokens;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use tokio_util::sync::CancellationToken;

use self::ports::Ports;
use crate::{
    causes::causes,
    clock::Clock,
    config::{self, Config, Telemetry},
    domain::{Queue, QueueId, QueueSettings, Retention, RetryPolicy, Scope, first_id_at_ms},
    engine,
    http::{self, Metrics, Readiness},
    pipeline::{AccessLimits, CoalescerLimits, Core, CoreLimits},
    port::Peer,
    rpc::{self, RpcSettings, Services},
    store::{self, Address, MigrateError, Settings, Store},
    telemetry,
    timers::{self, TimerSettings},
    traces::{Exporter, Traces},
};

/// How long answers and streams may take to end after the drain.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(2);

/// Where a broker answers.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    pub grpc: SocketAddr,
    pub http: SocketAddr,
}

/// Runs a broker until the shutdown, then drains it. Calls `ready` when it answers.
///
/// # Errors
/// When it can't start, and when a part of it fails for good.
pub async fn serve(
    config: Config,
    shutdown: CancellationToken,
    ready: impl FnOnce(Addresses),
) -> anyhow::Result<()> {
    // First, so that all that is counted is collected.
    let recorded = telemetry::metrics();
    for migration in migrate(&config).await? {
        tracing::info!(migration, "the schema was brought up to date");
    }
    let Ports { grpc, http } = ports::open(&config).await?;
    let (grpc_address, http_address) = (grpc.local_addr()?, http.local_addr()?);
    let core = connect(&config, grpc_address.port()).await?;
    if core.access.is_required() {
        core.look_for_tokens().await.context("reading the tokens")?;
    }
    schedules::follow_file(&core, &config).await.context("schedules.file")?;

    let [stop, dead, draining, closed] = std::array::from_fn(|_| CancellationToken::new());
    timers::start(&core, &timer_settings(&config), &stop, &dead);
    let readiness = Readiness::default();
    let measured = Arc::clone(&core);
    let asked = Arc::clone(&core);
    let metrics = Metrics {
        recorded,
        measure: Arc::new(move || {
            let core = Arc::clone(&measured);
            Box::pin(async move { core.measure().await })
        }),
        may_read: Arc::new(move |authorization, peer| may_read(&asked, authorization, peer)),
    };
    let (traces, exporter) = traces(&config, grpc_address.port())?.unzip();
    let exported = CancellationToken::new();
    let exporter = exporter.map(|exporter| tokio::spawn(exporter.run(exported.clone())));
    let services = Services::new(Arc::clone(&core), rpc_settings(&config), traces);
    let dashboard = config.http.dashboard.then(|| http::pages().merge(services.json()));
    let mut http = tokio::spawn(http::serve(
        http,
        readiness.clone(),
        metrics,
        dashboard.unwrap_or_default(),
        closed.clone(),
    ));
    let mut grpc = tokio::spawn(rpc::serve(grpc, services, draining.clone(), closed.clone()));
    readiness.set(true);
    tracing::info!(
        grpc = %grpc_address,
        http = %http_address,
        broker = core.broker.id,
        "the broker is ready"
    );
    ready(Addresses { grpc: grpc_address, http: http_address });

    let failed = tokio::select! {
        () = shutdown.cancelled() => None,
        () = dead.cancelled() => Some("other brokers hold this one for dead".to_owned()),
        ended = &mut grpc => Some(format!("the gRPC server ended: {ended:?}")),
        ended = &mut http => Some(format!("the HTTP server ended: {ended:?}")),
    };
    readiness.set(false);
    draining.cancel();
    let deadline =
        if failed.is_some() { Duration::ZERO } else { ms(config.broker.drain_deadline_ms) };
    let held = core.drain(deadline).await;
    tracing::info!(held, "drained; what workers still hold they take to the next broker");
    retire(&core).await;
    core.close_streams();
    closed.cancel();
    let ends = async { (grpc.await, http.await) };
    if failed.is_none() && tokio::time::timeout(CLOSE_TIME_MAX, ends).await.is_err() {
        tracing::debug!("connections were still open at the end");
    }
    stop.cancel();
    exported.cancel();
    if let Some(exporter) = exporter
        && tokio::time::timeout(CLOSE_TIME_MAX, exporter).await.is_err()
    {
        tracing::warn!("spans were still to be sent at the end");
    }
    core.store.close();
    match failed {
        None => Ok(()),
        Some(reason) => bail!(reason),
    }
}

/// What takes the broker's spans, and what sends them, if somebody wants them.
fn traces(config: &Config, port: u16) -> anyhow::Result<Option<(Arc<Traces>, Exporter)>> {
    let Telemetry { otlp_endpoint: endpoint, otlp_ca_file: ca_file } = &config.telemetry;
    if endpoint.is_empty() {
        return Ok(None);
    }
    let ca = (!ca_file.is_empty()).then(|| std::fs::read(ca_file)).transpose();
    let ca = ca.with_context(|| format!("telemetry.otlp_ca_file: {ca_file}"))?;
    let traces = Traces::new(endpoint, ca.as_deref(), &config.broker_name(port));
    traces.map(Some).context("telemetry.otlp_endpoint")
}

/// Applies what the database's schema lacks and says what that was. Where nothing leads to Postgres itself
/// it only looks.
///
/// # Errors
/// When the database can't be reached or has an unknown version, or one that can't be changed.
pub async fn migrate(config: &Config) -> anyhow::Result<Vec<String>> {
    let Config { database, .. } = config;
    let at = address(config);
    if !database.transaction_pooler {
        return store::migrate(&at).await.context("database.url");
    }
    match database.listen_url.as_ref().filter(|url| !url.is_empty()) {
        Some(direct) => {
            let direct = Address { url: direct.expose().to_owned(), ..at };
            store::migrate(&direct).await.context("database.listen_url")
        }
        None => match &missing(config).await?[..] {
            [] => Ok(Vec::new()),
            _ => Err(MigrateError::Outdated).context("database.url"),
        },
    }
}

/// What `migrate` would apply.
///
/// # Errors
/// As `migrate`.
pub async fn missing(config: &Config) -> anyhow::Result<Vec<String>> {
    store::missing(&address(config)).await.context("database.url")
}

fn address(config: &Config) -> Address {
    let ca_file = Some(config.database.ca_file.clone()).filter(|file| !file.is_empty());
    Address { url: config.database.url.expose().to_owned(), ca_file }
}

fn may_read(
    core: &Core,
    authorization: Option<&[u8]>,
    peer: &Peer,
) -> Result<(), ::http::StatusCode> {
    if !core.access.is_required() {
        return Ok(());
    }
    match core.access.caller(&core.clock, authorization, peer.names()) {
        Err(_) => Err(::http::StatusCode::UNAUTHORIZED),
        Ok(caller) if caller.allows(Scope::View) => Ok(()),
        Ok(_) => Err(::http::StatusCode::FORBIDDEN),
    }
}

/// Registers this broker, which answers on this port, and starts all but its servers.
async fn connect(config: &Config, port: u16) -> anyhow::Result<Arc<Core>> {
    let store = open(config, config.database.pool_size)?;
    if address(config).is_exposed() {
        tracing::warn!("the connection to Postgres is readable on its way; see sslmode=require");
    }
    store.fill().await.context("database.url")?;
    let client = store.client().await.context("database.url")?;
    let now = store::database_time(&client).await.context("database.url")?;
    let clock = Clock::new(now);
    let name = config.broker_name(port);
    let low = first_id_at_ms(now.timestamp_millis() - STARTUP_MARGIN_MS);
    let broker = store::register_broker(&client, &name, low).await.context("registering")?;
    drop(client);
    tracing::info!(name, id = broker.id, slot = broker.slot, "registered");
    Ok(Core::start(store, clock, broker, queue_defaults(config), core_limits(config)))
}

fn open(config: &Config, pool_size: usize) -> anyhow::Result<Store> {
    Store::new(&store_settings(config, pool_size)).context("database.url")
}

/// Two connections to a database of which nothing is known.
fn open_bare(config: &Config) -> anyhow::Result<Store> {
    Store::bare(&store_settings(config, 2)).context("database.url")
}

fn store_settings(config: &Config, pool_size: usize) -> Settings {
    Settings {
        address: address(config),
        transaction_pooler: config.database.transaction_pooler,
        pool_size,
        connect_timeout: ms(config.database.connect_timeout_ms),
        statement_timeout: ms(config.database.statement_timeout_ms),
        completion_synchronous_commit: config.database.completion_synchronous_commit,
    }
}

/// Between the database's clock and the ids made from it.
const STARTUP_MARGIN_MS: i64 = 60_000;

/// Others may rescue what is held here, after the grace.
async fn retire(core: &Core) {
    let retired = async {
        let client = core.store.client().await?;
        store::retire_broker(&client, core.broker.id).await
    };
    if let Err(error) = retired.await {
        tracing::warn!(
            error = %causes(&error),
            "the end could not be written down; others will notice it by silence"
        );
    }
}

fn ms(value: u64) -> Duration {
    Duration::from_millis(value)
}

fn queue_defaults(config: &Config) -> Queue {
    let config::QueueDefaults {
        max_attempts,
        worker_losses_max,
        retry_base_ms,
        retry_max_ms,
        retry_factor,
        retry_jitter,
        timeout_ms,
    } = config.queue_defaults;
    let kept_ms = |ms: u64| i64::try_from(ms).ok().filter(|ms| *ms > 0);
    Queue {
        id: QueueId(0),
        name: String::new(),
        version: 0,
        paused_at: None,
        own: QueueSettings::default(),
        priority: 0,
        max_attempts,
        retry: RetryPolicy::exponential(retry_base_ms, retry_max_ms, retry_factor, retry_jitter),
        worker_losses_max,
        timeout_ms: Some(timeout_ms).filter(|ms| *ms > 0),
        retention: Retention {
            succeeded_ms: kept_ms(config.retention.succeeded_ms),
            cancelled_ms: kept_ms(config.retention.cancelled_ms),
            dead_ms: kept_ms(config.retention.dead_ms),
        },
    }
}

fn core_limits(config: &Config) -> CoreLimits {
    let Config { enqueue, complete, session, dispatch, .. } = config;
    CoreLimits {
        engine: engine::Limits {
            sessions_max: session.sessions_max,
            claim_rows_max: dispatch.claim_rows_max,
            limited_keys_max: dispatch.limited_keys_max,
            buffered_bytes_max: dispatch.buffered_bytes_max,
            unacknowledged_bytes_max: session.unacknowledged_bytes_max,
            message_bytes_max: config.grpc.message_bytes_max / 4,
            message_jobs_max: MESSAGE_JOBS_MAX,
            hold_max: ms(dispatch.hold_ms_max),
            completing_max: complete.pending_items_max / 2,
            session_timeout: ms(session.timeout_ms),
            reconnect_grace: ms(session.reconnect_grace_ms),
            acknowledge_timeout: ms(session.acknowledge_timeout_ms),
            keep_alive_interval: ms(session.keep_alive_interval_ms),
        },
        enqueue: CoalescerLimits {
            rows_per_flush_max: enqueue.rows_per_flush_max,
            bytes_per_flush_max: enqueue.bytes_per_flush_max,
            flushes_in_flight_max: enqueue.flushes_in_flight_max,
            pending_rows_max: enqueue.pending_jobs_max,
            pending_bytes_max: enqueue.pending_bytes_max,
        },
        complete: CoalescerLimits {
            rows_per_flush_max: complete.rows_per_flush_max,
            bytes_per_flush_max: complete.bytes_per_flush_max,
            flushes_in_flight_max: complete.flushes_in_flight_max,
            pending_rows_max: complete.pending_items_max,
            pending_bytes_max: complete.pending_bytes_max,
        },
        queues_max: dispatch.queues_max,
        metered_queues_max: config.http.metered_queues_max,
        access: AccessLimits {
            required: config.access.required,
            tokens_max: config.access.tokens_max,
        },
        watches_max: config.grpc.watches_max,
        reading_bytes_max: config.grpc.reading_bytes_max,
        drain_deadline: ms(config.broker.drain_deadline_ms),
        dead_after: ms(config.broker.dead_after_ms),
        statement_timeout: ms(config.database.statement_timeout_ms),
    }
}

/// Jobs of one Assignments: enough to share its cost, few enough to start on the first.
const MESSAGE_JOBS_MAX: usize = 200;

fn rpc_settings(config: &Config) -> RpcSettings {
    let Config { grpc, enqueue, complete, session, .. } = config;
    RpcSettings {
        message_bytes_max: grpc.message_bytes_max,
        streams_per_connection_max: grpc.streams_per_connection_max,
        ping_interval: ms(grpc.ping_interval_ms),
        concurrent_requests_max: grpc.concurrent_requests_max,
        jobs_per_request_max: enqueue.jobs_per_request_max,
        payload_bytes_max: enqueue.payload_bytes_max,
        completions_per_request_max: complete.completions_per_request_max,
        result_bytes_max: complete.result_bytes_max,
        checkpoint_bytes_max: session.checkpoint_bytes_max,
        max_in_flight_max: session.max_in_flight_max,
        queues_per_session_max: session.queues_max,
        heartbeat_interval: ms(session.heartbeat_interval_ms),
        keep_alive_interval: ms(session.keep_alive_interval_ms),
        session_timeout: ms(session.timeout_ms),
        reconnect_grace: ms(session.reconnect_grace_ms),
    }
}

/// What a write may take beside its connection and its statements, which are at most three.
const STRAGGLER_MARGIN: Duration = Duration::from_secs(60);

fn timer_settings(config: &Config) -> TimerSettings {
    let Config { access, database, broker, dispatch, retention, .. } = config;
    let listen_url = database.listen_url.as_ref().unwrap_or(&database.url).expose().to_owned();
    TimerSettings {
        listen_address: Some(Address { url: listen_url, ..address(config) })
            .filter(|address| !address.url.is_empty()),
        connect_timeout: ms(database.connect_timeout_ms),
        heartbeat_interval: ms(broker.heartbeat_interval_ms),
        dead_after: ms(broker.dead_after_ms),
        adoption_grace: ms(broker.adoption_grace_ms),
        straggler_age: STRAGGLER_MARGIN
            + 3 * ms(database.connect_timeout_ms)
            + 3 * ms(database.statement_timeout_ms),
        sweep_interval: ms(dispatch.sweep_interval_ms),
        poll_interval: ms(dispatch.poll_interval_ms),
        loads_interval: ms(broker.load_interval_ms),
        tokens_interval: ms(access.look_interval_ms),
        audit_age: ms(access.audit_ms),
        pruner: engine::PrunerLimits {
            rows_per_slice_max: retention.rows_per_slice_max,
            rows_per_second_max: retention.rows_per_second_max,
        },
    }
}
