//! A handler whose effects and whose job's outcome are one transaction on the broker's database: both are
//! there, once, or neither is, whatever happens to worker, broker and network.
//!
//! `cargo run -p currant-worker-sdk --example transaction -- http://127.0.0.1:7070 "host=… dbname=…"`

use std::{error::Error, sync::Arc};

use currant_worker_sdk::{Committed, Completion, HandlerError, Job, Running, Worker};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio_postgres::{Client, NoTls};

#[derive(Serialize, Deserialize)]
pub(crate) struct Transfer {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) cents: i64,
}

/// What the job's result is: see `StoredJob::outcome`.
#[derive(Serialize, Deserialize)]
pub(crate) struct Receipt {
    pub(crate) balance: i64,
}

async fn transfer(
    job: Job<Transfer>,
    database: Arc<Mutex<Client>>,
) -> Result<Committed, HandlerError> {
    let mut database = database.lock().await;
    let transaction = database.transaction().await?;
    let Transfer { from, to, cents } = &job.payload;
    let take = "UPDATE account SET cents = cents - $2 WHERE name = $1";
    transaction.execute(take, &[from, cents]).await?;
    let give = "UPDATE account SET cents = cents + $2 WHERE name = $1 RETURNING cents";
    let balance = transaction.query_one(give, &[to, cents]).await?.get(0);

    let completion = job.completion(&Receipt { balance })?;
    let Completion { job, attempt, result, queue, .. } = &completion;
    transaction.execute(Completion::SQL, &[job, attempt, result, &&**queue]).await?;
    transaction.commit().await?;
    Ok(completion.committed())
}

/// Makes the accounts, if they aren't there, and starts a worker.
pub(crate) async fn start(broker: &str, database: &str) -> Result<Running, Box<dyn Error>> {
    let (client, connection) = tokio_postgres::connect(database, NoTls).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::error!(%error, "the connection to the database is lost");
        }
    });
    client
        .batch_execute(
            "CREATE TABLE IF NOT EXISTS account (
                 name text PRIMARY KEY,
                 cents bigint NOT NULL CHECK (cents >= 0)
             );
             INSERT INTO account VALUES ('ada', 100000), ('bob', 0) ON CONFLICT DO NOTHING",
        )
        .await?;
    let database = Arc::new(Mutex::new(client));
    let worker = Worker::builder(broker)
        .name("transaction")
        .queue("transfers")
        .handler("transfer", move |job| transfer(job, Arc::clone(&database)))
        .build()?;
    Ok(worker.start())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().init();
    let mut arguments = std::env::args().skip(1);
    let broker = arguments.next().unwrap_or_else(|| "http://127.0.0.1:7070".into());
    let database = arguments.next().ok_or("the second argument is the database's URL")?;
    let worker = start(&broker, &database).await?;
    tokio::signal::ctrl_c().await?;
    worker.shutdown().await?;
    Ok(())
}
