//! Tower layers around handlers.

use std::time::Duration;

use currant_worker_sdk::{Bytes, HandlerError, Job, JobState, NewJob, Output};
use tower::{
    ServiceBuilder,
    limit::{ConcurrencyLimitLayer, GlobalConcurrencyLimitLayer},
    service_fn,
    timeout::TimeoutLayer,
    util::MapRequestLayer,
};

use super::{Gauge, client, in_state, worker};
use crate::support::{Broker, Database};

#[tokio::test]
async fn a_timeout_layer_fails_the_attempt() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let client = client(&broker).await;
    let running = worker(&broker)
        .handler("stuck", |_: Job<()>| std::future::pending::<Result<(), HandlerError>>())
        .layer(TimeoutLayer::new(Duration::from_millis(20)))
        .build()
        .unwrap()
        .start();
    let job = NewJob::json("emails", "stuck", &()).unwrap().max_attempts(1);
    let id = client.enqueue(job).await.unwrap();
    let stored = in_state(&client, id, JobState::Dead).await;
    assert_eq!(stored.error, "request timed out");
    running.shutdown().await.unwrap();
}

#[tokio::test]
async fn limits_hold_for_each_kind_or_for_all_and_jobs_beyond_wait() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let client = client(&broker).await;
    let (a, b, all) = (Gauge::default(), Gauge::default(), Gauge::default());
    let counted = |own: &Gauge| {
        let (own, all) = (own.clone(), all.clone());
        service_fn(move |job: Job<Bytes>| {
            let (own, all) = (own.clone(), all.clone());
            async move {
                [&own, &all].into_iter().for_each(Gauge::enter);
                tokio::time::sleep(Duration::from_millis(5)).await;
                [&own, &all].into_iter().for_each(Gauge::leave);
                Ok::<_, HandlerError>(job.payload)
            }
        })
    };
    let running = worker(&broker)
        .concurrency(20)
        .service("a", counted(&a))
        .service("b", counted(&b))
        .layer(ConcurrencyLimitLayer::new(2))
        .layer(GlobalConcurrencyLimitLayer::new(3))
        .build()
        .unwrap()
        .start();
    let kinds = ["a", "b"].into_iter().cycle().take(40);
    let jobs = kinds.map(|kind| NewJob::raw("emails", kind, "x"));
    for id in client.enqueue_many(jobs).await.unwrap() {
        assert_eq!(&*in_state(&client, id, JobState::Succeeded).await.result, b"x");
    }
    assert_eq!((a.most(), b.most(), all.most()), (2, 2, 3));
    running.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_a_handler_says_passes_through_layers() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let client = client(&broker).await;
    let running = worker(&broker)
        .handler("never", |_: Job<()>| async { Err::<(), _>(HandlerError::discard("no")) })
        .layer(TimeoutLayer::new(Duration::from_secs(5)))
        .layer(ConcurrencyLimitLayer::new(1))
        .build()
        .unwrap()
        .start();
    let id = client.enqueue(NewJob::json("emails", "never", &()).unwrap()).await.unwrap();
    assert_eq!(in_state(&client, id, JobState::Dead).await.error, "no");
    running.shutdown().await.unwrap();
}

/// Whose job it is.
#[derive(Clone)]
struct Customer(String);

#[tokio::test]
async fn the_layer_added_last_sees_a_job_first_and_what_it_finds_out_comes_to_the_handler() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let client = client(&broker).await;
    let known = |mut job: Job<Bytes>| {
        let customer = job.metadata.get("customer").cloned().map(Customer);
        let customer = customer.ok_or_else(|| HandlerError::discard("nobody's job"))?;
        job.extensions.insert(customer);
        Ok::<_, HandlerError>(job)
    };
    let shouted = |mut job: Job<Bytes>| {
        let customer = job.extensions.get_mut::<Customer>().expect("it was outermost");
        customer.0.make_ascii_uppercase();
        job
    };
    let quoted = |answer: Output| match answer {
        Output::Result(result) => Output::Result([b"<", &*result, b">"].concat().into()),
        Output::Committed(committed) => Output::Committed(committed),
    };
    let running = worker(&broker)
        .handler("greet", |job: Job<()>| async move {
            Ok(job.extensions.get::<Customer>().map(|customer| customer.0.clone()))
        })
        .layer(MapRequestLayer::new(shouted))
        .layer(ServiceBuilder::new().map_response(quoted).filter(known))
        .handler("bare", |job: Job<()>| async move { Ok(job.extensions.is_empty()) })
        .build()
        .unwrap()
        .start();
    let ada = NewJob::json("emails", "greet", &()).unwrap().metadata("customer", "ada");
    let id = client.enqueue(ada).await.unwrap();
    assert_eq!(&*in_state(&client, id, JobState::Succeeded).await.result, b"<\"ADA\">");
    let id = client.enqueue(NewJob::json("emails", "greet", &()).unwrap()).await.unwrap();
    assert_eq!(in_state(&client, id, JobState::Dead).await.error, "nobody's job");
    let id = client.enqueue(NewJob::json("emails", "bare", &()).unwrap()).await.unwrap();
    assert_eq!(&*in_state(&client, id, JobState::Succeeded).await.result, b"true");
    running.shutdown().await.unwrap();
}
