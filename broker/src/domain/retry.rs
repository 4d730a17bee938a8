use serde::{Deserialize, Serialize};

/// Exponential backoff with jitter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RetryPolicy {
    pub base_ms: u64,
    pub max_ms: u64,
    /// From 1.
    pub factor: f64,
    /// 0 to 1, a share of the wait.
    pub jitter: f64,
}

impl RetryPolicy {
    /// The wait after failure number `failures` (from 1), in milliseconds:
    /// min(max, base * factor^(failures - 1)), moved by up to ± jitter of itself.
    /// `random` is uniform in [0, 1).
    pub fn delay_ms(&self, failures: u16, random: f64) -> u64 {
        let exponent = i32::from(failures.max(1)) - 1;
        let wait = (self.base_ms as f64 * self.factor.powi(exponent)).min(self.max_ms as f64);
        (wait * (1.0 + self.jitter * (2.0 * random - 1.0))).round() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const POLICY: RetryPolicy =
        RetryPolicy { base_ms: 1000, max_ms: 60_000, factor: 2.0, jitter: 0.1 };

    #[test]
    fn doubles_up_to_the_cap() {
        let waits: Vec<u64> = (1..=8).map(|n| POLICY.delay_ms(n, 0.5)).collect();
        assert_eq!(waits, [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
    }

    #[test]
    fn jitter_moves_it_both_ways() {
        assert_eq!(POLICY.delay_ms(1, 0.0), 900);
        assert_eq!(POLICY.delay_ms(1, 1.0), 1100);
    }

    proptest! {
        #[test]
        fn stays_within_cap_and_jitter(
            base in 1u64..1_000_000, max in 1u64..400_000_000_000, factor in 1.0f64..100.0,
            jitter in 0.0f64..=1.0, failures in 0u16..=u16::MAX, random in 0.0f64..1.0,
        ) {
            let wait = RetryPolicy { base_ms: base, max_ms: max, factor, jitter }
                .delay_ms(failures, random);
            prop_assert!(wait as f64 <= max as f64 * (1.0 + jitter) + 1.0);
            prop_assert!(wait as f64 >= base.min(max) as f64 * (1.0 - jitter) - 1.0);
        }
    }
}
