//! Latencies: one histogram a thread, so that recording waits for nobody; merged at the end.

use std::{
    cell::Cell,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use serde::Serialize;

/// From 1 µs to 1 h with 3 significant digits; what lies outside counts as the bound.
const HIGHEST_US: u64 = 3_600_000_000;
const DIGITS: u8 = 3;

/// Latencies recorded by several threads.
#[derive(Debug)]
pub(crate) struct Latencies {
    shards: Box<[Mutex<Histogram<u32>>]>,
}

impl Latencies {
    pub(crate) fn new(threads: usize) -> Latencies {
        Latencies { shards: (0..threads.max(1)).map(|_| Mutex::new(empty())).collect() }
    }

    pub(crate) fn record_ns(&self, ns: u64) {
        self.shards[thread_number() % self.shards.len()].lock().saturating_record(ns / 1000);
    }

    pub(crate) fn merged(&self) -> Histogram<u32> {
        let mut sum = empty();
        for shard in &self.shards {
            sum.add(&*shard.lock()).expect("all have the same bounds");
        }
        sum
    }
}

fn empty() -> Histogram<u32> {
    Histogram::new_with_bounds(1, HIGHEST_US, DIGITS).expect("the bounds are valid constants")
}

/// Numbers threads in the order in which they first record.
fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static NUMBER: Cell<Option<usize>> = const { Cell::new(None) });
    NUMBER.with(|number| {
        number.get().unwrap_or_else(|| {
            let next = NEXT.fetch_add(1, Relaxed);
            number.set(Some(next));
            next
        })
    })
}

/// Milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Percentiles {
    pub(crate) p50: f64,
    pub(crate) p95: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl Percentiles {
    /// None when nothing was recorded.
    pub(crate) fn of(histogram: &Histogram<u32>) -> Option<Percentiles> {
        let ms = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
        (!histogram.is_empty()).then(|| Percentiles {
            p50: ms(0.5),
            p95: ms(0.95),
            p99: ms(0.99),
            max: histogram.max() as f64 / 1000.0,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn threads_are_merged_and_percentiles_are_milliseconds() {
        let latencies = Latencies::new(2);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let latencies = &latencies;
                scope.spawn(move || {
                    for i in 1..=250 {
                        latencies.record_ns((thread * 250 + i) * 1_000_000);
                    }
                });
            }
        });
        let percentiles = Percentiles::of(&latencies.merged()).unwrap();
        assert!((percentiles.p50 - 500.0).abs() < 1.0, "{percentiles:?}");
        assert!((percentiles.p99 - 990.0).abs() < 1.0, "{percentiles:?}");
        assert!((percentiles.max - 1000.0).abs() < 1.0, "{percentiles:?}");
        assert_eq!(Percentiles::of(&empty()), None);
    }

    #[test]
    fn what_is_out_of_bounds_counts_as_the_bound() {
        let latencies = Latencies::new(1);
        latencies.record_ns(0);
        latencies.record_ns(u64::MAX);
        assert_eq!(latencies.merged().len(), 2);
    }
}
