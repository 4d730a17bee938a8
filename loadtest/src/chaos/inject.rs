//! Carries out one fault: begins it, waits, ends it, and starts again what it has ended.

use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_postgres::{Client, error::SqlState};

use super::{
    cluster::{BROKERS, Cluster, POSTGRES_CONNECTIONS, connect},
    crew,
    fault::{Fault, Link, Trouble},
    history::{Event, Touches, Writer},
    producers,
    proxy::Proxy,
    schedule::Planned,
};

const CUT_PAUSE: Duration = Duration::from_millis(200);
const RESET_PAUSE: Duration = Duration::from_millis(250);
/// Of the smallest statement timeout that a broker takes, and of locks that outlast it.
const TINY_TIMEOUT: [(&str, &str); 1] = [("database.statement_timeout_ms", "100")];
const LOCK_PULSE: Duration = Duration::from_millis(180);

/// Each commit waits for so long before it goes to the disk, and those that come meanwhile wait for it: the
/// most that Postgres takes.
const SLOW: [&str; 2] =
    ["ALTER SYSTEM SET commit_delay = 100000", "ALTER SYSTEM SET commit_siblings = 0"];
const AS_FAST_AS_IT_IS: [&str; 2] =
    ["ALTER SYSTEM RESET commit_delay", "ALTER SYSTEM RESET commit_siblings"];
const LOOK_AT_SETTINGS: &str = "SELECT pg_reload_conf()";

const CUT: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE application_name LIKE 'currant-broker%'";
const LOCK: &str = "BEGIN; SET LOCAL lock_timeout = '2s';
LOCK TABLE currant.job IN ACCESS EXCLUSIVE MODE";

pub(super) async fn carry_out(
    cluster: &mut Cluster,
    control: &Writer,
    planned: Planned,
) -> Result<()> {
    let Planned { fault, lasts, .. } = planned;
    let touches = match fault {
        Fault::KillWorker { worker }
        | Fault::StopWorker { worker }
        | Fault::JumpClock { worker, .. }
        | Fault::Link { link: Link::Worker(worker), .. } => {
            Touches::Worker(cluster.crew.name(worker).to_owned())
        }
        Fault::Link { link: Link::Client(_), .. } => Touches::Clients,
        _ => Touches::All,
    };
    let name = format!("{fault} for {} ms", lasts.as_millis());
    // So that who is ended holds much: a broker what no worker has, a worker what it hasn't begun.
    let burst_at = match fault {
        Fault::KillBroker { broker, .. } => Some(broker),
        Fault::KillWorker { worker } | Fault::StopWorker { worker } => Some(worker % BROKERS),
        _ => None,
    };
    if let Some(broker) = burst_at
        // Others may have held it for dead just now.
        && let Ok(client) = cluster.client(broker).await
    {
        producers::burst(&client, control).await?;
    }
    control.write(Event::Fault { kind: fault.kind(), name: name.clone(), touches })?;
    disturb(cluster, fault, lasts).await.context(name)?;
    control.write(Event::Healed)?;
    Ok(())
}

async fn disturb(cluster: &mut Cluster, fault: Fault, lasts: Duration) -> Result<()> {
    match fault {
        Fault::KillBroker { broker, failover } => {
            cluster.kill_broker(broker, failover).await;
            sleep(lasts).await;
            cluster.start_broker(broker, &[]).await
        }
        Fault::DrainBroker { broker } => {
            cluster.drain_broker(broker).await?;
            cluster.start_broker(broker, &[]).await
        }
        Fault::KillWorker { worker } => {
            cluster.crew.kill(worker)?;
            sleep(lasts).await;
            cluster.crew.start(worker)
        }
        Fault::PostgresFast => cluster.stop_postgres(false).await,
        Fault::PostgresImmediate => {
            cluster.stop_postgres(true).await?;
            sleep(lasts).await;
            cluster.start_postgres().await
        }
        Fault::CutConnections => cut_connections(cluster, lasts).await,
        Fault::ExhaustConnections => exhaust_connections(cluster, lasts).await,
        Fault::StopBroker { broker } => {
            cluster.signal_broker(broker, Signal::STOP)?;
            sleep(lasts).await;
            cluster.signal_broker(broker, Signal::CONT)
        }
        Fault::StopWorker { worker } => {
            cluster.crew.signal(worker, Signal::STOP)?;
            sleep(lasts).await;
            cluster.crew.signal(worker, Signal::CONT)
        }
        Fault::LockTable => hold_lock(cluster, lasts).await,
        Fault::TinyTimeout { broker } => {
            cluster.kill_broker(broker, false).await;
            cluster.start_broker(broker, &TINY_TIMEOUT).await?;
            let end = Instant::now() + lasts;
            while Instant::now() < end {
                hold_lock(cluster, LOCK_PULSE).await?;
                sleep(LOCK_PULSE).await;
            }
            cluster.kill_broker(broker, false).await;
            cluster.start_broker(broker, &[]).await
        }
        Fault::SlowDisk => {
            set(cluster, SLOW).await?;
            sleep(lasts).await;
            set(cluster, AS_FAST_AS_IT_IS).await
        }
        Fault::JumpClock { worker, ahead } => {
            cluster.crew.set_clock(worker, if ahead { crew::AHEAD } else { crew::BACK })?;
            sleep(lasts).await;
            cluster.crew.set_clock(worker, crew::RIGHT)
        }
        Fault::Link { link, trouble } => {
            let proxy = match link {
                Link::Client(broker) => cluster.clients_link(broker),
                Link::Worker(worker) => cluster.crew.link(worker),
                Link::Postgres(broker) => cluster.postgres_link(broker),
            };
            trouble_link(proxy, trouble, lasts).await;
            Ok(())
        }
    }
}

async fn trouble_link(proxy: &Proxy, trouble: Trouble, lasts: Duration) {
    let end = Instant::now() + lasts;
    if trouble == Trouble::Resets {
        while Instant::now() < end {
            proxy.reset();
            sleep(RESET_PAUSE).await;
        }
        return;
    }
    proxy.trouble(trouble);
    sleep_until(end).await;
    proxy.heal();
}

async fn cut_connections(cluster: &Cluster, lasts: Duration) -> Result<()> {
    let client = cluster.connect().await?;
    let end = Instant::now() + lasts;
    while Instant::now() < end {
        client.query_one(CUT, &[]).await?;
        sleep(CUT_PAUSE).await;
    }
    Ok(())
}

/// The brokers' connections are cut, and their places taken before they are back.
async fn exhaust_connections(cluster: &Cluster, lasts: Duration) -> Result<()> {
    let client = cluster.connect().await?;
    let end = Instant::now() + lasts;
    let mut idle: Vec<Client> = Vec::new();
    fill(cluster, &mut idle).await?;
    client.query_one(CUT, &[]).await?;
    while Instant::now() < end {
        fill(cluster, &mut idle).await?;
        sleep(CUT_PAUSE).await;
    }
    Ok(())
}

async fn fill(cluster: &Cluster, idle: &mut Vec<Client>) -> Result<()> {
    while idle.len() < POSTGRES_CONNECTIONS {
        match connect(&cluster.database_url).await {
            Ok(client) => idle.push(client),
            Err(error) if is_full(&error) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn is_full(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<tokio_postgres::Error>();
    error.is_some_and(|error| error.code() == Some(&SqlState::TOO_MANY_CONNECTIONS))
}

/// Settings of Postgres. Each statement has to be a transaction of its own.
async fn set(cluster: &Cluster, statements: [&str; 2]) -> Result<()> {
    let client = cluster.connect().await?;
    for statement in statements {
        client.batch_execute(statement).await?;
    }
    client.batch_execute(LOOK_AT_SETTINGS).await?;
    Ok(())
}

async fn hold_lock(cluster: &Cluster, lasts: Duration) -> Result<()> {
    let client = cluster.connect().await?;
    match client.batch_execute(LOCK).await {
        Ok(()) => {
            sleep(lasts).await;
            client.batch_execute("COMMIT").await?;
            Ok(())
        }
        // Whoever has the table for so long does the same to the others.
        Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
