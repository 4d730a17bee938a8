use tokio_postgres::types::ToSql;

use super::{
    Client, StoreError,
    row::{job_key, number_of, state_number, stored_job},
    statement::Statement,
};
use crate::domain::{JobId, Listing, StoredJob};

/// Rows are looked at in the order of their ids, whatever is asked for: so the work of one call has a
/// limit, and no index mentions what a completion writes. The last row of a full look comes back in any
/// case. `from`: keys in order, $4 of them at most.
macro_rules! list {
    ($name:literal, $from:literal, $order:literal) => {
        Statement::new(
            $name,
            concat!(
                "/* ",
                $name,
                " */
SELECT $1::int, l.id, j.kind, ''::bytea, j.priority, j.phase, j.outcome, j.attempt, j.failures,
       j.max_attempts, j.run_at, j.claimed_at, j.finished_at, NULL::bytea, left(j.error, 500), j.options,
       j.key, j.wanted, l.place = $4::bigint
FROM (
    SELECT s.id, row_number() OVER () AS place
    FROM (SELECT id FROM ",
                $from,
                " AND id > $2::bigint AND id < $3::bigint ORDER BY id",
                $order,
                " LIMIT $4::bigint) s
) l LEFT JOIN LATERAL (
    SELECT *, coalesce(
        ($5::smallint[] IS NULL
         OR ",
                state_number!("w"),
                " = ANY ($5::smallint[]))
        AND ($6::text IS NULL OR kind = $6::text)
        AND ($7::text IS NULL OR strpos(lower(error), lower($7::text)) > 0), false) AS wanted
    FROM currant.job w WHERE queue_id = $1::int AND id = l.id OFFSET 0
) j ON true
WHERE j.wanted OR l.place = $4::bigint"
            ),
        )
    };
}

const OLDEST: Statement = list!("list_oldest", "currant.job WHERE queue_id = $1::int", "");
const NEWEST: Statement = list!("list_newest", "currant.job WHERE queue_id = $1::int", " DESC");
const OLDEST_DEAD: Statement =
    list!("list_oldest_dead", "currant.dead_job WHERE queue_id = $1::int", "");
const NEWEST_DEAD: Statement =
    list!("list_newest_dead", "currant.dead_job WHERE queue_id = $1::int", " DESC");
const OLDEST_TAGGED: Statement =
    list!("list_oldest_tagged", "currant.tag WHERE queue_id = $1::int AND tag = $8::text", "");
const NEWEST_TAGGED: Statement =
    list!("list_newest_tagged", "currant.tag WHERE queue_id = $1::int AND tag = $8::text", " DESC");

pub(super) const STATEMENTS: [Statement; 6] =
    [OLDEST, NEWEST, OLDEST_DEAD, NEWEST_DEAD, OLDEST_TAGGED, NEWEST_TAGGED];

/// What a look found.
#[derive(Debug)]
pub struct Found {
    /// In order, without payloads and results, and with the beginning of the error.
    pub jobs: Vec<StoredJob>,
    /// The last row looked at, if there may be more behind it.
    pub reached: Option<JobId>,
}

/// Looks at `rows` rows at most.
pub async fn list_jobs(
    client: &Client,
    listing: &Listing,
    rows: usize,
) -> Result<Found, StoreError> {
    let Listing { queue, states, kind, error, tag, above, below, newest_first } = listing;
    let limit = i64::try_from(rows).unwrap_or(i64::MAX);
    let states: Option<Vec<i16>> =
        (!states.is_empty()).then(|| states.iter().map(|state| number_of(*state)).collect());
    let [oldest, newest] = if tag.is_some() {
        [OLDEST_TAGGED, NEWEST_TAGGED]
    } else if listing.only_dead() {
        [OLDEST_DEAD, NEWEST_DEAD]
    } else {
        [OLDEST, NEWEST]
    };
    let statement = if *newest_first { newest } else { oldest };
    let params: [&(dyn ToSql + Sync); 8] =
        [&queue.0, &above.0, &below.0, &limit, &states, kind, error, tag];
    let params = if tag.is_some() { &params[..] } else { &params[..7] };
    let rows = statement.query(client, params).await?;
    let mut found = Found { jobs: Vec::with_capacity(rows.len()), reached: None };
    for row in &rows {
        if row.get::<_, Option<bool>>(17) == Some(true) {
            found.jobs.push(stored_job(row));
        }
        if row.get(18) {
            found.reached = Some(job_key(row).id);
        }
    }
    Ok(found)
}
