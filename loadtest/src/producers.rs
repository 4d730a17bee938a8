//! The closed loop: each producer has a number of calls under way, and starts the next one when one
//! is answered.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Result, bail};
use currant_worker_sdk::{Client, NewJob};
use tokio::task::JoinSet;

use crate::{channels, jobs, recorder::Recorder, settings::Settings, workers::KIND};

/// Calls that fail in a row before a producer gives up: the SDK has retried each already.
const FAILURES_MAX: u32 = 10;

/// What producers of both loops share.
#[derive(Clone)]
pub(crate) struct Sender {
    client: Client,
    recorder: Arc<Recorder>,
    queues: Arc<[&'static str]>,
    /// Jobs with smaller numbers have a key of their own.
    backlog: u64,
    /// How many the others have in turns.
    keys: u32,
    payload_bytes: u32,
}

impl Sender {
    /// One for each producer, spread over the connections.
    pub(crate) async fn for_producers(
        settings: &Settings,
        endpoint: &str,
        queues: &[String],
        recorder: &Arc<Recorder>,
    ) -> Result<Vec<Sender>> {
        let connections = settings.channels.max(1).min(settings.producers);
        let channels = channels::open(endpoint, settings.ca_file.as_deref(), connections).await?;
        // Static, so that a job needs no copy of its queue's name; a run has few.
        let queues: Arc<[&'static str]> = queues.iter().map(|name| &*name.clone().leak()).collect();
        let client = |producer: usize| {
            let client = Client::from_channel(channels[producer % channels.len()].clone());
            match &settings.token {
                Some(token) => client.token(token.secret()),
                None => Ok(client),
            }
        };
        let senders = (0..settings.producers as usize).map(|producer| {
            Ok(Sender {
                client: client(producer)?,
                recorder: Arc::clone(recorder),
                queues: Arc::clone(&queues),
                backlog: settings.backlog,
                keys: settings.keys,
                payload_bytes: settings.payload_bytes,
            })
        });
        senders.collect()
    }

    /// One call with the jobs `first..first + count`. True if it was answered.
    pub(crate) async fn send(&self, call: u64, first: u64, count: u32, intended_ns: u64) -> bool {
        let queue = self.queues[(call % self.queues.len() as u64) as usize];
        let payloads = jobs::binary_batch(first, count, intended_ns, self.payload_bytes);
        let numbered = (first..).zip(payloads);
        let jobs = numbered.map(|(number, payload)| {
            let job = NewJob::raw(queue, KIND, payload);
            if number < self.backlog {
                return job.key("backlog");
            }
            match number.checked_rem(self.keys.into()) {
                Some(key) => job.key(format!("key {key}")),
                None => job,
            }
        });
        self.recorder.issued(first, intended_ns);
        match self.client.enqueue_many(jobs).await {
            Ok(ids) => {
                let ids = ids.into_iter().map(|id| id.0).collect();
                self.recorder.acknowledged(first, intended_ns, ids);
                true
            }
            Err(error) => {
                self.recorder.failed(&error);
                false
            }
        }
    }
}

/// Which calls are still to be made; shared by all producers.
struct Plan {
    next_call: AtomicU64,
    jobs: u64,
    batch: u64,
    /// Nothing is issued after this.
    end_ns: u64,
    /// Nor when the backlog is over.
    beside_backlog: bool,
    /// The warm-up by time ends here; None: it goes by number.
    warm_ns: Option<u64>,
}

/// Enqueues all jobs, or for as long as the settings say. Returns when every call is answered.
pub(crate) async fn closed_loop(settings: &Settings, senders: Vec<Sender>) -> Result<()> {
    let plan = Plan::new(settings, senders[0].recorder.clock.now_ns());
    drive(plan, settings, senders).await
}

/// Enqueues jobs with the numbers behind the backlog's until that is over. Returns when every call is
/// answered.
pub(crate) async fn beside_backlog(settings: &Settings, senders: Vec<Sender>) -> Result<()> {
    let plan = Plan {
        next_call: AtomicU64::new(settings.warmup_jobs() / u64::from(settings.batch)),
        jobs: settings.numbers(),
        beside_backlog: true,
        ..Plan::new(settings, 0)
    };
    drive(plan, settings, senders).await
}

async fn drive(plan: Plan, settings: &Settings, senders: Vec<Sender>) -> Result<()> {
    let plan = Arc::new(plan);
    let mut loops = JoinSet::new();
    for sender in senders {
        for _ in 0..settings.in_flight {
            loops.spawn(one_after_the_other(sender.clone(), Arc::clone(&plan)));
        }
    }
    while let Some(ended) = loops.join_next().await {
        ended??;
    }
    Ok(())
}

async fn one_after_the_other(sender: Sender, plan: Arc<Plan>) -> Result<()> {
    let recorder = Arc::clone(&sender.recorder);
    let mut failures = 0;
    while let Some((call, first, count)) = plan.next(recorder.clock.now_ns()) {
        if plan.beside_backlog && recorder.backlog_is_over() {
            break;
        }
        let now = recorder.clock.now_ns();
        if plan.warm_ns.is_some_and(|warm_ns| now >= warm_ns) {
            recorder.count_from(first);
        }
        if sender.send(call, first, count, now).await {
            failures = 0;
            continue;
        }
        failures += 1;
        if failures == FAILURES_MAX {
            let first = recorder.take_failures().first.unwrap_or_default();
            bail!("{FAILURES_MAX} Enqueue calls failed in a row; the first error: {first}");
        }
    }
    Ok(())
}

impl Plan {
    fn new(settings: &Settings, now_ns: u64) -> Plan {
        let duration = settings.duration_seconds.map(|s| Duration::from_secs(s.into()));
        let after = |duration: Duration| now_ns + duration.as_nanos() as u64;
        Plan {
            next_call: AtomicU64::new(0),
            jobs: settings.jobs,
            batch: settings.batch.into(),
            end_ns: duration.map_or(u64::MAX, after),
            beside_backlog: false,
            warm_ns: duration.map(|d| after(d * settings.warmup_percent / 100)),
        }
    }

    /// The next call: its number, its first job, how many jobs. None: done.
    fn next(&self, now_ns: u64) -> Option<(u64, u64, u32)> {
        if now_ns >= self.end_ns {
            return None;
        }
        let call = self.next_call.fetch_add(1, Relaxed);
        let first = call * self.batch;
        let left = self.jobs.checked_sub(first).filter(|left| *left > 0)?;
        Some((call, first, left.min(self.batch) as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(jobs: u64, batch: u64, end_ns: u64) -> Plan {
        let next_call = AtomicU64::new(0);
        Plan { next_call, jobs, batch, end_ns, beside_backlog: false, warm_ns: None }
    }

    #[test]
    fn a_plan_covers_every_job_once() {
        let plan = plan(25, 10, u64::MAX);
        let calls: Vec<_> = std::iter::from_fn(|| plan.next(0)).collect();
        assert_eq!(calls, [(0, 0, 10), (1, 10, 10), (2, 20, 5)]);
        assert_eq!(plan.next(0), None);
    }

    #[test]
    fn nothing_is_issued_after_the_end() {
        let plan = plan(100, 10, 50);
        assert!(plan.next(49).is_some());
        assert_eq!(plan.next(50), None);
    }
}
