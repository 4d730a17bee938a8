//! What operators see: metrics, health, logs.

use std::collections::BTreeSet;

use currant_proto::v1::{Failed, completion::Outcome};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::support::{Broker, Database, TestWorker, eventually, get, http_get, job};

async fn status(broker: &Broker, path: &str) -> u16 {
    http_get(&broker.http, path).await.0
}

/// `# TYPE name kind`, for all names.
fn families(metrics: &str) -> BTreeSet<(&str, &str)> {
    let typed = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    typed.map(|line| line.split_once(' ').unwrap()).collect()
}

/// The value of the one line that begins so.
fn value(metrics: &str, series: &str) -> f64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{series} isn't in\n{metrics}")).parse().unwrap()
}

#[tokio::test]
async fn metrics_tell_of_jobs_flushes_sessions_and_statements() {
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
    // Gauges are set a few times a second.
    eventually("LISTEN works, one job is held", async || {
        let metrics = broker.metrics().await;
        metrics.contains("currant_listening 1") && metrics.contains("currant_attempts_held 1")
    })
    .await;

    let metrics = broker.metrics().await;
    let expected = [
        ("currant_attempts_held", "gauge"),
        ("currant_completions_total", "counter"),
        ("currant_flush_rows", "histogram"),
        ("currant_jobs_buffered", "gauge"),
        ("currant_jobs_claimed_total", "counter"),
        ("currant_jobs_delivered_total", "counter"),
        ("currant_jobs_enqueued_total", "counter"),
        ("currant_listening", "gauge"),
        ("currant_sessions", "gauge"),
        ("currant_settlements_total", "counter"),
        ("currant_statement_seconds", "histogram"),
    ];
    let families = families(&metrics);
    for family in expected {
        assert!(families.contains(&family), "{family:?} isn't in\n{metrics}");
    }
    assert_eq!(value(&metrics, "currant_jobs_enqueued_total"), 4.0);
    assert_eq!(value(&metrics, "currant_sessions"), 1.0);
    // A flush of one job and one of three.
    let rows = |le| format!("currant_flush_rows_bucket{{flush=\"enqueue\",le=\"{le}\"}}");
    assert_eq!(value(&metrics, &rows("1")), 1.0);
    assert_eq!(value(&metrics, &rows("5")), 2.0);

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

async fn serving(broker: &Broker, service: &str) -> ServingStatus {
    let mut client = HealthClient::new(broker.channel());
    let request = HealthCheckRequest { service: service.to_owned() };
    client.check(request).await.unwrap().into_inner().status()
}

#[tokio::test]
async fn a_draining_broker_is_live_but_not_ready() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let services = ["", "currant.v1.JobService", "currant.v1.WorkerService"];
    assert_eq!(status(&broker, "/health/live").await, 200);
    assert_eq!(status(&broker, "/health/ready").await, 200);
    for service in services {
        assert_eq!(serving(&broker, service).await, ServingStatus::Serving, "{service}");
    }

    let mut worker = TestWorker::subscribe(&broker, &["emails"], 10).await;
    broker.enqueue([job("emails", b"x")]).await;
    let held = worker.job().await;
    broker.signal_to_stop();
    eventually("it isn't ready", async || status(&broker, "/health/ready").await == 503).await;
    assert_eq!(status(&broker, "/health/live").await, 200);
    for service in services {
        eventually("it isn't serving", async || {
            serving(&broker, service).await == ServingStatus::NotServing
        })
        .await;
    }
    worker.succeed([&held]).await;
    assert_eq!(broker.end().await.code(), Some(0));
}

#[tokio::test]
async fn logs_are_json_and_keep_secrets_and_payloads() {
    let database = Database::fresh().await;
    let with_password =
        Database { url: format!("{} password=hunter2", database.url), name: database.name };
    let filter = ("LOG__FILTER", "debug,currant_broker=trace");
    let broker = Broker::start_with(&with_password, &[filter]).await;
    let mut worker = TestWorker::subscribe(&broker, &["emails"], 10).await;
    broker.enqueue([job("emails", b"my letter")]).await;
    let held = worker.job().await;
    worker.succeed([&held]).await;
    drop(worker);
    broker.signal_to_stop();
    eventually("it drains", async || broker.log().contains("drained; ")).await;
    let log = broker.log();
    for line in log.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(line["level"].is_string() && line["timestamp"].is_string(), "{line}");
    }
    assert!(log.contains("DEBUG"), "{log}");
    for secret in ["hunter2", "my letter", &format!("{:?}", b"my letter")] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
    broker.end().await;
}
