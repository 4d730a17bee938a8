use refinery::error::Kind;

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
}

/// Names the advisory lock: the bytes of "currant".
const LOCK: i64 = 0x0063_7572_7261_6e74;

/// Applies what is missing, one process at a time, and returns the names of what it applied.
/// Refuses a database with an unknown or changed version.
pub async fn migrate(address: &Address) -> Result<Vec<String>, MigrateError> {
    let (config, tls) = address.parse()?;
    let (mut client, connection) = config.connect(tls).await.map_err(MigrateError::Connect)?;
    // Ends with the client; the lock ends with the connection.
    let driver = tokio::spawn(connection);
    let result = apply(&mut client).await;
    drop(client);
    if let Ok(Err(error)) = driver.await {
        tracing::debug!(error = %error, "the migration's connection ended with an error");
    }
    result
}

async fn apply(client: &mut tokio_postgres::Client) -> Result<Vec<String>, MigrateError> {
    client
        .execute("/* lock_migrations */ SELECT pg_advisory_lock($1)", &[&LOCK])
        .await
        .map_err(MigrateError::Prepare)?;
    client
        .batch_execute("/* create_schema */ CREATE SCHEMA IF NOT EXISTS currant")
        .await
        .map_err(MigrateError::Prepare)?;
    let mut runner = embedded::migrations::runner();
    runner.set_migration_table_name("currant.schema_history");
    let report = runner
        .set_abort_missing(true)
        .set_abort_divergent(true)
        .run_async(client)
        .await
        .map_err(of_refinery)?;
    Ok(report.applied_migrations().iter().map(ToString::to_string).collect())
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
