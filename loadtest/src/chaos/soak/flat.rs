//! Whether something grew between two spans of a soak.

use std::time::Duration;

use super::samples::{Sample, Samples};

/// Jobs are kept for a minute; until the first of them are gone tables grow. Of longer runs a fifth.
const WARM_UP: Duration = Duration::from_secs(75);
/// Of each of the two spans that are compared, of what is left.
const SPAN: f64 = 0.3;

/// By what the later median may be above the earlier one: a factor, and so much more.
const BYTES: (f64, f64) = (1.25, (16 << 20) as f64);
/// Descriptors and tasks: some for connections that come and go.
const COUNTS: (f64, f64) = (1.1, 20.0);

/// What grew, as sentences. Prints all of it.
pub(super) fn problems(samples: &Samples, duration: Duration) -> Vec<String> {
    let from = WARM_UP.max(duration / 5).as_secs_f64();
    let until = samples.rows.last().map_or(0.0, |sample| sample.seconds);
    let span = (until - from) * SPAN;
    let within = |from: f64, until: f64| {
        let rows = samples.rows.iter();
        rows.filter(|sample| (from..=until).contains(&sample.seconds)).collect::<Vec<_>>()
    };
    let (early, late) = (within(from, from + span), within(until - span, until));
    let Some(first) = early.first() else {
        return vec![format!("only {until:.0} s were sampled, and {from:.0} s are warm-up")];
    };
    let mut problems = Vec::new();
    for (name, _) in &first.values {
        let (Some(before), Some(after)) = (median(&early, name), median(&late, name)) else {
            problems.push(format!("{name}: not seen at the end"));
            continue;
        };
        println!("{name}: {before:.0}, {after:.0}");
        let (factor, more) = if name.contains("bytes") { BYTES } else { COUNTS };
        if after > before * factor + more {
            problems.push(format!("{name} grew from {before:.0} to {after:.0}"));
        }
    }
    problems
}

fn median(samples: &[&Sample], name: &str) -> Option<f64> {
    let find = |sample: &&Sample| {
        sample.values.iter().find(|(other, _)| other == name).map(|(_, value)| *value)
    };
    let mut values: Vec<f64> = samples.iter().filter_map(find).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 120 samples, a second each, of what is `value` at that second.
    fn found(name: &str, value: impl Fn(f64) -> f64) -> usize {
        let mut samples = Samples::new();
        samples.rows = (0..120)
            .map(|second| {
                let seconds = f64::from(second);
                Sample { seconds, values: vec![(name.to_owned(), value(seconds))] }
            })
            .collect();
        problems(&samples, Duration::from_secs(120)).len()
    }

    #[test]
    fn what_grows_after_the_warm_up_is_found() {
        assert_eq!(found("tasks", |_| 100.0), 0);
        assert_eq!(found("tasks", |second| 100.0 + 5.0 * second), 1);
        // Fast at first, then no more; and a moment of its own.
        assert_eq!(found("bytes", |second| second.min(70.0) * 1e8), 0);
        assert_eq!(found("bytes", |second| if second == 119.0 { 1e9 } else { 1e8 }), 0);
        assert_eq!(found("bytes", |second| second * second * 1e6), 1);
    }

    #[test]
    fn too_short_a_run_shows_nothing() {
        let mut samples = Samples::new();
        samples.rows.push(Sample { seconds: 60.0, values: Vec::new() });
        assert_eq!(problems(&samples, Duration::from_secs(60)).len(), 1);
    }
}
