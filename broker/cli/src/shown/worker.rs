use std::time::Duration;

use currant_worker_sdk::{Broker, Session};
use serde_json::{Value, json};

use super::{duration, time};
use crate::values::{show_duration, show_time};

pub(crate) const SESSION_HEAD: &[&str] =
    &["SESSION", "WORKER", "QUEUES", "HELD", "CREDIT", "CONCURRENCY", "SEEN-AGO", "STREAM"];

pub(crate) const BROKER_HEAD: &[&str] =
    &["ID", "NAME", "STATE", "SESSIONS", "HELD", "HEARTBEAT", "DEAD-SINCE", "OWNS"];

pub(crate) fn session_row(session: &Session) -> Vec<String> {
    vec![
        session.id.clone(),
        session.worker.clone(),
        session.queues.join(","),
        session.held.to_string(),
        session.max_in_flight.to_string(),
        session.concurrency.to_string(),
        show_duration(Some(whole_ms(session.seen))),
        if session.attached { "open" } else { "away" }.to_owned(),
    ]
}

pub(crate) fn session_json(session: &Session) -> Value {
    json!({
        "id": session.id,
        "worker": session.worker,
        "queues": session.queues,
        "held": session.held,
        "max_in_flight": session.max_in_flight,
        "concurrency": session.concurrency,
        "seen_ms": duration(Some(session.seen)),
        "attached": session.attached,
    })
}

pub(crate) fn broker_row(broker: &Broker) -> Vec<String> {
    let state = match (broker.dead_at, broker.answers) {
        (Some(_), _) => "dead",
        (None, true) => "answers",
        (None, false) => "lives",
    };
    vec![
        broker.id.to_string(),
        broker.name.clone(),
        state.to_owned(),
        broker.sessions.to_string(),
        broker.held.to_string(),
        show_time(broker.heartbeat_at),
        show_time(broker.dead_at),
        broker.owned_queues.join(","),
    ]
}

pub(crate) fn broker_json(broker: &Broker) -> Value {
    json!({
        "id": broker.id,
        "name": broker.name,
        "answers": broker.answers,
        "sessions": broker.sessions,
        "held": broker.held,
        "heartbeat_at": time(broker.heartbeat_at),
        "dead_at": time(broker.dead_at),
        "owned_queues": broker.owned_queues,
    })
}

/// Nobody reads nanoseconds.
fn whole_ms(duration: Duration) -> Duration {
    Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}
