//! Limits of the queues under load: set before it, and waited for, since a limited queue needs a second until a
//! broker owns it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use currant_worker_sdk::{Client, QueueSettings, RateLimit};
use tokio::time::sleep;

use crate::{channels, settings::Settings};

const OWNED_MAX: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

/// Limits the queues, if the settings say so.
pub(crate) async fn set(settings: &Settings, endpoint: &str, queues: &[String]) -> Result<()> {
    if !are_wanted(settings) {
        return Ok(());
    }
    let limits = QueueSettings {
        concurrency_max: settings.queue_concurrency_max,
        rate: settings.queue_rate.map(RateLimit::per_second),
        key_concurrency_max: settings.key_concurrency_max,
        ..QueueSettings::default()
    };
    configure(settings, endpoint, queues, &limits).await
}

/// Takes the limits away, while jobs run and wait.
pub(crate) async fn lift(settings: &Settings, endpoint: &str, queues: &[String]) -> Result<()> {
    if !are_wanted(settings) {
        return Ok(());
    }
    configure(settings, endpoint, queues, &QueueSettings::default()).await
}

async fn configure(
    settings: &Settings,
    endpoint: &str,
    queues: &[String],
    to: &QueueSettings,
) -> Result<()> {
    let client = client(settings, endpoint).await?;
    for queue in queues {
        let configured = client.configure_queue(queue.clone(), to.clone()).await;
        configured.with_context(|| format!("{queue} can't be configured"))?;
    }
    Ok(())
}

/// Waits until limited queues have owners. There have to be workers for them.
pub(crate) async fn owned(settings: &Settings, endpoint: &str, queues: &[String]) -> Result<()> {
    if !are_wanted(settings) {
        return Ok(());
    }
    let client = client(settings, endpoint).await?;
    let deadline = Instant::now() + OWNED_MAX;
    loop {
        let brokers = client.brokers().await?;
        let owned = |queue: &String| brokers.iter().any(|one| one.owned_queues.contains(queue));
        if queues.iter().all(owned) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "no broker comes to own the limited queues");
        sleep(POLL).await;
    }
}

fn are_wanted(settings: &Settings) -> bool {
    settings
        .queue_concurrency_max
        .or(settings.queue_rate)
        .or(settings.key_concurrency_max)
        .is_some()
}

async fn client(settings: &Settings, endpoint: &str) -> Result<Client> {
    let channel = channels::endpoint(endpoint, settings.ca_file.as_deref())?.connect().await?;
    let client = Client::from_channel(channel);
    Ok(match &settings.token {
        Some(token) => client.token(token.secret())?,
        None => client,
    })
}
