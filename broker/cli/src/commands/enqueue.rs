use std::time::{Duration, SystemTime};

use clap::{Args, ValueEnum};
use currant_worker_sdk::{Client, JobId, JobState, NewJob, RetryPolicy, StoredJob, Unique};
use serde_json::json;

use crate::{
    end::{End, Failure},
    payload::PayloadArgs,
    printer::Printer,
    shown, values,
};

#[derive(Args)]
pub(crate) struct Enqueue {
    /// Where it goes
    queue: String,
    /// What workers have a handler for
    kind: String,
    #[command(flatten)]
    payload: PayloadArgs,
    #[command(flatten)]
    options: JobOptions,
    /// How long after it is stored it may start
    #[arg(long, value_name = "DURATION", value_parser = values::duration, conflicts_with = "at")]
    delay: Option<Duration>,
    /// When it may start
    #[arg(long, value_name = "TIME", value_parser = values::time)]
    at: Option<SystemTime>,
    /// Whose job it is: a tenant, an account
    #[arg(long)]
    key: Option<String>,
    /// The same call with the same text stores nothing a second time, and prints the same id
    #[arg(long, value_name = "TEXT", conflicts_with = "unique")]
    idempotency_key: Option<String>,
    #[command(flatten)]
    unique: UniqueArgs,
    /// Wait until it is over, at most so long if that is said, and print its result
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    wait: Option<Option<Duration>>,
}

/// What a job may say for itself.
#[derive(Args)]
pub(crate) struct JobOptions {
    /// -100 to 100, higher runs first [default: the queue's]
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    priority: Option<i32>,
    /// After so many failed attempts it is dead [default: the queue's]
    #[arg(long, value_name = "NUMBER")]
    max_attempts: Option<u32>,
    /// How long one attempt may run [default: the queue's]
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    timeout: Option<Duration>,
    /// No attempt begins after this time
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    expire_after: Option<Duration>,
    /// How long to wait after the first failure; twice as long after each further one [default: the queue's]
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    retry_base: Option<Duration>,
    /// By which it is found; can be given several times
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Metadata, by which it is found too; can be given several times
    #[arg(long = "meta", value_name = "NAME=VALUE", value_parser = values::metadata)]
    metadata: Vec<(String, String)>,
}

/// Of which other job there may be none.
#[derive(Args)]
struct UniqueArgs {
    /// The queue has one job with this key; if another is in the way, its id is printed
    #[arg(long, value_name = "KEY")]
    unique: Option<String>,
    /// Which one is in the way
    #[arg(
        long,
        value_enum,
        value_name = "WHICH",
        default_value = "unfinished",
        requires = "unique"
    )]
    unique_scope: UniqueScope,
    /// One that was stored less than so long ago is in the way, whatever became of it
    #[arg(
        long,
        value_name = "DURATION",
        value_parser = values::duration,
        requires = "unique",
        conflicts_with = "unique_scope"
    )]
    unique_period: Option<Duration>,
    /// What becomes of the new job then
    #[arg(long, value_enum, value_name = "HOW", default_value = "existing", requires = "unique")]
    unique_conflict: UniqueConflict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum UniqueScope {
    /// One that is scheduled or ready
    Waiting,
    /// One that isn't over
    Unfinished,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum UniqueConflict {
    /// It isn't stored
    Existing,
    /// The other becomes it, if that one is scheduled or ready
    Replace,
    /// It is refused
    Reject,
}

impl JobOptions {
    pub(crate) fn of(self, mut job: NewJob) -> NewJob {
        let JobOptions {
            priority,
            max_attempts,
            timeout,
            expire_after,
            retry_base,
            tags,
            metadata,
        } = self;
        if let Some(priority) = priority {
            job = job.priority(priority);
        }
        if let Some(max_attempts) = max_attempts {
            job = job.max_attempts(max_attempts);
        }
        if let Some(delay) = expire_after {
            job = job.expire_after(delay);
        }
        if let Some(timeout) = timeout {
            job = job.timeout(timeout);
        }
        if let Some(base) = retry_base {
            job = job.retry(RetryPolicy::exponential(base));
        }
        let job = tags.into_iter().fold(job, NewJob::tag);
        metadata.into_iter().fold(job, |job, (name, value)| job.metadata(name, value))
    }
}

impl UniqueArgs {
    fn unique(self) -> Option<Unique> {
        let UniqueArgs { unique, unique_scope, unique_period, unique_conflict } = self;
        let unique = Unique::key(unique?);
        let unique = match (unique_period, unique_scope) {
            (Some(period), _) => unique.for_period(period),
            (None, UniqueScope::Waiting) => unique.while_waiting(),
            (None, UniqueScope::Unfinished) => unique,
        };
        Some(match unique_conflict {
            UniqueConflict::Existing => unique,
            UniqueConflict::Replace => unique.replace(),
            UniqueConflict::Reject => unique.reject(),
        })
    }
}

impl Enqueue {
    pub(crate) async fn run(self, client: &Client, printer: &mut Printer) -> Result<End, Failure> {
        let Enqueue { queue, kind, payload, options, delay, at, key, .. } = self;
        let Enqueue { idempotency_key, unique, wait, .. } = self;
        let mut job = options.of(payload.job(queue, kind)?);
        if let Some(delay) = delay {
            job = job.delay(delay);
        }
        if let Some(at) = at {
            job = job.run_at(at);
        }
        if let Some(key) = key {
            job = job.key(key);
        }
        if let Some(unique) = unique.unique() {
            job = job.unique(unique);
        }
        let id = match idempotency_key {
            Some(key) => client.enqueue_once(key, [job]).await?.first().copied(),
            None => Some(client.enqueue(job).await?),
        };
        let Some(id) = id else { return Err(Failure::Usage("no job".to_owned())) };
        match wait {
            None => {
                printer.done(&id.to_string(), &json!({ "id": id.to_string() }))?;
                Ok(End::Done)
            }
            Some(None) => over(&client.wait(id).await?, printer),
            Some(Some(wait)) => match tokio::time::timeout(wait, client.wait(id)).await {
                Ok(job) => over(&job?, printer),
                Err(_) => goes_on(id, wait, printer),
            },
        }
    }
}

fn over(job: &StoredJob, printer: &Printer) -> Result<End, Failure> {
    let succeeded = job.state == JobState::Succeeded;
    if printer.is_json() {
        printer.line(&shown::job::json(job).to_string())?;
    } else if succeeded {
        printer.line(&shown::bytes::text(&job.result))?;
    } else {
        eprintln!("job {} is {}: {}", job.id, shown::job::state(job.state), job.error);
    }
    Ok(if succeeded { End::Done } else { End::Refused })
}

/// The standard output is for a result: people find the id in what is said beside it.
fn goes_on(id: JobId, wait: Duration, printer: &Printer) -> Result<End, Failure> {
    if printer.is_json() {
        printer.line(&json!({ "id": id.to_string() }).to_string())?;
    }
    let wait = values::show_duration(Some(wait));
    eprintln!("job {id} isn't over after {wait}: it goes on");
    Ok(End::Refused)
}
