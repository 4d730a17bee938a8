//! The broker's spans, at a receiver of OTLP.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use currant_worker_sdk::{HandlerError, Job, JobState, NewJob, RetryPolicy};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::any_value::Value,
    trace::v1::Span,
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Request, Response, Status,
    transport::{Identity, Server, ServerTlsConfig},
};
use tracing::Instrument;

use super::{client, in_state, traces::Spans, worker};
use crate::support::{Broker, Database, eventually};

/// What was sent.
#[derive(Clone, Default)]
struct Receiver(Arc<Mutex<Vec<Span>>>);

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let resources = request.into_inner().resource_spans.into_iter();
        let spans = resources.flat_map(|one| one.scope_spans).flat_map(|one| one.spans);
        self.0.lock().unwrap().extend(spans);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Receiver {
    /// One on a port of its own, and where it is.
    async fn start() -> (Receiver, String) {
        let (receiver, port) = Self::start_on(Server::builder()).await;
        (receiver, format!("http://127.0.0.1:{port}"))
    }

    async fn start_on(mut server: Server) -> (Receiver, u16) {
        let receiver = Receiver::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serve = server.add_service(TraceServiceServer::new(receiver.clone()));
        tokio::spawn(serve.serve_with_incoming(TcpListenerStream::new(listener)));
        (receiver, port)
    }

    /// Those that have come, in the order of their ends.
    fn spans(&self) -> Vec<Span> {
        let mut spans = self.0.lock().unwrap().clone();
        spans.sort_by_key(|span| span.end_time_unix_nano);
        spans
    }
}

fn attribute(span: &Span, key: &str) -> String {
    let found = span.attributes.iter().find(|attribute| attribute.key == key);
    match found.and_then(|attribute| attribute.value.clone()?.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        other => panic!("{key}: {other:?}"),
    }
}

#[tokio::test]
async fn one_trace_goes_from_the_caller_over_the_broker_to_the_handler_and_its_completion() {
    let (receiver, endpoint) = Receiver::start().await;
    let (seen, _collected) = Spans::collect();
    let database = Database::fresh().await;
    let broker = Broker::start_with(&database, &[("TELEMETRY__OTLP_ENDPOINT", &endpoint)]).await;
    let client = client(&broker).await;
    let running = worker(&broker)
        .handler("order", |job: Job<()>| async move {
            if job.failures == 0 { Err(HandlerError::new("no ink")) } else { Ok(()) }
        })
        .build()
        .unwrap()
        .start();
    let policy = RetryPolicy::exponential(Duration::from_millis(1));
    let job = || NewJob::json("emails", "order", &()).unwrap().retry(policy.clone());
    let checkout = tracing::info_span!("checkout");
    let id = client.enqueue(job()).instrument(checkout).await.unwrap();
    in_state(&client, id, JobState::Succeeded).await;
    // Nobody records the trace of this one.
    let unrecorded = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    let other = client.enqueue(job().traceparent(unrecorded)).await.unwrap();
    in_state(&client, other, JobState::Succeeded).await;
    running.shutdown().await.unwrap();
    assert!(broker.terminate().await.success());

    let (checkout, send) = (&seen.named("checkout")[0], &seen.named("send emails")[0]);
    let process = seen.named("process emails");
    let trace = checkout.span_context.trace_id();
    assert_eq!([send, &process[0]].map(|span| span.span_context.trace_id()), [trace; 2]);
    assert_eq!(process[1].links[0].span_context.trace_id(), trace, "the retry is linked");

    let spans = receiver.spans();
    let names: Vec<&str> = spans.iter().map(|span| &*span.name).collect();
    let attempt = ["deliver emails", "complete emails"];
    assert_eq!(names.iter().filter(|name| **name == "enqueue emails").count(), 1);
    let rest: Vec<&str> = names.iter().copied().filter(|name| *name != "enqueue emails").collect();
    assert_eq!(rest, [attempt, attempt].concat());
    for span in &spans {
        assert_eq!(span.trace_id, trace.to_bytes());
        assert_eq!(span.parent_span_id, send.span_context.span_id().to_bytes());
        assert_eq!(attribute(span, "messaging.message.id"), id.to_string());
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano);
    }
    let completed: Vec<[String; 3]> = spans
        .iter()
        .filter(|span| span.name == "complete emails")
        .map(|span| {
            ["currant.attempt", "currant.outcome", "currant.verdict"]
                .map(|key| attribute(span, key))
        })
        .collect();
    let of = |one: &[String; 3]| (one[1].clone(), one[2].clone());
    assert_eq!(of(&completed[0]), ("failed".into(), "applied".into()));
    assert_eq!(of(&completed[1]), ("succeeded".into(), "applied".into()));
    assert!(completed[0][0] < completed[1][0]);
}

#[tokio::test]
async fn a_collector_that_is_away_harms_no_job_and_is_told_once() {
    let database = Database::fresh().await;
    let settings = [("TELEMETRY__OTLP_ENDPOINT", "http://127.0.0.1:1")];
    let broker = Broker::start_with(&database, &settings).await;
    let client = client(&broker).await;
    let handled = |_: Job<()>| async { Ok(()) };
    let running = worker(&broker).handler("order", handled).build().unwrap().start();
    let recorded = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    for _ in 0..3 {
        let job = NewJob::json("emails", "order", &()).unwrap().traceparent(recorded);
        let id = client.enqueue(job).await.unwrap();
        in_state(&client, id, JobState::Succeeded).await;
    }
    let dropped = "currant_spans_total{result=\"dropped\"}";
    eventually("all are dropped", async || broker.metric(dropped).await == Some(9.0)).await;
    let told = broker.log().matches("spans can't be sent").count();
    assert_eq!(told, 1);
    running.shutdown().await.unwrap();
    assert!(broker.terminate().await.success());
}

#[tokio::test]
async fn spans_go_by_tls_to_a_collector_whose_certificate_is_known() {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let identity = Identity::from_pem(cert.pem(), signing_key.serialize_pem());
    let tls = ServerTlsConfig::new().identity(identity);
    let server = Server::builder().tls_config(tls).unwrap();
    let (receiver, port) = Receiver::start_on(server).await;
    let endpoint = format!("https://localhost:{port}");
    let ca = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(ca.path(), cert.pem()).unwrap();
    let database = Database::fresh().await;
    let known = [
        ("TELEMETRY__OTLP_ENDPOINT", &*endpoint),
        ("TELEMETRY__OTLP_CA_FILE", ca.path().to_str().unwrap()),
    ];
    let recorded = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let job = || NewJob::json("emails", "order", &()).unwrap().traceparent(recorded);
    let spans = async |broker: &Broker, result: &str| {
        broker.metric(&format!("currant_spans_total{{result=\"{result}\"}}")).await
    };
    let broker = Broker::start_with(&database, &known).await;
    client(&broker).await.enqueue(job()).await.unwrap();
    eventually("it is sent", async || spans(&broker, "sent").await == Some(1.0)).await;
    assert_eq!(receiver.spans()[0].name, "enqueue emails");
    // Nobody has signed it that the system knows.
    let broker = Broker::start_with(&database, &known[..1]).await;
    client(&broker).await.enqueue(job()).await.unwrap();
    eventually("it is dropped", async || spans(&broker, "dropped").await == Some(1.0)).await;
    assert_eq!(receiver.spans().len(), 1);
}
