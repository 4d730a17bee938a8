//! The open loop's clockwork: a plain thread that says when each call is due, whatever became of
//! the earlier ones. Timers of the async runtime are too coarse for this (1 ms).

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use tokio::sync::mpsc;

use crate::clock::Clock;

/// The thread sleeps until this long before a call is due and spins for the rest: a sleep ends about
/// 50 µs late on Linux. What it is late all the same is part of the latencies measured.
const SPIN: Duration = Duration::from_micros(60);
/// A longer sleep is cut so that an abandoned pacer ends soon.
const SLEEP_MAX: Duration = Duration::from_millis(100);

/// A call that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) call: u64,
    pub(crate) first: u64,
    pub(crate) count: u32,
    /// When it was meant to be sent: latency counts from here.
    pub(crate) intended_ns: u64,
}

/// The calls of an open loop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    pub(crate) start_ns: u64,
    /// The number of the first job.
    pub(crate) first: u64,
    pub(crate) jobs: u64,
    pub(crate) batch: u32,
    /// Jobs per second.
    pub(crate) rate: u32,
}

impl Schedule {
    fn due(&self, call: u64) -> Option<Due> {
        let before = call * u64::from(self.batch);
        let left = self.jobs.checked_sub(before).filter(|left| *left > 0)?;
        // From the number, not by adding up: rounding must not slow the rate.
        let offset = u128::from(before) * 1_000_000_000 / u128::from(self.rate);
        let count = left.min(self.batch.into()) as u32;
        let first = self.first + before;
        Some(Due { call, first, count, intended_ns: self.start_ns + offset as u64 })
    }

    fn calls(&self) -> usize {
        self.jobs.div_ceil(self.batch.into()) as usize
    }
}

/// Starts the thread; the channel closes after the last call.
pub(crate) fn start(clock: Clock, schedule: Schedule) -> Result<mpsc::Receiver<Due>> {
    // Room for every call, as the loop must never wait for those who send; memory is taken only as
    // it is needed.
    let room = schedule.calls().clamp(1, tokio::sync::Semaphore::MAX_PERMITS);
    let (sender, receiver) = mpsc::channel(room);
    thread::Builder::new()
        .name("pacer".to_owned())
        .spawn(move || pace(clock, schedule, &sender))
        .context("can't start the pacer's thread")?;
    Ok(receiver)
}

fn pace(clock: Clock, schedule: Schedule, sender: &mpsc::Sender<Due>) {
    for due in (0..).map_while(|call| schedule.due(call)) {
        let at = clock.at(due.intended_ns);
        while let Some(left) = at.checked_duration_since(Instant::now()).filter(|d| *d > SPIN) {
            thread::sleep((left - SPIN).min(SLEEP_MAX));
            if sender.is_closed() {
                return;
            }
        }
        while Instant::now() < at {
            std::hint::spin_loop();
        }
        if sender.try_send(due).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn intended_times_keep_the_rate_without_drift() {
        let schedule = Schedule { start_ns: 7, first: 100, jobs: 10, batch: 4, rate: 3 };
        let calls: Vec<_> = (0..).map_while(|call| schedule.due(call)).collect();
        let times: Vec<_> = calls.iter().map(|due| due.intended_ns - 7).collect();
        assert_eq!(times, [0, 1_333_333_333, 2_666_666_666]);
        let counts: Vec<_> = calls.iter().map(|due| (due.first, due.count)).collect();
        assert_eq!(counts, [(100, 4), (104, 4), (108, 2)]);
    }

    #[test]
    fn calls_come_when_they_are_due() {
        let clock = Clock::start();
        let schedule =
            Schedule { start_ns: clock.now_ns(), first: 0, jobs: 20, batch: 1, rate: 2000 };
        let mut receiver = start(clock, schedule).unwrap();
        for call in 0..20 {
            let due = receiver.blocking_recv().unwrap();
            assert_eq!(due.call, call);
            assert!(clock.now_ns() >= due.intended_ns);
        }
        assert_eq!(receiver.blocking_recv(), None);
    }
}
