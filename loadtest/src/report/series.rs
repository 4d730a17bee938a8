//! Throughput over time, from samples of totals.

use serde::Serialize;

use crate::watch::Sample;

/// The finest step: samples come every 10 ms.
const STEP_MIN_NS: u64 = 50_000_000;
const STEPS_MAX: u64 = 80;

/// Rates in equal steps of time, from the start of what is measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Series {
    pub(crate) step_ms: f64,
    pub(crate) enqueued_per_s: Vec<f64>,
    pub(crate) finished_per_s: Vec<f64>,
}

impl Series {
    /// None for less than two steps of samples.
    pub(crate) fn of(samples: &[Sample], start_ns: u64) -> Option<Series> {
        let span = samples.last()?.at_ns.saturating_sub(start_ns);
        let step = (span / STEPS_MAX).max(STEP_MIN_NS);
        let steps = span / step;
        if steps < 2 {
            return None;
        }
        let at = |n: u64, value: fn(&Sample) -> u64| total_at(samples, start_ns + n * step, value);
        let rates = |value: fn(&Sample) -> u64| {
            let rate = |n| (at(n + 1, value) - at(n, value)) / (step as f64 / 1e9);
            (0..steps).map(rate).collect()
        };
        Some(Series {
            step_ms: step as f64 / 1e6,
            enqueued_per_s: rates(|sample| sample.acknowledged),
            finished_per_s: rates(|sample| sample.finished),
        })
    }
}

/// What was finished at the beginning and at the end: a run that slows down shows here.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Windows {
    /// Of each of the two.
    pub(crate) seconds: f64,
    pub(crate) first_jobs_per_s: f64,
    pub(crate) last_jobs_per_s: f64,
    pub(crate) last_to_first: Option<f64>,
    /// What a host took of the cores' time in each, which explains what a run can't.
    pub(crate) first_stolen_percent: f64,
    pub(crate) last_stolen_percent: f64,
}

impl Windows {
    /// Of a load that lasted from `from_ns` to `to_ns`. None where two such windows don't fit in.
    pub(crate) fn of(
        samples: &[Sample],
        (from_ns, to_ns): (u64, u64),
        seconds: Option<u32>,
    ) -> Option<Windows> {
        let span = to_ns.saturating_sub(from_ns);
        let window = seconds.map_or(span / 10, |seconds| u64::from(seconds) * 1_000_000_000);
        if window == 0 || span < 2 * window {
            return None;
        }
        let finished = |at_ns| total_at(samples, at_ns, |sample| sample.finished);
        let seconds = window as f64 / 1e9;
        let rate = |from: u64| (finished(from + window) - finished(from)) / seconds;
        let (first, last) = (rate(from_ns), rate(to_ns - window));
        let stolen = |from: u64| {
            let at = |at_ns| total_at(samples, at_ns, |sample| sample.stolen_ms);
            let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
            (at(from + window) - at(from)) / (seconds * 10.0 * cores)
        };
        Some(Windows {
            seconds,
            first_jobs_per_s: first,
            last_jobs_per_s: last,
            last_to_first: (first > 0.0).then(|| last / first),
            first_stolen_percent: stolen(from_ns),
            last_stolen_percent: stolen(to_ns - window),
        })
    }
}

/// A total at any time, in a straight line between the samples around it.
fn total_at(samples: &[Sample], at_ns: u64, value: fn(&Sample) -> u64) -> f64 {
    let after = samples.partition_point(|sample| sample.at_ns <= at_ns);
    let Some(low) = after.checked_sub(1).map(|before| &samples[before]) else {
        return samples.first().map_or(0.0, |sample| value(sample) as f64);
    };
    let Some(high) = samples.get(after) else { return value(low) as f64 };
    let share = (at_ns - low.at_ns) as f64 / (high.at_ns - low.at_ns) as f64;
    let grown = value(high) as f64 - value(low) as f64;
    value(low) as f64 + share * grown
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_steady_rate_is_steady_whatever_the_samples() {
        let times = [0, 13, 29, 80, 111, 150, 180, 220].map(|ms| ms * 1_000_000);
        let sample = |at_ns| Sample { at_ns, acknowledged: at_ns / 1000, ..Sample::default() };
        let samples: Vec<_> = times.into_iter().map(sample).collect();
        let series = Series::of(&samples, 0).unwrap();
        assert_eq!((series.step_ms, series.enqueued_per_s.len()), (50.0, 4));
        assert!(series.enqueued_per_s.iter().all(|rate| (rate - 1e6).abs() < 1.0));
        assert!(series.finished_per_s.iter().all(|rate| *rate == 0.0));
    }

    #[test]
    fn windows_compare_the_beginning_with_the_end() {
        // 100 jobs/s for 10 s, then 50 jobs/s for 10 s.
        let sample = |n: u64| Sample {
            at_ns: n * 1_000_000_000,
            finished: if n <= 10 { n * 100 } else { 500 + n * 50 },
            // 1 s of 10.
            stolen_ms: if n <= 10 { 0 } else { (n - 10) * 100 },
            ..Sample::default()
        };
        let samples: Vec<_> = (0..=20).map(sample).collect();
        let all = (0, 20_000_000_000);
        let windows = Windows::of(&samples, all, Some(5)).unwrap();
        assert_eq!((windows.first_jobs_per_s, windows.last_jobs_per_s), (100.0, 50.0));
        assert_eq!(windows.last_to_first, Some(0.5));
        let cores = std::thread::available_parallelism().unwrap().get() as f64;
        assert_eq!(windows.first_stolen_percent, 0.0);
        assert_eq!((windows.last_stolen_percent * cores).round(), 10.0);
        assert_eq!(Windows::of(&samples, all, None).unwrap().seconds, 2.0);
        assert_eq!(Windows::of(&samples, all, Some(11)), None);
        assert_eq!(Windows::of(&samples, (5, 5), None), None);
    }

    #[test]
    fn a_long_run_has_a_bounded_number_of_steps() {
        let sample =
            |n| Sample { at_ns: n * 1_000_000_000, acknowledged: n, finished: n, stolen_ms: 0 };
        let samples: Vec<_> = (0..5000).map(sample).collect();
        assert!(Series::of(&samples, 0).unwrap().finished_per_s.len() as u64 <= STEPS_MAX);
        assert_eq!(Series::of(&samples[..1], 0), None);
    }
}
