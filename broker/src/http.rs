//! The HTTP port: `/metrics`, `/health/live`, `/health/ready`.

use std::{
    future::IntoFuture,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

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
    pub measure: Arc<dyn Fn() -> String + Send + Sync>,
}

/// Answers until the shutdown, then lets open connections finish for up to a second.
///
/// - `GET /metrics`: 200, Prometheus' text form.
/// - `GET /health/live`: 200 as long as the process answers.
/// - `GET /health/ready`: 200 or 503, as `readiness` says.
///
/// # Errors
/// When the listener fails for good.
pub async fn serve(
    listener: TcpListener,
    readiness: Readiness,
    metrics: Metrics,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let router = Router::new()
        .route("/metrics", get(render))
        .with_state(metrics.clone())
        .route("/health/live", get(async || "live\n"))
        .merge(Router::new().route("/health/ready", get(ready)).with_state(readiness));
    let served = axum::serve(listener, router)
        .with_graceful_shutdown(shutdown.clone().cancelled_owned())
        .into_future();
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

async fn render(State(metrics): State<Metrics>) -> impl IntoResponse {
    let measured = (metrics.measure)();
    let text = metrics.recorded.render() + &measured;
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
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
        net::TcpStream,
    };

    use super::*;

    async fn get_path(address: std::net::SocketAddr, path: &str) -> String {
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
        let (readiness, shutdown) = (Readiness::default(), CancellationToken::new());
        let metrics = Metrics {
            recorded: crate::telemetry::metrics(),
            measure: Arc::new(|| "currant_measured_test 1\n".to_owned()),
        };
        let server = tokio::spawn(serve(listener, readiness.clone(), metrics, shutdown.clone()));

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
