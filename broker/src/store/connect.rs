use std::{sync::Arc, time::Duration};

use deadpool_postgres::{
    ClientWrapper, Hook, HookError, Manager, ManagerConfig, Pool, PoolError, RecyclingMethod,
    Runtime, Timeouts,
};
use futures_util::future::try_join_all;

use super::{
    Address, AddressError, Client, StoreError, address::SILENT_MAX, complete_jobs, error::CONNECT,
};

/// How to reach the database.
#[derive(Clone)]
pub struct Settings {
    pub address: Address,
    /// It leads through a pooler that gives each transaction another connection.
    pub transaction_pooler: bool,
    /// Connections of the pool.
    pub pool_size: usize,
    pub connect_timeout: Duration,
    pub statement_timeout: Duration,
    /// Whether a completion is answered only after it is on the disk.
    pub completion_synchronous_commit: bool,
}

/// The only pool: everything that the broker asks of the database goes through it, but for LISTEN
/// and migrations.
#[derive(Clone)]
pub struct Store {
    pool: Pool,
    /// Behind a pooler of transactions: how each begins.
    begin: Option<Arc<str>>,
    completion_synchronous_commit: bool,
}

/// The pool's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolUse {
    pub connections_max: usize,
    pub idle: usize,
    pub in_use: usize,
    /// Who waits for one.
    pub waiting: usize,
}

impl Store {
    /// Checks the settings; connects on first use.
    pub fn new(settings: &Settings) -> Result<Self, AddressError> {
        if settings.transaction_pooler {
            return Self::bare(settings);
        }
        let set_up = plan_settings(settings, "SET");
        let hook = Hook::async_fn(move |client: &mut ClientWrapper, _| {
            let set_up = set_up.clone();
            Box::pin(async move { prepare(client, &set_up).await.map_err(HookError::Backend) })
        });
        Self::with(settings, Some(hook))
    }

    /// Without what the broker's statements need, the schema above all: for a look at a database that may
    /// be anything.
    pub fn bare(settings: &Settings) -> Result<Self, AddressError> {
        Self::with(settings, None)
    }

    fn with(settings: &Settings, hook: Option<Hook>) -> Result<Self, AddressError> {
        let begin: Option<Arc<str>> =
            settings.transaction_pooler.then(|| plan_settings(settings, "SET LOCAL").into());
        let (mut config, tls) = settings.address.parse()?;
        config.application_name("currant-broker");
        config.connect_timeout(settings.connect_timeout);
        config.tcp_user_timeout(settings.statement_timeout.min(SILENT_MAX));
        let manager = Manager::from_config(
            config,
            tls,
            ManagerConfig { recycling_method: RecyclingMethod::Fast },
        );
        let mut pool = Pool::builder(manager)
            .max_size(settings.pool_size)
            .runtime(Runtime::Tokio1)
            .timeouts(Timeouts {
                wait: Some(settings.connect_timeout),
                create: Some(settings.connect_timeout),
                recycle: Some(settings.connect_timeout),
            });
        if let Some(hook) = hook {
            pool = pool.post_create(hook);
        }
        let pool = pool.build().expect("a runtime is given, which is all that can be missing");
        Ok(Self {
            pool,
            begin,
            completion_synchronous_commit: settings.completion_synchronous_commit,
        })
    }

    /// A connection; waits for one at most for the connect timeout.
    pub async fn client(&self) -> Result<Client, StoreError> {
        let unavailable = |source: Box<dyn std::error::Error + Send + Sync>| {
            StoreError::Unavailable { statement: CONNECT, source }
        };
        let object = self.pool.get().await.map_err(|error| match error {
            PoolError::Backend(source) => StoreError::of(CONNECT, source),
            other => unavailable(other.into()),
        })?;
        Ok(Client::new(object, self.begin.clone()))
    }

    /// Opens all connections: the first statements needn't wait for that.
    pub async fn fill(&self) -> Result<(), StoreError> {
        let size = self.pool.status().max_size;
        try_join_all((0..size).map(|_| self.client())).await?;
        Ok(())
    }

    /// How its connections are used at the moment.
    pub fn pool(&self) -> PoolUse {
        let status = self.pool.status();
        PoolUse {
            connections_max: status.max_size,
            idle: status.available,
            in_use: status.size.saturating_sub(status.available),
            waiting: status.waiting,
        }
    }

    pub(super) fn relaxes_completions(&self) -> bool {
        !self.completion_synchronous_commit
    }

    /// Closes all connections once they're back.
    pub fn close(&self) {
        self.pool.close();
    }
}

/// Plans are pinned: a table analysed while nearly empty would get sequential scans later. Each
/// statement is meant to be run by nested loops over index scans, and its plan doesn't depend on
/// its parameters.
fn plan_settings(settings: &Settings, set: &str) -> String {
    let statement_timeout = settings.statement_timeout.as_millis().to_string();
    let off = ["seqscan", "bitmapscan", "hashjoin", "mergejoin", "memoize"];
    [("statement_timeout", &*statement_timeout), ("synchronous_commit", "on")]
        .into_iter()
        .chain([("plan_cache_mode", "force_generic_plan"), ("jit", "off"), ("TimeZone", "'UTC'")])
        .map(|(name, value)| format!("{set} {name} = {value}"))
        .chain(off.into_iter().map(|scan| format!("{set} enable_{scan} = off")))
        .collect::<Vec<String>>()
        .join("; ")
}

async fn prepare(client: &mut ClientWrapper, set_up: &str) -> Result<(), tokio_postgres::Error> {
    client.batch_execute(set_up).await?;
    // Not on the hot path: a large one takes milliseconds.
    for statement in complete_jobs::statements() {
        client.prepare_cached(statement.sql).await?;
    }
    Ok(())
}
