use bytes::{Bytes, BytesMut};
use chrono::{DateTime, Utc};
use tokio_postgres::{Row, types::Json};

use crate::domain::{JobId, JobOptions, TakenJob};

/// Columns that `taken_jobs` reads, in this order.
macro_rules! taken_columns {
    () => {
        "id, attempt, priority, failures, max_attempts, kind, payload, options, run_at"
    };
}
pub(super) use taken_columns;

/// Reads taken jobs. The payloads of a batch share one allocation.
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
        })
        .collect()
}

/// Options as stored. What another program wrote there and can't be read counts as none.
pub(super) fn options(row: &Row, column: usize) -> Option<Box<JobOptions>> {
    match row.try_get::<_, Option<Json<JobOptions>>>(column) {
        Ok(options) => options.map(|Json(options)| Box::new(options)),
        Err(error) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "currant.job.options holds what this broker can't read; defaults are used"
            );
            None
        }
    }
}
