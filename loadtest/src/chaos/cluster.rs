//! What is harmed: a private Postgres, two brokers, four workers, and a proxy on every link.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use currant_broker::private_postgres::PrivatePostgres;
use parking_lot::Mutex;
use rustix::process::Signal;
use tokio::{task::spawn_blocking, time::timeout};
use tokio_postgres::{Client, config::Host};

use super::{
    bounds::BROKER_SETTINGS,
    credentials::Credentials,
    crew::{Crew, Equipment, Program},
    history::{Event, Writer},
    metrics::scrape,
    proxy::{Proxy, Upstream},
    queues,
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
const POSTGRES_SETTINGS: [(&str, &str); 3] =
    [("max_connections", "100"), ("shared_buffers", "64MB"), ("autovacuum_naptime", "5s")];

/// The variable that breaks a broker built with the feature `mutations`.
const MUTATION: &str = "mutation";

/// Tries of a broker's start: its database may be on the way up.
const STARTS_MAX: usize = 5;

/// What a broker that is about to end may take to say what it has counted.
const LAST_LOOK_MAX: Duration = Duration::from_millis(500);

/// How a cluster is to be.
pub(super) struct Setup<'a> {
    /// Logs and history go there.
    pub(super) directory: &'a Path,
    pub(super) python: &'a Path,
    /// By TLS, and nobody without a token.
    pub(super) secure: bool,
    /// The program of the version before, which the brokers begin with.
    pub(super) previous: Option<&'a Path>,
    pub(super) mutation: Option<&'static str>,
    /// Whether workers write down what they see.
    pub(super) records: bool,
    /// The library by which their clocks are set.
    pub(super) clock: Option<&'a Path>,
}

pub(super) struct Cluster {
    /// Not before the brokers when this is dropped.
    brokers: Vec<Broker>,
    pub(super) crew: Crew,
    postgres: Arc<Mutex<PrivatePostgres>>,
    /// Around the proxies.
    pub(super) database_url: String,
    pub(super) credentials: Credentials,
    control: Writer,
    /// What `/metrics` of brokers said before they were ended.
    ended: Vec<String>,
}

struct Broker {
    process: Option<BrokerProcess>,
    /// From the producers, to Postgres.
    clients: Proxy,
    postgres: Proxy,
    settings: Vec<(String, String)>,
    log: PathBuf,
    /// What it begins as, if not as this version.
    previous: Option<PathBuf>,
}

impl Cluster {
    /// Starts all of it.
    pub(super) async fn start(setup: Setup<'_>, control: Writer) -> Result<Cluster> {
        let Setup { directory, python, secure, previous, mutation, records, clock } = setup;
        let postgres = stack::start_postgres(&POSTGRES_SETTINGS).await?;
        let database_url = postgres.dsn();
        let credentials = match secure {
            true => Credentials::make(directory, &database_url).await?,
            false => Credentials::default(),
        };
        let mut brokers = Vec::new();
        for number in 0..BROKERS {
            let mut settings: Vec<(String, String)> = BROKER_SETTINGS
                .into_iter()
                .map(|(name, ms)| (name.to_owned(), ms.to_string()))
                .chain(mutation.map(|name| (MUTATION.to_owned(), name.to_owned())))
                .collect();
            settings.push(("broker.name".to_owned(), format!("chaos-{number}")));
            settings.extend(credentials.broker_settings()?);
            brokers.push(Broker {
                process: None,
                clients: Proxy::start(None).await?,
                postgres: Proxy::start(Some(socket_of(&database_url)?)).await?,
                settings,
                log: directory.join(format!("broker-{number}.log")),
                previous: previous.map(Path::to_owned),
            });
        }
        let equipment = Equipment {
            directory: directory.to_owned(),
            python: python.to_owned(),
            credentials: credentials.clone(),
            records,
            clock: clock.map(Path::to_owned),
        };
        let crew = Crew::new(equipment, &WORKERS).await?;
        let postgres = Arc::new(Mutex::new(postgres));
        let ended = Vec::new();
        let mut cluster =
            Cluster { brokers, crew, postgres, database_url, credentials, control, ended };
        for number in 0..BROKERS {
            cluster.start_broker(number, &[]).await?;
        }
        queues::configure(&cluster.client(0).await?).await?;
        for number in 0..WORKERS.len() {
            cluster.crew.start(number)?;
        }
        Ok(cluster)
    }

    pub(super) fn targets(clock: Option<&Path>) -> Targets {
        let rust = WORKERS.iter().filter(|program| **program == Program::Rust).count();
        let clocks = if clock.is_some() { rust } else { 0 };
        Targets { brokers: BROKERS, workers: WORKERS.len(), clocks }
    }

    /// Where producers find the brokers.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.brokers.iter().map(|broker| broker.clients.address()).collect()
    }

    /// Of a broker, through the proxy.
    pub(super) async fn client(&self, broker: usize) -> Result<currant_worker_sdk::Client> {
        self.credentials.connect(self.brokers[broker].clients.address()).await
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
        let ca_file = self.credentials.ca_file();
        let program = broker.previous.take();
        let mut tries = 0;
        let process = loop {
            tries += 1;
            let mut process = BrokerProcess::serve_logging_to(
                &url,
                &settings,
                broker.log.clone(),
                program.as_deref(),
            )?;
            match stack::until_serving(
                &self.credentials.url(process.grpc()),
                ca_file,
                Some(&mut process),
            )
            .await
            {
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
    pub(super) async fn kill_broker(&mut self, number: usize, failover: bool) {
        self.look_a_last_time(number).await;
        self.brokers[number].process = None;
        let upstream = self.other(number).filter(|_| failover);
        self.brokers[number].clients.lead_to(None);
        for worker in self.workers_of(number) {
            self.crew.link(worker).lead_to(upstream.clone());
        }
    }

    /// What a broker has counted ends with it. Of one that doesn't say it in time nothing is known: sums over all
    /// brokers may be too small, never too large.
    async fn look_a_last_time(&mut self, number: usize) {
        let Some(process) = &self.brokers[number].process else { return };
        let look = scrape(process.http(), &self.credentials);
        if let Ok(Ok(text)) = timeout(LAST_LOOK_MAX, look).await {
            self.ended.push(text);
        }
    }

    /// Another broker.
    fn other(&self, number: usize) -> Option<Upstream> {
        let others = self.brokers.iter().enumerate().filter(|(other, _)| *other != number);
        let mut running = others.filter_map(|(_, broker)| broker.process.as_ref());
        running.next().map(|process| Upstream::Tcp(process.grpc()))
    }

    /// SIGTERM, and waits until it has ended well. Meanwhile who connects anew finds another broker, as
    /// behind a load balancer.
    pub(super) async fn drain_broker(&mut self, number: usize) -> Result<()> {
        self.look_a_last_time(number).await;
        let upstream = self.other(number);
        self.brokers[number].clients.lead_to(upstream.clone());
        for worker in self.workers_of(number) {
            self.crew.link(worker).lead_to(upstream.clone());
        }
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

    /// What has ended by itself is written down and started again, as a supervisor would. Returns how many.
    pub(super) async fn revive(&mut self) -> Result<u32> {
        let mut revived = 0;
        for number in 0..self.brokers.len() {
            let ended = match &mut self.brokers[number].process {
                Some(process) => process.ended()?,
                None => continue,
            };
            if let Some(status) = ended {
                let (who, status) = (format!("broker-{number}"), status.to_string());
                self.control.write(Event::EndedByItself { who, status })?;
                self.start_broker(number, &[]).await?;
                revived += 1;
            }
        }
        for (who, status) in self.crew.revive()? {
            self.control.write(Event::EndedByItself { who, status })?;
            revived += 1;
        }
        Ok(revived)
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
            texts.push(scrape(process.http(), &self.credentials).await?);
        }
        Ok(texts)
    }

    /// The same of those that were ended, as far as it was seen.
    pub(super) fn metrics_of_ended(&self) -> &[String] {
        &self.ended
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
