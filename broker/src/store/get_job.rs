use chrono::{DateTime, Utc};

use super::{
    Client, StoreError,
    row::{progress_columns, stored_columns, stored_job_with_progress, with_progress},
    statement::Statement,
};
use crate::domain::{FailedAttempt, Failure, JobId, JobKey, QueueId, StoredJob};

const GET: Statement = Statement::new(
    "get_job",
    concat!(
        "/* get_job */ SELECT ",
        stored_columns!(),
        ", ",
        progress_columns!(),
        "
FROM currant.queue q,
     LATERAL (SELECT * FROM currant.job WHERE queue_id = q.id AND id = $1::bigint OFFSET 0) j
     ",
        with_progress!()
    ),
);

const GET_IN: Statement = Statement::new(
    "get_job_in",
    concat!(
        "/* get_job_in */ SELECT ",
        stored_columns!(),
        ", ",
        progress_columns!(),
        " FROM currant.job j ",
        with_progress!(),
        " WHERE j.queue_id = $1::int AND j.id = $2::bigint"
    ),
);

const FAILURES: Statement = Statement::new(
    "failed_attempts",
    "/* failed_attempts */
SELECT attempt, failed_at, worker, session, class, error, details
FROM currant.failure WHERE queue_id = $1::int AND id = $2::bigint ORDER BY attempt",
);

pub(super) const STATEMENTS: [Statement; 3] = [GET, GET_IN, FAILURES];

/// One job: found by a look into each queue, if its own isn't known.
pub async fn get_job(
    client: &Client,
    id: JobId,
    queue: Option<QueueId>,
) -> Result<Option<StoredJob>, StoreError> {
    let rows = match queue {
        Some(queue) => GET_IN.query(client, &[&queue.0, &id.0]).await?,
        None => GET.query(client, &[&id.0]).await?,
    };
    Ok(rows.first().map(stored_job_with_progress))
}

/// The failed attempts of a job that are remembered, in order.
pub async fn failed_attempts(
    client: &Client,
    key: JobKey,
) -> Result<Vec<FailedAttempt>, StoreError> {
    let rows = FAILURES.query(client, &[&key.queue.0, &key.id.0]).await?;
    let failed = |row: &tokio_postgres::Row| FailedAttempt {
        attempt: row.get(0),
        failed_at: row.get::<_, DateTime<Utc>>(1).timestamp_micros(),
        worker: row.get(2),
        session: row.get(3),
        failure: Failure { class: row.get(4), message: row.get(5), details: row.get(6) },
    };
    Ok(rows.iter().map(failed).collect())
}
