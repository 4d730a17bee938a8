use chrono::{DateTime, Utc};
use tokio_postgres::{Row, types::Json};

use super::{Client, StoreError, row::options, statement::Statement};
use crate::domain::{
    CatchUp, CronRule, JobId, JobTemplate, NewSchedule, Overlap, QueueId, Schedule, ScheduleRules,
};

macro_rules! schedules {
    ($name:literal, $payload:literal, $which:literal) => {
        concat!(
            "/* ",
            $name,
            " */
SELECT name, cron, time_zone, catch_up, window_ms, overlap, from_file, queue_id, kind, ",
            $payload,
            ",
       priority, max_attempts, options, paused_at, next_at, waiting_at, last_at, last_job,
       expire_after_ms
FROM currant.schedule WHERE ",
            $which
        )
    };
}

const GET: Statement =
    Statement::new("get_schedule", schedules!("get_schedule", "payload", "name = $1::text"));

/// A page of payloads could be larger than a message.
const LIST: Statement = Statement::new(
    "list_schedules",
    schedules!("list_schedules", "''::bytea", "name > $1::text ORDER BY name LIMIT $2::bigint"),
);

const COUNT: Statement = Statement::new(
    "count_schedules",
    "/* count_schedules */ SELECT count(*) FROM currant.schedule",
);

macro_rules! given {
    () => {
        "cron, time_zone, catch_up, window_ms, overlap, from_file, queue_id, kind, payload, priority,
     max_attempts, options, next_at, expire_after_ms"
    };
}

const CREATE: Statement = Statement::new(
    "create_schedule",
    concat!(
        "/* create_schedule */
INSERT INTO currant.schedule (name, ",
        given!(),
        ")
VALUES ($1::text, $2::text, $3::text, $4::smallint, $5::bigint, $6::smallint, $7::boolean, $8::int,
        $9::text, $10::bytea, $11::smallint, $12::smallint, $13::jsonb, $14::timestamptz, $15::bigint)
ON CONFLICT DO NOTHING"
    ),
);

/// One whose times stay as they are goes on where it was; else it begins anew.
const UPDATE: Statement = Statement::new(
    "update_schedule",
    concat!(
        "/* update_schedule */
UPDATE currant.schedule s
SET revision = s.revision + 1, (",
        given!(),
        ") = ($2::text, $3::text, $4::smallint, $5::bigint, $6::smallint, $7::boolean, $8::int, $9::text,
       $10::bytea, $11::smallint, $12::smallint, $13::jsonb,
       CASE WHEN s.paused_at IS NOT NULL THEN NULL
            WHEN s.cron = $2::text AND s.time_zone = $3::text THEN s.next_at
            ELSE $14::timestamptz END, $15::bigint),
    last_job = CASE WHEN s.queue_id = $8::int THEN s.last_job END
WHERE s.name = $1::text"
    ),
);

const DELETE: Statement = Statement::new(
    "delete_schedule",
    "/* delete_schedule */ DELETE FROM currant.schedule WHERE name = $1::text",
);

const PAUSE: Statement = Statement::new(
    "pause_schedule",
    "/* pause_schedule */
UPDATE currant.schedule
SET revision = revision + 1, paused_at = now(), next_at = NULL, waiting_at = NULL
WHERE name = $1::text AND paused_at IS NULL",
);

const RESUME: Statement = Statement::new(
    "resume_schedule",
    "/* resume_schedule */
UPDATE currant.schedule SET revision = revision + 1, paused_at = NULL, next_at = $2::timestamptz
WHERE name = $1::text AND paused_at IS NOT NULL",
);

const DELETE_OTHERS: Statement = Statement::new(
    "delete_other_schedules",
    "/* delete_other_schedules */
DELETE FROM currant.schedule WHERE from_file AND name <> ALL ($1::text[])",
);

pub(super) const STATEMENTS: [Statement; 9] =
    [GET, LIST, COUNT, CREATE, UPDATE, DELETE, PAUSE, RESUME, DELETE_OTHERS];

pub async fn get_schedule(client: &Client, name: &str) -> Result<Option<Schedule>, StoreError> {
    GET.query(client, &[&name]).await?.first().map(schedule).transpose()
}

/// The first of those behind a name, without payloads.
pub async fn list_schedules(
    client: &Client,
    after: &str,
    limit: usize,
) -> Result<Vec<Schedule>, StoreError> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    LIST.query(client, &[&after, &limit]).await?.iter().map(schedule).collect()
}

pub async fn count_schedules(client: &Client) -> Result<usize, StoreError> {
    let rows = COUNT.query(client, &[]).await?;
    Ok(rows.first().map_or(0, |row| usize::try_from(row.get::<_, i64>(0)).unwrap_or(usize::MAX)))
}

/// False: there is one of that name.
pub async fn create_schedule(
    client: &Client,
    schedule: &NewSchedule,
    from_file: bool,
    next_at: Option<DateTime<Utc>>,
) -> Result<bool, StoreError> {
    write(CREATE, client, schedule, from_file, next_at).await
}

/// False: there is none of that name.
pub async fn update_schedule(
    client: &Client,
    schedule: &NewSchedule,
    from_file: bool,
    next_at: Option<DateTime<Utc>>,
) -> Result<bool, StoreError> {
    write(UPDATE, client, schedule, from_file, next_at).await
}

async fn write(
    statement: Statement,
    client: &Client,
    schedule: &NewSchedule,
    from_file: bool,
    next_at: Option<DateTime<Utc>>,
) -> Result<bool, StoreError> {
    let NewSchedule { name, rules, job } = schedule;
    let ScheduleRules { cron, catch_up, overlap } = rules;
    let JobTemplate { queue, kind, payload, priority, max_attempts, options, expire_after_ms } =
        job;
    let (catch_up, window_ms): (i16, u64) = match catch_up {
        CatchUp::Skip => (0, 0),
        CatchUp::Latest => (1, 0),
        CatchUp::All { window_ms } => (2, *window_ms),
    };
    let payload: &[u8] = payload;
    let overlap: i16 = match overlap {
        Overlap::Allow => 0,
        Overlap::Skip => 1,
        Overlap::QueueOne => 2,
    };
    let written = statement
        .execute(
            client,
            &[
                name,
                &cron.pattern(),
                &cron.zone(),
                &catch_up,
                &i64::try_from(window_ms).unwrap_or(i64::MAX),
                &overlap,
                &from_file,
                &queue.0,
                kind,
                &payload,
                priority,
                &max_attempts.map(u16::cast_signed),
                &options.as_deref().map(Json),
                &next_at,
                &expire_after_ms.map(|ms| i64::try_from(ms).unwrap_or(i64::MAX)),
            ],
        )
        .await?;
    Ok(written > 0)
}

/// False: there is none of that name.
pub async fn delete_schedule(client: &Client, name: &str) -> Result<bool, StoreError> {
    Ok(DELETE.execute(client, &[&name]).await? > 0)
}

/// Pauses it unless it is.
pub async fn pause_schedule(client: &Client, name: &str) -> Result<(), StoreError> {
    PAUSE.execute(client, &[&name]).await?;
    Ok(())
}

/// Resumes it if it is paused; then it fires next at this time.
pub async fn resume_schedule(
    client: &Client,
    name: &str,
    next_at: Option<DateTime<Utc>>,
) -> Result<(), StoreError> {
    RESUME.execute(client, &[&name, &next_at]).await?;
    Ok(())
}

/// Deletes those that came from a file, but these.
pub async fn delete_other_schedules(client: &Client, names: &[&str]) -> Result<u64, StoreError> {
    DELETE_OTHERS.execute(client, &[&names]).await
}

fn schedule(row: &Row) -> Result<Schedule, StoreError> {
    let micros =
        |column: usize| row.get::<_, Option<DateTime<Utc>>>(column).map(|at| at.timestamp_micros());
    Ok(Schedule {
        name: row.get(0),
        rules: rules(row)?,
        from_file: row.get(6),
        job: JobTemplate {
            queue: QueueId(row.get(7)),
            kind: row.get(8),
            payload: bytes::Bytes::copy_from_slice(row.get(9)),
            priority: row.get(10),
            max_attempts: row.get::<_, Option<i16>>(11).map(i16::cast_unsigned),
            options: options(row, 12),
            expire_after_ms: row.get::<_, Option<i64>>(18).map(i64::unsigned_abs),
        },
        paused_at: micros(13),
        next_at: micros(14),
        waiting_at: micros(15),
        last_at: micros(16),
        last_job: row.get::<_, Option<i64>>(17).map(JobId),
    })
}

/// Of a row that begins with name, cron, time_zone, catch_up, window_ms, overlap.
pub(super) fn rules(row: &Row) -> Result<ScheduleRules, StoreError> {
    let cron = CronRule::parse(row.get(1), row.get(2)).map_err(|(column, problem)| {
        StoreError::Corrupt { table: "schedule", column, key: row.get(0), problem }
    })?;
    Ok(ScheduleRules {
        cron,
        catch_up: match row.get::<_, i16>(3) {
            0 => CatchUp::Skip,
            1 => CatchUp::Latest,
            _ => CatchUp::All { window_ms: row.get::<_, i64>(4).unsigned_abs() },
        },
        overlap: match row.get::<_, i16>(5) {
            0 => Overlap::Allow,
            1 => Overlap::Skip,
            _ => Overlap::QueueOne,
        },
    })
}
