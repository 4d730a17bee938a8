use std::collections::HashSet;

use refinery::error::Kind;
use tokio::task::JoinHandle;
use tokio_postgres::{SimpleQueryMessage, error::SqlState};

use super::{Address, AddressError};

mod embedded {
    refinery::embed_migrations!("../migrations");
}

/// Why the schema could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    #[error("the database's address can't be used")]
    Address(#[from] AddressError),
    #[error("the database can't be reached")]
    Connect(#[source] tokio_postgres::Error),
    #[error("the schema \"currant\" can't be prepared")]
    Prepare(#[source] tokio_postgres::Error),
    #[error(
        "the schema \"currant\" has version {version} ({name}), which this broker doesn't know: \
         a newer broker has been here"
    )]
    Newer { version: i64, name: String },
    #[error("the schema \"currant\" is not one that this broker can bring up to date")]
    Migrate(#[source] refinery::Error),
    #[error(
        "the schema \"currant\" isn't up to date, and can't be brought there through a pooler of \
         transactions: run migrate with a database.listen_url that leads to Postgres itself"
    )]
    Outdated,
}

/// Names the advisory lock: the bytes of "currant".
const LOCK: i64 = 0x0063_7572_7261_6e74;

/// The version to which this program brings a schema.
pub fn newest_version() -> i32 {
    let runner = embedded::migrations::runner();
    runner.get_migrations().iter().map(refinery::Migration::version).max().unwrap_or(0)
}

/// Applies what is missing, one process at a time, and returns the names of what it applied.
/// Refuses a database with an unknown or changed version.
pub async fn migrate(address: &Address) -> Result<Vec<String>, MigrateError> {
    let (mut client, driver) = connect(address).await?;
    let result = apply(&mut client).await;
    // The lock ends with the connection.
    drop(client);
    if let Ok(Err(error)) = driver.await {
        tracing::debug!(error = %error, "the migration's connection ended with an error");
    }
    result
}

/// Changes nothing and refuses a database that isn't up to date, by a statement that goes through any
/// pooler.
pub async fn check_schema(address: &Address) -> Result<(), MigrateError> {
    let (client, _driver) = connect(address).await?;
    let sql = "/* applied_migrations */ SELECT version, name FROM currant.schema_history";
    let messages = match client.simple_query(sql).await {
        Ok(messages) => messages,
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => Vec::new(),
        Err(error) => return Err(MigrateError::Prepare(error)),
    };
    let runner = embedded::migrations::runner();
    let mut missing: HashSet<String> =
        runner.get_migrations().iter().map(|one| one.version().to_string()).collect();
    for message in messages {
        let SimpleQueryMessage::Row(row) = message else { continue };
        let text = |column| row.get(column).unwrap_or_default();
        if !missing.remove(text(0)) {
            let version = text(0).parse().unwrap_or_default();
            return Err(MigrateError::Newer { version, name: text(1).to_owned() });
        }
    }
    if missing.is_empty() { Ok(()) } else { Err(MigrateError::Outdated) }
}

/// A connection, and what drives it: it ends with the client.
async fn connect(
    address: &Address,
) -> Result<(tokio_postgres::Client, JoinHandle<Result<(), tokio_postgres::Error>>), MigrateError> {
    let (config, tls) = address.parse()?;
    let (client, connection) = config.connect(tls).await.map_err(MigrateError::Connect)?;
    Ok((client, tokio::spawn(connection)))
}

async fn apply(client: &mut tokio_postgres::Client) -> Result<Vec<String>, MigrateError> {
    client
        .execute("/* lock_migrations */ SELECT pg_advisory_lock($1)", &[&LOCK])
        .await
        .map_err(MigrateError::Prepare)?;
    let mut runner = embedded::migrations::runner();
    if applied(client).await? == known(&runner) {
        return Ok(Vec::new());
    }
    client
        .batch_execute("/* create_schema */ CREATE SCHEMA IF NOT EXISTS currant")
        .await
        .map_err(MigrateError::Prepare)?;
    runner.set_migration_table_name("currant.schema_history");
    let report = runner
        .set_abort_missing(true)
        .set_abort_divergent(true)
        .run_async(client)
        .await
        .map_err(of_refinery)?;
    Ok(report.applied_migrations().iter().map(ToString::to_string).collect())
}

/// Version, name and checksum of each migration.
type Versions = Vec<(i64, String, String)>;

fn known(runner: &refinery::Runner) -> Versions {
    let of = |one: &refinery::Migration| {
        (i64::from(one.version()), one.name().to_owned(), one.checksum().to_string())
    };
    let mut known: Versions = runner.get_migrations().iter().map(of).collect();
    known.sort_unstable();
    known
}

/// What is there, to be read by whoever may: a broker whose role can't change the schema starts if
/// nothing is missing.
async fn applied(client: &tokio_postgres::Client) -> Result<Versions, MigrateError> {
    let sql = "/* applied_migrations */
SELECT version::bigint, name::text, checksum::text FROM currant.schema_history ORDER BY version";
    match client.query(sql, &[]).await {
        Ok(rows) => Ok(rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()),
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => Ok(Vec::new()),
        Err(error) => Err(MigrateError::Prepare(error)),
    }
}

fn of_refinery(error: refinery::Error) -> MigrateError {
    match error.kind() {
        Kind::MissingVersion(applied) => MigrateError::Newer {
            version: applied.version().into(),
            name: applied.name().to_owned(),
        },
        _ => MigrateError::Migrate(error),
    }
}
