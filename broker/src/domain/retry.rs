use serde::{Deserialize, Serialize};

// What a policy that doesn't say it has.
pub const RETRY_BASE_MS: u64 = 1000;
pub const RETRY_MAX_MS: u64 = 3_600_000;
pub const RETRY_FACTOR: f64 = 2.0;
pub const RETRY_JITTER: f64 = 0.1;

/// How long a job waits after a failed attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RetryPolicy {
    #[serde(flatten)]
    pub waits: Waits,
    /// 0 to 1, a share of the wait.
    pub jitter: f64,
}

/// The waits without their jitter. As JSON they differ by their fields.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Waits {
    Exponential {
        base_ms: u64,
        max_ms: u64,
        /// From 1.
        factor: f64,
    },
    Linear {
        base_ms: u64,
        step_ms: u64,
        max_ms: u64,
    },
    /// At least one; the last is that of all later failures too.
    List {
        waits_ms: Vec<u64>,
    },
}

impl RetryPolicy {
    pub fn exponential(base_ms: u64, max_ms: u64, factor: f64, jitter: f64) -> Self {
        Self { waits: Waits::Exponential { base_ms, max_ms, factor }, jitter }
    }

    /// The wait after failure number `failures` (from 1), in milliseconds, moved by up to ± jitter of
    /// itself. `random` is uniform in [0, 1).
    pub fn delay_ms(&self, failures: u16, random: f64) -> u64 {
        let wait = self.waits.after(failures.max(1)) as f64;
        (wait * (1.0 + self.jitter * (2.0 * random - 1.0))).round() as u64
    }
}

impl Waits {
    fn after(&self, failures: u16) -> u64 {
        let before = failures - 1;
        match self {
            Self::Exponential { base_ms, max_ms, factor } => {
                (*base_ms as f64 * factor.powi(before.into())).min(*max_ms as f64).round() as u64
            }
            Self::Linear { base_ms, step_ms, max_ms } => {
                base_ms.saturating_add(step_ms.saturating_mul(before.into())).min(*max_ms)
            }
            Self::List { waits_ms } => {
                let wait = waits_ms.get(usize::from(before)).or(waits_ms.last());
                wait.copied().unwrap_or_default()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use proptest::prelude::*;

    fn waits(waits: Waits, failures: u16) -> Vec<u64> {
        let policy = RetryPolicy { waits, jitter: 0.1 };
        (1..=failures).map(|n| policy.delay_ms(n, 0.5)).collect()
    }

    #[test]
    fn doubles_up_to_the_cap() {
        let exponential = Waits::Exponential { base_ms: 1000, max_ms: 60_000, factor: 2.0 };
        let expected = [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000];
        assert_eq!(waits(exponential, 8), expected);
    }

    #[test]
    fn grows_by_a_step_up_to_the_cap() {
        let linear = Waits::Linear { base_ms: 1000, step_ms: 500, max_ms: 2200 };
        assert_eq!(waits(linear, 5), [1000, 1500, 2000, 2200, 2200]);
    }

    #[test]
    fn the_last_of_a_list_goes_on() {
        assert_eq!(waits(Waits::List { waits_ms: vec![5, 0, 70] }, 5), [5, 0, 70, 70, 70]);
        assert_eq!(waits(Waits::List { waits_ms: vec![9] }, 3), [9, 9, 9]);
    }

    #[test]
    fn jitter_moves_it_both_ways() {
        let policy = RetryPolicy::exponential(1000, 60_000, 2.0, 0.1);
        assert_eq!(policy.delay_ms(1, 0.0), 900);
        assert_eq!(policy.delay_ms(1, 1.0), 1100);
    }

    #[test]
    fn json_tells_the_forms_apart() {
        let read = |json: &str| serde_json::from_str::<RetryPolicy>(json).unwrap();
        let policy = read(r#"{"base_ms":7,"max_ms":9,"factor":1.5,"jitter":0.2}"#);
        assert_eq!(policy, RetryPolicy::exponential(7, 9, 1.5, 0.2));
        let forms = [
            Waits::Exponential { base_ms: 1, max_ms: 2, factor: 3.0 },
            Waits::Linear { base_ms: 1, step_ms: 2, max_ms: 3 },
            Waits::List { waits_ms: vec![1, 2] },
        ];
        for waits in forms {
            let policy = RetryPolicy { waits, jitter: 0.5 };
            assert_eq!(read(&serde_json::to_string(&policy).unwrap()), policy);
        }
    }

    proptest! {
        #[test]
        fn stays_within_cap_and_jitter(
            base_ms in 1u64..1_000_000, max_ms in 1u64..400_000_000_000, factor in 1.0f64..100.0,
            step_ms in 0u64..=u64::MAX, jitter in 0.0f64..=1.0, failures in 0u16..=u16::MAX,
            random in 0.0f64..1.0,
        ) {
            let forms = [
                Waits::Exponential { base_ms, max_ms, factor },
                Waits::Linear { base_ms, step_ms, max_ms },
            ];
            for waits in forms {
                let wait = RetryPolicy { waits, jitter }.delay_ms(failures, random) as f64;
                prop_assert!(wait <= max_ms as f64 * (1.0 + jitter) + 1.0);
                prop_assert!(wait >= base_ms.min(max_ms) as f64 * (1.0 - jitter) - 1.0);
            }
        }
    }
}
