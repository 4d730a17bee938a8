use std::{convert::Infallible, sync::Arc, time::Duration};

use anyhow::Context as _;
use currant_proto::{
    limit_fields,
    v1::{
        broker_service_server::BrokerServiceServer, job_service_server::JobServiceServer,
        queue_service_server::QueueServiceServer, schedule_service_server::ScheduleServiceServer,
        token_service_server::TokenServiceServer, worker_service_server::WorkerServiceServer,
    },
};
use futures_util::stream;
use tokio_util::sync::CancellationToken;
use tonic::{
    service::Routes,
    transport::{Server, server::Connected},
};
use tower::{Layer, util::BoxCloneSyncService};

use super::{
    Context, RpcSettings,
    access::AccessLayer,
    admission::AdmissionLayer,
    json::{self, Gateway},
    route::RouteLayer,
};
use crate::{
    pipeline::Core,
    port::{Connection, Listener, Peer},
    traces::Traces,
};

/// HTTP/2 closes a connection on which many small frames stay unread; the bound is a share of the
/// window.
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
const STREAM_WINDOW_BYTES: u32 = 8 << 20;
/// Of the message of a health check, which has a service's name.
const HEALTH_BYTES_MAX: usize = 1024;
/// Of a call's metadata, its token among it. A call with more is refused (431).
const HEADER_BYTES_MAX: u32 = 16 << 10;
/// Streams of a connection that were reset before the broker came to look at them, and those that it
/// reset itself since they break the rules of HTTP/2. A connection with more is closed.
const RESET_UNSEEN_MAX: usize = 20;
const RESET_BY_ERROR_MAX: usize = 1024;

/// Every call, and what stands before them.
#[derive(Clone)]
pub struct Services {
    message_bytes_max: usize,
    streams_max: u32,
    ping_interval: Duration,
    access: AccessLayer,
    admission: AdmissionLayer,
    route: RouteLayer,
    others: Routes,
}

impl Services {
    pub fn new(core: Arc<Core>, settings: RpcSettings, traces: Option<Arc<Traces>>) -> Self {
        limit_fields(settings.fields_max());
        let most = settings.message_bytes_max;
        let streams_max = settings.streams_per_connection_max;
        let ping_interval = settings.ping_interval;
        let admission = AdmissionLayer::new(settings.concurrent_requests_max);
        let access = AccessLayer::new(Arc::clone(&core));
        let context = Context { core: Arc::clone(&core), settings: Arc::new(settings), traces };
        let queues = QueueServiceServer::new(context.clone()).max_decoding_message_size(most);
        let schedules = ScheduleServiceServer::new(context.clone()).max_decoding_message_size(most);
        let brokers = BrokerServiceServer::new(context.clone());
        let tokens = TokenServiceServer::new(context.clone());
        let route = RouteLayer {
            core,
            jobs: JobServiceServer::new(context.clone()).max_decoding_message_size(most),
            workers: WorkerServiceServer::new(context).max_decoding_message_size(most),
        };
        let others = Routes::new(queues)
            .add_service(schedules)
            .add_service(brokers)
            .add_service(tokens)
            .prepare();
        Self {
            message_bytes_max: most,
            streams_max,
            ping_interval,
            access,
            admission,
            route,
            others,
        }
    }

    /// The same calls as JSON, for the HTTP port.
    pub fn json(&self) -> axum::Router {
        let others = self.others.clone();
        let calls = self.access.layer(self.admission.layer(self.route.layer(others)));
        json::routes(Gateway {
            calls: BoxCloneSyncService::new(calls),
            access: self.access.clone(),
            core: Arc::clone(&self.route.core),
            message_bytes_max: self.message_bytes_max,
        })
    }
}

/// Answers until the shutdown. `draining`: gRPC health says that nothing is served any more.
///
/// # Errors
/// When the listener fails for good.
pub async fn serve(
    listener: Listener,
    services: Services,
    draining: CancellationToken,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let Services { access, admission, route, others, streams_max, ping_interval, .. } = services;
    let ping_interval = Some(ping_interval);
    let (health_reporter, health) = tonic_health::server::health_reporter();
    let health = health.max_decoding_message_size(HEALTH_BYTES_MAX);
    health_reporter.set_serving::<JobServiceServer<Context>>().await;
    health_reporter.set_serving::<QueueServiceServer<Context>>().await;
    health_reporter.set_serving::<ScheduleServiceServer<Context>>().await;
    health_reporter.set_serving::<BrokerServiceServer<Context>>().await;
    health_reporter.set_serving::<TokenServiceServer<Context>>().await;
    health_reporter.set_serving::<WorkerServiceServer<Context>>().await;
    let reporter = async move {
        draining.cancelled().await;
        health_reporter.set_service_status("", tonic_health::ServingStatus::NotServing).await;
        health_reporter.set_not_serving::<JobServiceServer<Context>>().await;
        health_reporter.set_not_serving::<QueueServiceServer<Context>>().await;
        health_reporter.set_not_serving::<ScheduleServiceServer<Context>>().await;
        health_reporter.set_not_serving::<BrokerServiceServer<Context>>().await;
        health_reporter.set_not_serving::<TokenServiceServer<Context>>().await;
        health_reporter.set_not_serving::<WorkerServiceServer<Context>>().await;
        std::future::pending::<()>().await;
    };
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(currant_proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let served = Server::builder()
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .max_concurrent_streams(streams_max)
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .http2_max_pending_accept_reset_streams(Some(RESET_UNSEEN_MAX))
        .http2_max_local_error_reset_streams(Some(RESET_BY_ERROR_MAX))
        .http2_keepalive_interval(ping_interval)
        .http2_keepalive_timeout(ping_interval)
        // The outer one: a stranger's call takes no place.
        .layer(access)
        .layer(admission)
        .layer(route)
        .trace_fn(|request| tracing::debug_span!("rpc", path = request.uri().path()))
        .add_routes(
            others
                .add_service(health)
                .add_service(reflection().build_v1().context("reflection v1")?)
                .add_service(reflection().build_v1alpha().context("reflection v1alpha")?),
        );
    let incoming = stream::unfold(listener, async |mut listener| {
        let (connection, _) = listener.accept().await;
        Some((Ok::<_, Infallible>(connection), listener))
    });
    let served = served.serve_with_incoming_shutdown(incoming, shutdown.cancelled());
    tokio::select! {
        served = served => served.context("the gRPC server"),
        () = reporter => Ok(()),
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer()
    }
}
