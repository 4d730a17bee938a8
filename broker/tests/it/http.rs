//! What operators see: health, logs. Metrics: `metrics`.

use currant_proto::v1::{Failed, completion::Outcome};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::support::{Broker, Database, TestWorker, eventually, http_get, job};

async fn status(broker: &Broker, path: &str) -> u16 {
    http_get(&broker.http, path).await.0
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
    let services = [
        "",
        "currant.v1.JobService",
        "currant.v1.QueueService",
        "currant.v1.ScheduleService",
        "currant.v1.BrokerService",
        "currant.v1.TokenService",
        "currant.v1.WorkerService",
    ];
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
    broker.enqueue((0..2).map(|_| job("emails", b"my letter"))).await;
    for discard in [false, true] {
        let (error, class) = ("my error".to_owned(), "Refused".to_owned());
        let failed = Failed { error, class, discard, ..Failed::default() };
        let held = worker.job().await;
        worker.report([&held], Outcome::Failed(failed)).await;
    }
    drop(worker);
    broker.signal_to_stop();
    eventually("it drains", async || broker.log().contains("drained; ")).await;
    let log = broker.log();
    let mut failures = Vec::new();
    for line in log.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        if line["class"] == "Refused" {
            failures.push(line.clone());
        }
        assert!(line["level"].is_string() && line["timestamp"].is_string(), "{line}");
    }
    assert!(log.contains("DEBUG"), "{log}");
    // A line a failure.
    let expected = [("INFO", "an attempt failed"), ("WARN", "a job is dead")];
    for (line, (level, message)) in failures.iter().zip(expected) {
        assert_eq!((&line["level"], &line["message"]), (&level.into(), &message.into()));
        assert_eq!((&line["queue"], &line["attempt"]), (&"emails".into(), &1.into()));
        assert!(line["job"].is_i64(), "{line}");
    }
    assert_eq!(failures.len(), 2, "{failures:?}");
    for secret in ["hunter2", "my letter", "my error", &format!("{:?}", b"my letter")] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
    broker.end().await;
}
