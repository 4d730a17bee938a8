use chrono::{DateTime, Utc};

use super::{Actor, Client, StoreError, statement::Statement};
use crate::domain::JobId;

const NOTE: Statement = Statement::new(
    "note_action",
    "/* note_action */
INSERT INTO currant.audit (token_id, name, action, jobs)
VALUES ($1::bigint, $2::text, $3::text, $4::bigint[])",
);

const NOTE_ON: Statement = Statement::new(
    "note_action_on",
    "/* note_action_on */
INSERT INTO currant.audit (token_id, name, action, object)
VALUES ($1::bigint, $2::text, $3::text, $4::text)",
);

const PRUNE: Statement = Statement::new(
    "prune_audit",
    "/* prune_audit */ DELETE FROM currant.audit WHERE at < $1::timestamptz",
);

pub(super) const STATEMENTS: [Statement; 3] = [NOTE, NOTE_ON, PRUNE];

/// Writes down what somebody is about to do to jobs.
pub async fn note_action(
    client: &Client,
    actor: Actor<'_>,
    action: &'static str,
    jobs: &[JobId],
) -> Result<(), StoreError> {
    let jobs: Vec<i64> = jobs.iter().map(|id| id.0).collect();
    let by = actor.token.map(|token| token.0);
    NOTE.execute(client, &[&by, &actor.name, &action, &jobs]).await?;
    Ok(())
}

/// The same of a queue or a schedule, by its name.
pub async fn note_action_on(
    client: &Client,
    actor: Actor<'_>,
    action: &'static str,
    object: &str,
) -> Result<(), StoreError> {
    let by = actor.token.map(|token| token.0);
    NOTE_ON.execute(client, &[&by, &actor.name, &action, &object]).await?;
    Ok(())
}

/// Deletes records that are older.
pub async fn prune_audit(client: &Client, before: DateTime<Utc>) -> Result<u64, StoreError> {
    PRUNE.execute(client, &[&before]).await
}
