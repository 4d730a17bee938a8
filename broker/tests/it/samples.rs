//! What the pages show to be typed can be typed: SQL, settings, calls as JSON; and the chart's statements. Rust is
//! compiled with the SDK's documentation, lines of `currant` are read in its own tests.

use std::{fs, path::Path, time::Duration};

use currant_broker::config::Config;
use currant_worker_sdk::{CatchUp, Client, Overlap};
use prost_reflect::{DescriptorPool, DynamicMessage};

use crate::support::{Broker, Database};

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The blocks of a page in this language.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let (page, start) = (read(page), format!("```{language}\n"));
    let blocks = page.split(&start).skip(1);
    blocks.map(|block| block.split("```").next().unwrap().to_owned()).collect()
}

/// The page of roles is run by `roles`.
#[tokio::test]
async fn sql_of_the_pages_runs_on_the_schema() {
    let database = Database::fresh().await;
    let client = database.connect().await;
    client.batch_execute("CREATE TABLE customer (email text)").await.unwrap();
    let pages = ["README.md", "docs/jobs.md", "docs/operations.md", "docs/sql.md"];
    let mut ran = 0;
    for page in pages {
        for sql in blocks(page, "sql") {
            // Roles are the whole server's.
            let sql = sql.replace("currant_complete", &format!("{}_complete", database.name));
            let result = client.batch_execute(&sql).await;
            assert!(result.is_ok(), "{page}: {result:?} of\n{sql}");
            ran += 1;
        }
    }
    assert!(ran >= 9, "{ran}");
    // One of README, of sql.md one and one for each of two customers, one of jobs.md.
    let kinds = "SELECT string_agg(kind, ' ' ORDER BY kind) FROM currant.jobs";
    let kinds: String = client.query_one(kinds, &[]).await.unwrap().get(0);
    assert_eq!(kinds, "account newsletter newsletter send_email welcome");
}

#[test]
fn settings_of_the_pages_can_be_read() {
    let mut read = 0;
    for page in ["docs/security.md", "docs/sql.md"] {
        for text in blocks(page, "toml") {
            let file = tempfile::NamedTempFile::new().unwrap();
            fs::write(file.path(), &text).unwrap();
            let result = Config::load(Some(file.path()), []);
            assert!(result.is_ok(), "{page}: {result:?} of\n{text}");
            read += 1;
        }
    }
    assert!(read >= 2, "{read}");
}

#[tokio::test]
async fn a_broker_takes_the_schedules_of_the_page() {
    let database = Database::fresh().await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("schedules.toml");
    fs::write(&path, blocks("docs/schedules.md", "toml").concat()).unwrap();
    let settings = [("SCHEDULES__FILE", path.to_str().unwrap())];
    let broker = Broker::start_with(&database, &settings).await;
    let client = Client::connect(broker.endpoint()).await.unwrap();
    let daily = client.schedule("daily-report").await.unwrap();
    assert!(daily.from_file && daily.next_fire.is_some(), "{daily:?}");
    assert_eq!((&*daily.queue, &*daily.payload), ("reports", &b"[\"sales\", \"stock\"]"[..]));
    let day = Duration::from_secs(24 * 3600);
    assert_eq!((daily.catch_up, daily.overlap), (CatchUp::All(day), Overlap::QueueOne));
}

/// The call and its message, of each line that has one: `-d '{…}' … currant.v1.JobService/Get`, in any order.
fn calls(text: &str) -> Vec<(String, String)> {
    let text = text.replace("\\\n", " ");
    let lines = text.lines().filter_map(|line| {
        let (_, message) = line.split_once("-d '")?;
        let message = message.split('\'').next()?;
        let (_, call) = line.split_once("currant.v1.")?;
        let call = call.split_whitespace().next()?;
        Some((call.to_owned(), message.to_owned()))
    });
    lines.collect()
}

#[test]
fn calls_of_the_pages_are_calls_with_their_messages() {
    let pool = DescriptorPool::decode(currant_proto::DESCRIPTORS).unwrap();
    let mut found = 0;
    for page in ["docs/dashboard.md", "docs/protocol.md", "docs/quick-start.md"] {
        for (call, message) in blocks(page, "sh").iter().flat_map(|block| calls(block)) {
            let (service, method) = call.split_once('/').unwrap();
            let service = pool.get_service_by_name(&format!("currant.v1.{service}"));
            let service = service.unwrap_or_else(|| panic!("{page}: {call}"));
            let method = service.methods().find(|one| one.name() == method);
            let input = method.unwrap_or_else(|| panic!("{page}: {call}")).input();
            // What the reader has to put in is a job's id.
            let message = message.replace('…', "7");
            let mut json = serde_json::Deserializer::from_str(&message);
            let read = DynamicMessage::deserialize(input, &mut json);
            assert!(read.is_ok(), "{page}: {call} {message}: {read:?}");
            found += 1;
        }
    }
    assert!(found >= 5, "{found}");
}

/// What the chart has KEDA ask for: how many are ready, as far as that matters, and how old the first is.
fn scaling(queue: &str) -> [String; 2] {
    let template = read("deploy/helm/currant/templates/workerautoscaling.yaml");
    let queries = template.split("query: >-\n").skip(1).map(|query| {
        let query = query.split("targetQueryValue").next().unwrap();
        let query = query.split_whitespace().collect::<Vec<_>>().join(" ");
        let query = query.replace("{{ .queue }}", queue);
        let query = query.replace("{{ mul .readyJobsPerReplica .maxReplicas }}", "3");
        assert!(!query.contains("{{"), "{query}");
        format!("SELECT floor(it)::bigint FROM ({query}) AS asked(it)")
    });
    queries.collect::<Vec<_>>().try_into().unwrap()
}

#[tokio::test]
async fn workers_are_scaled_by_what_is_ready_and_how_long_it_has_been() {
    let database = Database::fresh().await;
    for queue in ["emails", "emails", "few", "few", "few"] {
        database.enqueue(queue).await;
    }
    for _ in 0..3 {
        database.enqueue("emails").await;
    }
    let client = database.connect().await;
    let older = "UPDATE currant.job SET id = id - (100000::bigint << 22)
                 WHERE id = (SELECT min(id) FROM currant.job)";
    client.batch_execute(older).await.unwrap();
    let [count, age] = scaling("emails");
    assert_eq!(database.number(&count).await, 3, "no more than the most replicas need");
    assert!((100..200).contains(&database.number(&age).await));
    let [count, age] = scaling("few");
    assert_eq!(database.number(&count).await, 3);
    assert!((0..60).contains(&database.number(&age).await));
    let [count, age] = scaling("none");
    assert_eq!((database.number(&count).await, database.number(&age).await), (0, 0));
    // Jobs with a key are in an index of their own.
    let keyed = "SELECT currant.enqueue('keyed', 'test', key => 'k') FROM generate_series(1, 4)";
    client.batch_execute(keyed).await.unwrap();
    let older = "UPDATE currant.job SET id = id - (100000::bigint << 22)
                 WHERE id = (SELECT min(id) FROM currant.job WHERE key IS NOT NULL)";
    client.batch_execute(older).await.unwrap();
    let [count, age] = scaling("keyed");
    assert_eq!(database.number(&count).await, 3);
    assert!((100..200).contains(&database.number(&age).await));
    // However many there are, a few are read.
    let many = "SELECT currant.enqueue_many(array_agg(currant.new_job('emails', 'test', key => k)))
                FROM generate_series(1, 10000) n, (VALUES (NULL), ('k')) v (k)";
    client.batch_execute(many).await.unwrap();
    client.batch_execute("ANALYZE currant.job").await.unwrap();
    for query in scaling("emails") {
        let explain = format!("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query}");
        let plan: serde_json::Value = client.query_one(&explain, &[]).await.unwrap().get(0);
        let plan = &plan[0]["Plan"];
        let pages =
            ["Shared Hit Blocks", "Shared Read Blocks"].map(|of| plan[of].as_u64().unwrap());
        assert!(pages.iter().sum::<u64>() < 30, "{plan:#}");
    }
}
