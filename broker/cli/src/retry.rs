//! How long jobs wait after failed attempts, as a queue says it for its jobs.

use std::time::Duration;

use clap::Args;
use currant_worker_sdk::{RetryPolicy, Waits};

use crate::values;

/// What isn't given stays as it is.
#[derive(Args)]
pub(crate) struct RetryArgs {
    /// Of jobs of this kind alone: what is said of retries, and --unset retry
    #[arg(long = "retry-kind", value_name = "KIND")]
    pub(crate) kind: Option<String>,
    /// How long to wait after the first failure
    #[arg(long = "retry-base", value_name = "DURATION", value_parser = values::duration)]
    base: Option<Duration>,
    /// No wait is longer
    #[arg(long = "retry-max", value_name = "DURATION", value_parser = values::duration)]
    max: Option<Duration>,
    /// How much longer each wait is than the one before
    #[arg(long = "retry-factor", value_name = "NUMBER")]
    factor: Option<f64>,
    /// By what each wait is longer than the one before, instead of a factor
    #[arg(
        long = "retry-step",
        value_name = "DURATION",
        value_parser = values::duration,
        conflicts_with = "factor"
    )]
    step: Option<Duration>,
    /// The waits one by one, and the last from then on
    #[arg(long = "retry-delays", value_name = "DURATION,…", value_parser = values::duration,
          value_delimiter = ',', conflicts_with_all = ["base", "max", "factor", "step"])]
    delays: Vec<Duration>,
    /// The random share of a wait, 0 to 1
    #[arg(long = "retry-jitter", value_name = "NUMBER")]
    jitter: Option<f64>,
}

impl RetryArgs {
    /// Nothing is said of the waits.
    pub(crate) fn is_empty(&self) -> bool {
        let RetryArgs { kind: _, base, max, factor, step, delays, jitter } = self;
        base.or(*max).or(*step).is_none() && factor.or(*jitter).is_none() && delays.is_empty()
    }

    /// What becomes of a policy.
    pub(crate) fn policy(
        &self,
        before: Option<RetryPolicy>,
    ) -> Result<Option<RetryPolicy>, String> {
        if self.is_empty() {
            return Ok(before);
        }
        let wanted = || "--retry-base is wanted too".to_owned();
        let mut policy = match (&self.delays[..], before, self.base) {
            ([delay], ..) => RetryPolicy::fixed(*delay),
            ([_, ..], ..) => RetryPolicy::list(self.delays.iter().copied()),
            ([], Some(before), None) => before,
            ([], Some(before), Some(base)) => with_base(before, base),
            ([], None, Some(base)) => RetryPolicy::exponential(base),
            ([], None, None) => return Err(wanted()),
        };
        if let Some(step) = self.step {
            policy = with_step(policy, step).ok_or_else(wanted)?;
        }
        if let Some(factor) = self.factor {
            policy = with_factor(policy, factor).ok_or_else(wanted)?;
        }
        if let Some(max) = self.max {
            policy = with_max(policy, max).ok_or_else(wanted)?;
        }
        if let Some(jitter) = self.jitter {
            policy = policy.jitter(jitter);
        }
        Ok(Some(policy))
    }
}

fn with_base(mut policy: RetryPolicy, base: Duration) -> RetryPolicy {
    match &mut policy.waits {
        Waits::Exponential { base_delay, .. } | Waits::Linear { base_delay, .. } => {
            *base_delay = Some(base);
            policy
        }
        _ => RetryPolicy::exponential(base),
    }
}

/// None for a policy whose waits don't grow from a first one.
fn with_step(mut policy: RetryPolicy, step: Duration) -> Option<RetryPolicy> {
    policy.waits = match policy.waits {
        Waits::Exponential { base_delay, max_delay, .. }
        | Waits::Linear { base_delay, max_delay, .. } => {
            Waits::Linear { base_delay, step: Some(step), max_delay }
        }
        _ => return None,
    };
    Some(policy)
}

/// As `with_step`.
fn with_factor(mut policy: RetryPolicy, factor: f64) -> Option<RetryPolicy> {
    policy.waits = match policy.waits {
        Waits::Exponential { base_delay, max_delay, .. }
        | Waits::Linear { base_delay, max_delay, .. } => {
            Waits::Exponential { base_delay, max_delay, factor }
        }
        _ => return None,
    };
    Some(policy)
}

/// As `with_step`.
fn with_max(policy: RetryPolicy, max: Duration) -> Option<RetryPolicy> {
    let grows = matches!(policy.waits, Waits::Exponential { .. } | Waits::Linear { .. });
    grows.then(|| policy.max_delay(max))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        retry: RetryArgs,
    }

    #[test]
    fn a_policy_becomes_what_is_said_of_it() {
        let s = Duration::from_secs;
        let policy = |arguments: &[&str], before: Option<RetryPolicy>| {
            let line = [&["retry"], arguments].concat();
            Line::try_parse_from(line).map_err(|error| error.to_string())?.retry.policy(before)
        };
        let exponential = RetryPolicy::exponential(s(1)).max_delay(s(60));
        let linear = RetryPolicy::linear(s(1), s(5)).max_delay(s(60));
        let become_linear = policy(&["--retry-step", "5s"], Some(exponential.clone()));
        assert_eq!(become_linear, Ok(Some(linear.clone())));
        assert_eq!(policy(&["--retry-base", "1s"], Some(linear.clone())), Ok(Some(linear.clone())));
        let thrice = exponential.clone().factor(3.0);
        assert_eq!(policy(&["--retry-factor", "3"], Some(linear)), Ok(Some(thrice)));
        assert_eq!(policy(&["--retry-delays", "5s"], None), Ok(Some(RetryPolicy::fixed(s(5)))));
        let list = RetryPolicy::list([s(1), s(60)]);
        assert_eq!(policy(&["--retry-delays", "1s,1m"], Some(exponential)), Ok(Some(list.clone())));
        assert_eq!(
            policy(&["--retry-jitter", "0"], Some(list.clone())),
            Ok(Some(list.jitter(0.0)))
        );
        for growth in ["--retry-step=1s", "--retry-max=1s", "--retry-factor=3"] {
            for before in [Some(RetryPolicy::fixed(s(1))), None] {
                let refused = policy(&[growth], before);
                assert!(refused.is_err_and(|error| error.contains("--retry-base")), "{growth}");
            }
        }
    }
}
