use std::time::Duration;

use clap::{Args, ValueEnum};
use currant_worker_sdk::{Client, Error, Keep, Queue, QueueSettings, RateLimit};

use crate::{end::Failure, retry::RetryArgs, values};

/// What isn't given stays as it is.
#[derive(Args)]
pub(crate) struct Set {
    /// Its name
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
    #[command(flatten)]
    retry: RetryArgs,
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
    /// How many of its jobs may go to workers in each period of the rate
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
    /// How many jobs of each key may go to workers in each period of the key rate
    #[arg(long, value_name = "NUMBER")]
    key_rate: Option<u32>,
    /// The period of the key rate: a second unless it is said
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    key_rate_period: Option<Duration>,
    /// How many of each key may go at once: as many as the key rate unless it is said
    #[arg(long, value_name = "NUMBER")]
    key_rate_burst: Option<u32>,
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
    RetryByKind,
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
        let kind = self.retry.kind.as_deref();
        if kind.is_some() && self.retry.is_empty() && !self.unset.contains(&Setting::Retry) {
            return Err("--retry-kind: nothing is said of its retries".to_owned());
        }
        for unset in &self.unset {
            match unset {
                Setting::Priority => settings.priority = None,
                Setting::MaxAttempts => settings.max_attempts = None,
                Setting::Timeout => settings.timeout = None,
                Setting::Retry => match kind {
                    None => settings.retry = None,
                    Some(kind) => drop(settings.retry_by_kind.remove(kind)),
                },
                Setting::RetryByKind => settings.retry_by_kind.clear(),
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
        let QueueSettings { priority, max_attempts, timeout, mut retry, mut retry_by_kind, .. } =
            settings;
        match kind {
            None => retry = self.retry.policy(retry)?,
            Some(kind) => {
                let policy = self.retry.policy(retry_by_kind.remove(kind))?;
                retry_by_kind.extend(policy.map(|policy| (kind.to_owned(), policy)));
            }
        }
        let given = (self.rate, self.rate_period, self.rate_burst);
        let rate = new_rate("rate", settings.rate, given)?;
        let given = (self.key_rate, self.key_rate_period, self.key_rate_burst);
        let key_rate = new_rate("key-rate", settings.key_rate, given)?;
        let QueueSettings { keep_succeeded, keep_cancelled, keep_dead, .. } = settings;
        Ok(QueueSettings {
            priority: self.priority.or(priority),
            max_attempts: self.max_attempts.or(max_attempts),
            timeout: self.timeout.or(timeout),
            retry,
            retry_by_kind,
            keep_succeeded: self.keep_succeeded.or(keep_succeeded),
            keep_cancelled: self.keep_cancelled.or(keep_cancelled),
            keep_dead: self.keep_dead.or(keep_dead),
            concurrency_max: self.concurrency_max.or(settings.concurrency_max),
            rate,
            key_concurrency_max: self.key_concurrency_max.or(settings.key_concurrency_max),
            key_rate,
            key_ordered: self.key_ordered || settings.key_ordered,
            key_weights: settings.key_weights.into_iter().chain(self.key_weight).collect(),
        })
    }
}

/// What becomes of a rate; `name`: its option.
fn new_rate(
    name: &str,
    before: Option<RateLimit>,
    (jobs, period, burst): (Option<u32>, Option<Duration>, Option<u32>),
) -> Result<Option<RateLimit>, String> {
    if jobs.is_none() && period.is_none() && burst.is_none() {
        return Ok(before);
    }
    let rate = before.or(jobs.map(RateLimit::per_second));
    let rate = rate.ok_or_else(|| format!("--{name} is wanted too"))?;
    let jobs = jobs.unwrap_or(rate.jobs);
    // Where nothing else was said of it, the burst is as large as the rate.
    let usual = if rate.burst == rate.jobs { jobs } else { rate.burst };
    let (period, burst) = (period.unwrap_or(rate.period), burst.unwrap_or(usual));
    Ok(Some(RateLimit { jobs, period, burst }))
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use currant_worker_sdk::RetryPolicy;

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
        assert!(apply(&["--key-weight", "acme"], QueueSettings::default()).is_err());
    }

    #[test]
    fn of_a_rate_what_is_not_given_stays() {
        let s = Duration::from_secs;
        let of = |jobs, period, burst| Some(RateLimit { jobs, period, burst });
        for (name, arguments, before, after) in [
            ("", &["5"][..], None, of(5, s(1), 5)),
            ("", &["5"], of(100, s(60), 7), of(5, s(60), 7)),
            ("", &["5"], of(100, s(60), 100), of(5, s(60), 5)),
            ("-period", &["1m"], of(100, s(1), 7), of(100, s(60), 7)),
            ("-burst", &["9"], of(100, s(60), 100), of(100, s(60), 9)),
        ] {
            for option in ["rate", "key-rate"] {
                let settings = match option {
                    "rate" => QueueSettings { rate: before, ..QueueSettings::default() },
                    _ => QueueSettings { key_rate: before, ..QueueSettings::default() },
                };
                let option_name = format!("--{option}{name}");
                let set = apply(&[&[&*option_name], arguments].concat(), settings);
                let set = set.map(|set| if option == "rate" { set.rate } else { set.key_rate });
                assert_eq!(set, Ok(after), "{option_name} {arguments:?}");
            }
        }
        for alone in [["--rate-burst", "3"], ["--key-rate-period", "1m"]] {
            assert!(apply(&alone, QueueSettings::default()).is_err_and(|it| it.contains("rate")));
        }
    }

    #[test]
    fn a_kind_has_a_policy_of_its_own() {
        let s = Duration::from_secs;
        let before = QueueSettings {
            retry: Some(RetryPolicy::fixed(s(1))),
            retry_by_kind: [("slow".to_owned(), RetryPolicy::exponential(s(5)))].into(),
            ..QueueSettings::default()
        };
        let by_kind = |arguments: &[&str]| {
            let after = apply(arguments, before.clone())?;
            assert_eq!(after.retry, before.retry, "{arguments:?}");
            Ok::<_, String>(Vec::from_iter(after.retry_by_kind))
        };
        let slow = |policy| ("slow".to_owned(), policy);
        let longer = RetryPolicy::exponential(s(5)).max_delay(s(60));
        assert_eq!(by_kind(&["--retry-kind", "slow", "--retry-max", "1m"]), Ok(vec![slow(longer)]));
        let quick = ("quick".to_owned(), RetryPolicy::fixed(s(2)));
        assert_eq!(
            by_kind(&["--retry-kind", "quick", "--retry-delays", "2s"]),
            Ok(vec![quick, slow(RetryPolicy::exponential(s(5)))])
        );
        assert_eq!(by_kind(&["--retry-kind", "slow", "--unset", "retry"]), Ok(vec![]));
        assert_eq!(by_kind(&["--unset", "retry-by-kind"]), Ok(vec![]));
        assert!(by_kind(&["--retry-kind", "slow"]).is_err());
        assert!(by_kind(&["--retry-kind", "other", "--retry-max", "1m"]).is_err());
    }
}
