use std::sync::atomic::{AtomicU32, Ordering};

use currant_broker::{
    app,
    config::Config,
    private_postgres::{Options, PrivatePostgres},
};
use tokio::sync::OnceCell;
use tokio_postgres::{Client, NoTls, error::SqlState};

use super::eventually;

const TEMPLATE: &str = "currant_template";

/// One server for all tests of this process. It ends with the process, see `private_postgres`.
static SERVER: OnceCell<PrivatePostgres> = OnceCell::const_new();
static NEXT: AtomicU32 = AtomicU32::new(1);

/// A database of this test alone, with the schema in it.
pub(crate) struct Database {
    pub(crate) name: String,
    pub(crate) url: String,
}

impl Database {
    pub(crate) async fn fresh() -> Self {
        Self::create(&format!("TEMPLATE {TEMPLATE}")).await
    }

    /// Without the schema.
    pub(crate) async fn empty() -> Self {
        Self::create("").await
    }

    async fn create(options: &str) -> Self {
        let server = SERVER.get_or_init(start).await;
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let postgres = connect(&server.dsn_for("postgres")).await;
        let sql = format!("CREATE DATABASE {name} {options}");
        loop {
            match postgres.batch_execute(&sql).await {
                Ok(()) => break,
                // Whoever migrated it is still on the way out.
                Err(error) if error.code() == Some(&SqlState::OBJECT_IN_USE) => {
                    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                }
                Err(error) => panic!("{error:?}"),
            }
        }
        Self { url: server.dsn_for(&name), name }
    }

    /// A server of this test alone, empty, to be crashed or with settings of its own.
    pub(crate) async fn own_server(settings: &[(&str, &str)]) -> (PrivatePostgres, Self) {
        let settings = settings.iter().map(|&(name, value)| (name.into(), value.into())).collect();
        let options = Options { settings, ..Options::default() };
        let start = || PrivatePostgres::start(options).unwrap();
        let server = tokio::task::spawn_blocking(start).await.unwrap();
        let database = Self { url: server.dsn(), name: "currant".to_owned() };
        (server, database)
    }

    /// Whether new connections are let in; those that are there stay. Only for a fresh database.
    pub(crate) async fn allow_connections(&self, allowed: bool) {
        let name = self.url.rsplit_once("dbname='").unwrap().1.trim_end_matches('\'');
        let server = SERVER.get_or_init(start).await;
        let sql = format!("ALTER DATABASE {name} ALLOW_CONNECTIONS {allowed}");
        connect(&server.dsn_for("postgres")).await.batch_execute(&sql).await.unwrap();
    }

    pub(crate) async fn connect(&self) -> Client {
        connect(&self.url).await
    }

    /// Its clock, in seconds since 1970.
    pub(crate) async fn now(&self) -> i64 {
        self.number("SELECT extract(epoch FROM now())::bigint").await
    }

    /// Its clock, in microseconds since 1970.
    pub(crate) async fn now_micros(&self) -> i64 {
        self.number("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint").await
    }

    /// Stores a job of kind `test` by SQL, as an application does in its own transaction.
    pub(crate) async fn enqueue(&self, queue: &str) -> i64 {
        let sql = "SELECT currant.enqueue_bytes($1, 'test', '')";
        self.connect().await.query_one(sql, &[&queue]).await.unwrap().get(0)
    }

    /// Statements that wait for a lock.
    pub(crate) async fn waiting(&self) -> i64 {
        let sql = "SELECT count(*) FROM pg_stat_activity
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
        self.number(sql).await
    }

    /// Waits until the only living broker has gone on to write its heartbeat for so long.
    pub(crate) async fn heartbeats_for(&self, ms: i64) {
        let beat = "SELECT (extract(epoch FROM heartbeat_at) * 1000)::bigint FROM currant.broker
                    WHERE dead_at IS NULL";
        let began = self.number(beat).await;
        eventually("heartbeats go on", async || self.number(beat).await > began + ms).await;
    }

    /// A connection to another database of the same server, which leaves no trace in this one's
    /// statistics.
    pub(crate) async fn connect_beside(&self) -> Client {
        connect(&SERVER.get().unwrap().dsn_for("postgres")).await
    }

    /// One number out of the database.
    pub(crate) async fn number(&self, sql: &str) -> i64 {
        self.connect().await.query_one(sql, &[]).await.unwrap().get(0)
    }
}

async fn start() -> PrivatePostgres {
    let settings = vec![("max_connections".to_owned(), "200".to_owned())];
    let options = Options { settings, ..Options::default() };
    let server =
        tokio::task::spawn_blocking(|| PrivatePostgres::start(options)).await.unwrap().unwrap();
    let postgres = connect(&server.dsn_for("postgres")).await;
    postgres.batch_execute(&format!("CREATE DATABASE {TEMPLATE}")).await.unwrap();
    let url = ("CURRANT_DATABASE__URL".to_owned(), server.dsn_for(TEMPLATE));
    app::migrate(&Config::load(None, [url]).unwrap()).await.unwrap();
    server
}

pub(crate) async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    // Its error is the client's too.
    tokio::spawn(async { drop(connection.await) });
    client
}

/// Ends the connections to this database whose application has a name like this; how many.
pub(crate) async fn cut(client: &Client, name: &str) -> i64 {
    let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
               WHERE datname = current_database() AND application_name LIKE $1";
    client.query_one(sql, &[&name]).await.unwrap().get(0)
}
