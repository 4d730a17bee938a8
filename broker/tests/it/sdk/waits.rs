//! Lists and waits of the client.

use std::time::Duration;

use currant_worker_sdk::{
    Error, HandlerError, Job, JobError, JobFilter, JobId, JobState, NewJob, WaitError,
};

use super::{again, client, named, worker};
use crate::support::{Broker, Database, PATIENCE};

async fn halve(job: Job<u32>) -> Result<u32, HandlerError> {
    if job.payload % 2 == 1 {
        return Err(HandlerError::discard("odd"));
    }
    Ok(job.payload / 2)
}

fn half_of(number: u32) -> NewJob {
    NewJob::json("emails", "halve", &number).unwrap()
}

#[tokio::test]
async fn a_result_can_be_waited_for() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let client = client(&broker).await;
    let worker = worker(&broker).handler("halve", halve).build().unwrap().start();
    assert_eq!(client.enqueue_and_wait::<u32>(half_of(84), PATIENCE).await.unwrap(), 42);
    match client.enqueue_and_wait::<u32>(half_of(7), PATIENCE).await {
        Err(WaitError::Job { source: JobError::Dead { error }, .. }) => assert_eq!(error, "odd"),
        other => panic!("{other:?}"),
    }
    match client.enqueue_and_wait::<String>(half_of(8), PATIENCE).await {
        Err(WaitError::Job { source: JobError::Result(_), .. }) => {}
        other => panic!("{other:?}"),
    }
    let nobody = NewJob::json("nobody", "halve", &8).unwrap();
    match client.enqueue_and_wait::<u32>(nobody, Duration::from_millis(100)).await {
        Err(WaitError::TimedOut { id, .. }) => {
            client.cancel(id).await.unwrap();
            let job = client.wait(id).await.unwrap();
            assert!(matches!(job.outcome::<u32>(), Err(JobError::Cancelled)));
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(client.wait(JobId(1)).await, Err(Error::NotFound { .. })));
    worker.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_watch_outlives_its_broker() {
    let database = Database::fresh().await;
    let broker = named(&database).await;
    let grpc = broker.grpc.clone();
    let client = client(&broker).await;
    let id = client.enqueue(half_of(10)).await.unwrap();
    let mut watch = client.watch(id);
    assert_eq!(watch.next().await.unwrap().unwrap().state, JobState::Ready);
    broker.kill();
    let (waited, broker) = tokio::join!(client.wait(id), async {
        let broker = again(&database, &grpc).await;
        let worker = worker(&broker).handler("halve", halve).build().unwrap().start();
        let last = loop {
            let job = watch.next().await.unwrap().unwrap();
            if job.state.is_final() {
                break job;
            }
        };
        assert_eq!(last.outcome::<u32>().unwrap(), 5);
        assert_eq!(watch.next().await.unwrap(), None);
        worker.shutdown().await.unwrap();
        broker
    });
    assert_eq!(waited.unwrap().outcome::<u32>().unwrap(), 5);
    drop(broker);
}

#[tokio::test]
async fn jobs_are_found_over_pages() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let client = client(&broker).await;
    let ids = client.enqueue_many((0..5).map(half_of)).await.unwrap();
    let mut listing = client.list(JobFilter::queue("emails")).page_size(2).newest_first();
    let mut found = Vec::new();
    while let Some(job) = listing.next().await.unwrap() {
        found.push(job.id);
    }
    found.reverse();
    assert_eq!(found, ids);
    let filter = JobFilter::queue("emails").kind("halve").state(JobState::Ready);
    let between = filter.above(ids[0]).below(ids[4]);
    let mut listing = client.list(between).page_size(2);
    let first = listing.next_page().await.unwrap().unwrap();
    let mut rest = client.list(JobFilter::queue("emails")).from_page(listing.page_token());
    let second = rest.next_page().await.unwrap().unwrap();
    let ids_of = |jobs: Vec<currant_worker_sdk::StoredJob>| {
        jobs.into_iter().map(|job| job.id).collect::<Vec<_>>()
    };
    assert_eq!((ids_of(first), ids_of(second)), (ids[1..3].to_vec(), ids[3..].to_vec()));
    let mut nowhere = client.list(JobFilter::queue("nowhere"));
    assert!(matches!(nowhere.next().await, Err(Error::NotFound { .. })));
}
