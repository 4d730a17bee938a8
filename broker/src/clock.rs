//! The only place that reads a clock. Everything below the shell is given the time.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use chrono::{DateTime, Utc};

/// The monotonic clock, for deadlines and durations.
#[expect(clippy::disallowed_methods, reason = "the one place")]
pub fn now() -> Instant {
    Instant::now()
}

/// This machine's wall clock in milliseconds since 1970; 0 if it is set to before that.
#[expect(clippy::disallowed_methods, reason = "the one place")]
pub fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A time as the database stores it, from microseconds since 1970.
pub fn time_of_micros(micros: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(micros).unwrap_or(DateTime::UNIX_EPOCH)
}

/// The broker's time: monotonic since its start, and the database's as last compared.
#[derive(Debug)]
pub struct Clock {
    started: Instant,
    /// The database's time at the start, in microseconds since 1970.
    database_started: AtomicI64,
}

impl Clock {
    /// Starts at 0, with the database's time of this moment.
    pub fn new(database: DateTime<Utc>) -> Self {
        Self { started: now(), database_started: AtomicI64::new(database.timestamp_micros()) }
    }

    /// Compares again.
    pub fn set_database_time(&self, database: DateTime<Utc>) {
        let started = database.timestamp_micros() - self.micros();
        self.database_started.store(started, Ordering::Relaxed);
    }

    /// Since the start; never goes back.
    pub fn now(&self) -> Duration {
        now() - self.started
    }

    /// The database's time in microseconds since 1970, without asking it.
    pub fn database_micros(&self) -> i64 {
        self.database_started.load(Ordering::Relaxed) + self.micros()
    }

    /// The database's time, without asking it.
    pub fn database_time(&self) -> DateTime<Utc> {
        time_of_micros(self.database_micros())
    }

    fn micros(&self) -> i64 {
        i64::try_from(self.now().as_micros()).unwrap_or(i64::MAX)
    }
}

/// Measures how long something takes.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch {
    started: Instant,
}

impl Stopwatch {
    /// Starts now.
    pub fn start() -> Self {
        Self { started: now() }
    }

    /// Since the start.
    pub fn elapsed(&self) -> Duration {
        now() - self.started
    }
}
