use std::sync::LazyLock;

use deadpool_postgres::Object;
use foldhash::HashMap;
use futures_util::{SinkExt, future};
use metrics::{Histogram, histogram};
use parking_lot::Mutex;
use tokio_postgres::{
    Row,
    types::{ToSql, Type},
};
use tracing::Instrument;

use super::{Client, StoreError, connection::Connection, copy::CopyData};
use crate::clock::Stopwatch;

/// The job `j` with this key, in the join of an UPDATE. With plain `=` its order could serve a merge
/// join too, and so a plan that reads all jobs by their key and looks each up among the given ones
/// would stand beside the one that looks up each given key; on a table that is small or looks empty it
/// seems cheaper, and it stays when the table has grown. Nothing merges by `= ANY` and BETWEEN.
macro_rules! job_by_key {
    ($queue:literal, $id:literal) => {
        concat!("j.queue_id = ANY (ARRAY[", $queue, "]) AND j.id BETWEEN ", $id, " AND ", $id)
    };
}
pub(super) use job_by_key;

/// Parameters of a statement.
pub(super) type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// A statement with its name.
#[derive(Clone, Copy, Debug)]
pub struct Statement {
    pub name: &'static str,
    /// Its parameters are numbered and cast where they stand.
    pub sql: &'static str,
}

impl Statement {
    pub(super) const fn new(name: &'static str, sql: &'static str) -> Self {
        Self { name, sql }
    }

    /// Runs it and returns its rows.
    pub(super) async fn query(
        self,
        client: &impl Connection,
        params: Params<'_>,
    ) -> Result<Vec<Row>, StoreError> {
        self.run(client.query(self, params)).await
    }

    /// Runs it and returns how many rows it wrote.
    pub(super) async fn execute(
        self,
        client: &impl Connection,
        params: Params<'_>,
    ) -> Result<u64, StoreError> {
        self.run(client.execute(self, params)).await
    }

    /// The same in a transaction of its own with this setting.
    pub(super) async fn execute_with(
        self,
        client: &Client,
        setting: &str,
        params: Params<'_>,
    ) -> Result<u64, StoreError> {
        self.run(client.execute_with(setting, self, params)).await
    }

    /// The types of its parameters, as cast in its text.
    pub fn parameter_types(self) -> Vec<Type> {
        let mut types = Vec::new();
        for piece in self.sql.split('$').skip(1) {
            let digits = piece.bytes().take_while(u8::is_ascii_digit).count();
            let (number, rest) = piece.split_at(digits);
            let Some((number, cast)) = number.parse::<usize>().ok().zip(rest.strip_prefix("::"))
            else {
                continue;
            };
            if number > types.len() {
                types.resize(number, Type::UNKNOWN);
            }
            types[number - 1] = type_named(cast);
        }
        types
    }

    /// In a transaction of its own: runs a COPY with these rows if `condition` finds a row. Returns
    /// whether it did.
    ///
    /// Two round trips: what doesn't depend on an answer is sent without waiting for one. An error
    /// leaves no transaction behind if it is of the COPY's end.
    pub(super) async fn copy_if(
        self,
        client: &Client,
        (condition, params): (Statement, Params<'_>),
        data: CopyData,
    ) -> Result<bool, StoreError> {
        let client: &Object = client;
        self.run(async {
            let look = client.prepare_cached(condition.sql).await?;
            let copy = client.prepare_cached(self.sql).await?;
            // Sent together, in this order.
            let (begun, found, sink) = future::join3(
                client.batch_execute("BEGIN"),
                client.query(&look, params),
                client.copy_in(&copy),
            )
            .await;
            begun?;
            let found = !found?.is_empty();
            let mut sink = Box::pin(sink?);
            if !found {
                drop(sink);
                client.batch_execute("ROLLBACK").await?;
                return Ok(false);
            }
            sink.send(data.into_bytes()).await?;
            // After a COPY that failed this ends the transaction too, by a rollback.
            let (copied, ended) =
                future::join(sink.as_mut().finish(), client.batch_execute("COMMIT")).await;
            copied?;
            ended?;
            Ok(true)
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
        seconds(self.name).record(watch.elapsed().as_secs_f64());
        result.map_err(|source| {
            metrics::counter!("currant_statement_errors_total", "statement" => self.name)
                .increment(1);
            StoreError::of(self.name, source)
        })
    }
}

/// The type that a text begins with.
fn type_named(text: &str) -> Type {
    let end = text.bytes().take_while(u8::is_ascii_alphanumeric).count();
    let (name, rest) = text.split_at(end);
    let (one, many) = match name {
        "smallint" => (Type::INT2, Type::INT2_ARRAY),
        "int" => (Type::INT4, Type::INT4_ARRAY),
        "bigint" => (Type::INT8, Type::INT8_ARRAY),
        "real" => (Type::FLOAT4, Type::FLOAT4_ARRAY),
        "float8" => (Type::FLOAT8, Type::FLOAT8_ARRAY),
        "boolean" => (Type::BOOL, Type::BOOL_ARRAY),
        "text" => (Type::TEXT, Type::TEXT_ARRAY),
        "bytea" => (Type::BYTEA, Type::BYTEA_ARRAY),
        "jsonb" => (Type::JSONB, Type::JSONB_ARRAY),
        "timestamptz" => (Type::TIMESTAMPTZ, Type::TIMESTAMPTZ_ARRAY),
        // Postgres says that it can't tell; a test finds it before.
        _ => (Type::UNKNOWN, Type::UNKNOWN),
    };
    if rest.starts_with("[]") { many } else { one }
}

/// The histogram of a statement's times; kept, since to look one up by its labels takes allocations.
fn seconds(name: &'static str) -> Histogram {
    static SECONDS: LazyLock<Mutex<HashMap<&str, Histogram>>> = LazyLock::new(Mutex::default);
    let mut seconds = SECONDS.lock();
    let histogram = || histogram!("currant_statement_seconds", "statement" => name);
    seconds.entry(name).or_insert_with(histogram).clone()
}
