//! What the throughput rests on: completions are heap-only updates.

use std::collections::BTreeSet;

use currant_broker::store;
use currant_proto::v1::Verdict;
use tokio_postgres::Client;

use crate::support::{Broker, Database, TestWorker, eventually, job};

/// Columns that an index of currant.job mentions in its key, expressions or predicate.
const INDEXED: &str = "
    SELECT i.indexrelid::regclass::text, a.attname::text
    FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid
    WHERE i.indrelid = 'currant.job'::regclass AND (
        a.attnum = ANY (i.indkey)
        OR EXISTS (SELECT FROM pg_depend d
                   WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid
                     AND d.refclassid = 'pg_class'::regclass AND d.refobjid = i.indrelid
                     AND d.refobjsubid = a.attnum))";

/// Index and column, where the column is one that a completion writes.
async fn forbidden(client: &Client, written: &BTreeSet<&str>) -> BTreeSet<(String, String)> {
    let rows = client.query(INDEXED, &[]).await.unwrap();
    let pairs = rows.iter().map(|row| (row.get(0), row.get(1)));
    pairs.filter(|(_, column): &(String, String)| written.contains(column.as_str())).collect()
}

/// The columns that the statement sets.
fn written_by(name: &str) -> BTreeSet<&'static str> {
    let statements = store::statements();
    let statement = statements.iter().find(|statement| statement.name == name).unwrap();
    let (_, set) = statement.sql.split_once(" SET ").unwrap();
    let (set, _) = set.split_once(" FROM ").unwrap();
    set.split(", ").map(|one| one.split_once(" = ").unwrap().0).collect()
}

#[tokio::test]
async fn no_index_mentions_a_column_that_a_completion_writes() {
    let database = Database::fresh().await;
    let client = database.connect().await;
    let written = written_by("complete_jobs");
    assert_eq!(written, BTreeSet::from(["outcome", "result", "finished_at"]));
    assert_eq!(forbidden(&client, &written).await, BTreeSet::new());

    // The look itself sees each way to do it.
    let planted = [
        ("key", "(finished_at)", "finished_at"),
        ("brin", "USING brin (finished_at)", "finished_at"),
        ("included", "(id) INCLUDE (outcome)", "outcome"),
        ("expression", "(coalesce(outcome, 0))", "outcome"),
        ("predicate", "(id) WHERE outcome IS NULL", "outcome"),
    ];
    for (index, how, column) in planted {
        client.batch_execute(&format!("CREATE INDEX {index} ON currant.job {how}")).await.unwrap();
        let found = BTreeSet::from([(format!("currant.{index}"), column.to_owned())]);
        assert_eq!(forbidden(&client, &written).await, found, "{how}");
        client.batch_execute(&format!("DROP INDEX currant.{index}")).await.unwrap();
    }
}

#[tokio::test]
async fn the_table_of_jobs_has_no_trigger_and_no_foreign_key_and_leaves_room_for_updates() {
    let database = Database::fresh().await;
    let triggers = "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'currant.job'::regclass";
    assert_eq!(database.number(triggers).await, 0);
    let constraints = "SELECT count(*) FROM pg_constraint
        WHERE (conrelid = 'currant.job'::regclass OR confrelid = 'currant.job'::regclass)
          AND contype <> 'p'";
    assert_eq!(database.number(constraints).await, 0);
    let rules = "SELECT count(*) FROM pg_rewrite WHERE ev_class = 'currant.job'::regclass";
    assert_eq!(database.number(rules).await, 0);
    for table in ["job", "broker"] {
        let fillfactor = format!(
            "SELECT count(*) FROM pg_class
             WHERE oid = 'currant.{table}'::regclass AND 'fillfactor=50' = ANY (reloptions)"
        );
        assert_eq!(database.number(&fillfactor).await, 1, "{table}");
    }
}

/// Inserted, updated, and of these heap-only.
async fn writes(client: &Client) -> (i64, i64, i64) {
    let sql = "SELECT n_tup_ins, n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables
               WHERE relid = 'currant.job'::regclass";
    let row = client.query_one(sql, &[]).await.unwrap();
    (row.get(0), row.get(1), row.get(2))
}

#[tokio::test]
async fn a_direct_job_is_one_insert_and_one_heap_only_update() {
    const JOBS: i64 = 2000;
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&broker, &["emails"], 2 * JOBS as u32).await;
    let client = database.connect().await;
    // Until the broker knows that there is no backlog, jobs go through it.
    let (mut claimed, mut direct) = (0, false);
    while !direct {
        let ids = broker.enqueue([job("emails", b"x")]).await;
        let early = worker.job().await;
        let sql = "SELECT claimed_at IS NULL FROM currant.job WHERE id = $1";
        direct = client.query_one(sql, &[&ids[0]]).await.unwrap().get(0);
        claimed += i64::from(!direct);
        worker.succeed([&early]).await;
    }
    for _ in 0..4 {
        broker.enqueue((0..JOBS / 4).map(|_| job("emails", &[b'x'; 100]))).await;
    }
    let jobs = worker.take(JOBS as usize).await;
    for part in jobs.chunks(250) {
        let verdicts = worker.succeed(part).await;
        assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Applied));
    }
    drop(worker);
    // Its connections tell their counters at the end.
    broker.terminate().await;
    let jobs = JOBS + claimed + 1;
    eventually("the counters are there", async || writes(&client).await.1 >= jobs).await;
    assert_eq!(writes(&client).await, (jobs, jobs + claimed, jobs));
}
