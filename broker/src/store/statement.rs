use deadpool_postgres::ClientWrapper;
use tokio_postgres::{Row, types::ToSql};
use tracing::Instrument;

use super::StoreError;
use crate::clock::Stopwatch;

/// Parameters of a statement.
pub(super) type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// A statement with its name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Statement {
    pub(super) name: &'static str,
    pub(super) sql: &'static str,
}

impl Statement {
    pub(super) const fn new(name: &'static str, sql: &'static str) -> Self {
        Self { name, sql }
    }

    /// Runs it and returns its rows.
    pub(super) async fn query(
        self,
        client: &ClientWrapper,
        params: Params<'_>,
    ) -> Result<Vec<Row>, StoreError> {
        self.run(async {
            let statement = client.prepare_cached(self.sql).await?;
            client.query(&statement, params).await
        })
        .await
    }

    /// Runs it and returns how many rows it wrote.
    pub(super) async fn execute(
        self,
        client: &ClientWrapper,
        params: Params<'_>,
    ) -> Result<u64, StoreError> {
        self.run(async {
            let statement = client.prepare_cached(self.sql).await?;
            client.execute(&statement, params).await
        })
        .await
    }

    async fn run<T>(
        self,
        work: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, StoreError> {
        let span = tracing::debug_span!("statement", name = self.name);
        let watch = Stopwatch::start();
        let result = work.instrument(span).await;
        metrics::histogram!("currant_statement_seconds", "statement" => self.name)
            .record(watch.elapsed().as_secs_f64());
        result.map_err(|source| {
            metrics::counter!("currant_statement_errors_total", "statement" => self.name)
                .increment(1);
            StoreError::of(self.name, source)
        })
    }
}
