//! Connections of the pool, and how a statement is run on them.
//!
//! Straight to Postgres each statement is prepared once a connection. Behind a pooler that gives each
//! transaction another connection nothing may outlive a transaction: no prepared statement, no setting of
//! the session. There a statement goes unnamed, with the types of its parameters, in a transaction of its
//! own that begins with the settings; all of it is sent together.

use std::{
    collections::HashMap,
    ops::{Deref, DerefMut},
    sync::{Arc, LazyLock},
};

use deadpool_postgres::Object;
use futures_util::future;
use parking_lot::Mutex;
use tokio_postgres::{
    Error, Row,
    types::{ToSql, Type},
};

use super::statement::{Params, Statement};

/// A connection of the pool, given back on drop.
pub struct Client {
    object: Object,
    /// Behind a pooler of transactions: how each begins.
    begin: Option<Arc<str>>,
}

/// A transaction on one, rolled back on drop.
pub(super) struct Transaction<'a> {
    inner: deadpool_postgres::Transaction<'a>,
    pooled: bool,
}

/// What statements are run on.
pub(super) trait Connection {
    async fn query(&self, statement: Statement, params: Params<'_>) -> Result<Vec<Row>, Error>;
    async fn execute(&self, statement: Statement, params: Params<'_>) -> Result<u64, Error>;
}

impl Client {
    pub(super) fn new(object: Object, begin: Option<Arc<str>>) -> Self {
        Self { object, begin }
    }

    /// Whether nothing may outlive a transaction.
    pub(super) fn is_pooled(&self) -> bool {
        self.begin.is_some()
    }

    /// Closes it: an answer was left unread.
    pub(super) fn discard(self) {
        drop(Object::take(self.object));
    }

    pub(super) async fn transaction(&mut self) -> Result<Transaction<'_>, Error> {
        let begin = self.begin.clone();
        let inner = self.object.transaction().await?;
        if let Some(settings) = &begin {
            inner.batch_execute(settings).await?;
        }
        Ok(Transaction { inner, pooled: begin.is_some() })
    }

    /// In a transaction of its own with this setting.
    pub(super) async fn execute_with(
        &self,
        setting: &str,
        statement: Statement,
        params: Params<'_>,
    ) -> Result<u64, Error> {
        if let Some(settings) = &self.begin {
            let begin = format!("BEGIN; {settings}; {setting}");
            return self.alone(&begin, self.execute_unnamed(statement, params)).await;
        }
        self.object.batch_execute(&format!("BEGIN; {setting}")).await?;
        let result = self.execute(statement, params).await;
        let end = if result.is_ok() { "COMMIT" } else { "ROLLBACK" };
        self.object.batch_execute(end).await?;
        result
    }

    /// Begins, works and commits, without waiting in between. What fails is rolled back.
    async fn alone<T>(
        &self,
        begin: &str,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let (begun, done, ended) = future::join3(
            self.object.batch_execute(begin),
            work,
            self.object.batch_execute("COMMIT"),
        )
        .await;
        begun?;
        let done = done?;
        ended?;
        Ok(done)
    }

    async fn execute_unnamed(
        &self,
        statement: Statement,
        params: Params<'_>,
    ) -> Result<u64, Error> {
        self.object.execute_typed(statement.sql, &typed(statement, params)).await
    }
}

impl Connection for Client {
    async fn query(&self, statement: Statement, params: Params<'_>) -> Result<Vec<Row>, Error> {
        let Some(settings) = &self.begin else {
            let prepared = self.object.prepare_cached(statement.sql).await?;
            return self.object.query(&prepared, params).await;
        };
        let params = typed(statement, params);
        let work = self.object.query_typed(statement.sql, &params);
        self.alone(&format!("BEGIN; {settings}"), work).await
    }

    async fn execute(&self, statement: Statement, params: Params<'_>) -> Result<u64, Error> {
        let Some(settings) = &self.begin else {
            let prepared = self.object.prepare_cached(statement.sql).await?;
            return self.object.execute(&prepared, params).await;
        };
        let work = self.execute_unnamed(statement, params);
        self.alone(&format!("BEGIN; {settings}"), work).await
    }
}

impl Transaction<'_> {
    pub(super) async fn batch_execute(&self, sql: &str) -> Result<(), Error> {
        self.inner.batch_execute(sql).await
    }

    pub(super) async fn commit(self) -> Result<(), Error> {
        self.inner.commit().await
    }
}

impl Connection for Transaction<'_> {
    async fn query(&self, statement: Statement, params: Params<'_>) -> Result<Vec<Row>, Error> {
        if self.pooled {
            return self.inner.query_typed(statement.sql, &typed(statement, params)).await;
        }
        let prepared = self.inner.prepare_cached(statement.sql).await?;
        self.inner.query(&prepared, params).await
    }

    async fn execute(&self, statement: Statement, params: Params<'_>) -> Result<u64, Error> {
        if self.pooled {
            return self.inner.execute_typed(statement.sql, &typed(statement, params)).await;
        }
        let prepared = self.inner.prepare_cached(statement.sql).await?;
        self.inner.execute(&prepared, params).await
    }
}

impl Deref for Client {
    type Target = Object;

    fn deref(&self) -> &Object {
        &self.object
    }
}

impl DerefMut for Client {
    fn deref_mut(&mut self) -> &mut Object {
        &mut self.object
    }
}

/// The parameters with their types.
fn typed<'a>(statement: Statement, params: Params<'a>) -> Vec<(&'a (dyn ToSql + Sync), Type)> {
    /// By the text's place: there are as many as there are statements.
    static TYPES: LazyLock<Mutex<HashMap<usize, Arc<[Type]>>>> = LazyLock::new(Mutex::default);
    let types = {
        let mut known = TYPES.lock();
        let entry = known.entry(statement.sql.as_ptr().addr());
        Arc::clone(entry.or_insert_with(|| statement.parameter_types().into()))
    };
    params.iter().copied().zip(types.iter().cloned()).collect()
}
