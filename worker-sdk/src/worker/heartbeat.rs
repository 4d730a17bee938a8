//! When the session says that it lives.

use std::time::Duration;

use currant_proto::v1::{HeartbeatResponse, Welcome};
use tokio::time::Instant;

use super::call::Call;

/// When the Welcome doesn't say.
const INTERVAL: Duration = Duration::from_secs(5);

/// The heartbeats of one stream.
pub(super) struct Heartbeats {
    interval: Duration,
    next_at: Option<Instant>,
    pub(super) call: Call<HeartbeatResponse>,
}

impl Heartbeats {
    pub(super) fn new() -> Heartbeats {
        Heartbeats { interval: INTERVAL, next_at: None, call: Call::idle() }
    }

    /// A stream is open. The first comes at a random part of the interval, so that workers which
    /// connected together don't beat together: `random` is from 0 to 1.
    pub(super) fn begin(&mut self, welcome: &Welcome, now: Instant, random: f64) {
        self.interval = crate::time::from_proto(welcome.heartbeat_interval)
            .filter(|interval| !interval.is_zero())
            .unwrap_or(INTERVAL);
        self.next_at = Some(now + self.interval.mul_f64(random.clamp(0.0, 1.0)));
        self.call.abandon();
    }

    /// The stream is gone: there is nothing to say until the next.
    pub(super) fn end(&mut self) {
        self.next_at = None;
        self.call.abandon();
    }

    /// Whether one is due. One that has had no answer for two intervals gives way to the next.
    pub(super) fn take_due(&mut self, now: Instant) -> bool {
        if self.next_at.is_none_or(|at| at > now) {
            return false;
        }
        self.next_at = Some(now + self.interval);
        self.call.sent_at().is_none_or(|sent_at| now.duration_since(sent_at) >= 2 * self.interval)
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.next_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock, time::to_proto};

    #[test]
    fn beats_come_at_the_interval_and_not_on_top_of_each_other() {
        let start = clock::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut beats = Heartbeats::new();
        assert!(!beats.take_due(at(100)), "no stream, no heartbeat");
        let interval = Some(to_proto(Duration::from_secs(10)));
        beats.begin(&Welcome { heartbeat_interval: interval, ..Welcome::default() }, start, 0.5);
        assert!(!beats.take_due(at(4)) && beats.take_due(at(5)));
        beats.call.start(at(5), std::future::pending());
        assert!(!beats.take_due(at(15)), "the last is still in flight");
        assert!(beats.take_due(at(25)), "for too long");
        beats.end();
        assert_eq!(beats.deadline(), None);
    }
}
