//! What `/metrics` shows.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use currant_proto::v1::{Failed, PauseQueueRequest, completion::Outcome, new_job::Start};
use prost_types::Duration;

use crate::support::{
    Broker, Clients, Database, Ledger, TestWorker, eventually, get, job, progress, start_worker,
};

/// What is known of a family.
#[derive(Debug, PartialEq)]
struct Family<'a> {
    kind: &'a str,
    labels: BTreeSet<&'a str>,
    meaning: &'a str,
}

/// By name, from the page that is served.
fn served(metrics: &str) -> BTreeMap<&str, Family<'_>> {
    let lines = |head| metrics.lines().filter_map(move |line: &str| line.strip_prefix(head));
    let mut meanings: BTreeMap<&str, &str> =
        lines("# HELP ").map(|line| line.split_once(' ').unwrap()).collect();
    let mut families = BTreeMap::new();
    for line in lines("# TYPE ") {
        let (name, kind) = line.split_once(' ').unwrap();
        let meaning = meanings.remove(name).unwrap_or_default();
        let labels = BTreeSet::new();
        assert!(families.insert(name, Family { kind, labels, meaning }).is_none(), "{name} twice");
    }
    for line in metrics.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        value.parse::<f64>().unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let endings = ["_bucket", "_sum", "_count"];
        let short = endings.iter().find_map(|ending| name.strip_suffix(ending));
        let name = short.filter(|short| families.contains_key(short)).unwrap_or(name);
        let names = labels.split("\",").filter_map(|label| Some(label.split_once("=\"")?.0));
        let names = names.map(|name| name.trim_start_matches(','));
        families.get_mut(name).unwrap().labels.extend(names.filter(|name| *name != "le"));
    }
    families
}

/// By name, from the reference's table: `| name | type | unit | labels | meaning |`.
fn documented(page: &str) -> BTreeMap<&str, Family<'_>> {
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split(" | ").collect();
        let [name, kind, _unit, labels, meaning] = cells[..] else { panic!("{row}") };
        let labels = labels.split("; ").filter_map(|label| label.split('`').nth(1));
        (name.trim_end_matches('`'), Family { kind, labels: labels.collect(), meaning })
    })
    .collect()
}

/// The value of the one line that begins so.
fn value(metrics: &str, series: &str) -> f64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{series} isn't in\n{metrics}")).parse().unwrap()
}

#[tokio::test]
async fn a_broker_under_load_serves_what_the_reference_says() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let ledger = Ledger::default();
    let worker = start_worker(&broker.endpoint(), "load", &ledger);
    let clients = Clients::start(4, &broker, "load", &ledger).await;
    progress(&ledger, 500).await;
    eventually("LISTEN works", async || broker.metric("currant_listening").await == Some(1.0))
        .await;

    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let (page, metrics) = (fs::read_to_string(page).unwrap(), broker.metrics().await);
    let (mut documented, mut served) = (documented(&page), served(&metrics));
    // There when the first has failed, which may be never.
    let errors = "currant_statement_errors_total";
    assert_eq!(documented.remove(errors).unwrap().kind, "counter");
    served.remove(errors);
    assert!(served.keys().eq(documented.keys()), "{:?}\n{:?}", served.keys(), documented.keys());
    assert_eq!(served, documented);
    clients.stop().await;
    worker.shutdown().await.unwrap();
}

#[tokio::test]
async fn metrics_tell_of_each_queue_of_flushes_and_of_statements() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    broker.enqueue([job("emails", b"waits")]).await;
    let mut worker = TestWorker::subscribe(&broker, &["emails"], 10).await;
    broker.enqueue((0..3).map(|_| job("emails", b"x"))).await;
    let jobs = worker.take(4).await;
    worker.succeed(&jobs[..2]).await;
    let failed = Failed { error: "no".to_owned(), discard: true, ..Failed::default() };
    worker.report([&jobs[2]], Outcome::Failed(failed)).await;
    get(&broker, jobs[0].job_id).await;

    let metrics = broker.metrics().await;
    let of_emails = |name: &str| {
        let series = format!("{name}{{messaging_destination_name=\"emails\"}}");
        value(&metrics, &series)
    };
    for (name, expected) in [
        ("currant_jobs_enqueued_total", 4.0),
        ("currant_jobs_delivered_total", 4.0),
        ("currant_attempts_failed_total", 1.0),
        ("currant_attempts_retried_total", 0.0),
        ("currant_start_latency_seconds_count", 4.0),
        ("messaging_process_duration_seconds_count", 3.0),
        ("currant_queue_sessions", 1.0),
        ("currant_queue_credit", 10.0),
        ("currant_queue_attempts_held", 1.0),
        ("currant_queue_jobs_buffered", 0.0),
        ("currant_queue_jobs_backlog", 0.0),
    ] {
        assert_eq!(of_emails(name), expected, "{name} in\n{metrics}");
    }
    let states =
        [("scheduled", 0.0), ("ready", 0.0), ("succeeded", 2.0), ("dead", 1.0), ("cancelled", 0.0)];
    for (state, expected) in states {
        let labels = format!("messaging_destination_name=\"emails\",state=\"{state}\"");
        assert_eq!(
            value(&metrics, &format!("currant_queue_jobs{{{labels}}}")),
            expected,
            "{state}"
        );
    }
    assert_eq!(of_emails("currant_queue_oldest_ready_seconds"), 0.0);
    for (outcome, expected) in [("succeeded", 2.0), ("dead", 1.0), ("cancelled", 0.0)] {
        let labels = format!("messaging_destination_name=\"emails\",outcome=\"{outcome}\"");
        let series = format!("currant_jobs_completed_total{{{labels}}}");
        assert_eq!(value(&metrics, &series), expected, "{outcome}");
    }
    for (name, expected) in [
        ("currant_sessions", 1.0),
        ("currant_credit", 10.0),
        ("currant_attempts_held", 1.0),
        ("currant_buffered_bytes", 0.0),
        ("currant_pending_rows{budget=\"enqueue\"}", 0.0),
        ("currant_pending_rows_max{budget=\"enqueue\"}", 200_000.0),
        ("currant_pool_connections_max", 6.0),
        ("currant_draining", 0.0),
    ] {
        assert_eq!(value(&metrics, name), expected, "{name} in\n{metrics}");
    }
    // A flush of one job and one of three.
    let rows = |le| format!("currant_flush_rows_bucket{{flush=\"enqueue\",le=\"{le}\"}}");
    assert_eq!(value(&metrics, &rows("1")), 1.0);
    assert_eq!(value(&metrics, &rows("5")), 2.0);
    assert_eq!(value(&metrics, "currant_flush_seconds_count{flush=\"settle\"}"), 1.0);

    let used = [
        "heartbeat_broker",
        "find_queues",
        "create_queues",
        "insert_jobs",
        "complete_jobs",
        "settle_jobs",
        "get_job",
        "next_due",
        "promote_jobs",
    ];
    for statement in used {
        let count = format!("currant_statement_seconds_count{{statement=\"{statement}\"}}");
        assert!(value(&metrics, &count) >= 1.0, "{statement}");
    }
    let claims = metrics
        .lines()
        .any(|line| line.starts_with("currant_statement_seconds_count{statement=\"claim_"));
    assert!(claims, "{metrics}");
}

#[tokio::test]
async fn a_retry_and_a_start_in_the_future_are_measured_as_such() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&broker, &["later"], 10).await;
    let mut later = job("later", b"x");
    later.start = Some(Start::Delay(Duration { seconds: 0, nanos: 600_000_000 }));
    broker.enqueue([later]).await;
    let held = worker.job().await;
    let failed = Failed {
        error: "no".to_owned(),
        retry_after: Some(Duration { seconds: 0, nanos: 1_000_000 }),
        ..Failed::default()
    };
    worker.report([&held], Outcome::Failed(failed)).await;
    let again = worker.job().await;
    worker.succeed([&again]).await;

    let metrics = broker.metrics().await;
    let label = "messaging_destination_name=\"later\"";
    assert_eq!(value(&metrics, &format!("currant_attempts_retried_total{{{label}}}")), 1.0);
    // The first attempt alone, from the time that it was to start at.
    let start = |part: &str| value(&metrics, &format!("currant_start_latency_seconds_{part}"));
    assert_eq!(start(&format!("count{{{label}}}")), 1.0);
    assert_eq!(start(&format!("bucket{{{label},le=\"0.5\"}}")), 1.0);
}

#[tokio::test]
async fn queues_beyond_the_bound_are_counted_together() {
    let database = Database::fresh().await;
    let broker = Broker::start_with(&database, &[("HTTP__METERED_QUEUES_MAX", "1")]).await;
    for queue in ["first", "second", "third", "first"] {
        broker.enqueue([job(queue, b"x")]).await;
    }
    let metrics = broker.metrics().await;
    for (queue, enqueued) in [("first", 2.0), ("_other", 2.0)] {
        let label = format!("messaging_destination_name=\"{queue}\"");
        assert_eq!(value(&metrics, &format!("currant_jobs_enqueued_total{{{label}}}")), enqueued);
    }
    assert!(!metrics.contains("\"second\"") && !metrics.contains("\"third\""), "{metrics}");
}

#[tokio::test]
async fn depths_are_read_at_a_scrape_and_are_absent_while_the_database_is_away() {
    let (server, database) = Database::own_server(&[]).await;
    let broker = Broker::start(&database).await;
    broker.enqueue((0..3).map(|_| job("emails", b"waits"))).await;
    let ready = "currant_queue_jobs{messaging_destination_name=\"emails\",state=\"ready\"}";
    let metrics = broker.metrics().await;
    assert_eq!(value(&metrics, ready), 3.0);
    assert!(metrics.contains("currant_queue_oldest_ready_seconds{"), "{metrics}");
    // Those of a look are good for some seconds.
    broker.enqueue([job("emails", b"waits")]).await;
    assert_eq!(value(&broker.metrics().await, ready), 3.0);
    server.stop().unwrap();
    eventually("they are gone", async || !broker.metrics().await.contains(ready)).await;
}

#[tokio::test]
async fn queues_that_only_sql_fills_are_measured_and_pauses_are_told() {
    let database = Database::fresh().await;
    let client = database.connect().await;
    let sql = "SELECT currant.enqueue('plain', 'test'); SELECT currant.enqueue('keyed', 'test', key => 'k');
               SELECT currant.enqueue('later', 'test', delay => '1 h')";
    client.batch_execute(sql).await.unwrap();
    let broker = Broker::start(&database).await;
    let label = |queue: &str| format!("messaging_destination_name=\"{queue}\"");
    let ready = |queue: &str| format!("currant_queue_jobs{{{},state=\"ready\"}}", label(queue));
    let paused = |queue: &str| format!("currant_queue_paused{{{}}}", label(queue));
    let metrics = broker.metrics().await;
    for queue in ["plain", "keyed"] {
        assert_eq!(value(&metrics, &ready(queue)), 1.0);
        assert_eq!(value(&metrics, &paused(queue)), 0.0);
    }
    assert!(!metrics.contains("\"later\""), "{metrics}");
    let request = PauseQueueRequest { queue: "keyed".to_owned() };
    broker.queues().pause(request).await.unwrap();
    assert_eq!(value(&broker.metrics().await, &paused("keyed")), 1.0);
    // Of as many as have room.
    let one = Broker::start_with(&database, &[("HTTP__METERED_QUEUES_MAX", "1")]).await;
    let metrics = one.metrics().await;
    let shown = ["plain", "keyed"].map(|queue| metrics.contains(&ready(queue)));
    assert_eq!(shown.iter().filter(|shown| **shown).count(), 1, "{metrics}");
}
