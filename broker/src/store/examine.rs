//! For `currant-broker doctor`: what a database says of itself. None of this needs the schema to be there.

use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::StreamExt;

use super::{Address, Client, Listener, Notice, StoreError, statement::Statement};

/// What a server says of itself.
#[derive(Clone, Debug)]
pub struct Server {
    /// As 150004 for 15.4.
    pub version: i32,
    pub user: String,
    pub database: String,
    pub now: DateTime<Utc>,
    /// A standby, which can't be written to.
    pub in_recovery: bool,
    pub fsync: bool,
    pub full_page_writes: bool,
    pub autovacuum: bool,
    /// Those that anybody may have, and those in use.
    pub connections_max: i64,
    pub connections: i64,
    /// How long the oldest transaction has been open, in seconds, as far as this user may know.
    pub oldest_transaction_s: Option<f64>,
}

/// What this user may do.
#[derive(Clone, Debug)]
pub struct Rights {
    pub may_create_schema: bool,
    /// The schema is there, and who owns it.
    pub schema_owner: Option<String>,
    pub owns_schema: bool,
    /// Tables with which it may not do what a broker does.
    pub closed_tables: Vec<String>,
    /// A broker or a migration has been here.
    pub has_history: bool,
}

const SERVER: Statement = Statement::new(
    "examine_server",
    "/* examine_server */
SELECT current_setting('server_version_num')::int, current_user::text, current_database()::text,
       clock_timestamp(), pg_is_in_recovery(), current_setting('fsync') = 'on',
       current_setting('full_page_writes') = 'on',
       current_setting('autovacuum') = 'on' AND current_setting('track_counts') = 'on',
       current_setting('max_connections')::bigint
           - current_setting('superuser_reserved_connections')::bigint,
       (SELECT sum(numbackends)::bigint FROM pg_stat_database),
       (SELECT max(extract(epoch FROM clock_timestamp() - xact_start))::float8 FROM pg_stat_activity
        WHERE pid <> pg_backend_pid() AND backend_type = 'client backend')",
);

const RIGHTS: Statement = Statement::new(
    "examine_rights",
    "/* examine_rights */
SELECT has_database_privilege(current_database(), 'CREATE'), n.owner,
       coalesce(pg_has_role(n.owner_id, 'USAGE'), false),
       ARRAY(SELECT c.relname::text FROM pg_class c
             WHERE c.relnamespace = n.oid AND c.relkind = 'r'
               AND NOT (has_table_privilege(c.oid, 'SELECT')
                        AND (c.relname = 'schema_history'
                             OR has_table_privilege(c.oid, 'INSERT')
                             AND has_table_privilege(c.oid, 'DELETE')
                             AND (c.relname = 'audit' OR has_table_privilege(c.oid, 'UPDATE'))))
             ORDER BY 1),
       EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = n.oid AND c.relname = 'schema_history')
FROM (SELECT 1) one
LEFT JOIN (SELECT oid, nspowner AS owner_id, nspowner::regrole::text AS owner FROM pg_namespace
           WHERE nspname = 'currant') n ON true",
);

const VERSION: Statement = Statement::new(
    "examine_schema",
    "/* examine_schema */ SELECT coalesce(max(version), 0)::int FROM currant.schema_history",
);

const REMEMBER: Statement = Statement::new(
    "remember",
    "/* remember */ SELECT set_config('currant.examined', $1::text, false)",
);

const REMEMBERED: Statement = Statement::new(
    "remembered",
    "/* remembered */ SELECT coalesce(current_setting('currant.examined', true), '')",
);

const SAY: Statement = Statement::new(
    "say_something",
    "/* say_something */ SELECT pg_notify('currant_ready', 'scheduled')",
);

pub(super) const STATEMENTS: [Statement; 6] = [SERVER, RIGHTS, VERSION, REMEMBER, REMEMBERED, SAY];

/// How long a notification may take.
const HEAR_TIME: Duration = Duration::from_secs(3);

fn no_row(statement: &'static str) -> StoreError {
    StoreError::Unavailable { statement, source: "no row".into() }
}

pub async fn examine_server(client: &Client) -> Result<Server, StoreError> {
    let rows = SERVER.query(client, &[]).await?;
    let row = rows.first().ok_or_else(|| no_row(SERVER.name))?;
    Ok(Server {
        version: row.get(0),
        user: row.get(1),
        database: row.get(2),
        now: row.get(3),
        in_recovery: row.get(4),
        fsync: row.get(5),
        full_page_writes: row.get(6),
        autovacuum: row.get(7),
        connections_max: row.get(8),
        connections: row.get(9),
        oldest_transaction_s: row.get(10),
    })
}

pub async fn examine_rights(client: &Client) -> Result<Rights, StoreError> {
    let rows = RIGHTS.query(client, &[]).await?;
    let row = rows.first().ok_or_else(|| no_row(RIGHTS.name))?;
    Ok(Rights {
        may_create_schema: row.get(0),
        schema_owner: row.get(1),
        owns_schema: row.get(2),
        closed_tables: row.get(3),
        has_history: row.get(4),
    })
}

/// The version of the schema, which has to be there.
pub async fn examine_schema(client: &Client) -> Result<i32, StoreError> {
    let rows = VERSION.query(client, &[]).await?;
    Ok(rows.first().map_or(0, |row| row.get(0)))
}

/// Whether what one session is told stays with it while another one works: not so behind a pooler that
/// changes connections between transactions.
pub async fn keeps_sessions(one: &Client, other: &mut Client) -> Result<bool, StoreError> {
    REMEMBER.query(one, &[&"one"]).await?;
    // Its transaction holds the server's connection that was free: the one that was told.
    let failed = |error| StoreError::of(REMEMBERED.name, error);
    let transaction = other.transaction().await.map_err(failed)?;
    let strange = REMEMBERED.query(&transaction, &[]).await?;
    let own = REMEMBERED.query(one, &[]).await?;
    drop(transaction);
    let says = |rows: &[tokio_postgres::Row], what| {
        rows.first().is_some_and(|row| row.get::<_, &str>(0) == what)
    };
    Ok(says(&strange, "") && says(&own, "one"))
}

/// Whether what is said by NOTIFY is heard by LISTEN at this address. Brokers that hear it too look once more
/// what is due.
pub async fn hears(
    client: &Client,
    address: &Address,
    connect_timeout: Duration,
) -> Result<bool, StoreError> {
    // No broker has this number.
    let mut heard = Listener::listen(address, 0, connect_timeout).await?;
    let hear = async {
        while let Some(notice) = heard.next().await {
            match notice? {
                Notice::Listening => _ = SAY.query(client, &[]).await?,
                Notice::Scheduled => return Ok(true),
                _ => {}
            }
        }
        Ok(false)
    };
    tokio::time::timeout(HEAR_TIME, hear).await.unwrap_or(Ok(false))
}
