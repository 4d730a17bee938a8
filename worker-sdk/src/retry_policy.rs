use std::time::Duration;

use currant_proto::v1::{self, retry_policy::Policy};

use crate::time::{from_proto, to_proto};

/// How long a job waits after a failed attempt.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RetryPolicy {
    /// The waits before they are moved by chance.
    pub waits: Waits,
    /// The random share of a wait; None: the default, 0.1.
    pub jitter: Option<f64>,
}

/// What is None is the broker's default.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Waits {
    /// After failure number n (from 1): `min(max_delay, base_delay * factor^(n-1))`.
    Exponential {
        /// The wait after the first failure.
        base_delay: Option<Duration>,
        /// No wait is longer.
        max_delay: Option<Duration>,
        /// By what each wait is longer than the one before; 0: the default, 2.
        factor: f64,
    },
    /// After failure number n: `min(max_delay, base_delay + step * (n-1))`.
    Linear {
        /// The wait after the first failure.
        base_delay: Option<Duration>,
        /// What is added with each failure.
        step: Option<Duration>,
        /// No wait is longer.
        max_delay: Option<Duration>,
    },
    /// The same after each failure.
    Fixed {
        /// The wait.
        delay: Option<Duration>,
    },
    /// After failure number n the n-th, and the last one after those behind.
    List {
        /// The waits.
        delays: Vec<Duration>,
    },
}

impl RetryPolicy {
    /// Starts at `base_delay`, 1 ms to 10 years; doubles up to 1 h (or `base_delay` if that is
    /// longer), jitter 0.1.
    pub fn exponential(base_delay: Duration) -> RetryPolicy {
        let base_delay = Some(base_delay);
        RetryPolicy::of(Waits::Exponential { base_delay, max_delay: None, factor: 0.0 })
    }

    /// Starts at `base_delay`, 1 ms to 10 years, and grows by `step`, up to 1 h (or `base_delay` if that is
    /// longer), jitter 0.1.
    pub fn linear(base_delay: Duration, step: Duration) -> RetryPolicy {
        let (base_delay, step) = (Some(base_delay), Some(step));
        RetryPolicy::of(Waits::Linear { base_delay, step, max_delay: None })
    }

    /// Always `delay`, at most 10 years, jitter 0.1.
    pub fn fixed(delay: Duration) -> RetryPolicy {
        RetryPolicy::of(Waits::Fixed { delay: Some(delay) })
    }

    /// These, 1 to 100 of at most 10 years, and the last one from then on, jitter 0.1.
    pub fn list(delays: impl IntoIterator<Item = Duration>) -> RetryPolicy {
        RetryPolicy::of(Waits::List { delays: delays.into_iter().collect() })
    }

    fn of(waits: Waits) -> RetryPolicy {
        RetryPolicy { waits, jitter: None }
    }

    /// The longest wait of an exponential or linear policy: at least the base delay, at most 10 years.
    pub fn max_delay(mut self, longest: Duration) -> RetryPolicy {
        if let Waits::Exponential { max_delay, .. } | Waits::Linear { max_delay, .. } =
            &mut self.waits
        {
            *max_delay = Some(longest);
        }
        self
    }

    /// What each wait of an exponential policy is longer by than the one before: 1 to 100, default 2.
    pub fn factor(mut self, by: f64) -> RetryPolicy {
        if let Waits::Exponential { factor, .. } = &mut self.waits {
            *factor = by;
        }
        self
    }

    /// The random share of a wait: 0 to 1, default 0.1.
    pub fn jitter(mut self, jitter: f64) -> RetryPolicy {
        self.jitter = Some(jitter);
        self
    }

    pub(crate) fn into_proto(self) -> v1::RetryPolicy {
        let RetryPolicy { waits, jitter } = self;
        let policy = match waits {
            Waits::Exponential { base_delay, max_delay, factor } => {
                Policy::Exponential(v1::ExponentialRetry {
                    base_delay: base_delay.map(to_proto),
                    max_delay: max_delay.map(to_proto),
                    factor,
                    jitter,
                })
            }
            Waits::Linear { base_delay, step, max_delay } => Policy::Linear(v1::LinearRetry {
                base_delay: base_delay.map(to_proto),
                step: step.map(to_proto),
                max_delay: max_delay.map(to_proto),
                jitter,
            }),
            Waits::Fixed { delay } => {
                Policy::Fixed(v1::FixedRetry { delay: delay.map(to_proto), jitter })
            }
            Waits::List { delays } => {
                let delays = delays.into_iter().map(to_proto).collect();
                Policy::List(v1::ListRetry { delays, jitter })
            }
        };
        v1::RetryPolicy { policy: Some(policy) }
    }

    pub(crate) fn from_proto(policy: v1::RetryPolicy) -> Option<RetryPolicy> {
        let v1::RetryPolicy { policy } = policy;
        let (waits, jitter) = match policy? {
            Policy::Exponential(v1::ExponentialRetry { base_delay, max_delay, factor, jitter }) => {
                let (base_delay, max_delay) = (from_proto(base_delay), from_proto(max_delay));
                (Waits::Exponential { base_delay, max_delay, factor }, jitter)
            }
            Policy::Linear(v1::LinearRetry { base_delay, step, max_delay, jitter }) => {
                let (base_delay, max_delay) = (from_proto(base_delay), from_proto(max_delay));
                (Waits::Linear { base_delay, step: from_proto(step), max_delay }, jitter)
            }
            Policy::Fixed(v1::FixedRetry { delay, jitter }) => {
                (Waits::Fixed { delay: from_proto(delay) }, jitter)
            }
            Policy::List(v1::ListRetry { delays, jitter }) => {
                let delays = delays.into_iter().filter_map(|delay| from_proto(Some(delay)));
                (Waits::List { delays: delays.collect() }, jitter)
            }
        };
        Some(RetryPolicy { waits, jitter })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_survive_the_wire() {
        let s = Duration::from_secs;
        let policies = [
            RetryPolicy::exponential(s(1)).factor(3.0).jitter(0.0).max_delay(s(9)),
            RetryPolicy::exponential(s(1)),
            RetryPolicy::linear(s(1), s(2)).max_delay(s(9)).jitter(1.0),
            RetryPolicy::fixed(s(3)),
            RetryPolicy::list([s(1), s(0), s(70)]).jitter(0.5),
        ];
        for policy in policies {
            assert_eq!(RetryPolicy::from_proto(policy.clone().into_proto()), Some(policy));
        }
    }

    #[test]
    fn what_a_policy_has_not_is_not_set() {
        let list = RetryPolicy::list([Duration::ZERO]);
        assert_eq!(list.clone().max_delay(Duration::ZERO).factor(5.0), list);
    }
}
