use bytes::Bytes;
use chrono::{DateTime, Utc};

use super::{
    Client, OUTCOME_DEAD, OUTCOME_SUCCEEDED, PHASE_READY, PHASE_SCHEDULED, StoreError,
    row::options, statement::Statement,
};
use crate::domain::{JobId, JobKey, QueueId, State, StoredJob};

const GET: Statement = Statement::new(
    "get_job",
    "/* get_job */
SELECT j.queue_id, j.id, j.kind, j.payload, j.priority, j.phase, j.outcome, j.attempt, j.failures,
       j.max_attempts, j.run_at, j.claimed_at, j.finished_at, j.result, j.error, j.options
FROM currant.queue q,
     LATERAL (SELECT * FROM currant.job WHERE queue_id = q.id AND id = $1::bigint OFFSET 0) j",
);

pub(super) const STATEMENTS: [Statement; 1] = [GET];

/// One job, found by a look into each queue.
pub async fn get_job(client: &Client, id: JobId) -> Result<Option<StoredJob>, StoreError> {
    let rows = GET.query(client, &[&id.0]).await?;
    let micros = |row: &tokio_postgres::Row, column: usize| {
        row.get::<_, Option<DateTime<Utc>>>(column).map(|at| at.timestamp_micros())
    };
    Ok(rows.first().map(|row| StoredJob {
        key: JobKey { queue: QueueId(row.get(0)), id: JobId(row.get(1)) },
        kind: row.get(2),
        payload: Bytes::copy_from_slice(row.get(3)),
        priority: row.get(4),
        state: state(row.get(5), row.get(6)),
        attempt: row.get(7),
        failures: row.get::<_, i16>(8).cast_unsigned(),
        max_attempts: row.get::<_, Option<i16>>(9).map(i16::cast_unsigned),
        run_at: micros(row, 10),
        claimed_at: micros(row, 11),
        finished_at: micros(row, 12),
        result: row.get::<_, Option<&[u8]>>(13).map(Bytes::copy_from_slice),
        error: row.get(14),
        options: options(row, 15),
    }))
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
