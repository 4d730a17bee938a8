use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use currant_proto::v1::{JobState, ListRequest, NewJob, QueueSettings, Verdict, new_job::Start};

use super::{QUICK, configure, queue};
use crate::{
    list::all,
    outcomes::{every, failed, ms},
    support::{Broker, Database, TestWorker, assert_invalid, eventually, get, job},
};

fn of(key: &str) -> NewJob {
    NewJob { key: key.to_owned(), ..job("q", b"") }
}

/// Completes jobs one by one until one with this key comes; how many others came.
async fn others_before(worker: &mut TestWorker, key: &str) -> usize {
    let mut others = 0;
    loop {
        let came = worker.job().await;
        assert_eq!(worker.succeed([&came]).await, [Verdict::Applied]);
        if came.key == key {
            return others;
        }
        others += 1;
    }
}

#[tokio::test]
async fn many_jobs_of_one_key_hold_up_neither_another_nor_those_without() {
    let database = Database::fresh().await;
    let broker = Broker::start_with(&database, QUICK).await;
    broker.enqueue((0..3000).map(|_| of("a"))).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 10).await;
    for _ in 0..20 {
        let came = worker.job().await;
        worker.succeed([&came]).await;
    }
    broker.enqueue([of("b")]).await;
    // What is in memory comes first: twice the worker's credit, and a claim on its way.
    let others = others_before(&mut worker, "b").await;
    assert!(others <= 40, "{others} before the one of b");
    broker.enqueue([job("q", b"")]).await;
    let others = others_before(&mut worker, "").await;
    assert!(others <= 40, "{others} before the one without a key");
    // The other way round.
    broker.enqueue((0..3000).map(|_| job("q", b""))).await;
    broker.enqueue([of("c")]).await;
    let others = others_before(&mut worker, "c").await;
    assert!(others <= 60, "{others} before the one of c");
}

#[tokio::test]
async fn of_a_hundred_thousand_keys_each_has_its_turn() {
    let database = Database::fresh().await;
    let broker = Broker::start_with(&database, QUICK).await;
    broker.enqueue([of("first")]).await;
    let sql = "INSERT INTO currant.job (id, queue_id, attempt, priority, phase, kind, payload, key)
               SELECT 10 * n + m, 1, 0, 0, 1, 'test', '', 'key ' || n
               FROM generate_series(1, 100000) n, generate_series(1, 2) m";
    database.connect().await.batch_execute(sql).await.unwrap();
    let mut worker = TestWorker::subscribe(&broker, &["q"], 1000).await;
    let mut keys = BTreeSet::new();
    while keys.len() < 5000 {
        let came = worker.take(500).await;
        worker.succeed(&came).await;
        for one in came {
            assert!(keys.insert(one.key.clone()), "a second turn of {}", one.key);
        }
    }
}

fn weights(of: &[(&str, u32)]) -> QueueSettings {
    let key_weights = of.iter().map(|(key, weight)| ((*key).to_owned(), *weight)).collect();
    QueueSettings { key_weights, ..QueueSettings::default() }
}

#[tokio::test]
async fn a_key_that_weighs_three_has_three_times_as_many_jobs_as_another_and_that_changes_live() {
    let database = Database::fresh().await;
    let [a, b] =
        [Broker::start_with(&database, QUICK).await, Broker::start_with(&database, QUICK).await];
    configure(&a, "q", weights(&[("heavy", 3)])).await.unwrap();
    a.enqueue((0..800).map(|_| of("heavy"))).await;
    a.enqueue((0..800).map(|_| of("light"))).await;
    let mut worker = TestWorker::subscribe(&b, &["q"], 10).await;
    let mut heavy_of_200 = async || {
        let mut heavy = 0;
        for n in 0..260 {
            let came = worker.job().await;
            assert_eq!(worker.succeed([&came]).await, [Verdict::Applied]);
            // Some were in memory before.
            heavy += usize::from(n >= 60 && came.key == "heavy");
        }
        heavy
    };
    let heavy = heavy_of_200().await;
    assert!((140..=160).contains(&heavy), "{heavy} of 200, not three quarters");
    let sql = "UPDATE currant.queue SET key_weights = '{\"light\": 3}'";
    database.connect().await.batch_execute(sql).await.unwrap();
    eventually("the other broker follows", async || {
        queue(&b, "q").await.settings == Some(weights(&[("light", 3)]))
    })
    .await;
    let heavy = heavy_of_200().await;
    assert!((40..=60).contains(&heavy), "{heavy} of 200, not a quarter");
    configure(&b, "q", QueueSettings::default()).await.unwrap();
    let heavy = heavy_of_200().await;
    assert!((90..=110).contains(&heavy), "{heavy} of 200, not a half");
}

#[tokio::test]
async fn weights_of_keys_are_bounded_by_name_and_in_the_table() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let many: Vec<String> = (0..101).map(|n| n.to_string()).collect();
    let many: Vec<(&str, u32)> = many.iter().map(|key| (&**key, 1)).collect();
    let long = "x".repeat(129);
    for (wrong, limit) in [
        (vec![("acme", 0)], "1 to 100"),
        (vec![("acme", 101)], "1 to 100"),
        (vec![("", 1)], "1 to 128"),
        (vec![(&*long, 1)], "128"),
        (many, "100"),
    ] {
        let status = configure(&broker, "q", weights(&wrong)).await.unwrap_err();
        assert_invalid(&status, "settings.key_weights", limit);
    }
    let most = weights(&[("acme", 100), ("b", 1)]);
    let configured = configure(&broker, "q", most.clone()).await.unwrap();
    assert_eq!(
        (configured.settings, configured.effective.unwrap().key_weights.len()),
        (Some(most), 2)
    );
    let client = database.connect().await;
    for wrong in [
        "'[]'",
        r#"'{"a": 0}'"#,
        r#"'{"a": 101}'"#,
        r#"'{"a": 1.5}'"#,
        r#"'{"a": "2"}'"#,
        r#"'{"a": null}'"#,
        "(SELECT jsonb_object_agg(n, 1) FROM generate_series(1, 101) n)",
    ] {
        let sql = format!("UPDATE currant.queue SET key_weights = {wrong}");
        let error = client.batch_execute(&sql).await.unwrap_err();
        let code = error.code().map(tokio_postgres::error::SqlState::code);
        assert_eq!(code, Some("23514"), "{wrong}: {error}");
    }
}

#[tokio::test]
async fn a_key_comes_to_the_worker_and_can_be_looked_at() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let id = broker.enqueue([of("acme")]).await[0];
    let ids = broker.enqueue((0..100).map(|n| of(["x", "ä key/with: all"][n % 2]))).await;
    assert_eq!(get(&broker, id).await.key, "acme");
    assert_eq!(get(&broker, ids[1]).await.key, "ä key/with: all");
    let request = ListRequest { filter: Some(all("q")), page_size: 500, ..ListRequest::default() };
    let listed = broker.jobs().list(request).await.unwrap().into_inner().jobs;
    assert_eq!((listed.len(), &*listed[0].key), (101, "acme"));
    let mut worker = TestWorker::subscribe(&broker, &["q"], 200).await;
    let came = worker.take(101).await;
    assert_eq!(came.iter().filter(|job| job.key == "ä key/with: all").count(), 50);
}

#[tokio::test]
async fn wherever_a_job_with_a_key_becomes_ready_a_broker_with_workers_hears_of_it() {
    let database = Database::fresh().await;
    let a = Broker::start_with(&database, QUICK).await;
    let b = Broker::start_with(&database, QUICK).await;
    let mut worker = TestWorker::subscribe(&b, &["q"], 1).await;
    worker.no_job_for(Duration::from_millis(200)).await;
    a.enqueue([NewJob { retry: every(50), ..of("stored by another broker") }]).await;
    let first = worker.job().await;
    worker.report([&first], failed("x")).await;
    let again = worker.job().await;
    assert_eq!((again.job_id, again.attempt), (first.job_id, first.attempt + 1));
    worker.succeed([&again]).await;
    a.enqueue([NewJob { start: Some(Start::Delay(ms(50))), ..of("promoted") }]).await;
    let promoted = worker.job().await;
    assert_eq!(promoted.key, "promoted");
    worker.succeed([&promoted]).await;
    let client = database.connect().await;
    for (call, count) in [
        ("enqueue('q', 'test', key => 'sql')", 1),
        ("enqueue_bytes('q', 'test', '', key => 'sql')", 1),
        (
            "enqueue_many(ARRAY[currant.new_job('q', 'test', key => 'sql'), \
          currant.new_job_bytes('q', 'test', '', key => 'sql')])",
            2,
        ),
        ("enqueue_unique(currant.new_job('q', 'test', key => 'sql'), 'one')", 1),
    ] {
        client.batch_execute(&format!("SELECT currant.{call}")).await.unwrap();
        for _ in 0..count {
            let came = worker.job().await;
            assert_eq!(came.key, "sql", "{call}");
            worker.succeed([&came]).await;
        }
    }
    for key in [String::new(), "x".repeat(129)] {
        let sql = "SELECT currant.enqueue('q', 'test', key => $1)";
        let error = client.query_one(sql, &[&key]).await.unwrap_err();
        let message = error.as_db_error().unwrap().message();
        assert_eq!(message, "key: 1 to 128 characters");
    }
    // By a broker of its own, and one that replaces another.
    let unique = || currant_worker_sdk::Unique::key("two").while_waiting().replace();
    let client = currant_worker_sdk::Client::connect(a.endpoint()).await.unwrap();
    let new = || currant_worker_sdk::NewJob::raw("q", "test", "");
    let waiting = new().delay(Duration::from_secs(3600)).unique(unique());
    let id = client.enqueue(waiting).await.unwrap();
    assert_eq!(client.enqueue(new().key("replaced").unique(unique())).await.unwrap(), id);
    assert_eq!(worker.job().await.key, "replaced");
}

#[tokio::test]
async fn jobs_with_keys_survive_their_broker() {
    let database = Database::fresh().await;
    let a = Broker::start_with(&database, QUICK).await;
    let ids = a.enqueue((0..4).map(|_| of("acme"))).await;
    let mut worker = TestWorker::subscribe(&a, &["q"], 2).await;
    worker.take(2).await;
    let b = Broker::start_with(&database, QUICK).await;
    a.kill();
    drop(worker);
    let mut worker = TestWorker::subscribe(&b, &["q"], 10).await;
    let came = worker.take(4).await;
    worker.succeed(&came).await;
    for id in ids {
        assert_eq!(get(&b, id).await.state(), JobState::Succeeded);
    }
}

/// The migrations up to a version, as brokers of that time have left them.
async fn migrated_to(version: i32) -> Database {
    let (database, newest) = (Database::empty().await, Database::fresh().await.connect().await);
    let client = database.connect().await;
    let history = "CREATE TABLE currant.schema_history (
        version int4 PRIMARY KEY, name varchar(255), applied_on varchar(255), checksum varchar(255))";
    client.batch_execute(&format!("CREATE SCHEMA currant; {history}")).await.unwrap();
    let sql = "SELECT version, name, applied_on, checksum FROM currant.schema_history
               WHERE version <= $1 ORDER BY version";
    for row in newest.query(sql, &[&version]).await.unwrap() {
        let (version, name): (i32, String) = (row.get(0), row.get(1));
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations");
        let file = directory.join(format!("V{version}__{name}.sql"));
        client.batch_execute(&fs::read_to_string(file).unwrap()).await.unwrap();
        let sql = "INSERT INTO currant.schema_history VALUES ($1, $2, $3, $4)";
        let (at, checksum): (String, String) = (row.get(2), row.get(3));
        client.execute(sql, &[&version, &name, &at, &checksum]).await.unwrap();
    }
    database
}

#[tokio::test]
async fn a_table_with_jobs_gets_keys_and_those_who_may_enqueue_still_may() {
    let database = migrated_to(10).await;
    let client = database.connect().await;
    let role = format!("{}_role", database.name);
    let before = format!(
        "SELECT currant.enqueue('q', 'test', '1'), currant.enqueue('q', 'test', '2', delay => '1 h');
         CREATE ROLE {role}; GRANT USAGE ON SCHEMA currant TO {role};
         GRANT EXECUTE ON FUNCTION currant.enqueue, currant.enqueue_many TO {role};"
    );
    client.batch_execute(&before).await.unwrap();
    let broker = Broker::start(&database).await;
    let may = |function: &str| {
        let sql = format!(
            "SELECT has_function_privilege('{role}', 'currant.{function}'::regproc, 'EXECUTE')"
        );
        let client = &client;
        async move { client.query_one(&sql, &[]).await.unwrap().get::<_, bool>(0) }
    };
    assert_eq!((may("enqueue").await, may("enqueue_bytes").await), (true, false));
    let mut worker = TestWorker::subscribe(&broker, &["q"], 10).await;
    let came = worker.job().await;
    assert_eq!((&*came.payload, &*came.key), (&b"1"[..], ""));
    let sql = format!("SET ROLE {role}; SELECT currant.enqueue('q', 'test', '3', key => 'acme')");
    client.batch_execute(&sql).await.unwrap();
    assert_eq!(worker.job().await.key, "acme");
    client
        .batch_execute(&format!("RESET ROLE; DROP OWNED BY {role}; DROP ROLE {role}"))
        .await
        .unwrap();
}
