//! What is tested: a private Postgres and a broker process, or a broker that already runs.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use currant_broker::{
    private_postgres::{Options, PrivatePostgres},
    store,
};
use tokio::{task::spawn_blocking, time::sleep};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::{
    broker_process::BrokerProcess, channels, history, probe::postgres::PostgresProbe,
    settings::Settings,
};

/// The database of the private stack.
const DATABASE: &str = "currant";
/// Durable, and with room to work in; all else is Postgres' default.
const POSTGRES_SETTINGS: [(&str, &str); 4] = [
    ("fsync", "on"),
    ("synchronous_commit", "on"),
    ("shared_buffers", "512MB"),
    ("max_wal_size", "4GB"),
];
const READY_MAX: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// Stops what it has started when it is dropped.
pub(crate) struct Stack {
    // The broker goes first.
    broker: Option<BrokerProcess>,
    postgres: Option<PrivatePostgres>,
    endpoint: String,
    database_url: Option<String>,
    private: bool,
}

impl Stack {
    /// The broker at `--endpoint`, or a private stack, with a past of these queues if the settings want
    /// one; ready to be used.
    pub(crate) async fn start(settings: &Settings, queues: &[String]) -> Result<Stack> {
        let mut stack = match &settings.endpoint {
            Some(endpoint) => Stack {
                broker: None,
                postgres: None,
                endpoint: endpoint.clone(),
                database_url: settings.database_url.clone(),
                private: false,
            },
            None => Stack::private(settings, queues).await?,
        };
        let Stack { endpoint, broker, .. } = &mut stack;
        until_serving(endpoint, settings.ca_file.as_deref(), broker.as_mut()).await?;
        Ok(stack)
    }

    async fn private(settings: &Settings, queues: &[String]) -> Result<Stack> {
        let postgres = start_postgres(&[]).await?;
        let database_url = postgres.dsn();
        if settings.history > 0 {
            // Before the broker, so that it starts with what it would find after a restart.
            store::migrate(&database_url.as_str().into()).await?;
            history::write(settings, queues, &database_url).await?;
        }
        let broker = BrokerProcess::serve(&database_url, &settings.broker_settings)?;
        Ok(Stack {
            endpoint: broker.endpoint(),
            broker: Some(broker),
            postgres: Some(postgres),
            database_url: Some(database_url),
            private: true,
        })
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub(crate) fn database_url(&self) -> Option<&str> {
        self.database_url.as_deref()
    }

    /// Broker and Postgres were started for this test alone.
    pub(crate) fn is_private(&self) -> bool {
        self.private
    }

    pub(crate) fn broker_pid(&self) -> Option<u32> {
        self.broker.as_ref().map(BrokerProcess::pid)
    }

    /// None without access to the database.
    pub(crate) async fn probe(&self) -> Result<Option<PostgresProbe>> {
        let Some(url) = &self.database_url else { return Ok(None) };
        let pid = self.postgres.as_ref().map(PrivatePostgres::postmaster_pid);
        PostgresProbe::connect(url, pid).await.map(Some)
    }

    /// An error with the end of its log if the private broker has died.
    pub(crate) fn check_broker(&mut self) -> Result<()> {
        self.broker.as_mut().map_or(Ok(()), BrokerProcess::check_running)
    }

    /// Drains the private broker, after which Postgres' counters are complete.
    pub(crate) async fn stop_broker(&mut self) -> Result<()> {
        let Some(broker) = self.broker.take() else { return Ok(()) };
        spawn_blocking(|| broker.stop()).await??;
        Ok(())
    }

    /// Stops all that is left.
    pub(crate) async fn stop(mut self) -> Result<()> {
        self.stop_broker().await?;
        let Some(postgres) = self.postgres.take() else { return Ok(()) };
        spawn_blocking(|| postgres.stop()).await?.context("Postgres didn't stop")
    }
}

/// Waits until a broker is ready to be used; an error with the end of its log if it has died.
pub(crate) async fn until_serving(
    endpoint: &str,
    ca_file: Option<&Path>,
    mut broker: Option<&mut BrokerProcess>,
) -> Result<()> {
    let deadline = Instant::now() + READY_MAX;
    loop {
        if let Some(broker) = &mut broker {
            broker.check_running()?;
        }
        let problem = match serving_status(endpoint, ca_file).await {
            Ok(ServingStatus::Serving) => return Ok(()),
            Ok(status) => anyhow::anyhow!("its health is {}", status.as_str_name()),
            Err(error) => error,
        };
        if Instant::now() > deadline {
            let what = format!("{endpoint} doesn't get ready: {problem:#}");
            return Err(match broker {
                Some(broker) => broker.failure(&what),
                None => anyhow::anyhow!(what),
            });
        }
        sleep(POLL).await;
    }
}

/// An empty Postgres in a temporary directory; `settings` win over those of a load test. Its launcher
/// blocks and runs a runtime of its own.
pub(crate) async fn start_postgres(settings: &[(&str, &str)]) -> Result<PrivatePostgres> {
    let settings = POSTGRES_SETTINGS.iter().chain(settings);
    let settings = settings.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let options =
        Options { data_dir: None, settings: settings.collect(), database: DATABASE.to_owned() };
    let started = spawn_blocking(|| PrivatePostgres::start(options)).await?;
    started.context("can't start a private Postgres")
}

async fn serving_status(endpoint: &str, ca_file: Option<&Path>) -> Result<ServingStatus> {
    let channel = channels::endpoint(endpoint, ca_file)?.connect().await?;
    let request = HealthCheckRequest { service: String::new() };
    let answer = HealthClient::new(channel).check(request).await?.into_inner();
    Ok(answer.status())
}
