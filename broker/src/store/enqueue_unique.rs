use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio_postgres::types::Json;

use super::{Client, StoreError, statement::Statement};
use crate::{
    domain::{JobId, NewJob, UniqueConflict, UniqueScope, UniqueVerdict, Waits},
    mutation::{self, Mutation},
};

/// The one place that knows what a key means is in the database, since SQL asks it too.
const ENQUEUE: Statement = Statement::new(
    "enqueue_unique",
    "/* enqueue_unique */
SELECT id, verdict FROM currant.enqueue_unique(
    currant.new_job_bytes(
        $1::text, $2::text, $3::bytea, priority => $4::smallint, run_at => $5::timestamptz,
        max_attempts => $6::smallint, content_type => $7::text,
        retry => CASE WHEN $11::float8 IS NULL THEN NULL::currant.retry_policy
             ELSE ROW($8::bigint * interval '1 millisecond', $9::bigint * interval '1 millisecond',
                      $10::float8, $11::float8, $20::bigint * interval '1 millisecond',
                      (SELECT array_agg(w * interval '1 millisecond' ORDER BY n)
                       FROM unnest($21::bigint[]) WITH ORDINALITY AS u (w, n)))::currant.retry_policy END,
        timeout => $12::bigint * interval '1 millisecond', tags => $13::text[], metadata => $14::jsonb,
        traceparent => $15::text, key => $22::text, expire_at => $23::timestamptz),
    $16::text, $17::text, $18::bigint * interval '1 millisecond', $19::text)",
);

pub(super) const STATEMENTS: [Statement; 1] = [ENQUEUE];

/// A job to be stored, with or without a key.
#[derive(Clone, Copy, Debug)]
pub struct UniqueRow<'a> {
    pub job: &'a NewJob,
    /// The name of its queue.
    pub queue: &'a str,
    pub run_at: Option<DateTime<Utc>>,
    pub expire_at: Option<DateTime<Utc>>,
}

/// Stores jobs some of which have a key, all or none; of each what became of it, in the order given, which
/// is that of queues and keys, so that two calls can't deadlock. For what another transaction has locked it waits
/// no longer than `lock_timeout`. The database tells the brokers.
pub async fn enqueue_unique(
    client: &mut Client,
    rows: &[UniqueRow<'_>],
    lock_timeout: Duration,
) -> Result<Vec<(JobId, UniqueVerdict)>, StoreError> {
    let failed = |error| StoreError::of(ENQUEUE.name, error);
    let transaction = client.transaction().await.map_err(failed)?;
    let limit = format!("SET LOCAL lock_timeout = {}", lock_timeout.as_millis());
    transaction.batch_execute(&limit).await.map_err(failed)?;
    let mut stored = Vec::with_capacity(rows.len());
    for UniqueRow { job, queue, run_at, expire_at } in rows {
        let options = job.options.as_deref();
        let ms = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let retry = options.and_then(|options| options.retry.as_ref());
        let (mut base, mut max, mut factor, mut step, mut list) = (None, None, None, None, None);
        match retry.map(|retry| &retry.waits) {
            None => {}
            Some(Waits::Exponential { base_ms, max_ms, factor: by }) => {
                (base, max, factor) = (Some(ms(*base_ms)), Some(ms(*max_ms)), Some(*by));
            }
            Some(Waits::Linear { base_ms, step_ms, max_ms }) => {
                (base, max, step) = (Some(ms(*base_ms)), Some(ms(*max_ms)), Some(ms(*step_ms)));
            }
            Some(Waits::List { waits_ms }) => {
                list = Some(waits_ms.iter().copied().map(ms).collect::<Vec<i64>>());
            }
        }
        let unique = job.unique.as_deref().filter(|_| !mutation::on(Mutation::ForgottenKeys));
        let scope = unique.map_or("unfinished", |unique| match unique.scope {
            UniqueScope::Waiting => "waiting",
            UniqueScope::Unfinished => "unfinished",
            UniqueScope::Period { .. } => "period",
        });
        let period = unique.and_then(|unique| match unique.scope {
            UniqueScope::Period { ms: period } => Some(ms(period)),
            UniqueScope::Waiting | UniqueScope::Unfinished => None,
        });
        let conflict = unique.map_or("existing", |unique| match unique.conflict {
            UniqueConflict::Existing => "existing",
            UniqueConflict::Replace => "replace",
            UniqueConflict::Reject => "reject",
        });
        let held = |error: StoreError| match unique.filter(|_| error.is_locked()) {
            Some(unique) => StoreError::KeyHeld {
                statement: ENQUEUE.name,
                queue: (*queue).to_owned(),
                key: unique.key.to_string(),
            },
            None => error,
        };
        let answer = ENQUEUE
            .query(
                &transaction,
                &[
                    queue,
                    &job.kind,
                    &job.payload.as_ref(),
                    &job.priority,
                    run_at,
                    &job.max_attempts.map(u16::cast_signed),
                    &options.map(|options| &*options.content_type),
                    &base,
                    &max,
                    &factor,
                    &retry.map(|retry| retry.jitter),
                    &options.and_then(|options| options.timeout_ms).map(ms),
                    &options.map(|options| &options.tags),
                    &options.map(|options| Json(&options.metadata)),
                    &options.map(|options| &*options.traceparent),
                    &unique.map(|unique| &*unique.key),
                    &scope,
                    &period,
                    &conflict,
                    &step,
                    &list,
                    &job.key.as_deref(),
                    expire_at,
                ],
            )
            .await
            .map_err(held)?;
        let verdict = |row: &tokio_postgres::Row| match row.get(1) {
            "existing" => UniqueVerdict::Existing,
            "replaced" => UniqueVerdict::Replaced,
            _ => UniqueVerdict::Stored,
        };
        stored.extend(answer.iter().map(|row| (JobId(row.get(0)), verdict(row))));
    }
    transaction.commit().await.map_err(failed)?;
    Ok(stored)
}
