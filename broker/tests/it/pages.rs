//! Examples of the pages that no compiler reads: SQL runs, and a broker takes the file of schedules.

use std::{fs, path::Path, time::Duration};

use currant_worker_sdk::{CatchUp, Client, Overlap};

use crate::support::{Broker, Database};

/// What a page has between fences of this language.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(page);
    let page = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{page}: {error}"));
    let fence = format!("```{language}\n");
    let blocks = page.split(&*fence).skip(1);
    blocks.map(|block| block.split("```").next().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn the_sql_of_the_pages_runs() {
    let database = Database::fresh().await;
    let client = database.connect().await;
    client.batch_execute("CREATE TABLE customer (email text)").await.unwrap();
    let role = format!("{}_complete", database.name);
    for (page, expected) in
        [("README.md", 2), ("docs/sql.md", 3), ("docs/jobs.md", 1), ("docs/operations.md", 3)]
    {
        let blocks = blocks(page, "sql");
        assert_eq!(blocks.len(), expected, "{page}");
        for block in blocks {
            // Roles are the whole server's.
            let sql = block.replace("currant_complete", &role);
            let ran = client.batch_execute(&sql).await;
            ran.unwrap_or_else(|error| panic!("{page}: {error:?}\n{sql}"));
        }
    }
    // One of README, of sql.md one and one for each of two customers, one of jobs.md.
    let kinds = "SELECT string_agg(kind, ' ' ORDER BY kind) FROM currant.jobs";
    let kinds: String = client.query_one(kinds, &[]).await.unwrap().get(0);
    assert_eq!(kinds, "account newsletter newsletter send_email welcome");
}

#[tokio::test]
async fn a_broker_takes_the_schedules_of_the_page() {
    let database = Database::fresh().await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("schedules.toml");
    let blocks = blocks("docs/schedules.md", "toml");
    fs::write(&path, blocks.concat()).unwrap();
    let settings = [("SCHEDULES__FILE", path.to_str().unwrap())];
    let broker = Broker::start_with(&database, &settings).await;
    let client = Client::connect(broker.endpoint()).await.unwrap();
    let daily = client.schedule("daily-report").await.unwrap();
    assert!(daily.from_file && daily.next_fire.is_some(), "{daily:?}");
    assert_eq!((&*daily.queue, &*daily.payload), ("reports", &b"[\"sales\", \"stock\"]"[..]));
    let day = Duration::from_secs(24 * 3600);
    assert_eq!((daily.catch_up, daily.overlap), (CatchUp::All(day), Overlap::QueueOne));
}
