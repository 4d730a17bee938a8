use bytes::{Bytes, BytesMut};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use tokio_postgres::{
    Row,
    types::{Json, ToSql},
};

use super::{
    OUTCOME_CANCELLED, OUTCOME_DEAD, OUTCOME_SUCCEEDED, PHASE_READY, PHASE_SCHEDULED, PHASE_TAKEN,
    Settled, column::Column,
};
use crate::causes::causes;
use crate::domain::{JobId, JobKey, JobOptions, Progress, QueueId, State, StoredJob, TakenJob};

/// Columns that `taken_jobs` reads, in this order.
macro_rules! taken_columns {
    () => {
        "id, attempt, priority, failures, max_attempts, kind, payload, options, run_at"
    };
}
pub(super) use taken_columns;

/// Reads taken jobs, without their keys. The payloads of a batch share one allocation.
pub(super) fn taken_jobs(rows: &[Row]) -> Vec<TakenJob> {
    let payload = |row: &Row| row.get::<_, &[u8]>(6).len();
    let mut payloads = BytesMut::with_capacity(rows.iter().map(payload).sum());
    for row in rows {
        payloads.extend_from_slice(row.get(6));
    }
    let mut payloads = payloads.freeze();
    let mut next_payload = |row: &Row| -> Bytes { payloads.split_to(payload(row)) };
    rows.iter()
        .map(|row| TakenJob {
            id: JobId(row.get(0)),
            attempt: row.get(1),
            priority: row.get(2),
            failures: row.get::<_, i16>(3).cast_unsigned(),
            max_attempts: row.get::<_, Option<i16>>(4).map(i16::cast_unsigned),
            run_at: row.get::<_, Option<DateTime<Utc>>>(8).map(|at| at.timestamp_micros()),
            kind: row.get(5),
            payload: next_payload(row),
            options: options(row, 7),
            key: None,
        })
        .collect()
}

/// Options as stored.
pub(super) fn options(row: &Row, column: usize) -> Option<Box<JobOptions>> {
    json(row, column, "currant.job.options").map(Box::new)
}

/// What another program wrote there and can't be read counts as nothing.
pub(super) fn json<T>(row: &Row, column: usize, name: &str) -> Option<T>
where
    T: for<'a> Deserialize<'a>,
{
    match row.try_get::<_, Option<Json<T>>>(column) {
        Ok(value) => value.map(|Json(value)| value),
        Err(error) => {
            let error = causes(&error);
            tracing::warn!(%error, "{name} holds what this broker can't read; defaults are used");
            None
        }
    }
}

/// Columns that `stored_job` reads, in this order.
macro_rules! stored_columns {
    () => {
        "j.queue_id, j.id, j.kind, j.payload, j.priority, j.phase, j.outcome, j.attempt, j.failures,
       j.max_attempts, j.run_at, j.claimed_at, j.finished_at, j.result, j.error, j.options, j.key"
    };
}
pub(super) use stored_columns;

/// A job as it stands.
pub(super) fn stored_job(row: &Row) -> StoredJob {
    let micros =
        |column: usize| row.get::<_, Option<DateTime<Utc>>>(column).map(|at| at.timestamp_micros());
    StoredJob {
        key: job_key(row),
        kind: row.get(2),
        payload: Bytes::copy_from_slice(row.get(3)),
        priority: row.get(4),
        state: state(row.get(5), row.get(6)),
        attempt: row.get(7),
        failures: row.get::<_, i16>(8).cast_unsigned(),
        max_attempts: row.get::<_, Option<i16>>(9).map(i16::cast_unsigned),
        run_at: micros(10),
        claimed_at: micros(11),
        finished_at: micros(12),
        result: row.get::<_, Option<&[u8]>>(13).map(Bytes::copy_from_slice),
        error: row.get(14),
        options: options(row, 15),
        job_key: row.get(16),
        progress: None,
    }
}

/// What `stored_job_with_progress` reads after the columns of `stored_job`.
macro_rules! progress_columns {
    () => {
        "p.attempt, p.percent, p.message, p.reported_at"
    };
}
pub(super) use progress_columns;

/// Beside a job `j`: what its workers have reported, `p`.
macro_rules! with_progress {
    () => {
        "LEFT JOIN LATERAL (SELECT attempt, percent, message, reported_at FROM currant.progress
                   WHERE queue_id = j.queue_id AND id = j.id OFFSET 0) p ON true"
    };
}
pub(super) use with_progress;

pub(super) fn stored_job_with_progress(row: &Row) -> StoredJob {
    let progress = row.get::<_, Option<i32>>(17).map(|attempt| Progress {
        attempt,
        percent: row.get(18),
        message: row.get(19),
        reported_at: row.get::<_, DateTime<Utc>>(20).timestamp_micros(),
    });
    StoredJob { progress, ..stored_job(row) }
}

/// A job's key in the first two columns.
pub(super) fn job_key(row: &Row) -> JobKey {
    JobKey { queue: QueueId(row.get(0)), id: JobId(row.get(1)) }
}

/// Keys as two parameters: their queues, their ids.
pub(super) fn key_columns(keys: &[JobKey]) -> (impl ToSql + Sync, impl ToSql + Sync) {
    (Column::new(keys, |key| key.queue.0), Column::new(keys, |key| key.id.0))
}

/// Columns of a job `j` that `settled` reads, in this order.
macro_rules! settled_columns {
    () => {
        "j.queue_id, j.id, j.priority, j.phase, j.key IS NOT NULL"
    };
}
pub(super) use settled_columns;

pub(super) fn settled(row: &Row) -> Settled {
    Settled { key: job_key(row), priority: row.get(2), phase: row.get(3), keyed: row.get(4) }
}

/// A state's number, of the row `$row`: phases, and after those outcomes.
macro_rules! state_number {
    ($row:literal) => {
        concat!(
            "CASE WHEN ",
            $row,
            ".outcome IS NULL THEN ",
            $row,
            ".phase ELSE ",
            $row,
            ".outcome + 2 END"
        )
    };
}
pub(super) use state_number;

/// The number that `state_number` gives to this state.
pub(super) fn number_of(state: State) -> i16 {
    match state {
        State::Scheduled => PHASE_SCHEDULED,
        State::Ready => PHASE_READY,
        State::Running => PHASE_TAKEN,
        State::Succeeded => OUTCOME_SUCCEEDED + 2,
        State::Dead => OUTCOME_DEAD + 2,
        State::Cancelled => OUTCOME_CANCELLED + 2,
    }
}

fn state(phase: i16, outcome: Option<i16>) -> State {
    match (outcome, phase) {
        (Some(OUTCOME_SUCCEEDED), _) => State::Succeeded,
        (Some(OUTCOME_DEAD), _) => State::Dead,
        (Some(_), _) => State::Cancelled,
        (None, PHASE_SCHEDULED) => State::Scheduled,
        (None, PHASE_READY) => State::Ready,
        (None, _) => State::Running,
    }
}
