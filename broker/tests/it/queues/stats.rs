use currant_proto::v1::{
    Failed, JobCount, NewJob, QueueStatsResponse, completion::Outcome, new_job::Start,
};

use super::{QUICK, stats};
use crate::support::{Broker, Database, TestWorker, eventually, job};

#[tokio::test]
async fn the_statistics_of_a_queue_are_those_of_all_brokers() {
    let database = Database::fresh().await;
    let [a, b] =
        [Broker::start_with(&database, QUICK).await, Broker::start_with(&database, QUICK).await];
    let mut worker = TestWorker::subscribe(&b, &["emails"], 2).await;
    let later = Start::Delay(prost_types::Duration { seconds: 3600, nanos: 0 });
    let later = NewJob { start: Some(later), ..job("emails", b"") };
    b.enqueue((0..4).map(|_| job("emails", b""))).await;
    a.enqueue([later.clone(), NewJob { queue: "calls".to_owned(), ..later }]).await;
    let held = worker.take(2).await;
    worker.succeed([&held[0]]).await;
    let next = worker.job().await;
    let failure = Failed { error: "no".to_owned(), discard: true, ..Failed::default() };
    worker.report([&next], Outcome::Failed(failure)).await;
    worker.set_credit(0).await;
    let exact = |jobs| Some(JobCount { jobs, exact: true });
    eventually("all is told", async || {
        let stats = stats(&a, "emails").await;
        let QueueStatsResponse { scheduled, ready, running, succeeded, dead, cancelled, .. } =
            stats;
        (scheduled, succeeded, dead, cancelled) == (exact(1), exact(1), exact(1), exact(0))
            && ready.is_some_and(|ready| ready.exact && ready.jobs + running == 2)
            && (stats.oldest_ready.is_some() || ready == exact(0))
            && (stats.sessions, stats.enqueued_per_second > 0.0) == (1, true)
            && stats.completed_per_second > 0.0
    })
    .await;
    eventually("the rates end", async || {
        let stats = stats(&a, "emails").await;
        (stats.enqueued_per_second, stats.completed_per_second) == (0.0, 0.0)
    })
    .await;
    let other = stats(&b, "calls").await;
    assert_eq!((other.scheduled, other.ready, other.sessions), (exact(1), exact(0), 0));
    assert_eq!(other.oldest_ready, None);
}

#[tokio::test]
async fn what_a_dead_broker_said_of_its_load_counts_no_more() {
    let database = Database::fresh().await;
    let a = Broker::start_with(&database, QUICK).await;
    let b = Broker::start_with(&database, QUICK).await;
    let worker = TestWorker::subscribe(&b, &["emails"], 1).await;
    eventually("it has told", async || stats(&a, "emails").await.sessions == 1).await;
    b.kill();
    drop(worker);
    eventually("it is dead", async || stats(&a, "emails").await.sessions == 0).await;
}

#[tokio::test]
async fn a_large_queue_is_counted_to_a_bound_and_estimated_beyond_it() {
    let database = Database::fresh().await;
    let client = database.connect().await;
    // 3/4 have succeeded, 1/4 are ready since an hour, urgent ones since a minute.
    let sql = "INSERT INTO currant.queue (name) VALUES ('emails');
               INSERT INTO currant.job (queue_id, id, attempt, priority, phase, outcome, kind, payload)
               SELECT 1, (extract(epoch FROM now() - CASE WHEN n % 8 = 0 THEN interval '1 minute'
                                                          ELSE interval '1 hour' END) * 1000)::bigint
                         << 22 | n,
                      1, CASE WHEN n % 8 = 0 THEN 5 ELSE 0 END, CASE WHEN n % 4 = 0 THEN 1 ELSE 2 END,
                      CASE WHEN n % 4 > 0 THEN 1 END, 'test', decode(repeat('78', 100), 'hex')
               FROM generate_series(1, 200000) n";
    client.batch_execute(sql).await.unwrap();
    let broker = Broker::start(&database).await;
    let stats = stats(&broker, "emails").await;
    let near = |count: Option<JobCount>, jobs: f64| {
        let count = count.unwrap();
        !count.exact && (count.jobs as f64 / jobs - 1.0).abs() < 0.25
    };
    assert!(near(stats.ready, 50_000.0) && near(stats.succeeded, 150_000.0), "{stats:?}");
    let oldest = stats.oldest_ready.unwrap().seconds;
    assert!((3600..3700).contains(&oldest), "{oldest} s");
}
