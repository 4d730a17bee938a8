use chrono::{DateTime, Utc};

use super::{
    Client, StoreError,
    row::{taken_columns, taken_jobs},
    statement::Statement,
};
use crate::domain::{JobId, QueueId, TakenJob};

/// Which ready rows to take, for whom.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    pub queue: QueueId,
    pub owner: i32,
    pub claimed_at: DateTime<Utc>,
    pub limit: usize,
}

/// Takes the rows that were `picked`, and says so to `claimed`, with these columns beside those of `taken_jobs`;
/// its last bracket is open.
/// A broker that others hold for dead claims nothing: see `insert_jobs`.
///
/// Found once and locked, a row is written by its place in the table: no second look into an index. One
/// that was claimed and given back since the statement began has moved; it stays for the claim that
/// whoever gave it back asks for.
///
/// A claim takes rows older than the owner's low_id, perhaps: then low_id is lowered with it, so that
/// rescue finds them.
macro_rules! take_picked {
    ($more:literal) => {
        concat!(
            "claimed AS (
    UPDATE currant.job j
    SET phase = 2, owner = $2::int, attempt = attempt + 1, claimed_at = $3::timestamptz
    FROM picked p WHERE j.ctid = p.place AND j.queue_id = p.queue_id
      AND EXISTS (SELECT FROM currant.broker WHERE id = $2::int AND dead_at IS NULL)
    RETURNING ",
            taken_columns!(),
            $more,
            "
), low AS (
    UPDATE currant.broker b SET low_id = m.id FROM (SELECT min(id) AS id FROM claimed) m
    WHERE b.id = $2::int AND m.id < b.low_id"
        )
    };
}
pub(super) use take_picked;

/// Jobs without a key: the others wait in an index of their own, see `claim_keys`.
macro_rules! claim {
    ($name:literal, $which:literal) => {
        concat!(
            "/* ",
            $name,
            " */
WITH picked AS MATERIALIZED (
    SELECT queue_id, ctid AS place FROM currant.job
    WHERE queue_id = $1::int AND phase = 1 AND key IS NULL ",
            $which,
            "
    LIMIT $4::bigint FOR UPDATE SKIP LOCKED
), ",
            take_picked!(""),
            "
)
SELECT * FROM claimed"
        )
    };
}

const CURSOR: Statement = Statement::new(
    "claim_cursor",
    claim!("claim_cursor", "AND priority = $5::smallint AND id > $6::bigint ORDER BY id"),
);

const SWEEP: Statement =
    Statement::new("claim_sweep", claim!("claim_sweep", "ORDER BY priority DESC, id"));

pub(super) const STATEMENTS: [Statement; 2] = [CURSOR, SWEEP];

/// Takes the next rows of one priority behind a cursor. In no order.
pub async fn claim_cursor(
    client: &Client,
    claim: Claim,
    priority: i16,
    after: JobId,
) -> Result<Vec<TakenJob>, StoreError> {
    let Claim { queue, owner, claimed_at, limit } = claim;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows =
        CURSOR.query(client, &[&queue.0, &owner, &claimed_at, &limit, &priority, &after.0]).await?;
    Ok(taken_jobs(&rows))
}

/// Takes the first rows of the whole queue. In no order.
pub async fn claim_sweep(client: &Client, claim: Claim) -> Result<Vec<TakenJob>, StoreError> {
    let Claim { queue, owner, claimed_at, limit } = claim;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = SWEEP.query(client, &[&queue.0, &owner, &claimed_at, &limit]).await?;
    Ok(taken_jobs(&rows))
}
