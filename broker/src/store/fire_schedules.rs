use std::borrow::Cow;

use chrono::{DateTime, Utc};

use super::{Client, StoreError, row::options, schedules::rules, statement::Statement};
use crate::{
    causes::causes,
    clock::time_of_micros,
    domain::{Firing, JobId, QueueId, ScheduleRules, Standing},
};

/// A schedule that may have something to do.
#[derive(Clone, Debug)]
pub struct DueSchedule {
    pub name: String,
    /// `None`: somebody spoilt them. That keeps no other from firing.
    pub rules: Option<ScheduleRules>,
    pub standing: Standing,
    pub queue: QueueId,
    /// `None`: the queue's default.
    pub priority: Option<i16>,
    /// What its jobs are found by.
    tags: Vec<String>,
    revision: i64,
}

const DUE: Statement = Statement::new(
    "due_schedules",
    "/* due_schedules */
SELECT s.name, s.cron, s.time_zone, s.catch_up, s.window_ms, s.overlap, s.next_at, s.waiting_at,
       coalesce((SELECT j.outcome IS NULL FROM currant.job j
                 WHERE j.queue_id = s.queue_id AND j.id = s.last_job), false),
       s.queue_id, s.priority, s.options, s.revision
FROM currant.schedule s
WHERE s.name > $1::text AND s.paused_at IS NULL
  AND (s.next_at <= $2::timestamptz OR s.waiting_at IS NOT NULL)
ORDER BY s.name LIMIT $3::bigint",
);

/// Whoever comes second finds another next_at.
const FIRE: Statement = Statement::new(
    "fire_schedule",
    "/* fire_schedule */
WITH fired AS (
    UPDATE currant.schedule
    SET next_at = $4::timestamptz, waiting_at = $5::timestamptz,
        last_at = CASE WHEN $6::timestamptz IS NULL THEN last_at ELSE $6::timestamptz END,
        last_job = CASE WHEN $7::bigint IS NULL THEN last_job ELSE $7::bigint END
    WHERE name = $1::text AND revision = $2::bigint AND next_at IS NOT DISTINCT FROM $3::timestamptz
      AND waiting_at IS NOT DISTINCT FROM $8::timestamptz
    RETURNING queue_id, kind, payload, max_attempts, options, expire_after_ms
), stored AS (
    INSERT INTO currant.job (queue_id, id, kind, priority, phase, attempt, run_at, max_attempts, payload,
                             options)
    SELECT f.queue_id, v.i, f.kind, $9::smallint, 1, 0, v.r, f.max_attempts, f.payload,
           CASE WHEN f.expire_after_ms IS NULL THEN f.options
                ELSE coalesce(f.options, '{}') || jsonb_build_object(
                    'expires_at', (extract(epoch FROM v.r) * 1000000)::bigint + f.expire_after_ms * 1000) END
    FROM fired f, unnest($10::bigint[], $11::timestamptz[]) AS v (i, r)
), tagged AS (
    INSERT INTO currant.tag (queue_id, id, tag)
    SELECT f.queue_id, v.i, t FROM fired f, unnest($10::bigint[]) AS v (i), unnest($12::text[]) AS t
    ON CONFLICT DO NOTHING
)
SELECT FROM fired",
);

const NEXT: Statement = Statement::new(
    "next_schedule",
    "/* next_schedule */
SELECT min(next_at) FROM currant.schedule WHERE paused_at IS NULL AND next_at > $1::timestamptz",
);

pub(super) const STATEMENTS: [Statement; 3] = [DUE, FIRE, NEXT];

/// The first of those behind a name that are due, or wait for the job before.
pub async fn due_schedules(
    client: &Client,
    after: &str,
    now: DateTime<Utc>,
    limit: usize,
) -> Result<Vec<DueSchedule>, StoreError> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = DUE.query(client, &[&after, &now, &limit]).await?;
    let micros = |row: &tokio_postgres::Row, column: usize| {
        row.get::<_, Option<DateTime<Utc>>>(column).map(|at| at.timestamp_micros())
    };
    let due = |row: &tokio_postgres::Row| {
        let rules = rules(row).inspect_err(|error| {
            tracing::error!(error = %causes(error), "a schedule can't fire");
        });
        let standing =
            Standing { next_at: micros(row, 6), waiting_at: micros(row, 7), open: row.get(8) };
        DueSchedule {
            name: row.get(0),
            rules: rules.ok(),
            standing,
            queue: QueueId(row.get(9)),
            priority: row.get(10),
            tags: options(row, 11).map_or_else(Vec::new, |options| {
                options.searchable().map(Cow::into_owned).collect()
            }),
            revision: row.get(12),
        }
    };
    Ok(rows.iter().map(due).collect())
}

/// Moves a schedule on and stores its jobs, with these ids. False: another broker did, or somebody
/// changed it.
pub async fn fire_schedule(
    client: &Client,
    due: &DueSchedule,
    firing: &Firing,
    ids: &[JobId],
    priority: i16,
) -> Result<bool, StoreError> {
    let time = |micros: Option<i64>| micros.map(time_of_micros);
    let times: Vec<DateTime<Utc>> = firing.fires.iter().map(|at| time_of_micros(*at)).collect();
    let ids: Vec<i64> = ids.iter().map(|id| id.0).collect();
    let rows = FIRE
        .query(
            client,
            &[
                &due.name,
                &due.revision,
                &time(due.standing.next_at),
                &time(firing.next_at),
                &time(firing.waiting_at),
                &times.last(),
                &ids.last(),
                &time(due.standing.waiting_at),
                &priority,
                &ids,
                &times,
                &due.tags,
            ],
        )
        .await?;
    Ok(!rows.is_empty())
}

/// When the next one after this time is due.
pub async fn next_schedule(
    client: &Client,
    after: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>, StoreError> {
    let rows = NEXT.query(client, &[&after]).await?;
    Ok(rows.first().and_then(|row| row.get(0)))
}
