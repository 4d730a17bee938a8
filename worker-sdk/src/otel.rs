//! Traces that go through jobs, as OpenTelemetry's conventions for messaging have them: an enqueue is a span
//! `send` whose context the jobs take along, an attempt a span `process` within it. A job that is tried again
//! may run hours later: the attempt begins a trace of its own, which is linked to the job's.

use std::borrow::Cow;

use bytes::Bytes;
use opentelemetry::{
    Context,
    trace::{SpanContext, SpanId, Status, TraceContextExt, TraceFlags, TraceId, TraceState},
};
use tracing::{Span, field::Empty};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::{job::Job, new_job::NewJob};

pub(crate) fn of_attempt(job: &Job<Bytes>) -> Span {
    let span = tracing::info_span!(
        parent: None,
        "currant.job",
        queue = &*job.queue,
        kind = job.kind,
        job = job.id.0,
        attempt = job.attempt,
        outcome = Empty,
        otel.name = Empty,
        otel.kind = "consumer",
    );
    if span.is_disabled() {
        return span;
    }
    span.record("otel.name", format!("process {}", job.queue));
    describe(&span, "process", &job.queue);
    span.set_attribute("messaging.message.id", job.id.to_string());
    match parse(&job.traceparent) {
        Some(of_job) if job.failures > 0 => span.add_link(of_job),
        // It fails where no layer of OpenTelemetry is: then there is no trace to join.
        Some(of_job) => drop(span.set_parent(Context::new().with_remote_span_context(of_job))),
        None => {}
    }
    span
}

/// Around a call that stores these jobs.
pub(crate) fn of_enqueue(jobs: &[NewJob]) -> Span {
    let span = tracing::info_span!(
        "currant.enqueue",
        jobs = jobs.len(),
        otel.name = Empty,
        otel.kind = "producer",
    );
    if span.is_disabled() {
        return span;
    }
    let mut queues = jobs.iter().map(NewJob::queue_name);
    let first = queues.next().unwrap_or_default();
    if queues.all(|queue| queue == first) {
        span.record("otel.name", format!("send {first}"));
        describe(&span, "send", first);
    } else {
        span.record("otel.name", "send");
        describe(&span, "send", "");
    }
    span.set_attribute("messaging.batch.message_count", jobs.len() as i64);
    span
}

/// The context of the span that is current, for a job to take along; empty if there is none.
pub(crate) fn traceparent() -> String {
    let of_span = Span::current().context();
    let current = Context::current();
    let valid = [&of_span, &current].map(|context| context.span().span_context().clone());
    let valid = valid.into_iter().find(SpanContext::is_valid);
    valid.map_or_else(String::new, |context| {
        let (trace, span, flags) = (context.trace_id(), context.span_id(), context.trace_flags());
        format!("00-{trace:032x}-{span:016x}-{:02x}", flags.to_u8())
    })
}

/// For the backend to show.
pub(crate) fn failed(span: &Span) {
    span.set_status(Status::error(Cow::Borrowed("")));
}

fn describe(span: &Span, operation: &'static str, queue: &str) {
    span.set_attribute("messaging.system", "currant");
    span.set_attribute("messaging.operation.name", operation);
    span.set_attribute("messaging.operation.type", operation);
    if !queue.is_empty() {
        span.set_attribute("messaging.destination.name", queue.to_owned());
    }
}

/// W3C's `version-trace-parent-flags`; None for anything else, as that specification wants.
fn parse(traceparent: &str) -> Option<SpanContext> {
    let mut parts = traceparent.split('-');
    let hex = |part: Option<&'_ str>, digits| {
        let is_hex = |one: char| one.is_ascii_digit() || ('a'..='f').contains(&one);
        part.filter(|part| part.len() == digits && part.chars().all(is_hex)).map(str::to_owned)
    };
    let version = hex(parts.next(), 2)?;
    let trace = TraceId::from_hex(&hex(parts.next(), 32)?).ok()?;
    let span = SpanId::from_hex(&hex(parts.next(), 16)?).ok()?;
    let flags = u8::from_str_radix(&hex(parts.next(), 2)?, 16).ok()?;
    if version == "ff" || version == "00" && parts.next().is_some() {
        return None;
    }
    let flags = TraceFlags::new(flags) & TraceFlags::SAMPLED;
    let context = SpanContext::new(trace, span, flags, true, TraceState::NONE);
    context.is_valid().then_some(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_specification_allows_is_a_traceparent() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let context = parse(good).unwrap_or(SpanContext::NONE);
        assert!(context.is_valid() && context.is_sampled() && context.is_remote());
        assert_eq!(context.span_id().to_string(), "b7ad6b7169203331");
        assert!(parse(&good.replace("-01", "-00")).is_some_and(|context| !context.is_sampled()));
        assert!(parse(&good.replacen("00", "cc", 1)).is_some(), "a later version");
        for bad in [
            String::new(),
            "00-11-22-01".to_owned(),
            good.to_uppercase(),
            good.replacen("00", "ff", 1),
            format!("{good}-more"),
            good.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            good.replace("b7ad6b7169203331", &"0".repeat(16)),
        ] {
            assert!(parse(&bad).is_none(), "{bad}");
        }
    }
}
