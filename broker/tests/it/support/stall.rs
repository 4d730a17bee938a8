use tokio_postgres::Client;

use super::{Database, eventually};

/// Statements that write jobs wait, at the first row, until this ends; reads don't.
pub(crate) struct Stall(Client);

// A lock of the table would keep connections from being made: to prepare is to lock.
const STALL: &str = "
CREATE OR REPLACE FUNCTION wait_for_the_end_of_the_stall() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(1);
    RETURN NEW;
END
$$;
CREATE OR REPLACE TRIGGER stall BEFORE INSERT OR UPDATE ON currant.job
    FOR EACH ROW EXECUTE FUNCTION wait_for_the_end_of_the_stall();
SELECT pg_advisory_lock(1);";

const WAITING: &str = "
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";

impl Database {
    pub(crate) async fn stall_writes(&self) -> Stall {
        let client = self.connect().await;
        client.batch_execute(STALL).await.unwrap();
        Stall(client)
    }

    /// Waits until a statement waits for the end of a stall.
    pub(crate) async fn write_waiting(&self) {
        let client = self.connect().await;
        let waits = async || client.query_one(WAITING, &[]).await.unwrap().get::<_, i64>(0) > 0;
        eventually("a write waits", waits).await;
    }
}

impl Stall {
    pub(crate) async fn end(self) {
        self.0.batch_execute("SELECT pg_advisory_unlock(1)").await.unwrap();
    }
}
