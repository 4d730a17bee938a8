use std::{collections::BTreeMap, sync::Arc};

use tokio_postgres::{
    Row,
    types::{Json, ToSql},
};

use super::{
    Claim, Client, StoreError,
    claim_jobs::take_picked,
    row::{taken_columns, taken_jobs},
    statement::Statement,
};
use crate::domain::TakenJob;

/// Which keys a claim goes over, and how many jobs it takes of each.
#[derive(Clone, Debug)]
pub struct KeyWalk<'a> {
    /// Behind this key; empty: from the first.
    pub after: &'a str,
    /// Not behind this one.
    pub until: Option<&'a str>,
    pub keys_max: usize,
    /// Of each, but for these.
    pub each: usize,
    pub shares: BTreeMap<&'a str, usize>,
}

/// What a claim took, and how far it came.
#[derive(Clone, Debug)]
pub struct ClaimedKeys {
    /// In no order.
    pub jobs: Vec<TakenJob>,
    /// How many keys with ready jobs it found, and the last of them.
    pub keys: usize,
    pub last: Option<Arc<str>>,
}

/// From key to key, a look into the index for each, however many jobs it has; of a key that gets none its
/// jobs aren't looked at. Until there are as many jobs as wanted, or keys. That a picked one is of a step within
/// the bound says nothing new, but lets the planner expect few of them.
macro_rules! claim_keys {
    ($name:literal, $before:ident, $if:ident, $jobs:ident) => {
        concat!(
            "/* ",
            $name,
            " */
WITH RECURSIVE ",
            $before!(),
            "walk (key, step) AS (
    SELECT f.key, 1::bigint
    FROM (SELECT key FROM currant.job WHERE queue_id = $1::int AND phase = 1 AND key > $5::text
          ORDER BY key LIMIT 1) f
    WHERE (f.key > $6::text) IS NOT TRUE",
            $if!(),
            "
  UNION ALL
    SELECT n.key, w.step + 1
    FROM walk w, LATERAL (SELECT key FROM currant.job WHERE queue_id = $1::int AND phase = 1 AND key > w.key
                          ORDER BY key LIMIT 1) n
    WHERE w.step < $7::bigint AND (n.key > $6::text) IS NOT TRUE
), picked AS MATERIALIZED (
    SELECT j.queue_id, j.place FROM walk k, ",
            $jobs!(),
            " j
    WHERE k.step <= $7::bigint LIMIT $4::bigint
), ",
            take_picked!(", key"),
            "
)
SELECT c.*, e.keys, e.last FROM (SELECT count(*) AS keys, max(key) AS last FROM walk) e
LEFT JOIN claimed c ON true"
        )
    };
}

/// Columns of `claimed`: those of `taken_jobs`, and the key.
const KEY: usize = 9;
const KEYS: usize = 10;
const LAST: usize = 11;

macro_rules! nothing {
    () => {
        ""
    };
}

/// By the owner of the queue alone, and in the term for which it has counted. Who comes to own it waits for the
/// lock, and so until this claim has ended.
macro_rules! owned {
    () => {
        "mine AS MATERIALIZED (
    SELECT queue_id FROM currant.queue_owner
    WHERE queue_id = $1::int AND owner = $2::int AND term = $10::bigint FOR SHARE
), "
    };
}
macro_rules! if_owned {
    () => {
        " AND EXISTS (SELECT FROM mine)"
    };
}

macro_rules! first_jobs {
    () => {
        "LATERAL (
        SELECT queue_id, ctid AS place FROM currant.job
        WHERE queue_id = $1::int AND phase = 1 AND key = k.key
        ORDER BY priority DESC, id LIMIT coalesce(($8::jsonb ->> k.key)::bigint, $9::bigint)
        FOR UPDATE SKIP LOCKED)"
    };
}

/// The lowest id of a key's ready jobs: one of the first of each priority.
macro_rules! lowest_ready {
    ($key:literal) => {
        concat!(
            "(WITH RECURSIVE head AS (
                (SELECT priority, id FROM currant.job
                 WHERE queue_id = $1::int AND phase = 1 AND key = ",
            $key,
            "
                 ORDER BY priority DESC, id LIMIT 1)
              UNION ALL
                SELECT n.priority, n.id FROM head h, LATERAL (
                    SELECT priority, id FROM currant.job
                    WHERE queue_id = $1::int AND phase = 1 AND key = ",
            $key,
            " AND priority < h.priority
                    ORDER BY priority DESC, id LIMIT 1) n
            )
            SELECT min(id) AS id FROM head)"
        )
    };
}
pub(super) use lowest_ready;

/// The lowest id of a key's jobs that were tried and wait for another attempt.
macro_rules! lowest_held {
    ($key:literal) => {
        concat!(
            "(SELECT id FROM currant.job
              WHERE queue_id = $1::int AND phase = 0 AND attempt > 0 AND key = ",
            $key,
            "
              ORDER BY id LIMIT 1)"
        )
    };
}
pub(super) use lowest_held;

/// Of each key the job with the lowest id: found by the first of each priority. None if that one is locked, or if
/// one before it was tried and waits for another attempt.
macro_rules! lowest_job {
    () => {
        concat!(
            "LATERAL (
        SELECT l.queue_id, l.place FROM (
            SELECT f.id FROM ",
            lowest_ready!("k.key"),
            " f
            WHERE (",
            lowest_held!("k.key"),
            " < f.id) IS NOT TRUE
            OFFSET 0) f,
        LATERAL (SELECT queue_id, ctid AS place FROM currant.job
                 WHERE queue_id = $1::int AND id = f.id AND phase = 1 FOR UPDATE SKIP LOCKED) l
        LIMIT coalesce(($8::jsonb ->> k.key)::bigint, $9::bigint))"
        )
    };
}

const CLAIM: Statement =
    Statement::new("claim_keys", claim_keys!("claim_keys", nothing, nothing, first_jobs));

const LIMITED: Statement = Statement::new(
    "claim_limited_keys",
    claim_keys!("claim_limited_keys", owned, if_owned, first_jobs),
);

const ORDERED: Statement = Statement::new(
    "claim_ordered_keys",
    claim_keys!("claim_ordered_keys", owned, if_owned, lowest_job),
);

pub(super) const STATEMENTS: [Statement; 3] = [CLAIM, LIMITED, ORDERED];

/// Takes ready jobs with keys. `limited`: of a queue that limits them, the term for which the owner owns it, and
/// whether they run in order.
pub async fn claim_keys(
    client: &Client,
    claim: Claim,
    walk: &KeyWalk<'_>,
    limited: Option<(i64, bool)>,
) -> Result<ClaimedKeys, StoreError> {
    let Claim { queue, owner, claimed_at, limit } = claim;
    let number = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
    let (limit, keys_max, each) = (number(limit), number(walk.keys_max), number(walk.each));
    let shares = Json(&walk.shares);
    let mut params: Vec<&(dyn ToSql + Sync)> = vec![
        &queue.0,
        &owner,
        &claimed_at,
        &limit,
        &walk.after,
        &walk.until,
        &keys_max,
        &shares,
        &each,
    ];
    let statement = match &limited {
        None => CLAIM,
        Some((term, ordered)) => {
            params.push(term);
            if *ordered { ORDERED } else { LIMITED }
        }
    };
    let rows = statement.query(client, &params).await?;
    let end = rows.first();
    let keys = end.map_or(0, |row| row.get::<_, i64>(KEYS).unsigned_abs() as usize);
    let last = end.and_then(|row| row.get::<_, Option<&str>>(LAST)).map(Arc::from);
    // A row without a job tells that there was none.
    let found: Vec<Row> =
        rows.into_iter().filter(|row| row.get::<_, Option<i64>>(0).is_some()).collect();
    let key = |row: &Row| row.get::<_, Option<&str>>(KEY).map(Arc::from);
    let jobs = taken_jobs(&found).into_iter().zip(found.iter().map(key));
    let jobs = jobs.map(|(job, key)| TakenJob { key, ..job }).collect();
    Ok(ClaimedKeys { jobs, keys, last })
}
