use tokio::task::JoinHandle;
use tokio_postgres::{SimpleQueryMessage, SimpleQueryRow, error::SqlState};

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
        "the schema \"currant\" has version {version}, which is for brokers that know version {oldest}; \
         this one knows {known}: a newer one has been here"
    )]
    Newer { version: i32, oldest: i32, known: i32 },
    #[error("the schema \"currant\" has another migration {version} than this broker ({name})")]
    Changed { version: i32, name: String },
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
    newest(&embedded::migrations::runner())
}

fn newest(runner: &refinery::Runner) -> i32 {
    runner.get_migrations().iter().map(refinery::Migration::version).max().unwrap_or(0)
}

/// Applies what is missing, one process at a time, and returns the names of what it applied.
/// Refuses a database with a changed version, or with newer ones that aren't for this program.
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

/// Changes nothing, and returns the names of what is missing. Refuses what `migrate` refuses. Its
/// statements go through any pooler.
pub async fn missing(address: &Address) -> Result<Vec<String>, MigrateError> {
    let (client, _driver) = connect(address).await?;
    look(&client, &embedded::migrations::runner()).await
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
    // A broker whose role can't change the schema starts if nothing is missing.
    if look(client, &runner).await?.is_empty() {
        return Ok(Vec::new());
    }
    client
        .batch_execute("/* create_schema */ CREATE SCHEMA IF NOT EXISTS currant")
        .await
        .map_err(MigrateError::Prepare)?;
    runner.set_migration_table_name("currant.schema_history");
    let report = runner.run_async(client).await.map_err(MigrateError::Migrate)?;
    Ok(report.applied_migrations().iter().map(ToString::to_string).collect())
}

/// What of the runner's migrations is missing, if the others are those that were applied, and whoever applied
/// newer ones says that they are for brokers of this version too.
async fn look(
    client: &tokio_postgres::Client,
    runner: &refinery::Runner,
) -> Result<Vec<String>, MigrateError> {
    let mut missing: Vec<&refinery::Migration> = runner.get_migrations().iter().collect();
    missing.sort_unstable_by_key(|one| one.version());
    let known = newest(runner);
    let applied =
        "/* applied_migrations */ SELECT version, name, checksum FROM currant.schema_history";
    let mut version = 0;
    for row in rows(client, applied).await? {
        let text = |column| row.get(column).unwrap_or_default();
        let number = text(0).parse().unwrap_or_default();
        version = version.max(number);
        if number > known {
            continue;
        }
        let checksum = |one: &refinery::Migration| one.checksum().to_string();
        match missing.iter().position(|one| one.version() == number) {
            Some(place) if checksum(missing[place]) == text(2) => {
                missing.remove(place);
            }
            _ => return Err(MigrateError::Changed { version: number, name: text(1).to_owned() }),
        }
    }
    if version > known {
        let oldest = "/* oldest_broker */ SELECT version FROM currant.oldest_broker";
        let told = rows(client, oldest).await?;
        let told = told.first().and_then(|row| row.get(0)).and_then(|text| text.parse().ok());
        let oldest = told.unwrap_or(version);
        if known < oldest || !missing.is_empty() {
            return Err(MigrateError::Newer { version, oldest, known });
        }
    }
    Ok(missing.iter().map(ToString::to_string).collect())
}

/// None where the table isn't there.
async fn rows(
    client: &tokio_postgres::Client,
    sql: &str,
) -> Result<Vec<SimpleQueryRow>, MigrateError> {
    let messages = match client.simple_query(sql).await {
        Ok(messages) => messages,
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => Vec::new(),
        Err(error) => return Err(MigrateError::Prepare(error)),
    };
    let row = |message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    };
    Ok(messages.into_iter().filter_map(row).collect())
}
