//! How things look: as rows, as fields for people, as objects for programs. Ids are strings in JSON: they
//! are larger than a JavaScript number; durations are milliseconds; what there isn't is null.

pub(crate) mod bytes;
pub(crate) mod job;
pub(crate) mod queue;
pub(crate) mod schedule;
pub(crate) mod token;
pub(crate) mod worker;

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::values;

/// RFC 3339, or null.
fn time(time: Option<SystemTime>) -> Value {
    time.map_or(Value::Null, |time| json!(values::show_time(Some(time))))
}

/// Milliseconds, or null.
fn duration(duration: Option<Duration>) -> Value {
    duration.map_or(Value::Null, |duration| json!(values::ms(duration)))
}

/// Text, or nothing.
fn optional<T: ToString>(value: Option<T>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}
