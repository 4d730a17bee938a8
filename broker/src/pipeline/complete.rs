//! Complete: everyone's successes in one UPDATE and one commit; other outcomes go to `settle`.
//!
//! While Postgres is away a flush waits and tries again: held completions are applied after.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use tokio::sync::oneshot;

use super::{
    Caller, Core, PipelineError,
    coalescer::{Permit, Request},
    dispatch::Dispatch,
    error::log,
    persist::Persistence,
    settle_call::{Holder, SettleCall},
};
use crate::{
    domain::{Attempt, Completion, JobId, JobKey, Outcome, QueueId, Verdict},
    engine::{Completing, SessionId},
    meters::Meters,
    store::{self, COMPLETE_ROWS_MAX, JobState, StoreError, Success},
};

pub(super) type Verdicts = Result<Vec<Verdict>, PipelineError>;

/// The successes of one call.
pub(super) struct SuccessCall {
    session: SessionId,
    completings: Vec<Completing>,
    /// As many.
    rows: Vec<SuccessRow>,
    bytes: usize,
    reply: oneshot::Sender<Verdicts>,
    _permit: Arc<Permit>,
}

struct SuccessRow {
    key: JobKey,
    attempt: i32,
    result: Bytes,
}

impl Request for SuccessCall {
    fn rows(&self) -> usize {
        self.rows.len()
    }

    fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Waits for what was sent off, with the places of its verdicts in the answer.
type Awaited = (Vec<usize>, oneshot::Receiver<Verdicts>);

impl Core {
    /// Records outcomes and returns after the commit: a verdict for each, in order. What the session
    /// holds is of queues that it was opened with; of all else the caller's queues are looked at.
    pub async fn complete(
        self: &Arc<Self>,
        caller: &Caller,
        session: SessionId,
        received_seq: u64,
        run_time: Option<Duration>,
        completions: Vec<Completion>,
    ) -> Verdicts {
        self.metrics.complete_calls.increment(1);
        let bytes = completions.iter().map(Completion::bytes).sum();
        let permit = Arc::new(self.complete_budget.take(completions.len(), bytes)?);
        let attempts = completions.iter().map(|one| one.attempt);
        let completings = self.with_dispatch(|dispatch, now, actions| {
            let engine = &mut dispatch.engine;
            let completings =
                engine.completing(now, session, received_seq, run_time, attempts, actions);
            measure_runs(&mut dispatch.meters, &completings);
            completings
        });
        let mut verdicts = vec![Verdict::NotFound; completions.len()];
        let mut unknown = Vec::new();
        let places = completings.into_iter().zip(completions).enumerate();
        let known = places.filter_map(|(place, (completing, completion))| match completing.queue {
            Some(queue) => Some((place, completing, queue, completion.outcome)),
            None => {
                unknown.push((place, completing, completion.outcome));
                None
            }
        });
        // First, and without an await before: from here on their leases depend on it.
        let sent = self.send_off(session, known, &permit);
        let mut located = [None, None];
        if !unknown.is_empty() {
            located = self.send_off(session, self.locate(caller, unknown).await?, &permit);
        }
        for (places, answer) in sent.into_iter().chain(located).flatten() {
            let answers = answer.await.map_err(|_| PipelineError::Internal)??;
            for (place, verdict) in places.into_iter().zip(answers) {
                verdicts[place] = verdict;
            }
        }
        for (verdict, counter) in &self.metrics.completions {
            let count = verdicts.iter().filter(|one| *one == verdict).count();
            counter.increment(count as u64);
        }
        Ok(verdicts)
    }

    /// Sends off successes, and all else.
    fn send_off(
        &self,
        session: SessionId,
        items: impl IntoIterator<Item = (usize, Completing, QueueId, Outcome)>,
        permit: &Arc<Permit>,
    ) -> [Option<Awaited>; 2] {
        let (mut places, mut rows, mut completings) = (Vec::new(), Vec::new(), Vec::new());
        let (mut other_places, mut others) = (Vec::new(), Vec::new());
        let mut bytes = 0;
        for (place, completing, queue, outcome) in items {
            let Attempt { id, number } = completing.attempt;
            let key = JobKey { queue, id };
            match outcome {
                Outcome::Succeeded { result } => {
                    bytes += result.len() + 64;
                    places.push(place);
                    completings.push(completing);
                    rows.push(SuccessRow { key, attempt: number, result });
                }
                outcome => {
                    other_places.push(place);
                    others.push((completing, key, outcome));
                }
            }
        }
        let mut awaited = [None, None];
        if !rows.is_empty() {
            let (reply, answer) = oneshot::channel();
            let permit = Arc::clone(permit);
            let call = SuccessCall { session, completings, rows, bytes, reply, _permit: permit };
            // The coalescer runs for as long as this core does; without it the answer is an error.
            let _ = self.complete_inlet.send(call);
            awaited[0] = Some((places, answer));
        }
        if !others.is_empty() {
            let failed = others.iter().any(|(_, _, outcome)| {
                matches!(outcome, Outcome::Failed { .. } | Outcome::Committed)
            });
            // A report without a session says nothing of it.
            let holder = (failed && session != SessionId(0)).then(|| Holder {
                session,
                worker: self.engine(|engine| engine.worker_of(session)),
            });
            let (call, answer) = SettleCall::by_worker(session, holder, others, Arc::clone(permit));
            self.settle(call);
            awaited[1] = Some((other_places, answer));
        }
        awaited
    }

    /// Asks the database for the queues of attempts that no session here holds.
    async fn locate(
        self: &Arc<Self>,
        caller: &Caller,
        items: Vec<(usize, Completing, Outcome)>,
    ) -> Result<Vec<(usize, Completing, QueueId, Outcome)>, PipelineError> {
        let ids: Vec<JobId> =
            items.iter().map(|(_, completing, _)| completing.attempt.id).collect();
        let mut persistence = Persistence::new("attempts to be located wait for the database");
        let keys = loop {
            let result = self.keys_for(caller, &ids, None).await;
            if !persistence.again(&result).await {
                break result.map_err(|error| PipelineError::from(&error))?;
            }
        };
        let queues: HashMap<JobId, QueueId> =
            keys.into_iter().map(|key| (key.id, key.queue)).collect();
        Ok(items
            .into_iter()
            .filter_map(|(place, completing, outcome)| {
                let queue = *queues.get(&completing.attempt.id)?;
                Some((place, completing, queue, outcome))
            })
            .collect())
    }

    pub(super) async fn flush_successes(self: Arc<Self>, calls: Vec<SuccessCall>) {
        let mut rows: Vec<(usize, usize)> = Vec::new();
        for (call, rows_of_call) in calls.iter().map(|call| &call.rows).enumerate() {
            rows.extend((0..rows_of_call.len()).map(|row| (call, row)));
        }
        let at = |&(call, row): &(usize, usize)| &calls[call].rows[row];
        // Sorted, so that two flushes can't deadlock; by place, so that the first report counts.
        let attempt = |place: &(usize, usize)| (at(place).key, at(place).attempt);
        rows.sort_unstable_by_key(|place| (attempt(place), *place));
        let mut repeats = Vec::new();
        rows.dedup_by(|later, first| {
            let repeated = attempt(later) == attempt(first);
            if repeated {
                repeats.push((*later, *first));
            }
            repeated
        });
        let mut verdicts: Vec<Verdicts> =
            calls.iter().map(|call| Ok(vec![Verdict::Applied; call.rows.len()])).collect();
        for chunk in rows.chunks(COMPLETE_ROWS_MAX) {
            let successes: Vec<Success<'_>> = chunk
                .iter()
                .map(at)
                .map(|row| Success { key: row.key, attempt: row.attempt, result: &row.result })
                .collect();
            match self.write_successes(&successes).await {
                Ok(None) => {}
                Ok(Some(found)) => {
                    for (&(call, row), verdict) in chunk.iter().zip(found) {
                        if let Ok(verdicts) = &mut verdicts[call] {
                            verdicts[row] = verdict;
                        }
                    }
                }
                Err(error) => {
                    log(&error, "successes could not be stored");
                    for &(call, _) in chunk {
                        verdicts[call] = Err(PipelineError::from(&error));
                    }
                }
            }
        }
        for ((call, row), (first_call, first_row)) in repeats {
            let verdict = match &verdicts[first_call] {
                Ok(first) if first[first_row] == Verdict::Applied => Ok(Verdict::Duplicate),
                Ok(first) => Ok(first[first_row]),
                Err(error) => Err(error.clone()),
            };
            match (verdict, &mut verdicts[call]) {
                (Ok(verdict), Ok(verdicts)) => verdicts[row] = verdict,
                (Err(error), verdicts) => *verdicts = Err(error),
                (Ok(_), Err(_)) => {}
            }
        }
        self.with_dispatch(|Dispatch { engine, meters, .. }, now, actions| {
            for (call, verdicts) in calls.iter().zip(&verdicts) {
                if let Ok(verdicts) = verdicts {
                    count_successes(meters, &call.rows, verdicts);
                    engine.completed(now, call.session, &call.completings, actions);
                } else {
                    engine.completion_failed(now, call.session, &call.completings, actions);
                }
            }
        });
        for (call, verdicts) in calls.into_iter().zip(verdicts) {
            // Nobody waits any more: the client has gone.
            let _ = call.reply.send(verdicts);
        }
    }

    /// Writes one statement's worth. `None`: all were applied; else the verdict of each.
    async fn write_successes(
        &self,
        rows: &[Success<'_>],
    ) -> Result<Option<Vec<Verdict>>, StoreError> {
        let finished_at = self.unique_time();
        let mut persistence = Persistence::new("completions wait for the database");
        loop {
            let result = self.try_successes(rows, finished_at).await;
            if !persistence.again(&result).await {
                return result;
            }
        }
    }

    async fn try_successes(
        &self,
        rows: &[Success<'_>],
        finished_at: DateTime<Utc>,
    ) -> Result<Option<Vec<Verdict>>, StoreError> {
        let client = self.store.client().await?;
        let written = self.store.complete_jobs(&client, finished_at, rows).await?;
        self.changed(rows.iter().map(|row| row.key));
        if written == rows.len() as u64 {
            return Ok(None);
        }
        let keys: Vec<JobKey> = rows.iter().map(|row| row.key).collect();
        let states = store::job_states(&client, &keys).await?;
        let states: HashMap<JobKey, JobState> =
            states.into_iter().map(|state| (state.key, state)).collect();
        let verdict = |row: &Success<'_>| verdict(row, states.get(&row.key), finished_at);
        Ok(Some(rows.iter().map(verdict).collect()))
    }
}

/// What became of a success, by the row as it stands after. `finished_at` is of this flush alone.
fn verdict(row: &Success<'_>, state: Option<&JobState>, finished_at: DateTime<Utc>) -> Verdict {
    match state {
        None => Verdict::NotFound,
        Some(state) if state.attempt != row.attempt || state.outcome.is_none() => Verdict::Stale,
        Some(state) if state.finished_at == Some(finished_at.timestamp_micros()) => {
            Verdict::Applied
        }
        Some(_) => Verdict::Duplicate,
    }
}

fn measure_runs(meters: &mut Meters, completings: &[Completing]) {
    for alike in completings.chunk_by(|one, next| one.queue == next.queue) {
        let Some(queue) = alike[0].queue else { continue };
        let meter = meters.queue(queue);
        for ran in alike.iter().filter_map(|one| one.ran) {
            meter.run.record(u64::try_from(ran.as_micros()).unwrap_or(u64::MAX));
        }
    }
}

fn count_successes(meters: &mut Meters, rows: &[SuccessRow], verdicts: &[Verdict]) {
    let mut verdicts = verdicts.iter();
    for alike in rows.chunk_by(|one, next| one.key.queue == next.key.queue) {
        let applied = verdicts.by_ref().take(alike.len()).filter(|one| **one == Verdict::Applied);
        meters.queue(alike[0].key.queue).succeeded += applied.count() as u64;
    }
}
