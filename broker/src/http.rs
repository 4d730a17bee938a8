//! The HTTP port: `/metrics`, `/health/live`, `/health/ready`, the dashboard's pages and what they call.

mod pages;

use std::{
    future::IntoFuture,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::{ConnectInfo, State, connect_info::Connected},
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{AUTHORIZATION, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
    routing::get,
    serve::IncomingStream,
};
use futures_util::future::BoxFuture;
use metrics_exporter_prometheus::PrometheusHandle;
pub use pages::pages;
use tokio_util::sync::CancellationToken;

use crate::port::{Connection, Listener, Peer};

/// How often recorded samples are folded into their buckets, whether somebody scrapes or not.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);
/// How long open connections may take to end after the shutdown.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(1);

/// Whether this broker takes work; begins as no. Clones share the answer.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// Changes the answer.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Relaxed);
    }

    /// The answer.
    pub fn is_ready(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What `/metrics` shows.
#[derive(Clone)]
pub struct Metrics {
    /// What was told to the recorder.
    pub recorded: PrometheusHandle,
    /// Called for each answer, before the recorder is asked: sets gauges, and returns what the recorder
    /// doesn't keep, in Prometheus' text form.
    pub measure: Arc<dyn Fn() -> BoxFuture<'static, String> + Send + Sync>,
    /// Whether somebody with this header `authorization` and this certificate may see it.
    pub may_read: Arc<MayRead>,
}

/// See [`Metrics::may_read`].
pub type MayRead = dyn Fn(Option<&[u8]>, &Peer) -> Result<(), StatusCode> + Send + Sync;

/// Answers until the shutdown, then lets open connections finish for up to a second.
///
/// - `GET /metrics`: 200, Prometheus' text form; 401 and 403 without a token for reading, if one is
///   required.
/// - `GET /health/live`: 200 as long as the process answers.
/// - `GET /health/ready`: 200 or 503, as `readiness` says.
/// - and the routes of `dashboard`.
///
/// # Errors
/// When the listener fails for good.
pub async fn serve(
    listener: Listener,
    readiness: Readiness,
    metrics: Metrics,
    dashboard: Router,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let router = Router::new()
        .route("/metrics", get(render))
        .with_state(metrics.clone())
        .route("/health/live", get(async || "live\n"))
        .merge(Router::new().route("/health/ready", get(ready)).with_state(readiness))
        .merge(dashboard)
        .into_make_service_with_connect_info::<Peer>();
    let stopped = shutdown.clone().cancelled_owned();
    let served = axum::serve(listener, router).with_graceful_shutdown(stopped).into_future();
    let closed = async {
        shutdown.cancelled().await;
        tokio::time::sleep(CLOSE_TIME_MAX).await;
    };
    tokio::select! {
        result = served => result,
        () = closed => Ok(()),
        () = keep_up(&metrics.recorded) => Ok(()),
    }
}

impl axum::serve::Listener for Listener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        Self::accept(self).await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Self::local_addr(self)
    }
}

impl Connected<IncomingStream<'_, Listener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Listener>) -> Self {
        stream.io().peer()
    }
}

async fn render(
    State(metrics): State<Metrics>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    headers: HeaderMap,
) -> Response {
    let authorization = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
    if let Err(refusal) = (metrics.may_read)(authorization, &peer) {
        return refusal.into_response();
    }
    let measured = (metrics.measure)().await;
    let text = metrics.recorded.render() + &measured;
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

async fn ready(State(readiness): State<Readiness>) -> (StatusCode, &'static str) {
    if readiness.is_ready() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}

/// Never ends.
async fn keep_up(metrics: &PrometheusHandle) {
    let mut ticks = tokio::time::interval(UPKEEP_INTERVAL);
    loop {
        ticks.tick().await;
        metrics.run_upkeep();
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::port::{Limits, Port};

    async fn get_path(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.expect("connected");
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("answered");
        answer
    }

    #[tokio::test]
    async fn it_tells_health_and_metrics_and_ends_with_a_connection_open() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("an address");
        let limits = Limits { connections_max: 10, silence_max: Duration::from_secs(60) };
        let listener = Listener::new(listener, Port::Http, None, limits);
        let (readiness, shutdown) = (Readiness::default(), CancellationToken::new());
        let metrics = Metrics {
            recorded: crate::telemetry::metrics(),
            measure: Arc::new(|| Box::pin(async { "currant_measured_test 1\n".to_owned() })),
            may_read: Arc::new(|_, _| Ok(())),
        };
        let server = tokio::spawn(serve(
            listener,
            readiness.clone(),
            metrics,
            Router::new(),
            shutdown.clone(),
        ));

        assert!(get_path(address, "/health/live").await.starts_with("HTTP/1.1 200"));
        assert!(get_path(address, "/health/ready").await.starts_with("HTTP/1.1 503"));
        readiness.set(true);
        assert!(get_path(address, "/health/ready").await.starts_with("HTTP/1.1 200"));
        metrics::counter!("currant_http_test_total").increment(3);
        let shown = get_path(address, "/metrics").await;
        assert!(shown.contains("currant_http_test_total 3"), "{shown}");
        assert!(shown.contains("\ncurrant_measured_test 1\n"), "{shown}");
        assert!(get_path(address, "/").await.starts_with("HTTP/1.1 404"));

        let _open = TcpStream::connect(address).await.expect("connected");
        shutdown.cancel();
        server.await.expect("no panic").expect("no error");
    }
}
