use std::time::{Duration, SystemTime};

use clap::Args;
use currant_worker_sdk::{Client, JobState, NewJob, RetryPolicy};
use serde_json::json;

use crate::{
    end::{End, Failure},
    payload::PayloadArgs,
    printer::Printer,
    shown, values,
};

#[derive(Args)]
pub(crate) struct Enqueue {
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
    /// The same call with the same key stores nothing a second time, and prints the same id
    #[arg(long, value_name = "TEXT")]
    key: Option<String>,
    /// Whose job it is: a tenant, an account
    #[arg(long, value_name = "KEY")]
    job_key: Option<String>,
    /// Wait until it is over, and print its result
    #[arg(long)]
    wait: bool,
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

impl Enqueue {
    pub(crate) async fn run(self, client: &Client, printer: &mut Printer) -> Result<End, Failure> {
        let Enqueue { queue, kind, payload, options, delay, at, key, job_key, wait } = self;
        let mut job = options.of(payload.job(queue, kind)?);
        if let Some(delay) = delay {
            job = job.delay(delay);
        }
        if let Some(at) = at {
            job = job.run_at(at);
        }
        if let Some(key) = job_key {
            job = job.key(key);
        }
        let id = match key {
            Some(key) => client.enqueue_once(key, [job]).await?.first().copied(),
            None => Some(client.enqueue(job).await?),
        };
        let Some(id) = id else { return Err(Failure::Usage("no job".to_owned())) };
        if !wait {
            printer.done(&id.to_string(), &json!({ "id": id.to_string() }))?;
            return Ok(End::Done);
        }
        let job = client.wait(id).await?;
        if printer.is_json() {
            printer.line(&shown::job::json(&job).to_string())?;
        } else if job.state == JobState::Succeeded {
            printer.line(&shown::bytes::text(&job.result))?;
        } else {
            eprintln!("job {id} is {}: {}", shown::job::state(job.state), job.error);
        }
        Ok(if job.state == JobState::Succeeded { End::Done } else { End::Refused })
    }
}
