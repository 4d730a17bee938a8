use std::time::Duration;

use clap::{Args, ValueEnum};
use currant_worker_sdk::{
    Client, Error, Keep, Queue, QueueSettings, RateLimit, RetryPolicy, Waits,
};

use crate::{end::Failure, values};

/// What isn't given stays as it is.
#[derive(Args)]
pub(crate) struct Set {
    queue: String,
    /// Of jobs that say none: -100 to 100, higher runs first
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    priority: Option<i32>,
    /// After so many failed attempts a job is dead
    #[arg(long, value_name = "NUMBER")]
    max_attempts: Option<u32>,
    /// How long one attempt may run
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    timeout: Option<Duration>,
    /// How long to wait after the first failure
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    retry_base: Option<Duration>,
    /// No wait is longer
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    retry_max: Option<Duration>,
    /// How much longer each wait is than the one before
    #[arg(long, value_name = "NUMBER")]
    retry_factor: Option<f64>,
    /// By what each wait is longer than the one before, instead of a factor
    #[arg(long, value_name = "DURATION", value_parser = values::duration, conflicts_with = "retry_factor")]
    retry_step: Option<Duration>,
    /// The waits one by one, and the last from then on
    #[arg(long, value_name = "DURATION,…", value_parser = values::duration, value_delimiter = ',',
          conflicts_with_all = ["retry_base", "retry_max", "retry_factor", "retry_step"])]
    retry_delays: Vec<Duration>,
    /// The random share of a wait, 0 to 1
    #[arg(long, value_name = "NUMBER")]
    retry_jitter: Option<f64>,
    /// How long jobs are kept that succeeded: a duration, or forever
    #[arg(long, value_name = "DURATION", value_parser = values::keep)]
    keep_succeeded: Option<Keep>,
    /// How long cancelled jobs are kept
    #[arg(long, value_name = "DURATION", value_parser = values::keep)]
    keep_cancelled: Option<Keep>,
    /// How long dead jobs are kept
    #[arg(long, value_name = "DURATION", value_parser = values::keep)]
    keep_dead: Option<Keep>,
    /// How many of its jobs workers may have at a time, over all brokers
    #[arg(long, value_name = "NUMBER")]
    concurrency_max: Option<u32>,
    /// How many of its jobs may go to workers in each rate period
    #[arg(long, value_name = "NUMBER")]
    rate: Option<u32>,
    /// The period of the rate: a second unless it is said
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    rate_period: Option<Duration>,
    /// How many may go at once: as many as the rate unless it is said
    #[arg(long, value_name = "NUMBER")]
    rate_burst: Option<u32>,
    /// How many jobs of each key workers may have at a time
    #[arg(long, value_name = "NUMBER")]
    key_concurrency_max: Option<u32>,
    /// How many jobs of each key may go to workers in a second
    #[arg(long, value_name = "NUMBER")]
    key_rate: Option<u32>,
    /// Jobs of one key run one at a time, in order
    #[arg(long)]
    key_ordered: bool,
    /// How many times as many of a key's jobs go to workers as of others, while both wait: 1 to 100
    #[arg(long, value_name = "KEY=NUMBER", value_parser = values::key_weight)]
    key_weight: Vec<(String, u32)>,
    /// Let the broker's setting hold again, or have no such limit
    #[arg(long, value_enum, value_name = "SETTING", value_delimiter = ',')]
    unset: Vec<Setting>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Setting {
    Priority,
    MaxAttempts,
    Timeout,
    Retry,
    KeepSucceeded,
    KeepCancelled,
    KeepDead,
    ConcurrencyMax,
    Rate,
    KeyConcurrencyMax,
    KeyRate,
    KeyOrdered,
    KeyWeights,
}

impl Set {
    pub(crate) async fn run(self, client: &Client) -> Result<Queue, Failure> {
        let settings = match client.queue(&self.queue).await {
            Ok(queue) => queue.settings,
            Err(Error::NotFound { .. }) => QueueSettings::default(),
            Err(error) => return Err(error.into()),
        };
        let name = self.queue.clone();
        let settings = self.apply(settings).map_err(Failure::Usage)?;
        Ok(client.configure_queue(name, settings).await?)
    }

    fn apply(self, mut settings: QueueSettings) -> Result<QueueSettings, String> {
        for unset in &self.unset {
            match unset {
                Setting::Priority => settings.priority = None,
                Setting::MaxAttempts => settings.max_attempts = None,
                Setting::Timeout => settings.timeout = None,
                Setting::Retry => settings.retry = None,
                Setting::KeepSucceeded => settings.keep_succeeded = None,
                Setting::KeepCancelled => settings.keep_cancelled = None,
                Setting::KeepDead => settings.keep_dead = None,
                Setting::ConcurrencyMax => settings.concurrency_max = None,
                Setting::Rate => settings.rate = None,
                Setting::KeyConcurrencyMax => settings.key_concurrency_max = None,
                Setting::KeyRate => settings.key_rate = None,
                Setting::KeyOrdered => settings.key_ordered = false,
                Setting::KeyWeights => settings.key_weights.clear(),
            }
        }
        let retry = self.retry(settings.retry)?;
        let QueueSettings { priority, max_attempts, timeout, retry: _, .. } = settings;
        let rate = self.rate(settings.rate)?;
        let QueueSettings { keep_succeeded, keep_cancelled, keep_dead, .. } = settings;
        Ok(QueueSettings {
            priority: self.priority.or(priority),
            max_attempts: self.max_attempts.or(max_attempts),
            timeout: self.timeout.or(timeout),
            retry,
            retry_by_kind: settings.retry_by_kind,
            keep_succeeded: self.keep_succeeded.or(keep_succeeded),
            keep_cancelled: self.keep_cancelled.or(keep_cancelled),
            keep_dead: self.keep_dead.or(keep_dead),
            concurrency_max: self.concurrency_max.or(settings.concurrency_max),
            rate,
            key_concurrency_max: self.key_concurrency_max.or(settings.key_concurrency_max),
            key_rate: self.key_rate.map(RateLimit::per_second).or(settings.key_rate),
            key_ordered: self.key_ordered || settings.key_ordered,
            key_weights: settings.key_weights.into_iter().chain(self.key_weight).collect(),
        })
    }

    fn rate(&self, before: Option<RateLimit>) -> Result<Option<RateLimit>, String> {
        let rate = match (self.rate, before) {
            // What was said of another rate doesn't fit a new one.
            (Some(jobs), _) => RateLimit::per_second(jobs),
            (None, Some(before)) => before,
            (None, None) if self.rate_period.is_some() || self.rate_burst.is_some() => {
                return Err("--rate is wanted too".to_owned());
            }
            (None, None) => return Ok(None),
        };
        Ok(Some(RateLimit {
            period: self.rate_period.unwrap_or(rate.period),
            burst: self.rate_burst.unwrap_or(rate.burst),
            ..rate
        }))
    }

    fn retry(&self, before: Option<RetryPolicy>) -> Result<Option<RetryPolicy>, String> {
        let wanted = || "--retry-base is wanted too".to_owned();
        let others = self.retry_max.or(self.retry_step).is_some()
            || self.retry_factor.or(self.retry_jitter).is_some();
        let mut policy = match (&self.retry_delays[..], before, self.retry_base) {
            ([delay], ..) => RetryPolicy::fixed(*delay),
            ([_, ..], ..) => RetryPolicy::list(self.retry_delays.iter().copied()),
            ([], Some(before), None) => before,
            ([], Some(before), Some(base)) => with_base(before, base),
            ([], None, Some(base)) => RetryPolicy::exponential(base),
            ([], None, None) => return if others { Err(wanted()) } else { Ok(None) },
        };
        if let Some(step) = self.retry_step {
            policy = with_step(policy, step).ok_or_else(wanted)?;
        }
        if let Some(max) = self.retry_max {
            policy = policy.max_delay(max);
        }
        if let Some(factor) = self.retry_factor {
            policy = policy.factor(factor);
        }
        if let Some(jitter) = self.retry_jitter {
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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        set: Set,
    }

    fn apply(arguments: &[&str], before: QueueSettings) -> Result<QueueSettings, String> {
        let line = [&["set", "emails"], arguments].concat();
        Line::try_parse_from(line).map_err(|error| error.to_string())?.set.apply(before)
    }

    #[test]
    fn a_policy_becomes_what_is_said_of_it() {
        let s = Duration::from_secs;
        let policy = |arguments: &[&str], before: Option<RetryPolicy>| {
            apply(arguments, QueueSettings { retry: before, ..QueueSettings::default() })
                .map(|settings| settings.retry)
        };
        let exponential = RetryPolicy::exponential(s(1)).max_delay(s(60));
        let linear = RetryPolicy::linear(s(1), s(5)).max_delay(s(60));
        let become_linear = policy(&["--retry-step", "5s"], Some(exponential.clone()));
        assert_eq!(become_linear, Ok(Some(linear.clone())));
        assert_eq!(policy(&["--retry-base", "1s"], Some(linear.clone())), Ok(Some(linear)));
        assert_eq!(policy(&["--retry-delays", "5s"], None), Ok(Some(RetryPolicy::fixed(s(5)))));
        let list = RetryPolicy::list([s(1), s(60)]);
        assert_eq!(policy(&["--retry-delays", "1s,1m"], Some(exponential)), Ok(Some(list.clone())));
        assert_eq!(
            policy(&["--retry-jitter", "0"], Some(list.clone())),
            Ok(Some(list.jitter(0.0)))
        );
        let fixed = || Some(RetryPolicy::fixed(s(1)));
        for (arguments, before) in
            [(["--retry-step", "1s"], fixed()), (["--retry-max", "1s"], None)]
        {
            assert!(policy(&arguments, before).is_err_and(|error| error.contains("--retry-base")));
        }
    }

    #[test]
    fn what_is_given_changes_and_the_rest_stays() {
        let before = QueueSettings {
            priority: Some(3),
            timeout: Some(Duration::from_secs(5)),
            retry: Some(RetryPolicy::exponential(Duration::from_secs(1)).jitter(0.0)),
            key_weights: [("acme".to_owned(), 9), ("other".to_owned(), 4)].into(),
            ..QueueSettings::default()
        };
        let arguments = [
            "--priority",
            "-7",
            "--unset",
            "timeout",
            "--retry-max",
            "1h",
            "--keep-dead",
            "forever",
            "--concurrency-max",
            "4",
            "--rate",
            "100",
            "--rate-burst",
            "7",
            "--key-concurrency-max",
            "2",
            "--key-ordered",
            "--key-weight",
            "acme=3",
            "--key-weight",
            "a=b=2",
        ];
        let after = apply(&arguments, before.clone());
        let retry = before.retry.clone().map(|retry| retry.max_delay(Duration::from_secs(3600)));
        let expected = QueueSettings {
            priority: Some(-7),
            timeout: None,
            retry,
            keep_dead: Some(Keep::ForEver),
            concurrency_max: Some(4),
            rate: Some(RateLimit { burst: 7, ..RateLimit::per_second(100) }),
            key_concurrency_max: Some(2),
            key_ordered: true,
            key_weights: [("a=b".to_owned(), 2), ("acme".to_owned(), 3), ("other".to_owned(), 4)]
                .into(),
            ..before.clone()
        };
        assert_eq!(after, Ok(expected));
        assert_eq!(apply(&[], before.clone()), Ok(before));
        assert!(apply(&["--retry-max", "1h"], QueueSettings::default()).is_err());
        assert!(apply(&["--rate-burst", "3"], QueueSettings::default()).is_err());
        assert!(apply(&["--key-weight", "acme"], QueueSettings::default()).is_err());
    }
}
