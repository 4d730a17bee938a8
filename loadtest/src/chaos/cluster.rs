//! What is harmed: a private Postgres, two brokers, four workers, and a proxy on every link.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result};
use currant_broker::private_postgres::PrivatePostgres;
use parking_lot::Mutex;
use rustix::process::Signal;
use tokio::task::spawn_blocking;
use tokio_postgres::{Client, config::Host};

use super::{
    crew::{Crew, Program},
    history::{Event, Writer},
    proxy::{Proxy, Upstream},
    schedule::Targets,
};
use crate::{
    broker_process::{BrokerProcess, signal},
    probe, stack,
};

pub(super) const BROKERS: usize = 2;
/// What each of the workers is; each is at the broker of its number modulo brokers.
const WORKERS: [Program; 4] = [Program::Rust, Program::Rust, Program::Rust, Program::Python];

/// Idle clients can take all connections.
pub(super) const POSTGRES_CONNECTIONS: usize = 100;
const POSTGRES_SETTINGS: [(&str, &str); 2] =
    [("max_connections", "100"), ("shared_buffers", "64MB")];

/// As in production, but for the times: leases end after seconds.
const BROKER_SETTINGS: [(&str, &str); 13] = [
    ("database.connect_timeout_ms", "1000"),
    ("database.statement_timeout_ms", "5000"),
    ("broker.drain_deadline_ms", "5000"),
    ("broker.heartbeat_interval_ms", "500"),
    ("broker.dead_after_ms", "3000"),
    ("broker.adoption_grace_ms", "3000"),
    ("session.heartbeat_interval_ms", "500"),
    ("session.keep_alive_interval_ms", "500"),
    ("session.timeout_ms", "3000"),
    ("session.reconnect_grace_ms", "3000"),
    ("session.acknowledge_timeout_ms", "3000"),
    ("dispatch.sweep_interval_ms", "6000"),
    ("queue_defaults.retry_base_ms", "200"),
];
/// The variable that breaks a broker built with the feature `mutations`.
const MUTATION: &str = "mutation";

/// Tries of a broker's start: its database may be on the way up.
const STARTS_MAX: usize = 5;

pub(super) struct Cluster {
    /// Not before the brokers when this is dropped.
    brokers: Vec<Broker>,
    pub(super) crew: Crew,
    postgres: Arc<Mutex<PrivatePostgres>>,
    /// Around the proxies.
    pub(super) database_url: String,
    control: Writer,
}

struct Broker {
    process: Option<BrokerProcess>,
    /// From the producers, to Postgres.
    clients: Proxy,
    postgres: Proxy,
    settings: Vec<(String, String)>,
    log: PathBuf,
}

impl Cluster {
    /// Logs and history go into `directory`.
    pub(super) async fn start(
        directory: &Path,
        python: &Path,
        mutation: Option<&str>,
        control: Writer,
    ) -> Result<Cluster> {
        let postgres = stack::start_postgres(&POSTGRES_SETTINGS).await?;
        let database_url = postgres.dsn();
        let mut brokers = Vec::new();
        for number in 0..BROKERS {
            let mut settings: Vec<(String, String)> = BROKER_SETTINGS
                .into_iter()
                .chain(mutation.map(|name| (MUTATION, name)))
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect();
            settings.push(("broker.name".to_owned(), format!("chaos-{number}")));
            brokers.push(Broker {
                process: None,
                clients: Proxy::start(None).await?,
                postgres: Proxy::start(Some(socket_of(&database_url)?)).await?,
                settings,
                log: directory.join(format!("broker-{number}.log")),
            });
        }
        let crew = Crew::new(directory, python, &WORKERS).await?;
        let postgres = Arc::new(Mutex::new(postgres));
        let mut cluster = Cluster { brokers, crew, postgres, database_url, control };
        for number in 0..BROKERS {
            cluster.start_broker(number, &[]).await?;
        }
        for number in 0..WORKERS.len() {
            cluster.crew.start(number)?;
        }
        Ok(cluster)
    }

    pub(super) fn targets() -> Targets {
        Targets { brokers: BROKERS, workers: WORKERS.len() }
    }

    /// Where producers find the brokers.
    pub(super) fn endpoints(&self) -> Vec<String> {
        self.brokers.iter().map(|broker| broker.clients.endpoint()).collect()
    }

    pub(super) fn clients_link(&self, broker: usize) -> &Proxy {
        &self.brokers[broker].clients
    }

    pub(super) fn postgres_link(&self, broker: usize) -> &Proxy {
        &self.brokers[broker].postgres
    }

    /// Around the proxies; on a connection that does nothing else.
    pub(super) async fn connect(&self) -> Result<Client> {
        connect(&self.database_url).await
    }

    /// Starts a broker and waits until it serves; its links lead to it.
    pub(super) async fn start_broker(
        &mut self,
        number: usize,
        more: &[(&str, &str)],
    ) -> Result<()> {
        let broker = &mut self.brokers[number];
        let through = broker.postgres.address();
        let url =
            format!("host={} port={} user=postgres dbname=currant", through.ip(), through.port());
        let mut settings = broker.settings.clone();
        settings.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let mut tries = 0;
        let process = loop {
            tries += 1;
            let mut process = BrokerProcess::serve_logging_to(&url, &settings, broker.log.clone())?;
            match stack::until_serving(&process.endpoint(), None, Some(&mut process)).await {
                Ok(()) => break process,
                Err(error) if tries == STARTS_MAX => return Err(error),
                Err(_) => {}
            }
        };
        let upstream = Some(Upstream::Tcp(process.grpc()));
        broker.process = Some(process);
        broker.clients.lead_to(upstream.clone());
        for worker in self.workers_of(number) {
            self.crew.link(worker).lead_to(upstream.clone());
        }
        Ok(())
    }

    /// SIGKILL. With `failover` its workers find another broker at their address.
    pub(super) fn kill_broker(&mut self, number: usize, failover: bool) {
        self.brokers[number].process = None;
        let other = self.brokers.iter().find_map(|broker| broker.process.as_ref());
        let upstream = other.filter(|_| failover).map(|process| Upstream::Tcp(process.grpc()));
        self.brokers[number].clients.lead_to(None);
        for worker in self.workers_of(number) {
            self.crew.link(worker).lead_to(upstream.clone());
        }
    }

    /// SIGTERM, and waits until it has ended well.
    pub(super) async fn drain_broker(&mut self, number: usize) -> Result<()> {
        let Some(mut process) = self.brokers[number].process.take() else { return Ok(()) };
        if process.ended()?.is_none() {
            spawn_blocking(|| process.stop()).await??;
        }
        Ok(())
    }

    pub(super) fn signal_broker(&mut self, number: usize, which: Signal) -> Result<()> {
        let Some(process) = &mut self.brokers[number].process else { return Ok(()) };
        if process.ended()?.is_some() { Ok(()) } else { signal(process.pid(), which) }
    }

    /// What has ended by itself is written down and started again, as a supervisor would.
    pub(super) async fn revive(&mut self) -> Result<()> {
        for number in 0..self.brokers.len() {
            let ended = match &mut self.brokers[number].process {
                Some(process) => process.ended()?,
                None => continue,
            };
            if let Some(status) = ended {
                let (who, status) = (format!("broker-{number}"), status.to_string());
                self.control.write(Event::EndedByItself { who, status })?;
                self.start_broker(number, &[]).await?;
            }
        }
        for (who, status) in self.crew.revive()? {
            self.control.write(Event::EndedByItself { who, status })?;
        }
        Ok(())
    }

    /// Fast, or immediate.
    pub(super) async fn stop_postgres(&self, immediate: bool) -> Result<()> {
        self.with_postgres(
            move |postgres| {
                if immediate { postgres.crash() } else { postgres.restart() }
            },
        )
        .await
    }

    /// After an immediate shutdown.
    pub(super) async fn start_postgres(&self) -> Result<()> {
        self.with_postgres(PrivatePostgres::restart).await
    }

    async fn with_postgres<E: std::error::Error + Send + Sync + 'static>(
        &self,
        work: impl FnOnce(&mut PrivatePostgres) -> Result<(), E> + Send + 'static,
    ) -> Result<()> {
        let postgres = Arc::clone(&self.postgres);
        spawn_blocking(move || work(&mut postgres.lock())).await?.context("Postgres")
    }

    /// What the brokers' `/metrics` say, for those that run.
    pub(super) async fn metrics(&self) -> Result<Vec<String>> {
        let mut texts = Vec::new();
        for process in self.brokers.iter().filter_map(|broker| broker.process.as_ref()) {
            texts.push(super::metrics::scrape(process.http()).await?);
        }
        Ok(texts)
    }

    /// Workers first, so that they can report; then the brokers, in order.
    pub(super) async fn stop(mut self) -> Result<()> {
        self.crew.stop().await?;
        for number in 0..self.brokers.len() {
            self.drain_broker(number).await?;
        }
        Ok(())
    }

    fn workers_of(&self, broker: usize) -> impl Iterator<Item = usize> + use<> {
        (0..WORKERS.len()).filter(move |worker| worker % BROKERS == broker)
    }
}

pub(super) async fn connect(url: &str) -> Result<Client> {
    probe::postgres::connect(&url.parse()?).await
}

/// The socket of a private Postgres.
fn socket_of(url: &str) -> Result<Upstream> {
    let config: tokio_postgres::Config = url.parse()?;
    let port = config.get_ports().first().copied().context("a URL without a port")?;
    match config.get_hosts().first() {
        Some(Host::Unix(directory)) => {
            Ok(Upstream::Socket(directory.join(format!(".s.PGSQL.{port}"))))
        }
        _ => anyhow::bail!("the private Postgres has no socket"),
    }
}
