use std::{fmt::Write, sync::LazyLock};

use chrono::{DateTime, Utc};
use tokio_postgres::types::ToSql;

use super::{Client, Store, StoreError, statement::Statement};
use crate::{
    domain::JobKey,
    mutation::{self, Mutation},
};

/// A success to be written.
#[derive(Clone, Copy, Debug)]
pub struct Success<'a> {
    pub key: JobKey,
    pub attempt: i32,
    /// Empty is stored as null.
    pub result: &'a [u8],
}

/// Rows that one statement can take, whatever they are.
pub const COMPLETE_ROWS_MAX: usize = 1024;

/// Successes of jobs whose ids follow each other, alike but for the id: one range scan finds them all,
/// for less than half of what a descent of the index for each costs. Jobs of one flush have
/// consecutive ids, and mostly they are completed together too.
pub(super) struct Run<'a> {
    queue: i32,
    first: i64,
    last: i64,
    attempt: i32,
    result: Option<&'a [u8]>,
}

/// `rows` sorted by key.
pub(super) fn runs<'a>(rows: &[Success<'a>]) -> Vec<Run<'a>> {
    let alike = |one: &Success<'_>, next: &Success<'_>| {
        next.key.queue == one.key.queue
            && next.key.id.0 == one.key.id.0 + 1
            && next.attempt == one.attempt
            && next.result == one.result
    };
    rows.chunk_by(alike)
        .map(|run| Run {
            queue: run[0].key.queue.0,
            first: run[0].key.id.0,
            last: run[run.len() - 1].key.id.0,
            attempt: run[0].attempt,
            result: (!run[0].result.is_empty()).then_some(run[0].result),
        })
        .collect()
}

/// One statement for each number of runs, padded with nulls that match nothing. The steps keep padding
/// below a fifth where it costs.
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

const PARAMS_PER_RUN: usize = 5;
const NAME: &str = "complete_jobs";
const HEAD: &str = "/* complete_jobs */
UPDATE currant.job j SET outcome = 1, result = v.r, finished_at = $1::timestamptz FROM (VALUES ";
/// As `job_by_key`, for a range of ids.
const TAIL: &str = ") AS v (q, f, l, a, r)
WHERE j.queue_id = ANY (ARRAY[v.q]) AND j.id >= v.f AND j.id <= v.l AND j.attempt = v.a
  AND j.phase = 2 AND j.outcome IS NULL";
const UNFENCED_TAIL: &str = ") AS v (q, f, l, a, r)
WHERE j.queue_id = ANY (ARRAY[v.q]) AND j.id >= v.f AND j.id <= v.l AND v.a IS NOT NULL
  AND j.phase = 2 AND j.outcome IS NULL";

static STATEMENTS: LazyLock<Vec<Statement>> = LazyLock::new(|| {
    let statement = |size: usize| {
        let mut sql = String::from(HEAD);
        for row in 0..size {
            let first = 2 + PARAMS_PER_RUN * row;
            let comma = if row == 0 { "" } else { "," };
            // Writing to a string can't fail.
            let _ = write!(
                sql,
                "{comma}(${}::int,${}::bigint,${}::bigint,${}::int,${}::bytea)",
                first,
                first + 1,
                first + 2,
                first + 3,
                first + 4
            );
        }
        sql.push_str(if mutation::on(Mutation::NoFencing) { UNFENCED_TAIL } else { TAIL });
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
        client: &Client,
        finished_at: DateTime<Utc>,
        rows: &[Success<'_>],
    ) -> Result<u64, StoreError> {
        let runs = runs(rows);
        let at = SIZES.partition_point(|size| *size < runs.len());
        let mut params: Vec<&(dyn ToSql + Sync)> =
            Vec::with_capacity(1 + PARAMS_PER_RUN * SIZES[at]);
        params.push(&finished_at);
        for run in &runs {
            params.extend([
                &run.queue as &(dyn ToSql + Sync),
                &run.first,
                &run.last,
                &run.attempt,
                &run.result,
            ]);
        }
        for _ in runs.len()..SIZES[at] {
            params.extend([
                &None::<i32> as &(dyn ToSql + Sync),
                &None::<i64>,
                &None::<i64>,
                &None::<i32>,
                &None::<&[u8]>,
            ]);
        }
        if !self.relaxes_completions() {
            return STATEMENTS[at].execute(client, &params).await;
        }
        // For this transaction only: the connection goes back to the pool.
        STATEMENTS[at].execute_with(client, "SET LOCAL synchronous_commit = off", &params).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{JobId, QueueId};

    fn success(queue: i32, id: i64, attempt: i32, result: &[u8]) -> Success<'_> {
        Success { key: JobKey { queue: QueueId(queue), id: JobId(id) }, attempt, result }
    }

    #[test]
    fn a_run_ends_where_anything_but_the_next_id_comes() {
        let rows = [
            success(1, 5, 1, b""),
            success(1, 6, 1, b""),
            success(1, 8, 1, b""),
            success(1, 9, 2, b""),
            success(1, 10, 2, b"x"),
            success(1, 11, 2, b"x"),
            success(2, 12, 2, b"x"),
        ];
        let found: Vec<_> =
            runs(&rows).iter().map(|run| (run.queue, run.first, run.last, run.attempt)).collect();
        assert_eq!(
            found,
            [(1, 5, 6, 1), (1, 8, 8, 1), (1, 9, 9, 2), (1, 10, 11, 2), (2, 12, 12, 2)]
        );
        assert_eq!(runs(&rows)[3].result, Some(&b"x"[..]));
        assert!(runs(&rows)[0].result.is_none());
    }
}
