/// Upper bounds in microseconds: from a job that does nothing to one of an hour.
pub(super) const BOUNDS_MICROS: [u64; 18] = [
    1_000,
    2_000,
    5_000,
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
    1_800_000_000,
    3_600_000_000,
];

/// Durations by bucket: to record one is a search and two additions.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    /// One a bound, the last for what is longer.
    pub(super) counts: [u64; BOUNDS_MICROS.len() + 1],
    pub(super) sum_micros: u64,
}

impl Histogram {
    pub fn record(&mut self, micros: u64) {
        self.counts[BOUNDS_MICROS.partition_point(|bound| *bound < micros)] += 1;
        self.sum_micros = self.sum_micros.saturating_add(micros);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_the_first_bucket_that_holds_it() {
        let mut histogram = Histogram::default();
        for micros in [0, 1_000, 1_001, 2_000, 3_600_000_000, 3_600_000_001] {
            histogram.record(micros);
        }
        let counts = histogram.counts;
        assert_eq!((counts[0], counts[1], counts[17], counts[18]), (2, 2, 1, 1));
        assert_eq!(histogram.sum_micros, 7_200_004_002);
    }
}
