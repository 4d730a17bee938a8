use std::time::Duration;

use currant_proto::v1::{
    DrainQueueRequest, GetQueueRequest, JobState, ListQueuesRequest, NewJob, PauseQueueRequest,
    QueueSettings, QueueStatsRequest, ResumeQueueRequest,
};
use currant_worker_sdk::{Client, Keep};
use tonic::Code;

use super::{QUICK, configure, pause};
use crate::{
    outcomes::{failed, ms},
    support::{Broker, Database, TestWorker, assert_invalid, eventually, get, job},
};

#[tokio::test]
async fn the_settings_of_a_queue_hold_for_jobs_that_say_nothing_and_change_while_it_works() {
    let database = Database::fresh().await;
    let [a, b] =
        [Broker::start_with(&database, QUICK).await, Broker::start_with(&database, QUICK).await];
    // Both know it as it was.
    let before =
        [a.enqueue([job("emails", b"")]).await[0], b.enqueue([job("emails", b"")]).await[0]];
    assert_eq!(get(&a, before[0]).await.max_attempts, 25);
    let settings = QueueSettings {
        priority: Some(7),
        max_attempts: 1,
        timeout: Some(ms(60_000)),
        ..QueueSettings::default()
    };
    let changed = configure(&a, "emails", settings.clone()).await.unwrap();
    assert_eq!(changed.settings.unwrap(), settings);
    let effective = changed.effective.unwrap();
    assert_eq!((effective.priority, effective.max_attempts), (Some(7), 1));
    assert!(effective.retry.is_some() && effective.keep_dead == Some(ms(30 * 24 * 3_600_000)));
    assert_eq!(a.enqueue([job("emails", b"")]).await.len(), 1);
    eventually("the other follows", async || {
        let id = b.enqueue([job("emails", b"")]).await[0];
        let stored = get(&b, id).await;
        (stored.priority, stored.max_attempts) == (7, 1)
    })
    .await;
    // What a job says comes first, 0 too.
    let own = NewJob { priority: Some(0), max_attempts: 9, ..job("emails", b"") };
    let own = get(&a, a.enqueue([own]).await[0]).await;
    assert_eq!((own.priority, own.max_attempts), (0, 9));
    let mut worker = TestWorker::subscribe(&a, &["emails"], 1).await;
    let first = worker.job().await;
    assert_eq!((first.priority, first.max_attempts), (7, 1));
    assert_eq!(first.timeout, Some(ms(60_000)));
    worker.report([&first], failed("no")).await;
    assert_eq!(get(&a, first.job_id).await.state(), JobState::Dead, "after one attempt");
    // On a stream that is open.
    let none = configure(&b, "emails", QueueSettings::default()).await.unwrap();
    assert_eq!(none.settings.unwrap(), QueueSettings::default());
    eventually("the open stream follows", async || {
        let next = worker.job().await;
        worker.succeed([&next]).await;
        a.enqueue([job("emails", b"")]).await;
        next.timeout.is_none() && next.max_attempts == 25
    })
    .await;
}

#[tokio::test]
async fn a_timeout_given_while_the_queue_works_ends_attempts_that_begin_after_it() {
    let database = Database::fresh().await;
    let broker = Broker::start_with(&database, QUICK).await;
    let mut worker = TestWorker::subscribe(&broker, &["emails"], 1).await;
    let settings = QueueSettings { timeout: Some(ms(100)), ..QueueSettings::default() };
    configure(&broker, "emails", settings).await.unwrap();
    let id = broker.enqueue([job("emails", b"")]).await[0];
    worker.job().await;
    worker.lease_lost().await;
    let failures = async || get(&broker, id).await.failures;
    eventually("it has failed", async || failures().await == 1).await;
}

#[tokio::test]
async fn finished_jobs_are_kept_for_as_long_as_their_queue_says() {
    let database = Database::fresh().await;
    let client = database.connect().await;
    let sql = "INSERT INTO currant.queue (name, succeeded_ms)
               VALUES ('long', 0), ('short', NULL), ('plain', NULL);
               INSERT INTO currant.job (queue_id, id, owner, attempt, priority, phase, outcome,
                                        finished_at, kind, payload)
               SELECT q.id, (extract(epoch FROM now() - interval '1 hour') * 1000)::bigint << 22 | o,
                      0, 1, 0, 2, o, now() - interval '1 hour', 'test', 'x'
               FROM currant.queue q, generate_series(1, 3) o";
    client.batch_execute(sql).await.unwrap();
    // By it a queue is looked at once a second.
    let settings = [
        ("RETENTION__SUCCEEDED_MS", "60000"),
        ("RETENTION__CANCELLED_MS", "0"),
        ("RETENTION__DEAD_MS", "0"),
    ];
    let broker = Broker::start_with(&database, &settings).await;
    let left = async || {
        let sql = "SELECT queue || ':' || state FROM currant.jobs ORDER BY 1";
        let rows = client.query(sql, &[]).await.unwrap();
        rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>().join(" ")
    };
    eventually("what is over its time is gone", async || {
        left().await
            == "long:cancelled long:dead long:succeeded plain:cancelled plain:dead \
                         short:cancelled short:dead"
    })
    .await;
    let keep = QueueSettings { keep_dead: Some(ms(60_000)), ..QueueSettings::default() };
    configure(&broker, "short", keep).await.unwrap();
    eventually("a change is noticed", async || {
        left().await
            == "long:cancelled long:dead long:succeeded plain:cancelled plain:dead \
                         short:cancelled"
    })
    .await;
}

#[tokio::test]
async fn queues_are_listed_by_name_in_pages() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    for name in ["c", "a", "e", "b", "d"] {
        broker.enqueue([job(name, b"")]).await;
    }
    pause(&broker, "d").await;
    let mut names = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListQueuesRequest { page_size: 2, page_token };
        let page = broker.queues().list(request).await.unwrap().into_inner();
        assert!(page.queues.len() <= 2);
        names.extend(page.queues.into_iter().map(|queue| (queue.name, queue.paused_at.is_some())));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let expected = [("a", false), ("b", false), ("c", false), ("d", true), ("e", false)];
    assert_eq!(names, expected.map(|(name, paused)| (name.to_owned(), paused)));
}

#[tokio::test]
async fn what_is_wrong_is_named_and_what_is_missing_is_not_found() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let refused = async |settings| configure(&broker, "q", settings).await.unwrap_err();
    let good = QueueSettings::default;
    for (settings, field, limit) in [
        (QueueSettings { priority: Some(101), ..good() }, "settings.priority", "-100 to 100"),
        (QueueSettings { max_attempts: 1001, ..good() }, "settings.max_attempts", "1000"),
        (QueueSettings { timeout: Some(ms(0)), ..good() }, "settings.timeout", "1 ms"),
        (QueueSettings { keep_dead: Some(ms(59_999)), ..good() }, "settings.keep_dead", "60000"),
    ] {
        assert_invalid(&refused(settings).await, field, limit);
    }
    let unnamed = configure(&broker, ".q", good()).await.unwrap_err();
    assert_invalid(&unnamed, "queue", "1 to 128");
    let request = ListQueuesRequest { page_size: 1001, ..ListQueuesRequest::default() };
    let status = broker.queues().list(request).await.unwrap_err();
    assert_invalid(&status, "page_size", "1 to 1000");
    let request = DrainQueueRequest { queue: "q".to_owned(), wait: Some(ms(60_001)) };
    assert_invalid(&broker.queues().drain(request).await.unwrap_err(), "wait", "60000 ms");
    assert_eq!(database.number("SELECT count(*) FROM currant.queue").await, 0);
    let name = || "q".to_owned();
    let mut queues = broker.queues();
    for status in [
        queues.get(GetQueueRequest { queue: name() }).await.unwrap_err(),
        queues.pause(PauseQueueRequest { queue: name() }).await.unwrap_err(),
        queues.resume(ResumeQueueRequest { queue: name() }).await.unwrap_err(),
        queues.drain(DrainQueueRequest { queue: name(), wait: None }).await.unwrap_err(),
        queues.stats(QueueStatsRequest { queue: name() }).await.unwrap_err(),
    ] {
        assert_eq!((status.code(), status.message()), (Code::NotFound, "there is no queue q"));
    }
}

#[tokio::test]
async fn the_sdk_does_the_same() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let client = Client::connect(broker.endpoint()).await.unwrap();
    let settings = currant_worker_sdk::QueueSettings {
        max_attempts: Some(3),
        keep_succeeded: Some(Keep::ForEver),
        ..Default::default()
    };
    let queue = client.configure_queue("emails", settings.clone()).await.unwrap();
    assert_eq!((&*queue.name, &queue.settings), ("emails", &settings));
    assert_eq!(queue.effective.priority, Some(0));
    let paused = client.pause_queue("emails").await.unwrap();
    assert!(paused.paused_at.is_some());
    assert_eq!(client.queue("emails").await.unwrap(), paused);
    assert_eq!(client.resume_queue("emails").await.unwrap(), queue);
    assert_eq!(client.queues().await.unwrap(), [queue]);
    assert!(client.drain_queue("emails", Duration::from_secs(10)).await.unwrap());
    let stats = client.queue_stats("emails").await.unwrap();
    assert_eq!((stats.ready.jobs, stats.ready.exact, stats.oldest_ready), (0, true, None));
    let missing = client.queue("letters").await.unwrap_err();
    assert!(matches!(missing, currant_worker_sdk::Error::NotFound { .. }), "{missing:?}");
}
