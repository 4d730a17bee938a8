use chrono::{DateTime, Utc};
use tokio_postgres::Row;

use super::{Client, StoreError, statement::Statement};
use crate::{
    clock::time_of_micros,
    domain::{Grant, NewToken, Token, TokenHash, TokenId},
};

macro_rules! columns {
    () => {
        "id, name, scopes, queues, certificate, created_at, expires_at, revoked_at, last_used_at, hash"
    };
}

macro_rules! valid {
    () => {
        "revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())"
    };
}

const CREATE: Statement = Statement::new(
    "create_token",
    concat!(
        "/* create_token */
WITH created AS (
    INSERT INTO currant.token (name, scopes, queues, certificate, expires_at, hash)
    SELECT $1::text, $2::text[], $3::text[], $4::text, $5::timestamptz, $6::bytea
    WHERE (SELECT count(*) FROM currant.token WHERE ",
        valid!(),
        ") < $7::bigint
    RETURNING *),
noted AS (
    INSERT INTO currant.audit (token_id, name, action, subject)
    SELECT $8::bigint, $9::text, 'create_token', id FROM created)
SELECT ",
        columns!(),
        ", pg_notify('currant_ready', 'tokens') FROM created"
    ),
);

const LIST: Statement = Statement::new(
    "list_tokens",
    concat!(
        "/* list_tokens */ SELECT ",
        columns!(),
        " FROM currant.token WHERE id > $1::bigint ORDER BY id LIMIT $2::bigint"
    ),
);

const VALID: Statement = Statement::new(
    "valid_tokens",
    concat!(
        "/* valid_tokens */ SELECT ",
        columns!(),
        " FROM currant.token WHERE ",
        valid!(),
        " ORDER BY id LIMIT $1::bigint"
    ),
);

const REVOKE: Statement = Statement::new(
    "revoke_token",
    "/* revoke_token */
WITH revoked AS (
    UPDATE currant.token SET revoked_at = now() WHERE id = $1::bigint AND revoked_at IS NULL
    RETURNING id),
noted AS (
    INSERT INTO currant.audit (token_id, name, action, subject)
    SELECT $2::bigint, $3::text, 'revoke_token', id FROM revoked)
SELECT id, (SELECT count(pg_notify('currant_ready', 'tokens')) FROM revoked)
FROM currant.token WHERE id = $1::bigint",
);

const TOUCH: Statement = Statement::new(
    "touch_tokens",
    "/* touch_tokens */
UPDATE currant.token t SET last_used_at = greatest(t.last_used_at, v.at)
FROM unnest($1::bigint[], $2::timestamptz[]) AS v (i, at) WHERE t.id = v.i",
);

const PRUNE: Statement = Statement::new(
    "prune_tokens",
    "/* prune_tokens */
DELETE FROM currant.token WHERE coalesce(revoked_at, expires_at) < $1::timestamptz",
);

pub(super) const STATEMENTS: [Statement; 6] = [CREATE, LIST, VALID, REVOKE, TOUCH, PRUNE];

/// Who does something, as the audit record names him.
#[derive(Clone, Copy, Debug)]
pub struct Actor<'a> {
    /// `None`: the program itself, at the command line.
    pub token: Option<TokenId>,
    pub name: &'a str,
}

/// Stores a token, unless there are `max` valid ones: then there is no answer.
pub async fn create_token(
    client: &Client,
    actor: Actor<'_>,
    new: &NewToken,
    hash: Option<TokenHash>,
    max: usize,
) -> Result<Option<Token>, StoreError> {
    let NewToken { name, grant, certificate, expires_at } = new;
    let scopes: Vec<&str> = grant.scopes.iter().map(|scope| scope.name()).collect();
    let queues: Vec<String> = grant.queues.iter().map(|queue| queue.text()).collect();
    let expires_at = expires_at.map(time_of_micros);
    let hash = hash.as_ref().map(TokenHash::as_bytes);
    let max = i64::try_from(max).unwrap_or(i64::MAX);
    let (by, by_name) = (actor.token.map(|token| token.0), actor.name);
    let rows = CREATE
        .query(
            client,
            &[name, &scopes, &queues, certificate, &expires_at, &hash, &max, &by, &by_name],
        )
        .await?;
    rows.first().map(|row| Ok(token(row)?.0)).transpose()
}

/// Of all tokens, in the order of their numbers, those after `after`, at most `limit`.
pub async fn list_tokens(
    client: &Client,
    after: TokenId,
    limit: usize,
) -> Result<Vec<Token>, StoreError> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = LIST.query(client, &[&after.0, &limit]).await?;
    rows.iter().map(|row| Ok(token(row)?.0)).collect()
}

/// Those that are neither revoked nor expired, at most `max`, each with the hash of its secret.
pub async fn valid_tokens(
    client: &Client,
    max: usize,
) -> Result<Vec<(Token, Option<TokenHash>)>, StoreError> {
    let max = i64::try_from(max).unwrap_or(i64::MAX);
    VALID.query(client, &[&max]).await?.iter().map(token).collect()
}

/// False: there is no such token. One that was revoked before stays so.
pub async fn revoke_token(
    client: &Client,
    actor: Actor<'_>,
    id: TokenId,
) -> Result<bool, StoreError> {
    let by = actor.token.map(|token| token.0);
    Ok(!REVOKE.query(client, &[&id.0, &by, &actor.name]).await?.is_empty())
}

/// Notes when tokens were last used.
pub async fn touch_tokens(
    client: &Client,
    used: &[(TokenId, DateTime<Utc>)],
) -> Result<(), StoreError> {
    let (ids, times): (Vec<i64>, Vec<DateTime<Utc>>) =
        used.iter().map(|(id, at)| (id.0, *at)).unzip();
    TOUCH.execute(client, &[&ids, &times]).await?;
    Ok(())
}

/// Deletes tokens that ended before this time.
pub async fn prune_tokens(client: &Client, before: DateTime<Utc>) -> Result<u64, StoreError> {
    PRUNE.execute(client, &[&before]).await
}

fn token(row: &Row) -> Result<(Token, Option<TokenHash>), StoreError> {
    let id: i64 = row.get(0);
    let corrupt = |column| {
        move |problem: String| StoreError::Corrupt {
            table: "token",
            column,
            key: id.to_string(),
            problem,
        }
    };
    let micros = |column: usize| {
        row.get::<_, Option<DateTime<Utc>>>(column).map(|time| time.timestamp_micros())
    };
    let scopes: Vec<&str> = row.get(2);
    let queues: Vec<&str> = row.get(3);
    let hash = row.get::<_, Option<&[u8]>>(9).map(<[u8; 32]>::try_from).transpose();
    let hash = hash.map_err(|error| corrupt("hash")(error.to_string()))?;
    let grant = Grant {
        // One that a later version has made allows nothing here.
        scopes: scopes.into_iter().filter_map(|scope| scope.parse().ok()).collect(),
        queues: queues
            .into_iter()
            .map(str::parse)
            .collect::<Result<_, _>>()
            .map_err(corrupt("queues"))?,
    };
    let token = Token {
        id: TokenId(id),
        name: row.get(1),
        grant,
        certificate: row.get(4),
        created_at: micros(5).unwrap_or_default(),
        expires_at: micros(6),
        revoked_at: micros(7),
        last_used_at: micros(8),
    };
    Ok((token, hash.map(TokenHash::from_bytes)))
}
