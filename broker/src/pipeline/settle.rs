//! Outcomes other than success, and jobs that the broker gives back or fails itself: the job's state
//! is read, the domain decides how it goes on, and the decision is written, fenced by the attempt.

use std::{
    collections::{HashMap, HashSet},
    fmt::Write,
    sync::Arc,
};

use chrono::{DateTime, Utc};

use super::{
    Core, PipelineError, Suspect,
    dispatch::Dispatch,
    error::log,
    persist::Persistence,
    settle_call::{By, Holder, Item, SettleCall},
};
use crate::{
    clock::time_of_micros,
    domain::{self, JobKey, Next, Outcome, Queue, QueueId, Verdict},
    engine::{Completing, FailCause},
    store::{
        self, JobState, OUTCOME_CANCELLED, OUTCOME_DEAD, PHASE_READY, PHASE_SCHEDULED, PHASE_TAKEN,
        Settlement, StoreError,
    },
};

/// One item of a flush.
struct Settling<'a> {
    item: &'a Item,
    /// Only if this broker still owns it; `None`: whoever does.
    owner: Option<i32>,
    holder: Option<&'a Holder>,
    cause: Option<FailCause>,
}

/// What a try did.
struct Written {
    rows: Vec<Settlement>,
    settled: Vec<store::Settled>,
    /// As they were before; as they are after, where not all rows could be written.
    states: HashMap<JobKey, JobState>,
}

impl Core {
    pub(super) fn settle(&self, mut call: SettleCall) {
        call.under_way = Some(self.tasks.token());
        if let By::Broker { .. } = call.by {
            self.leaving(call.items.iter().map(|item| item.key));
        }
        // The coalescer runs for as long as this core does.
        let _ = self.settle_inlet.send(call);
    }

    pub(super) async fn flush_settlements(self: Arc<Self>, calls: Vec<SettleCall>) {
        let mut items: Vec<Settling<'_>> = Vec::new();
        for call in &calls {
            let owner = match &call.by {
                By::Worker { .. } => None,
                By::Broker { owner } => Some(*owner),
            };
            let (holder, cause) = (call.holder.as_ref(), call.cause);
            items.extend(call.items.iter().map(|item| Settling { item, owner, holder, cause }));
        }
        let result = self.write_settlements(&items).await;
        if let Err(error) = &result {
            log(error, "outcomes could not be stored");
        }
        let mut at = 0;
        for call in calls {
            let places = at..at + call.items.len();
            at = places.end;
            let By::Worker { session, completings, reply, _permit } = call.by else {
                if let Ok(verdicts) = &result {
                    let verdicts = call.items.iter().zip(&verdicts[places]);
                    // Stale: as its worker has taken it to another broker, perhaps.
                    let over = verdicts.filter(|(_, verdict)| **verdict != Verdict::Stale);
                    let over: Vec<_> = over.map(|(one, _)| (one.key, one.attempt)).collect();
                    self.with_engine(|engine, now, actions| engine.settled(now, &over, actions));
                } else {
                    // They have left memory and are still ours in the database.
                    for Item { key, .. } in &call.items {
                        self.suspect(Suspect { queue: key.queue, low: key.id });
                    }
                }
                self.left(call.items.iter().map(|item| item.key));
                continue;
            };
            let verdicts = match &result {
                Ok(verdicts) => {
                    let verdicts = verdicts[places].to_vec();
                    self.with_dispatch(|Dispatch { engine, meters, .. }, now, actions| {
                        for (item, completing) in recorded(&call.items, &completings, &verdicts) {
                            self.changed([item.key]);
                            let held = completing.queue.is_some();
                            meters.queue(item.key.queue).succeeded += u64::from(held);
                        }
                        engine.completed(now, session, &completings, actions);
                    });
                    Ok(verdicts)
                }
                Err(error) => {
                    self.with_engine(|engine, now, actions| {
                        engine.completion_failed(now, session, &completings, actions);
                    });
                    Err(PipelineError::from(error))
                }
            };
            // Nobody waits any more: the client has gone.
            let _ = reply.send(verdicts);
        }
    }

    /// Returns a verdict for each item, in order.
    async fn write_settlements(
        self: &Arc<Self>,
        items: &[Settling<'_>],
    ) -> Result<Vec<Verdict>, StoreError> {
        let mut keys: Vec<JobKey> = items.iter().map(|one| one.item.key).collect();
        keys.sort_unstable();
        keys.dedup();
        // A repeated try may meet what an earlier one wrote without hearing of it: that is ours.
        let mut tries = 0;
        let finished_at = self.unique_time();
        let mut persistence = Persistence::new("outcomes wait for the database");
        let Written { rows, settled, states } = loop {
            let result = self.try_settle(items, &keys, finished_at).await;
            if !persistence.again(&result).await {
                break result?;
            }
            tries += 1;
        };
        self.after_settlement(&rows, &settled);
        let applied: HashMap<JobKey, i32> = {
            let attempts: HashMap<JobKey, i32> =
                rows.iter().map(|row| (row.key, row.attempt)).collect();
            settled.iter().map(|one| (one.key, attempts[&one.key])).collect()
        };
        let mut seen = HashSet::new();
        Ok(items
            .iter()
            .map(|Settling { item, .. }| {
                let verdict = if applied.get(&item.key) == Some(&item.attempt) {
                    Verdict::Applied
                } else {
                    let at = finished_at.timestamp_micros();
                    not_applied(item, states.get(&item.key), at, tries > 0)
                };
                // Of several reports of an attempt the first was written.
                let first = seen.insert((item.key, item.attempt));
                if first || verdict != Verdict::Applied { verdict } else { Verdict::Duplicate }
            })
            .collect())
    }

    async fn try_settle(
        self: &Arc<Self>,
        items: &[Settling<'_>],
        keys: &[JobKey],
        finished_at: DateTime<Utc>,
    ) -> Result<Written, StoreError> {
        let client = self.store.client().await?;
        let states = read_states(&client, keys).await?;
        let lost = lost_workers(&client, items, &states).await?;
        let ids: Vec<QueueId> = keys.iter().map(|key| key.queue).collect();
        let queues = self.queues_by_id(&ids).await?;
        let mut rows = self.decide(items, &states, &lost, &queues, finished_at);
        rows.sort_by_key(|row| row.key);
        rows.dedup_by_key(|row| row.key);
        let settled = if rows.is_empty() {
            Vec::new()
        } else {
            store::settle_jobs(&client, self.clock.database_time(), &rows).await?
        };
        // Others wrote in between: what they wrote decides about the verdict.
        let states =
            if settled.len() < rows.len() { read_states(&client, keys).await? } else { states };
        Ok(Written { rows, settled, states })
    }

    /// What is to be written for the items whose attempts are current.
    fn decide(
        &self,
        items: &[Settling<'_>],
        states: &HashMap<JobKey, JobState>,
        lost: &HashMap<JobKey, u16>,
        queues: &HashMap<QueueId, Arc<Queue>>,
        finished_at: DateTime<Utc>,
    ) -> Vec<Settlement> {
        let now = self.clock.database_micros();
        let settlement = |Settling { item, owner, holder, .. }: &Settling<'_>| {
            let state = states.get(&item.key)?;
            let queue = queues.get(&item.key.queue)?;
            let current = state.attempt == item.attempt
                && state.phase == PHASE_TAKEN
                && state.outcome.is_none();
            if !current {
                return None;
            }
            let budget = domain::Budget {
                failures: state.failures,
                max_attempts: state.max_attempts,
                retry: state.retry.as_ref(),
                expires_at: state.expires_at,
                kind: &state.kind,
                workers_lost: lost.get(&item.key).copied(),
            };
            let (next, failures) =
                domain::settle(&item.outcome, budget, queue, now, fastrand::f64());
            let (phase, run_at, outcome) = match &next {
                Next::Scheduled { at } => (PHASE_SCHEDULED, Some(time_of_micros(*at)), None),
                Next::Ready => (PHASE_READY, None, None),
                Next::Dead => (PHASE_TAKEN, None, Some(OUTCOME_DEAD)),
                Next::Cancelled | Next::Expired => (PHASE_TAKEN, None, Some(OUTCOME_CANCELLED)),
            };
            let mut failure = item.outcome.failure();
            if next == Next::Expired {
                match &mut failure {
                    Some(failure) => failure.message += "; it would start again after it expires",
                    None => failure = Outcome::Expired.failure(),
                }
            }
            if let (Some(before @ 1..), Some(OUTCOME_DEAD), Some(failure)) =
                (budget.workers_lost, outcome, &mut failure)
            {
                let _ = write!(failure.message, ", as were {before} before");
            }
            let worker = holder.filter(|_| failure.is_some()).map(Holder::as_stored);
            Some(Settlement {
                key: item.key,
                attempt: item.attempt,
                owner: *owner,
                phase,
                run_at,
                failures,
                outcome,
                failure,
                worker,
                finished_at: outcome.map(|_| finished_at),
            })
        };
        items.iter().filter_map(settlement).collect()
    }

    /// Wakes whoever cares for the rows that were written.
    fn after_settlement(self: &Arc<Self>, rows: &[Settlement], settled: &[store::Settled]) {
        self.changed(settled.iter().map(|one| one.key));
        self.are_ready(settled);
        let due = rows.iter().filter_map(|row| row.run_at).min();
        if let Some(at) = due {
            self.will_be_due(at.timestamp_micros());
        }
        let mut written: Vec<JobKey> = settled.iter().map(|one| one.key).collect();
        written.sort_unstable();
        let mut failures = Vec::new();
        let mut dispatch = self.dispatch.lock();
        // Others were quicker with the rest.
        for row in rows.iter().filter(|row| written.binary_search(&row.key).is_ok()) {
            let name = match row.outcome {
                Some(OUTCOME_DEAD) => "dead",
                Some(_) => "cancelled",
                None if row.phase == PHASE_SCHEDULED => "scheduled",
                None => "ready",
            };
            metrics::counter!("currant_settlements_total", "next" => name).increment(1);
            let meter = dispatch.meters.queue(row.key.queue);
            // Only a failure leaves an error, and what has expired.
            if row.failure.is_some() && row.outcome == Some(OUTCOME_CANCELLED) {
                metrics::counter!("currant_jobs_expired_total").increment(1);
            } else if row.failure.is_some() {
                meter.failed += 1;
                failures.push((row, name));
                meter.retried += u64::from(row.outcome.is_none());
            }
            match row.outcome {
                Some(OUTCOME_DEAD) => meter.dead += 1,
                Some(_) => meter.cancelled += 1,
                None => {}
            }
        }
        drop(dispatch);
        let mut lines = self.failure_lines.lock();
        for (row, next) in failures {
            let queue = self.queues.name(row.key.queue);
            lines.write(self.clock.now(), queue.as_deref().unwrap_or_default(), row, next);
        }
    }
}

/// Those that the worker had recorded itself.
fn recorded<'a>(
    items: &'a [Item],
    completings: &'a [Completing],
    verdicts: &'a [Verdict],
) -> impl Iterator<Item = (&'a Item, &'a Completing)> {
    let all = items.iter().zip(completings).zip(verdicts);
    all.filter(|((item, _), verdict)| {
        item.outcome == Outcome::Committed && **verdict == Verdict::Duplicate
    })
    .map(|(one, _)| one)
}

/// How many workers were lost before with the jobs whose worker is lost now.
async fn lost_workers(
    client: &store::Client,
    items: &[Settling<'_>],
    states: &HashMap<JobKey, JobState>,
) -> Result<HashMap<JobKey, u16>, StoreError> {
    let lost = items.iter().filter(|one| one.cause == Some(FailCause::WorkerLost));
    let jobs: Vec<(JobKey, u16)> =
        lost.filter_map(|one| Some((one.item.key, states.get(&one.item.key)?.failures))).collect();
    if jobs.is_empty() { Ok(HashMap::new()) } else { store::lost_workers(client, &jobs).await }
}

async fn read_states(
    client: &store::Client,
    keys: &[JobKey],
) -> Result<HashMap<JobKey, JobState>, StoreError> {
    let states = store::job_states(client, keys).await?;
    Ok(states.into_iter().map(|state| (state.key, state)).collect())
}

/// `repeated`: an earlier try of the same flush may have committed.
fn not_applied(
    item: &Item,
    state: Option<&JobState>,
    finished_micros: i64,
    repeated: bool,
) -> Verdict {
    match state {
        None => Verdict::NotFound,
        Some(state) if repeated && state.attempt == item.attempt && state.phase != PHASE_TAKEN => {
            Verdict::Applied
        }
        Some(state) if state.attempt != item.attempt || state.outcome.is_none() => Verdict::Stale,
        Some(state) if state.finished_at == Some(finished_micros) => Verdict::Applied,
        Some(_) => Verdict::Duplicate,
    }
}
