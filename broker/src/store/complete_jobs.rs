use std::{fmt::Write, sync::LazyLock};

use chrono::{DateTime, Utc};
use deadpool_postgres::ClientWrapper;
use tokio_postgres::types::ToSql;

use super::{Store, StoreError, statement::Statement};
use crate::domain::JobKey;

/// A success to be written.
#[derive(Clone, Copy, Debug)]
pub struct Success<'a> {
    pub key: JobKey,
    pub attempt: i32,
    /// Empty is stored as null.
    pub result: &'a [u8],
}

/// Rows that one statement can take.
pub const COMPLETE_ROWS_MAX: usize = 1024;

/// One statement a size, padded with nulls that match nothing. The steps keep padding below a fifth
/// of the rows where it costs.
const SIZES: [usize; 27] = [
    1,
    2,
    3,
    4,
    6,
    8,
    12,
    16,
    20,
    26,
    32,
    40,
    50,
    64,
    80,
    100,
    128,
    160,
    200,
    256,
    320,
    400,
    512,
    640,
    768,
    896,
    COMPLETE_ROWS_MAX,
];

const NAME: &str = "complete_jobs";
const HEAD: &str = "/* complete_jobs */
UPDATE currant.job j SET outcome = 1, result = v.r, finished_at = $1::timestamptz FROM (VALUES ";
const TAIL: &str = ") AS v (q, i, a, r)
WHERE j.queue_id = v.q AND j.id = v.i AND j.attempt = v.a AND j.phase = 2 AND j.outcome IS NULL";

static STATEMENTS: LazyLock<Vec<Statement>> = LazyLock::new(|| {
    let statement = |size: usize| {
        let mut sql = String::from(HEAD);
        for row in 0..size {
            let first = 2 + 4 * row;
            let comma = if row == 0 { "" } else { "," };
            // Writing to a string can't fail.
            let _ = write!(
                sql,
                "{comma}(${}::int,${}::bigint,${}::int,${}::bytea)",
                first,
                first + 1,
                first + 2,
                first + 3
            );
        }
        sql.push_str(TAIL);
        Statement::new(NAME, sql.leak())
    };
    SIZES.into_iter().map(statement).collect()
});

/// All sizes, to be prepared when a connection is made.
pub(super) fn statements() -> &'static [Statement] {
    &STATEMENTS
}

impl Store {
    /// Records successes, each only for the current attempt. `rows`: at most [`COMPLETE_ROWS_MAX`],
    /// sorted by key, so that two flushes can't deadlock. Returns how many were written; where that
    /// isn't the number of rows, `job_states` tells which: those it wrote have this `finished_at`.
    pub async fn complete_jobs(
        &self,
        client: &ClientWrapper,
        finished_at: DateTime<Utc>,
        rows: &[Success<'_>],
    ) -> Result<u64, StoreError> {
        let at = SIZES.partition_point(|size| *size < rows.len());
        let values: Vec<(i32, Option<&[u8]>)> = rows
            .iter()
            .map(|row| (row.key.queue.0, (!row.result.is_empty()).then_some(row.result)))
            .collect();
        let mut params: Vec<&(dyn ToSql + Sync)> = Vec::with_capacity(1 + 4 * SIZES[at]);
        params.push(&finished_at);
        for (row, (queue, result)) in rows.iter().zip(&values) {
            params.extend([queue as &(dyn ToSql + Sync), &row.key.id.0, &row.attempt, result]);
        }
        for _ in rows.len()..SIZES[at] {
            params.extend([
                &None::<i32> as &(dyn ToSql + Sync),
                &None::<i64>,
                &None::<i32>,
                &None::<&[u8]>,
            ]);
        }
        if !self.relaxes_completions() {
            return STATEMENTS[at].execute(client, &params).await;
        }
        // For this transaction only: the connection goes back to the pool.
        let failed = |error| StoreError::of(NAME, error);
        client.batch_execute("BEGIN; SET LOCAL synchronous_commit = off").await.map_err(failed)?;
        let result = STATEMENTS[at].execute(client, &params).await;
        let end = if result.is_ok() { "COMMIT" } else { "ROLLBACK" };
        client.batch_execute(end).await.map_err(failed)?;
        result
    }
}
