//! Enqueue: everyone's jobs in one INSERT and one commit.
//!
//! In a flush each call gets its ids, the engine says which jobs are taken while they're stored, and
//! after the commit those are delivered and the callers answered. A call that the database refuses
//! doesn't harm the others: the batch is then stored call by call.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use tokio::sync::oneshot;

use super::{
    Core, PipelineError, Suspect,
    coalescer::{Permit, Request},
    error::log,
    hold::Admitted,
};
use crate::{
    clock::time_of_micros,
    domain::{JobId, JobKey, NewJob, QueueId, ReadyIn, Start, TakenJob, UniqueVerdict},
    engine::Storing,
    mutation::{self, Mutation},
    store::{
        self, InsertRow, PHASE_READY, PHASE_SCHEDULED, PHASE_TAKEN, StoreError, StoredCall,
        Violation,
    },
};

/// The ids of a call's jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enqueued {
    pub ids: Vec<JobId>,
    /// Stored by an earlier call with the same idempotency key.
    pub duplicate: bool,
    /// Of each, if one of them has a key; else none.
    pub verdicts: Vec<UniqueVerdict>,
}

type Reply = oneshot::Sender<Result<Enqueued, PipelineError>>;

/// One call on its way.
pub(super) struct EnqueueCall {
    /// At least one.
    jobs: Vec<NewJob>,
    idempotency_key: Option<String>,
    bytes: usize,
    /// Room in memory that is kept for its jobs until they're planned.
    admitted: Option<Admitted>,
    reply: Reply,
    _permit: Permit,
}

impl EnqueueCall {
    /// Where its idempotency key is remembered.
    fn key(&self) -> Option<(QueueId, &str)> {
        let queue = self.jobs.first()?.queue;
        self.idempotency_key.as_deref().map(|key| (queue, key))
    }

    fn answer(self, result: Result<Enqueued, PipelineError>) {
        // Nobody waits any more: the client has gone.
        let _ = self.reply.send(result);
    }
}

impl Request for EnqueueCall {
    fn rows(&self) -> usize {
        self.jobs.len()
    }

    fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Tries of one batch: each but the last takes something out of its way.
const TRIES: usize = 10;

impl Core {
    /// Stores checked jobs, all or none, and returns after the commit.
    pub async fn enqueue(
        self: &Arc<Self>,
        mut jobs: Vec<NewJob>,
        idempotency_key: Option<String>,
    ) -> Result<Enqueued, PipelineError> {
        if self.is_draining() {
            return Err(PipelineError::Draining);
        }
        let bytes = jobs.iter().map(NewJob::bytes).sum();
        let permit = self.enqueue_budget.take(jobs.len(), bytes)?;
        if jobs.iter().any(|job| job.unique.is_some()) {
            return self.enqueue_unique(jobs, permit).await;
        }
        let count = u32::try_from(jobs.len()).ok().filter(|count| *count > 1);
        if idempotency_key.is_some()
            && let (Some(count), Some(first)) = (count, jobs.first_mut())
        {
            first.options.get_or_insert_default().call_jobs = Some(count);
        }
        let admitted = self.hold(&jobs).await;
        let (reply, answer) = oneshot::channel();
        let call = EnqueueCall { jobs, idempotency_key, bytes, admitted, reply, _permit: permit };
        self.enqueue_inlet.send(call).map_err(|_| PipelineError::Draining)?;
        answer.await.map_err(|_| PipelineError::Internal)?
    }

    pub(super) async fn flush_enqueue(self: Arc<Self>, calls: Vec<EnqueueCall>) {
        if calls.iter().all(|call| call.idempotency_key.is_none()) {
            return self.store_batch(calls).await;
        }
        // The same key twice in one batch: the second has to see the first stored.
        let mut keys = HashSet::new();
        let (batch, later): (Vec<_>, Vec<_>) = calls.into_iter().partition(|call| {
            call.key().is_none_or(|(queue, key)| keys.insert((queue, key.to_owned())))
        });
        self.store_batch(batch).await;
        for call in later {
            self.store_batch(vec![call]).await;
        }
    }

    async fn store_batch(self: &Arc<Self>, mut calls: Vec<EnqueueCall>) {
        for _ in 0..TRIES {
            let mut plan = self.plan(&mut calls);
            match self.insert(&calls, &plan).await {
                Ok(()) => return self.stored(calls, &mut plan),
                Err(StoreError::Unique { violation: Violation::IdempotencyKey, .. }) => {
                    self.not_stored(&plan, false);
                    match self.answer_duplicates(calls).await {
                        Some(rest) => calls = rest,
                        None => return,
                    }
                }
                Err(StoreError::Unique { violation: Violation::JobId, .. }) => {
                    self.not_stored(&plan, false);
                    self.ids.lock().skip();
                }
                Err(StoreError::Unavailable { .. }) if mutation::on(Mutation::AckBeforeCommit) => {
                    return self.stored(calls, &mut plan);
                }
                Err(error @ (StoreError::Unavailable { .. } | StoreError::HeldForDead { .. })) => {
                    log(&error, "jobs could not be stored");
                    self.not_stored(&plan, error.may_have_committed());
                    return answer_all(calls, &PipelineError::from(&error));
                }
                Err(error) => {
                    self.not_stored(&plan, false);
                    if calls.len() > 1 {
                        for call in calls {
                            Box::pin(self.store_batch(vec![call])).await;
                        }
                        return;
                    }
                    log(&error, "a call's jobs could not be stored");
                    return answer_all(calls, &PipelineError::from(&error));
                }
            }
        }
        tracing::error!(tries = TRIES, "jobs could not be stored: something is always in the way");
        answer_all(calls, &PipelineError::Internal);
    }

    /// Makes ids and asks the engine which jobs are taken at once.
    fn plan(self: &Arc<Self>, calls: &mut [EnqueueCall]) -> Plan {
        let now = self.clock.database_micros();
        let mut plan = Plan::default();
        let jobs = || calls.iter().flat_map(|call| &call.jobs);
        plan.ids.reserve(jobs().count());
        {
            let mut ids = self.ids.lock();
            plan.ids.extend(jobs().map(|_| ids.next(now / 1000)));
        }
        for (job, id) in jobs().zip(&plan.ids) {
            let run_at = match job.start {
                Start::Now => None,
                Start::AtMicros(at) => Some(at),
                Start::AfterMicros(delay) => Some(now.saturating_add(delay)),
            }
            .filter(|at| *at > now);
            if let Some(at) = run_at {
                plan.scheduled.insert(*id, at);
            } else {
                plan.storing.push(Storing {
                    queue: job.queue,
                    id: *id,
                    priority: job.priority,
                    bytes: job.bytes(),
                    taken: false,
                    keyed: job.key.is_some(),
                });
            }
        }
        self.with_engine(|engine, _, _| {
            let admitted = calls.iter_mut().filter_map(|call| call.admitted.take());
            for admitted in admitted {
                engine.admission_ended(admitted.into_admission());
            }
            engine.storing(&mut plan.storing);
        });
        plan
    }

    async fn insert(&self, calls: &[EnqueueCall], plan: &Plan) -> Result<(), StoreError> {
        let client = self.store.client().await?;
        let mut ids = plan.ids.iter().copied();
        let mut storing = plan.storing.iter();
        let mut rows = Vec::with_capacity(plan.ids.len());
        for call in calls {
            for (index, (job, id)) in call.jobs.iter().zip(&mut ids).enumerate() {
                let run_at = plan.scheduled.get(&id).copied();
                let phase = match run_at {
                    Some(_) => PHASE_SCHEDULED,
                    None if storing.next().is_some_and(|one| one.taken) => PHASE_TAKEN,
                    None => PHASE_READY,
                };
                rows.push(InsertRow {
                    key: JobKey { queue: job.queue, id },
                    kind: &job.kind,
                    payload: &job.payload,
                    priority: job.priority,
                    phase,
                    run_at: run_at.map(time_of_micros),
                    max_attempts: job.max_attempts,
                    options: job.options.as_deref(),
                    idempotency_key: call.idempotency_key.as_deref().filter(|_| index == 0),
                    job_key: job.key.as_deref(),
                });
            }
        }
        store::insert_jobs(client, self.broker.id, &rows).await
    }

    fn stored(self: &Arc<Self>, calls: Vec<EnqueueCall>, plan: &mut Plan) {
        let mut ids = plan.ids.iter().copied();
        let mut storing = plan.storing.iter();
        let mut taken = Vec::with_capacity(plan.storing.len());
        let mut answers = Vec::with_capacity(calls.len());
        let mut scheduled = Vec::new();
        for mut call in calls {
            let call_ids: Vec<JobId> = ids.by_ref().take(call.jobs.len()).collect();
            for (job, id) in std::mem::take(&mut call.jobs).into_iter().zip(&call_ids) {
                let starts_now = plan.scheduled.is_empty() || !plan.scheduled.contains_key(id);
                if !starts_now {
                    scheduled.push(job.queue);
                } else if storing.next().is_some_and(|one| one.taken) {
                    taken.push((job.queue, taken_job(*id, job)));
                }
            }
            answers
                .push((call, Enqueued { ids: call_ids, duplicate: false, verdicts: Vec::new() }));
        }
        self.with_dispatch(|dispatch, now, actions| {
            for jobs in plan.storing.chunk_by(|one, next| one.queue == next.queue) {
                dispatch.meters.queue(jobs[0].queue).enqueued += jobs.len() as u64;
            }
            for queue in scheduled {
                dispatch.meters.queue(queue).enqueued += 1;
                dispatch.engine.scheduled(queue);
            }
            dispatch.engine.stored(now, &plan.storing, taken, actions);
        });
        for (call, enqueued) in answers {
            call.answer(Ok(enqueued));
        }
        if let Some(at) = plan.scheduled.values().min() {
            self.will_be_due(*at);
        }
        let waiting = plan.storing.iter().filter(|job| !job.taken);
        self.tell_others(
            waiting.map(|Storing { queue, keyed, .. }| ReadyIn { queue: *queue, keyed: *keyed }),
        );
    }

    fn not_stored(self: &Arc<Self>, plan: &Plan, maybe: bool) {
        self.with_engine(|engine, _, _| engine.not_stored(&plan.storing, maybe));
        if !maybe {
            return;
        }
        let mut queues: HashMap<QueueId, JobId> = HashMap::new();
        for job in plan.storing.iter().filter(|job| job.taken) {
            queues.entry(job.queue).or_insert(job.id);
        }
        for (queue, low) in queues {
            self.suspect(Suspect { queue, low });
        }
        if let Some(at) = plan.scheduled.values().min() {
            self.will_be_due(*at);
        }
    }

    /// Answers the calls that are stored already and returns the others, unless none is left.
    async fn answer_duplicates(&self, calls: Vec<EnqueueCall>) -> Option<Vec<EnqueueCall>> {
        let keys: Vec<(QueueId, &str)> = calls.iter().filter_map(EnqueueCall::key).collect();
        let found = async {
            let client = self.store.client().await?;
            store::find_idempotent(&client, &keys).await
        };
        let found = match found.await {
            Ok(found) => found,
            Err(error) => {
                log(&error, "calls with an idempotency key could not be looked up");
                answer_all(calls, &PipelineError::from(&error));
                return None;
            }
        };
        let stored: HashMap<(QueueId, &str), &StoredCall> =
            found.iter().map(|call| ((call.queue, call.idempotency_key.as_str()), call)).collect();
        let mut rest = Vec::new();
        for call in calls {
            match call.key().and_then(|key| stored.get(&key)) {
                Some(stored) => {
                    let result = duplicate(&call, stored);
                    call.answer(result);
                }
                None => rest.push(call),
            }
        }
        (!rest.is_empty()).then_some(rest)
    }
}

/// What a flush is about to do; `ids` in the order of the calls' jobs.
#[derive(Default)]
struct Plan {
    ids: Vec<JobId>,
    /// Those that start later: when, in microseconds since 1970.
    scheduled: HashMap<JobId, i64>,
    /// The others, in the order of their ids.
    storing: Vec<Storing>,
}

fn taken_job(id: JobId, job: NewJob) -> TakenJob {
    let NewJob { kind, payload, priority, max_attempts, options, key, .. } = job;
    TakenJob {
        id,
        attempt: 1,
        priority,
        failures: 0,
        max_attempts,
        run_at: None,
        kind,
        payload,
        options,
        key,
    }
}

/// The ids of a call are successors of its first.
fn duplicate(call: &EnqueueCall, stored: &StoredCall) -> Result<Enqueued, PipelineError> {
    if stored.jobs != call.jobs.len() {
        return Err(PipelineError::Invalid {
            field: "idempotency_key",
            problem: format!("was used for another call, of {} jobs", stored.jobs),
        });
    }
    let ids = std::iter::successors(Some(stored.first), |id| Some(id.successor()));
    Ok(Enqueued { ids: ids.take(stored.jobs).collect(), duplicate: true, verdicts: Vec::new() })
}

fn answer_all(calls: Vec<EnqueueCall>, error: &PipelineError) {
    for call in calls {
        call.answer(Err(error.clone()));
    }
}
