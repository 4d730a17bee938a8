//! Calls that are repeated under their idempotency key.

use currant_proto::v1::{EnqueueRequest, NewJob};

use crate::{
    enqueue::{JOBS, request, spawn},
    support::{Broker, Database, assert_invalid, job},
};

fn keyed(key: &str, jobs: impl IntoIterator<Item = NewJob>) -> EnqueueRequest {
    EnqueueRequest { idempotency_key: key.to_owned(), ..request(jobs) }
}

#[tokio::test]
async fn a_repeated_call_with_its_key_returns_the_first_ids() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    // One job; several; in several queues; more than a millisecond has ids for.
    let calls = [
        keyed("one", [job("a", b"")]),
        keyed("several", (0..10).map(|_| job("a", b""))),
        keyed("queues", ["b", "a", "c", "b"].map(|queue| job(queue, b""))),
        keyed("many", (0..6000).map(|_| job("a", b""))),
    ];
    let mut first = Vec::new();
    for call in &calls {
        let stored = broker.jobs().enqueue(call.clone()).await.unwrap().into_inner();
        assert!(!stored.duplicate);
        assert_eq!(stored.job_ids.len(), call.jobs.len());
        first.push(stored.job_ids);
    }
    let count = database.number(JOBS).await;
    for (call, ids) in calls.iter().zip(&first) {
        let again = broker.jobs().enqueue(call.clone()).await.unwrap().into_inner();
        assert_eq!((again.duplicate, &again.job_ids), (true, ids));
    }
    broker.kill();
    let broker = Broker::start(&database).await;
    for (call, ids) in calls.iter().zip(&first) {
        let again = broker.jobs().enqueue(call.clone()).await.unwrap().into_inner();
        assert_eq!((again.duplicate, &again.job_ids), (true, ids));
    }
    assert_eq!(database.number(JOBS).await, count);
    // The ids are those of the rows.
    let queues: Vec<String> = {
        let sql = "SELECT q.name FROM unnest($1::bigint[]) WITH ORDINALITY AS v (id, n)
                   JOIN currant.job j ON j.id = v.id JOIN currant.queue q ON q.id = j.queue_id
                   ORDER BY n";
        let rows = database.connect().await.query(sql, &[&first[2]]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    };
    assert_eq!(queues, ["b", "a", "c", "b"]);
}

#[tokio::test]
async fn a_call_repeated_concurrently_is_stored_once() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let calls: Vec<_> = (0..200)
        .map(|n| {
            let key = format!("key {}", n % 10);
            spawn(&broker, keyed(&key, [job("q", b""), job("other", b""), job("q", b"")]))
        })
        .collect();
    let mut ids: Vec<Vec<i64>> = vec![Vec::new(); 10];
    let mut first = [0; 10];
    for (n, call) in calls.into_iter().enumerate() {
        let stored = call.await.unwrap().unwrap();
        first[n % 10] += i32::from(!stored.duplicate);
        let ids = &mut ids[n % 10];
        if ids.is_empty() {
            ids.clone_from(&stored.job_ids);
        }
        assert_eq!(*ids, stored.job_ids);
    }
    assert_eq!(first, [1; 10]);
    assert_eq!(database.number(JOBS).await, 30);
}

#[tokio::test]
async fn a_repeated_call_doesnt_harm_others_of_its_batch() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let old: Vec<EnqueueRequest> =
        (0..5).map(|n| keyed(&format!("old {n}"), [job("q", b"")])).collect();
    let mut ids = Vec::new();
    for call in &old {
        ids.push(broker.jobs().enqueue(call.clone()).await.unwrap().into_inner().job_ids);
    }
    let stall = database.stall_writes().await;
    let mut fresh = vec![spawn(&broker, request([job("q", b"")]))];
    database.write_waiting().await;
    let repeated: Vec<_> = old
        .into_iter()
        .enumerate()
        .map(|(n, call)| {
            fresh.push(spawn(&broker, keyed(&format!("new {n}"), [job("q", b""), job("q", b"")])));
            fresh.push(spawn(&broker, request([job("q", b"")])));
            spawn(&broker, call)
        })
        .collect();
    stall.end().await;
    for (call, ids) in repeated.into_iter().zip(ids) {
        let stored = call.await.unwrap().unwrap();
        assert_eq!((stored.duplicate, stored.job_ids), (true, ids));
    }
    for call in fresh {
        assert!(!call.await.unwrap().unwrap().duplicate);
    }
    assert_eq!(database.number(JOBS).await, 5 + 1 + 5 * 3);
}

#[tokio::test]
async fn a_key_used_for_another_call_is_refused() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let two = keyed("key", [job("q", b""), job("q", b"")]);
    broker.jobs().enqueue(two).await.unwrap();
    let one = keyed("key", [job("q", b"")]);
    let status = broker.jobs().enqueue(one).await.unwrap_err();
    assert_invalid(&status, "idempotency_key", "2 jobs");
    assert_eq!(database.number(JOBS).await, 2);
}
