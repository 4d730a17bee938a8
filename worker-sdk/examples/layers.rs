//! Handlers are tower services: layers of tower and of your own wrap them.
//!
//! `cargo run -p currant-worker-sdk --example layers -- http://127.0.0.1:7070`

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use currant_worker_sdk::{Bytes, CancellationToken, HandlerError, Job, Worker};
use tower::{
    Layer, Service, limit::GlobalConcurrencyLimitLayer, service_fn, timeout::TimeoutLayer,
};
use tracing::Instrument;

/// A span around each attempt.
#[derive(Clone)]
struct SpanLayer;

impl<S> Layer<S> for SpanLayer {
    type Service = Span<S>;

    fn layer(&self, inner: S) -> Span<S> {
        Span { inner }
    }
}

#[derive(Clone)]
struct Span<S> {
    inner: S,
}

impl<S> Service<Job<Bytes>> for Span<S>
where
    S: Service<Job<Bytes>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, job: Job<Bytes>) -> Self::Future {
        let span = tracing::info_span!("job", id = %job.id, attempt = job.attempt, kind = job.kind);
        Box::pin(self.inner.call(job).instrument(span))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().init();
    let url = std::env::args().nth(1).unwrap_or_else(|| "http://127.0.0.1:7070".into());
    let echo = service_fn(|job: Job<Bytes>| async move {
        tracing::info!(bytes = job.payload.len(), "echo");
        Ok::<_, HandlerError>(job.payload)
    });
    let worker = Worker::builder(url)
        .name("layers")
        .queue("emails")
        .handler("send_email", |job: Job<serde_json::Value>| async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            tracing::info!(payload = %job.payload, "sent");
            Ok(())
        })
        .service("echo", echo)
        // From here on the layers wrap both handlers, the last one outermost.
        .layer(TimeoutLayer::new(Duration::from_secs(5)))
        .layer(GlobalConcurrencyLimitLayer::new(4))
        .layer(SpanLayer)
        .build()?;

    let stop = CancellationToken::new();
    let worker = tokio::spawn(worker.run(stop.clone()));
    tokio::signal::ctrl_c().await?;
    stop.cancel();
    worker.await??;
    Ok(())
}
