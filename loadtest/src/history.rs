//! Rows of the past: jobs that finished before the load starts, as in a table that has been in use.
//!
//! They are of the run's own queues, with smaller ids than any job of the run: one for each
//! millisecond, the latest an hour ago. The check leaves them aside by their ids.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio_postgres::types::ToSql;

use crate::{jobs::binary_batch, probe, settings::Settings, workers::KIND};

/// How long ago the latest of them finished.
const AGE: Duration = Duration::from_secs(3600);
/// Bits of an id below its milliseconds.
const ID_SHIFT: u32 = 22;

const CREATE_QUEUES: &str = "-- loadtest_create_queues
INSERT INTO currant.queue (name) SELECT unnest($1::text[])";

/// Rows as completions leave them, by an owner that no broker ever is.
const INSERT_HISTORY: &str = "-- loadtest_insert_history
INSERT INTO currant.job
    (queue_id, id, kind, priority, phase, owner, attempt, outcome, finished_at, payload)
SELECT q.ids[1 + n % array_length(q.ids, 1)], ($2::bigint - n) << 22, $3::text, 0, 2, 0, 1, 1,
       to_timestamp(($2::bigint - n) / 1000.0), $4::bytea
FROM (SELECT array_agg(id ORDER BY id) FROM currant.queue WHERE name = ANY($1::text[])) AS q (ids),
     generate_series(0, $5::bigint - 1) AS n";

/// Writes them into a database that has the schema.
pub(crate) async fn write(
    settings: &Settings,
    queues: &[String],
    database_url: &str,
) -> Result<()> {
    let rows = i64::try_from(settings.history)?;
    eprintln!("writing {rows} rows of the past");
    let config = database_url.parse().context("the database's address can't be read")?;
    let client = probe::postgres::connect(&config).await?;
    client.execute(CREATE_QUEUES, &[&queues]).await?;
    let payload = binary_batch(0, 1, 0, settings.payload_bytes).next().unwrap_or_default();
    let latest_ms = chrono::Utc::now().timestamp_millis() - AGE.as_millis() as i64;
    let values: [&(dyn ToSql + Sync); 5] = [&queues, &latest_ms, &KIND, &&*payload, &rows];
    let written = client.execute(INSERT_HISTORY, &values).await?;
    anyhow::ensure!(written == settings.history, "{written} rows of the past, not {rows}");
    probe::postgres::settle(&client).await
}

/// No job of the past has this id or a larger one, no job of a run that starts now a smaller one.
pub(crate) fn first_id_of_a_run() -> i64 {
    (chrono::Utc::now().timestamp_millis() - AGE.as_millis() as i64 / 2) << ID_SHIFT
}
