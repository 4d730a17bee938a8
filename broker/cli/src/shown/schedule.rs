use currant_worker_sdk::{CatchUp, Overlap, StoredSchedule};
use serde_json::{Value, json};

use super::{bytes, duration, optional, time};
use crate::values::{ms, show_duration, show_time};

pub(crate) const HEAD: &[&str] =
    &["NAME", "CRON", "TIME-ZONE", "QUEUE", "KIND", "NEXT", "LAST", "PAUSED"];

pub(crate) fn row(schedule: &StoredSchedule) -> Vec<String> {
    vec![
        schedule.name.clone(),
        schedule.cron.clone(),
        schedule.time_zone.clone(),
        schedule.queue.clone(),
        schedule.kind.clone(),
        show_time(schedule.next_fire),
        show_time(schedule.last_fire),
        show_time(schedule.paused_at),
    ]
}

pub(crate) fn fields(schedule: &StoredSchedule) -> Vec<(&'static str, String)> {
    let catch_up = match schedule.catch_up {
        CatchUp::All(window) => format!("all of {}", show_duration(Some(window))),
        other => catch_up_name(other).to_owned(),
    };
    let whose = if schedule.from_file { "a broker's file" } else { "" };
    vec![
        ("name", schedule.name.clone()),
        ("cron", schedule.cron.clone()),
        ("time zone", schedule.time_zone.clone()),
        ("queue", schedule.queue.clone()),
        ("kind", schedule.kind.clone()),
        ("priority", optional(schedule.priority)),
        ("attempts", optional(schedule.max_attempts)),
        ("timeout", show_duration(schedule.timeout)),
        ("expire after", show_duration(schedule.expire_after)),
        ("tags", schedule.tags.join(", ")),
        ("content type", schedule.content_type.clone()),
        ("payload", bytes::text(&schedule.payload)),
        ("catch up", catch_up),
        ("overlap", overlap(schedule.overlap).to_owned()),
        ("next fire", show_time(schedule.next_fire)),
        ("waiting fire", show_time(schedule.waiting_fire)),
        ("last fire", show_time(schedule.last_fire)),
        ("last job", optional(schedule.last_job)),
        ("paused", show_time(schedule.paused_at)),
        ("from", whose.to_owned()),
    ]
}

fn catch_up_name(catch_up: CatchUp) -> &'static str {
    match catch_up {
        CatchUp::Skip => "skip",
        CatchUp::Latest => "latest",
        CatchUp::All(_) => "all",
    }
}

fn overlap(overlap: Overlap) -> &'static str {
    match overlap {
        Overlap::Allow => "allow",
        Overlap::Skip => "skip",
        Overlap::QueueOne => "queue_one",
    }
}

pub(crate) fn json(schedule: &StoredSchedule) -> Value {
    let window = match schedule.catch_up {
        CatchUp::All(window) => json!(ms(window)),
        CatchUp::Skip | CatchUp::Latest => Value::Null,
    };
    json!({
        "name": schedule.name,
        "cron": schedule.cron,
        "time_zone": schedule.time_zone,
        "queue": schedule.queue,
        "kind": schedule.kind,
        "priority": schedule.priority,
        "max_attempts": schedule.max_attempts,
        "timeout_ms": duration(schedule.timeout),
        "expire_after_ms": duration(schedule.expire_after),
        "tags": schedule.tags,
        "content_type": schedule.content_type,
        "payload": bytes::json(&schedule.payload, schedule.content_type == "application/json"),
        "catch_up": catch_up_name(schedule.catch_up),
        "catch_up_window_ms": window,
        "overlap": overlap(schedule.overlap),
        "next_fire": time(schedule.next_fire),
        "waiting_fire": time(schedule.waiting_fire),
        "last_fire": time(schedule.last_fire),
        "last_job": schedule.last_job.map(|id| id.to_string()),
        "paused_at": time(schedule.paused_at),
        "from_file": schedule.from_file,
    })
}
