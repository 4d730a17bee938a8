//! The broker's part of the traces that jobs bring along: storing, delivering and completing, as spans below the
//! one that the job's `traceparent` names, if that says that the trace is recorded. They go to a collector by
//! OTLP. Without `telemetry.otlp_endpoint` nothing of this is there.

mod export;
mod parent;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use opentelemetry_proto::tonic::trace::v1::{Span, Status, span::SpanKind, status::StatusCode};
use tokio::sync::mpsc;

pub use self::{export::Exporter, parent::Parent};
use crate::domain::{Attempt, TakenJob};
use export::{text, whole};

/// Spans that may wait for the collector; more are dropped, and counted.
const WAITING_MAX: usize = 8192;
/// Delivered attempts of which a completion is remembered to be part of a trace, in each of two generations.
const DELIVERED_MAX: usize = 20_000;

/// When something began and ended, in microseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub struct Time {
    pub began: i64,
    pub ended: i64,
}

/// What takes spans. Cheap to call: nothing waits for the collector.
#[derive(Debug)]
pub struct Traces {
    spans: mpsc::Sender<Span>,
    delivered: Mutex<Delivered>,
}

/// Traced attempts that workers have. Those that never report go with their generation.
#[derive(Debug, Default)]
struct Delivered {
    young: HashMap<Attempt, Traced>,
    old: HashMap<Attempt, Traced>,
}

/// Where the completion of a delivered attempt belongs.
#[derive(Clone, Debug)]
pub struct Traced {
    parent: Parent,
    queue: Arc<str>,
}

impl Traces {
    /// With what sends the spans, which is yet to be run. `ca`: authorities in PEM instead of the system's,
    /// for an endpoint of `https://`.
    ///
    /// # Errors
    /// When that is no address, or these are no certificates.
    pub fn new(
        endpoint: &str,
        ca: Option<&[u8]>,
        broker: &str,
    ) -> Result<(Arc<Self>, Exporter), tonic::transport::Error> {
        let (spans, receiver) = mpsc::channel(WAITING_MAX);
        let exporter = Exporter::new(endpoint, ca, broker, receiver)?;
        Ok((Arc::new(Self { spans, delivered: Mutex::default() }), exporter))
    }

    /// A job was stored by a call.
    pub fn stored(&self, time: Time, parent: Parent, queue: &str, job: i64) {
        let mut span = span("enqueue", queue, time, parent, job);
        span.attributes.push(text("messaging.operation.type", "send"));
        self.send(span);
    }

    /// A job goes to a worker; its first attempt has waited since it could start.
    pub fn delivered(&self, now: i64, queue: &Arc<str>, job: &TakenJob) {
        let traceparent = job.options.as_ref().map_or("", |options| options.traceparent.as_str());
        let Some(parent) = Parent::parse(traceparent) else { return };
        let began = job.startable_at().unwrap_or(now).min(now);
        let mut span = span("deliver", queue, Time { began, ended: now }, parent, job.id.0);
        span.attributes.push(text("messaging.operation.type", "receive"));
        span.attributes.push(whole("currant.attempt", job.attempt.into()));
        self.send(span);
        let attempt = Attempt { id: job.id, number: job.attempt };
        self.lock().add(attempt, Traced { parent, queue: Arc::clone(queue) });
    }

    /// Those of these attempts that are part of a trace, by their place. Each is told once.
    pub fn completing(&self, attempts: impl Iterator<Item = Attempt>) -> Vec<(usize, Traced)> {
        let mut delivered = self.lock();
        if delivered.young.is_empty() && delivered.old.is_empty() {
            return Vec::new();
        }
        let traced = attempts.enumerate();
        traced.filter_map(|(place, attempt)| Some((place, delivered.take(attempt)?))).collect()
    }

    /// The outcome of an attempt was recorded, or not, as the verdict says.
    pub fn completed(
        &self,
        time: Time,
        traced: &Traced,
        attempt: Attempt,
        outcome: &str,
        verdict: &str,
    ) {
        let mut span = span("complete", &traced.queue, time, traced.parent, attempt.id.0);
        span.attributes.extend([
            text("messaging.operation.type", "settle"),
            whole("currant.attempt", attempt.number.into()),
            text("currant.outcome", outcome),
            text("currant.verdict", verdict),
        ]);
        if outcome == "failed" {
            span.status = Some(Status { code: StatusCode::Error.into(), ..Status::default() });
        }
        self.send(span);
    }

    fn send(&self, span: Span) {
        if self.spans.try_send(span).is_err() {
            metrics::counter!("currant_spans_total", "result" => "dropped").increment(1);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Delivered> {
        self.delivered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Delivered {
    fn add(&mut self, attempt: Attempt, traced: Traced) {
        if self.young.len() >= DELIVERED_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(attempt, traced);
    }

    fn take(&mut self, attempt: Attempt) -> Option<Traced> {
        self.young.remove(&attempt).or_else(|| self.old.remove(&attempt))
    }
}

fn span(operation: &str, queue: &str, time: Time, parent: Parent, job: i64) -> Span {
    let nanos = |micros: i64| u64::try_from(micros).unwrap_or(0).saturating_mul(1000);
    Span {
        trace_id: parent.trace.to_vec(),
        span_id: fastrand::u64(1..).to_be_bytes().to_vec(),
        parent_span_id: parent.span.to_vec(),
        flags: 1,
        name: format!("{operation} {queue}"),
        kind: SpanKind::Server.into(),
        start_time_unix_nano: nanos(time.began),
        end_time_unix_nano: nanos(time.ended.max(time.began)),
        attributes: vec![
            text("messaging.system", "currant"),
            text("messaging.operation.name", operation),
            text("messaging.destination.name", queue),
            text("messaging.message.id", &job.to_string()),
        ],
        ..Span::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::JobId;

    #[test]
    fn what_is_remembered_is_bounded_and_the_newest_stays() {
        let traced =
            || Traced { parent: Parent { trace: [1; 16], span: [1; 8] }, queue: "q".into() };
        let attempt = |id| Attempt { id: JobId(id), number: 1 };
        let mut delivered = Delivered::default();
        let most = i64::try_from(DELIVERED_MAX).unwrap_or(0);
        (0..most * 3).for_each(|id| delivered.add(attempt(id), traced()));
        assert!(delivered.young.len() + delivered.old.len() <= 2 * DELIVERED_MAX);
        assert!(delivered.take(attempt(0)).is_none());
        assert!(delivered.take(attempt(most * 2 - 1)).is_some(), "of the generation before");
        assert!(delivered.take(attempt(most * 3 - 1)).is_some());
        assert!(delivered.take(attempt(most * 3 - 1)).is_none(), "told once");
    }
}
