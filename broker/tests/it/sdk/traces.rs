//! Traces that go through jobs, with the SDK's feature `otel`.

use std::{
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use currant_worker_sdk::{HandlerError, Job, JobState, NewJob, RetryPolicy};
use opentelemetry::trace::{SpanKind, Status, TracerProvider};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{SdkTracerProvider, SpanData, SpanExporter},
};
use tracing::{Dispatch, Instrument, subscriber::DefaultGuard};
use tracing_subscriber::{filter::LevelFilter, layer::SubscriberExt};

use super::{client, in_state, worker};
use crate::support::{Broker, Database, eventually};

/// The spans that have ended.
#[derive(Clone, Debug, Default)]
pub(super) struct Spans(Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for Spans {
    async fn export(&self, mut batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().unwrap().append(&mut batch);
        Ok(())
    }
}

impl Spans {
    /// Collects those of this thread.
    pub(super) fn collect() -> (Spans, DefaultGuard) {
        // While there is one subscriber alone, a thread without any that is the first at a place in the code
        // switches that place off for all.
        static OTHER: LazyLock<Dispatch> =
            LazyLock::new(|| Dispatch::new(tracing_subscriber::registry().with(LevelFilter::OFF)));
        LazyLock::force(&OTHER);
        let spans = Spans::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(spans.clone()).build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        let subscriber = tracing_subscriber::registry().with(LevelFilter::INFO).with(layer);
        (spans, tracing::subscriber::set_default(subscriber))
    }

    /// Those of this name, in the order of their ends.
    pub(super) fn named(&self, name: &str) -> Vec<SpanData> {
        let spans = self.0.lock().unwrap();
        spans.iter().filter(|span| span.name == name).cloned().collect()
    }
}

fn traceparent(span: &SpanData) -> String {
    let context = &span.span_context;
    format!("00-{}-{}-01", context.trace_id(), context.span_id())
}

fn attribute(span: &SpanData, key: &str) -> String {
    let found = span.attributes.iter().find(|attribute| attribute.key.as_str() == key);
    found.map(|attribute| attribute.value.to_string()).unwrap_or_default()
}

#[tokio::test]
async fn one_trace_goes_from_the_caller_through_the_job_to_its_handler_and_retries_are_linked() {
    let (spans, _collected) = Spans::collect();
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let client = client(&broker).await;
    let running = worker(&broker)
        .handler("order", |job: Job<()>| async move {
            tokio::task::yield_now().await;
            tracing::info_span!("write").in_scope(|| ());
            if job.failures == 0 { Err(HandlerError::new("no ink")) } else { Ok(job.traceparent) }
        })
        .build()
        .unwrap()
        .start();
    let policy = RetryPolicy::exponential(Duration::from_millis(1));
    let job = NewJob::json("emails", "order", &()).unwrap().retry(policy);
    let checkout = tracing::info_span!("checkout");
    let id = client.enqueue(job).instrument(checkout).await.unwrap();
    let stored = in_state(&client, id, JobState::Succeeded).await;
    eventually("both attempts have ended", async || spans.named("process emails").len() == 2).await;

    let ([checkout], [send]) = (&*spans.named("checkout"), &*spans.named("send emails")) else {
        panic!("{spans:?}");
    };
    assert_eq!(send.parent_span_id, checkout.span_context.span_id());
    assert_eq!(send.span_kind, SpanKind::Producer);
    assert_eq!(attribute(send, "messaging.destination.name"), "emails");
    assert_eq!(stored.result_json::<String>().unwrap(), traceparent(send));

    let processed = spans.named("process emails");
    let (first, second) = (&processed[0], &processed[1]);
    assert_eq!(first.span_context.trace_id(), checkout.span_context.trace_id());
    assert_eq!(first.parent_span_id, send.span_context.span_id());
    assert_eq!((&first.span_kind, &first.status), (&SpanKind::Consumer, &Status::error("")));
    assert_eq!(attribute(first, "messaging.message.id"), id.to_string());
    assert_eq!([attribute(first, "kind"), attribute(first, "outcome")], ["order", "failed"]);
    assert!(first.links.is_empty());

    assert_ne!(second.span_context.trace_id(), checkout.span_context.trace_id());
    assert_eq!(second.links[0].span_context.span_id(), send.span_context.span_id());
    assert_eq!((&second.status, &*attribute(second, "outcome")), (&Status::Unset, "succeeded"));
    let inner: Vec<_> = spans.named("write").iter().map(|span| span.parent_span_id).collect();
    assert_eq!(inner, [first.span_context.span_id(), second.span_context.span_id()]);
    running.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_trace_that_the_job_was_given_is_kept_and_an_attempt_that_is_stopped_says_so() {
    let (spans, _collected) = Spans::collect();
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let client = client(&broker).await;
    let running = worker(&broker)
        .handler("stuck", |_: Job<()>| std::future::pending::<Result<(), HandlerError>>())
        .build()
        .unwrap()
        .start();
    let given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let job = NewJob::json("emails", "stuck", &()).unwrap().traceparent(given).max_attempts(1);
    let id = client.enqueue(job.timeout(Duration::from_millis(50))).await.unwrap();
    in_state(&client, id, JobState::Dead).await;
    let processed = spans.named("process emails");
    assert_eq!(attribute(&processed[0], "outcome"), "stopped");
    let trace = processed[0].span_context.trace_id().to_string();
    assert_eq!(trace, "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(processed[0].parent_span_id.to_string(), "b7ad6b7169203331");
    running.shutdown().await.unwrap();
}

#[tokio::test]
async fn without_a_collector_jobs_have_no_trace() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let client = client(&broker).await;
    let running = worker(&broker)
        .handler("order", |job: Job<()>| async move { Ok(job.traceparent) })
        .build()
        .unwrap()
        .start();
    let id = client.enqueue(NewJob::json("emails", "order", &()).unwrap()).await.unwrap();
    let stored = in_state(&client, id, JobState::Succeeded).await;
    assert_eq!(stored.result_json::<String>().unwrap(), "");
    running.shutdown().await.unwrap();
}
