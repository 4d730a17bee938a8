//! The roles of docs/security.md, as it says to make them.

use std::{fs, path::Path};

use currant_proto::v1::{CancelRequest, DeleteRequest, Failed, RetryRequest, completion::Outcome};
use tokio_postgres::error::SqlState;

use crate::support::{Broker, Database, TestWorker, connect, eventually, job};

/// The page's statements, for roles of this database alone: roles are the whole server's.
async fn make_roles(database: &Database) {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/security.md");
    let page = fs::read_to_string(page).unwrap();
    let blocks: Vec<&str> = page.split("```sql\n").skip(1).collect();
    assert_eq!(blocks.len(), 3);
    let client = database.connect().await;
    for block in blocks {
        let sql = block.split("```").next().unwrap();
        let sql = ["broker", "enqueue", "read"].into_iter().fold(sql.to_owned(), |sql, role| {
            sql.replace(&format!("currant_{role}"), &format!("{}_{role}", database.name))
        });
        client.batch_execute(&sql).await.unwrap();
    }
}

/// The database as this role sees it.
fn as_role(database: &Database, role: &str) -> String {
    let (before, rest) = database.url.split_once("user=").unwrap();
    let (_, after) = rest.split_once(' ').unwrap();
    format!("{before}user={}_{role} {after}", database.name)
}

#[tokio::test]
async fn a_broker_needs_no_more_than_its_role() {
    let database = Database::fresh().await;
    make_roles(&database).await;
    let url = as_role(&database, "broker");
    let limited = Database { url, name: database.name.clone() };
    let settings = [
        ("BROKER__HEARTBEAT_INTERVAL_MS", "200"),
        ("BROKER__DEAD_AFTER_MS", "1000"),
        ("BROKER__ADOPTION_GRACE_MS", "100"),
    ];
    let broker = Broker::start_with(&limited, &settings).await;
    let other = Broker::start_with(&limited, &settings).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 10).await;
    broker.enqueue((0..100).map(|_| job("q", b"x"))).await;
    let first = worker.take(4).await;
    worker.succeed(&first[..2]).await;
    worker.report([&first[2]], Outcome::Failed(Failed::default())).await;
    let discard = Failed { discard: true, ..Failed::default() };
    worker.report([&first[3]], Outcome::Failed(discard)).await;
    let (job_ids, queue) = (vec![first[3].job_id], "q".to_owned());
    let request = RetryRequest { job_ids: job_ids.clone(), queue: queue.clone() };
    other.jobs().retry(request).await.unwrap();
    let request = CancelRequest { job_ids: job_ids.clone(), queue: queue.clone() };
    other.jobs().cancel(request).await.unwrap();
    other.jobs().delete(DeleteRequest { job_ids, queue }).await.unwrap();
    broker.kill();
    eventually("the dead broker's jobs are rescued", async || {
        let held = "SELECT count(*) FROM currant.job WHERE phase = 2 AND outcome IS NULL";
        database.number(held).await == 0
    })
    .await;
    let metrics = other.metrics().await;
    assert!(!metrics.contains("\ncurrant_statement_errors_total{"), "{metrics}");
    for statement in ["retry_jobs", "delete_jobs", "rescue_range"] {
        assert!(metrics.contains(&format!("statement=\"{statement}\"")), "{statement} never ran");
    }
    assert_eq!(other.terminate().await.code(), Some(0));

    let client = connect(&limited.url).await;
    for sql in [
        "UPDATE currant.audit SET name = 'somebody else'",
        "DELETE FROM currant.schema_history",
        "CREATE TABLE currant.mine ()",
    ] {
        let error = client.batch_execute(sql).await.unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{sql}");
    }
}

#[tokio::test]
async fn with_its_role_a_broker_refuses_a_schema_that_is_not_up_to_date() {
    let database = Database::fresh().await;
    make_roles(&database).await;
    let older = "DELETE FROM currant.schema_history WHERE version > 1";
    database.connect().await.batch_execute(older).await.unwrap();
    let said = Broker::refused_with(&as_role(&database, "broker"), &[]).await;
    assert!(said.contains("permission denied"), "{said}");
}

#[tokio::test]
async fn an_application_that_may_enqueue_can_do_nothing_else() {
    let database = Database::fresh().await;
    make_roles(&database).await;
    let client = connect(&as_role(&database, "enqueue")).await;
    // Not fooled by what the caller puts in its way.
    client.batch_execute("SET search_path = pg_temp").await.unwrap();
    let sql =
        "SELECT currant.enqueue('emails', 'send', '{}'), currant.enqueue_bytes('q', 'k', 'x')";
    client.query_one(sql, &[]).await.unwrap();
    assert_eq!(database.number("SELECT count(*) FROM currant.job").await, 2);
    for sql in [
        "SELECT FROM currant.job",
        "SELECT FROM currant.jobs",
        "SELECT FROM currant.queue",
        "SELECT FROM currant.token",
        "SELECT FROM currant.audit",
        "INSERT INTO currant.job (queue_id, id, attempt, priority, phase, kind, payload)
         VALUES (1, 1, 0, 0, 1, 'k', '')",
        "INSERT INTO currant.queue (name) VALUES ('x')",
        "UPDATE currant.job SET outcome = 1",
        "DELETE FROM currant.job",
        "SELECT nextval('currant.enqueue_sequence')",
    ] {
        let error = client.batch_execute(sql).await.unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{sql}");
    }

    let reader = connect(&as_role(&database, "read")).await;
    assert_eq!(reader.query("SELECT * FROM currant.jobs", &[]).await.unwrap().len(), 2);
    for sql in [
        "SELECT currant.enqueue('emails', 'send', '{}')",
        "SELECT FROM currant.token",
        "UPDATE currant.job SET outcome = 1",
    ] {
        let error = reader.batch_execute(sql).await.unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{sql}");
    }
}
