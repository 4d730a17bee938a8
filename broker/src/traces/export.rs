//! Sends spans to the collector: what has gathered while the last call was under way, in one.

use std::time::Duration;

use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTraceServiceRequest, trace_service_client::TraceServiceClient},
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Error};

/// Of one call.
const SPANS_MAX: usize = 1000;
const CALL_TIME_MAX: Duration = Duration::from_secs(5);
/// Between two calls, so that spans travel together.
const PAUSE: Duration = Duration::from_millis(200);

/// Runs beside the broker until it is told to stop.
#[derive(Debug)]
pub struct Exporter {
    client: TraceServiceClient<Channel>,
    resource: Resource,
    spans: mpsc::Receiver<Span>,
}

impl Exporter {
    pub(super) fn new(
        endpoint: &str,
        ca: Option<&[u8]>,
        broker: &str,
        spans: mpsc::Receiver<Span>,
    ) -> Result<Self, Error> {
        let mut endpoint =
            Endpoint::from_shared(endpoint.to_owned())?.connect_timeout(CALL_TIME_MAX);
        if endpoint.uri().scheme_str() == Some("https") {
            let tls = ClientTlsConfig::new();
            endpoint = endpoint.tls_config(match ca {
                Some(pem) => tls.ca_certificate(Certificate::from_pem(pem)),
                None => tls.with_native_roots(),
            })?;
        }
        let channel = endpoint.connect_lazy();
        let attributes = vec![
            text("service.name", "currant-broker"),
            text("service.version", env!("CARGO_PKG_VERSION")),
            text("service.instance.id", broker),
        ];
        let resource = Resource { attributes, ..Resource::default() };
        Ok(Self { client: TraceServiceClient::new(channel), resource, spans })
    }

    /// After the stop it sends what has gathered, and returns.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut failing = false;
        loop {
            let mut batch = Vec::new();
            tokio::select! {
                biased;
                received = self.spans.recv_many(&mut batch, SPANS_MAX) => {
                    if received == 0 {
                        return;
                    }
                }
                () = stop.cancelled(), if !self.spans.is_closed() => {
                    self.spans.close();
                    continue;
                }
            }
            let count = batch.len() as u64;
            let result = match (self.export(batch).await, failing) {
                (Ok(()), _) => {
                    failing = false;
                    "sent"
                }
                (Err(_), true) => "dropped",
                (Err(error), false) => {
                    tracing::warn!(error, "spans can't be sent; saying it once until they can");
                    failing = true;
                    "dropped"
                }
            };
            metrics::counter!("currant_spans_total", "result" => result).increment(count);
            // It is over at once when there is no time left.
            let _ = timeout(PAUSE, stop.cancelled()).await;
        }
    }

    async fn export(&mut self, spans: Vec<Span>) -> Result<(), String> {
        let scope = InstrumentationScope { name: "currant".to_owned(), ..Default::default() };
        let scope_spans = ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() };
        let resource_spans = ResourceSpans {
            resource: Some(self.resource.clone()),
            scope_spans: vec![scope_spans],
            ..ResourceSpans::default()
        };
        let request = ExportTraceServiceRequest { resource_spans: vec![resource_spans] };
        match timeout(CALL_TIME_MAX, self.client.export(request)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(status)) => Err(status.to_string()),
            Err(_) => Err(format!("no answer within {CALL_TIME_MAX:?}")),
        }
    }
}

pub(super) fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.to_owned()))
}

pub(super) fn whole(key: &str, value: i64) -> KeyValue {
    attribute(key, Value::IntValue(value))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    let value = Some(AnyValue { value: Some(value) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}
