//! Those who enqueue, over gRPC and by SQL, at a steady rate whatever happens, and write down what
//! they were told.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use currant_worker_sdk::{CancelVerdict, Client, JobId, NewJob, Unique};
use fastrand::Rng;
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    cluster::{self, Cluster, connect},
    history::{Event, Producer, Writer, now_micros},
    payload::{KIND, Payload, Scope},
    queues::{BURST, KEYED, KEYS, LIMITED, ORDERED, PAUSED, PLAIN, UNIQUE, UNIQUE_PERIOD},
};

/// Calls a second of one producer over gRPC, and of the one by SQL.
const CALLS_PER_SECOND: u32 = 10;
const JOBS_PER_CALL_MAX: u32 = 8;
/// Calls of one producer under way. More aren't begun until one has ended.
const CALLS_MAX: usize = 64;
/// After that it isn't known whether a call was stored.
const CALL_MAX: Duration = Duration::from_secs(5);
/// Attempts of a job whose handler always fails, and of all others: workers that die use them up.
const POISON_ATTEMPTS: u32 = 3;
const ATTEMPTS: u32 = 200;
/// How long after it was stored a job is cancelled.
const CANCEL_AFTER: Duration = Duration::from_millis(30);
/// How long after it was stored a job that may expire does.
const EXPIRES_MS: std::ops::Range<u64> = 500..3000;

/// Of a burst: more than all workers can hold.
const BURST_JOBS: u32 = 400;
const BURST_MS: u64 = 10;
/// The first of them, which run while what comes next happens.
const BURST_LONG_JOBS: u32 = 20;
const BURST_LONG_MS: u64 = 2500;

const ENQUEUE: &str =
    "SELECT currant.enqueue_bytes($1, $2, $3, priority => $4, max_attempts => $5, key => $6,
    expire_after => make_interval(secs => $7::float8))";
const ENQUEUE_UNIQUE: &str = "SELECT id FROM currant.enqueue_unique(
    currant.new_job_bytes($1, $2, $3, priority => $4, max_attempts => $5), $6::text, scope => $6::text,
    period => CASE $6::text WHEN 'period' THEN make_interval(secs => $7::float8) END,
    conflict => CASE $6::text WHEN 'waiting' THEN 'replace' ELSE 'existing' END)";

/// Producers that run until they are stopped.
pub(super) struct Producers {
    stop: CancellationToken,
    tasks: JoinSet<Result<()>>,
}

impl Producers {
    /// One for each broker over gRPC, and one by SQL. `name` begins the names of their calls.
    pub(super) async fn start(
        name: &str,
        seed: u64,
        cluster: &Cluster,
        history: &Writer,
    ) -> Result<Producers> {
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        for number in 0..cluster::BROKERS {
            let client = cluster.client(number).await?.deadline(CALL_MAX);
            let calls = Calls::new(format!("{name}-grpc-{number}"), seed, history);
            tasks.spawn(over_grpc(calls, client, stop.clone()));
        }
        let calls = Calls::new(format!("{name}-sql"), seed, history);
        tasks.spawn(by_sql(calls, cluster.database_url.clone(), stop.clone()));
        Ok(Producers { stop, tasks })
    }

    /// Begins no further call and waits for those under way.
    pub(super) async fn stop(mut self) -> Result<()> {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended?.context("a producer")?;
        }
        Ok(())
    }
}

/// The calls of one producer, decided by seed and name.
struct Calls {
    name: String,
    rng: Rng,
    count: u64,
    history: Writer,
}

struct Call {
    name: String,
    queue: &'static str,
    key: Option<&'static str>,
    jobs: Vec<Job>,
    cancel: bool,
}

struct Job {
    payload: Payload,
    priority: i32,
    max_attempts: u32,
    expires: Option<Duration>,
}

impl Calls {
    fn new(name: String, seed: u64, history: &Writer) -> Calls {
        let salt = name.bytes().fold(seed, |salt, byte| salt.wrapping_mul(31) + u64::from(byte));
        Calls { name, rng: Rng::with_seed(salt), count: 0, history: history.clone() }
    }

    fn next(&mut self) -> Call {
        let name = format!("{}-{}", self.name, self.count);
        self.count += 1;
        let queue = match self.rng.u8(..100) {
            0..60 => PLAIN[self.rng.usize(..PLAIN.len())],
            60..70 => LIMITED,
            70..78 => KEYED,
            78..86 => ORDERED,
            86..93 => UNIQUE,
            _ => PAUSED,
        };
        let keyed = [KEYED, ORDERED].contains(&queue);
        let key = keyed.then(|| KEYS[self.rng.usize(..KEYS.len())]);
        // One that isn't stored for another's sake leaves no call in part.
        let jobs = if queue == UNIQUE { 1 } else { self.rng.u32(1..=JOBS_PER_CALL_MAX) };
        Call {
            queue,
            key,
            jobs: (0..jobs).map(|index| self.job(queue, &name, index, jobs)).collect(),
            // A unique job may be another call's.
            cancel: self.rng.u8(..50) == 0 && queue != UNIQUE,
            name,
        }
    }

    fn job(&mut self, queue: &str, call: &str, index: u32, jobs: u32) -> Job {
        let plain = PLAIN.contains(&queue);
        let ms = match self.rng.u8(..100) {
            // One after the other, and there are others behind.
            _ if queue == ORDERED => self.rng.u64(0..30),
            _ if !plain => self.rng.u64(20..200),
            0..85 => self.rng.u64(0..20),
            85..95 => self.rng.u64(100..500),
            _ => self.rng.u64(1000..3000),
        };
        let (fail, max_attempts) = match self.rng.u8(..100) {
            // Whichever becomes which, all of one key have the same to do.
            _ if queue == UNIQUE => (0, ATTEMPTS),
            0..2 => (u32::MAX, POISON_ATTEMPTS),
            2..6 => (self.rng.u32(1..=2), ATTEMPTS),
            _ => (0, ATTEMPTS),
        };
        let expires = match self.rng.u8(..100) {
            0..50 if queue == PAUSED => Some(self.rng.u64(EXPIRES_MS)),
            0..5 if plain => Some(self.rng.u64(EXPIRES_MS)),
            _ => None,
        };
        let unique = (queue == UNIQUE).then(|| Scope::ALL[self.rng.usize(..Scope::ALL.len())]);
        let payload = Payload { call: call.to_owned(), index, jobs, ms, fail, unique };
        let priority = [-1, 0, 0, 0, 5][self.rng.usize(..5)];
        Job { payload, priority, max_attempts, expires: expires.map(Duration::from_millis) }
    }
}

/// Many jobs at once, most of them short.
pub(super) async fn burst(client: &Client, history: &Writer) -> Result<()> {
    let name = format!("burst-{}", fastrand::u64(..));
    let jobs = (0..BURST_JOBS).map(|index| {
        let ms = if index < BURST_LONG_JOBS { BURST_LONG_MS } else { BURST_MS };
        let call = name.clone();
        let payload = Payload { call, index, jobs: BURST_JOBS, ms, fail: 0, unique: None };
        Job { payload, priority: 0, max_attempts: ATTEMPTS, expires: None }
    });
    let call =
        Call { queue: BURST, key: None, jobs: jobs.collect(), cancel: false, name: name.clone() };
    enqueue(&client.clone().deadline(CALL_MAX), history, call).await
}

async fn over_grpc(mut calls: Calls, client: Client, stop: CancellationToken) -> Result<()> {
    let room = Arc::new(Semaphore::new(CALLS_MAX));
    let mut under_way = JoinSet::new();
    let mut ticks = interval(Duration::from_secs(1) / CALLS_PER_SECOND);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        while let Some(ended) = under_way.try_join_next() {
            ended??;
        }
        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else { continue };
        let (client, history, call) = (client.clone(), calls.history.clone(), calls.next());
        under_way.spawn(async move {
            let _permit = permit;
            enqueue(&client, &history, call).await
        });
    }
    while let Some(ended) = under_way.join_next().await {
        ended??;
    }
    Ok(())
}

async fn enqueue(client: &Client, history: &Writer, call: Call) -> Result<()> {
    let (began, count) = (now_micros(), call.jobs.len() as u32);
    let jobs = call.jobs.iter().map(|job| new_job(&call, job)).collect::<Result<Vec<_>>>()?;
    let stored = match call.queue {
        UNIQUE => client.enqueue_many(jobs).await,
        _ => client.enqueue_once(call.name.clone(), jobs).await,
    };
    // Whatever the error: it may have been stored, and only the checker knows.
    let Ok(ids) = stored else {
        let by = Producer::Grpc;
        return history.write(Event::Unknown { call: call.name, by, jobs: count, began });
    };
    let jobs: Vec<i64> = ids.iter().map(|id| id.0).collect();
    history.write(Event::Acknowledged { call: call.name, by: Producer::Grpc, jobs })?;
    if let Some(id) = ids.first().filter(|_| call.cancel) {
        cancel(client, history, *id).await?;
    }
    Ok(())
}

fn new_job(call: &Call, job: &Job) -> Result<NewJob> {
    let Job { payload, priority, max_attempts, expires } = job;
    let mut new = NewJob::json(call.queue, KIND, payload)?;
    if let Some(key) = call.key {
        new = new.key(key);
    }
    if let Some(expires) = expires {
        new = new.expire_after(*expires);
    }
    if let Some(scope) = payload.unique {
        let unique = Unique::key(scope.name());
        new = new.unique(match scope {
            Scope::Waiting => unique.while_waiting().replace(),
            Scope::Unfinished => unique,
            Scope::Period => unique.for_period(UNIQUE_PERIOD),
        });
    }
    Ok(new.priority(*priority).max_attempts(*max_attempts))
}

async fn cancel(client: &Client, history: &Writer, id: JobId) -> Result<()> {
    sleep(CANCEL_AFTER).await;
    history.write(Event::CancelAsked { job: id.0 })?;
    match client.cancel(id).await {
        Ok(CancelVerdict::Cancelled | CancelVerdict::Requested) => {
            history.write(Event::Cancelled { job: id.0 })
        }
        // Too late, or unknown: no promise was made.
        Ok(_) | Err(_) => Ok(()),
    }
}

async fn by_sql(mut calls: Calls, url: String, stop: CancellationToken) -> Result<()> {
    let mut ticks = interval(Duration::from_secs(1) / CALLS_PER_SECOND);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut connection = None;
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        if connection.is_none() {
            // Postgres may be away or full: the next tick tries again.
            connection = connect(&url).await.ok();
        }
        let Some(client) = &mut connection else { continue };
        let call = calls.next();
        let (began, jobs, by) = (now_micros(), call.jobs.len() as u32, Producer::Sql);
        let event = match timeout(CALL_MAX, insert(client, &call)).await {
            Ok(Ok(jobs)) => Event::Acknowledged { call: call.name, by, jobs },
            Ok(Err(_)) | Err(_) => {
                connection = None;
                Event::Unknown { call: call.name, by, jobs, began }
            }
        };
        calls.history.write(event)?;
    }
    Ok(())
}

async fn insert(client: &mut tokio_postgres::Client, call: &Call) -> Result<Vec<i64>> {
    let transaction = client.transaction().await?;
    let mut ids = Vec::new();
    for job in &call.jobs {
        let payload = serde_json::to_vec(&job.payload)?;
        let attempts = job.max_attempts as i32;
        let (queue, priority) = (&call.queue, &job.priority);
        let row = match job.payload.unique.map(Scope::name) {
            Some(scope) => {
                let period = UNIQUE_PERIOD.as_secs_f64();
                transaction
                    .query_one(
                        ENQUEUE_UNIQUE,
                        &[queue, &KIND, &payload, priority, &attempts, &scope, &period],
                    )
                    .await?
            }
            None => {
                let expires = job.expires.map(|after| after.as_secs_f64());
                transaction
                    .query_one(
                        ENQUEUE,
                        &[queue, &KIND, &payload, priority, &attempts, &call.key, &expires],
                    )
                    .await?
            }
        };
        ids.push(row.get(0));
    }
    transaction.commit().await?;
    Ok(ids)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn calls_are_decided_by_seed_and_name() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let history = Writer::open(file.path()).unwrap();
        let payloads = |name: &str, seed| {
            let mut calls = Calls::new(name.to_owned(), seed, &history);
            let payloads = |call: Call| call.jobs.into_iter().map(|job| job.payload);
            (0..50).flat_map(|_| payloads(calls.next())).collect::<Vec<_>>()
        };
        assert_eq!(payloads("a", 1), payloads("a", 1));
        assert_ne!(payloads("a", 1), payloads("a", 2));
        let all = payloads("a", 1);
        assert!(all.iter().any(|one| one.fail == u32::MAX) && all.iter().any(|one| one.ms > 500));
    }
}
