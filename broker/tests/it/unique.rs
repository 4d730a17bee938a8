//! Unique jobs: keys, scopes, what becomes of a second job, at brokers and in SQL.

use std::{collections::HashSet, sync::Arc, time::Duration};

use currant_proto::v1::{
    DeleteVerdict, EnqueueRequest, EnqueueResponse, JobFilter, JobState, ListRequest, NewJob,
    Unique, UniqueConflict, UniqueScope, UniqueVerdict, Verdict, new_job::Start,
};
use currant_worker_sdk as sdk;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::{
    outcomes::ms,
    retry::delete,
    support::{Broker, Database, TestWorker, assert_invalid, eventually, get, job},
};

const JOBS: &str = "SELECT count(*) FROM currant.job";

fn keyed(key: &str, scope: UniqueScope, conflict: UniqueConflict) -> NewJob {
    let period = (scope == UniqueScope::Period).then(|| ms(3_600_000));
    let (key, scope, conflict) = (key.to_owned(), scope.into(), conflict.into());
    NewJob { unique: Some(Unique { key, scope, period, conflict }), ..job("q", b"") }
}

async fn enqueue(
    broker: &Broker,
    jobs: impl IntoIterator<Item = NewJob>,
) -> Result<EnqueueResponse, Status> {
    let request = EnqueueRequest { jobs: jobs.into_iter().collect(), ..Default::default() };
    Ok(broker.jobs().enqueue(request).await?.into_inner())
}

async fn one(broker: &Broker, job: NewJob) -> (i64, UniqueVerdict) {
    let answer = enqueue(broker, [job]).await.unwrap();
    (answer.job_ids[0], answer.verdicts().next().unwrap())
}

#[tokio::test]
async fn each_scope_ends_when_it_says() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let client = database.connect().await;
    let scopes = [UniqueScope::Waiting, UniqueScope::Unfinished, UniqueScope::Period];
    let stages = [
        "priority = 1",
        "phase = 2, attempt = 1, owner = 0",
        "phase = 2, attempt = 1, outcome = 1, finished_at = now()",
    ];
    // Whether a job is in the way while it waits, while it runs, when it is over.
    let in_the_way = [[true, false, false], [true, true, false], [true, true, true]];
    for (scope, expected) in scopes.into_iter().zip(in_the_way) {
        for (stage, expected) in stages.into_iter().zip(expected) {
            let again = || keyed(stage, scope, UniqueConflict::Existing);
            let again = || NewJob { queue: format!("{scope:?}"), ..again() };
            let (first, verdict) = one(&broker, again()).await;
            assert_eq!(verdict, UniqueVerdict::Stored);
            let sql = format!("UPDATE currant.job SET {stage} WHERE id = $1");
            client.execute(&sql, &[&first]).await.unwrap();
            let (second, verdict) = one(&broker, again()).await;
            let existing = verdict == UniqueVerdict::Existing;
            assert_eq!((existing, second == first), (expected, expected), "{scope:?}, {stage}");
        }
    }
}

#[tokio::test]
async fn a_worker_gets_a_unique_job_once_and_the_key_is_free_when_it_is_over() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 10).await;
    let again = || keyed("k", UniqueScope::Unfinished, UniqueConflict::Existing);
    let (first, _) = one(&broker, again()).await;
    let held = worker.job().await;
    assert_eq!(held.job_id, first);
    assert_eq!(one(&broker, again()).await, (first, UniqueVerdict::Existing));
    assert_eq!(worker.succeed([&held]).await, [Verdict::Applied]);
    let (second, verdict) = one(&broker, again()).await;
    assert_eq!(verdict, UniqueVerdict::Stored);
    assert_eq!(worker.job().await.job_id, second);
    delete(&broker, &[first]).await;
    assert_eq!(one(&broker, again()).await.0, second, "the key is the second's");
    // The same key in another queue is another key.
    let other = NewJob { queue: "other".to_owned(), ..again() };
    assert_eq!(one(&broker, other).await.1, UniqueVerdict::Stored);
}

#[tokio::test]
async fn a_job_that_waits_can_be_replaced() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let replace = |payload: &'static [u8], delay: i64, tag: &str| NewJob {
        payload: payload.into(),
        start: (delay > 0).then(|| Start::Delay(ms(delay))),
        tags: vec![tag.to_owned()],
        ..keyed("k", UniqueScope::Unfinished, UniqueConflict::Replace)
    };
    let (id, _) = one(&broker, replace(b"1", 3_600_000, "a")).await;
    assert_eq!(get(&broker, id).await.state(), JobState::Scheduled);
    assert_eq!(one(&broker, replace(b"2", 7_200_000, "b")).await, (id, UniqueVerdict::Replaced));
    let stored = get(&broker, id).await;
    assert_eq!((&*stored.payload, &*stored.tags), (&b"2"[..], &["b".to_owned()][..]));
    let wait = stored.run_at.unwrap().seconds - database.now().await;
    assert!((7190..=7200).contains(&wait), "{wait} s");
    let tags = "SELECT count(*) FROM currant.tag WHERE tag = 'b'";
    assert_eq!(database.number(tags).await, 1);
    assert_eq!(database.number("SELECT count(*) FROM currant.tag").await, 1);
    assert_eq!(database.number(JOBS).await, 1);
    // At once, and a worker hears of it.
    let mut worker = TestWorker::subscribe(&broker, &["q"], 10).await;
    assert_eq!(one(&broker, replace(b"3", 0, "c")).await, (id, UniqueVerdict::Replaced));
    let held = worker.job().await;
    assert_eq!((held.job_id, &*held.payload), (id, &b"3"[..]));
    // One that runs isn't.
    assert_eq!(one(&broker, replace(b"4", 0, "d")).await, (id, UniqueVerdict::Existing));
    assert_eq!(&*get(&broker, id).await.payload, b"3");
    assert_eq!(database.number(JOBS).await, 1);
}

#[tokio::test]
async fn a_job_in_the_way_refuses_the_whole_call() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let reject = |key: &str| keyed(key, UniqueScope::Unfinished, UniqueConflict::Reject);
    let mixed = enqueue(&broker, [reject("a"), job("q", b"plain"), reject("b")]).await.unwrap();
    assert_eq!(mixed.verdicts().collect::<Vec<_>>(), [UniqueVerdict::Stored; 3]);
    assert!(mixed.job_ids.iter().collect::<HashSet<_>>().len() == 3 && !mixed.duplicate);
    let status = enqueue(&broker, [job("q", b"more"), reject("c"), reject("a")]).await.unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists, "{status:?}");
    assert!(status.message().contains(&mixed.job_ids[0].to_string()), "{status:?}");
    assert_eq!(database.number(JOBS).await, 3);
    assert_eq!(one(&broker, reject("c")).await.1, UniqueVerdict::Stored, "its key is free");
    assert!(enqueue(&broker, [job("q", b"")]).await.unwrap().verdicts.is_empty());
}

#[tokio::test]
async fn races_between_brokers_and_sql_settle_to_one() {
    let database = Database::fresh().await;
    let brokers = [Broker::start(&database).await, Broker::start(&database).await];
    let clients = [database.connect().await, database.connect().await];
    for round in 0..40 {
        let key = format!("round {round}");
        let again = || keyed(&key, UniqueScope::Unfinished, UniqueConflict::Existing);
        let sql = format!(
            "SELECT id, verdict FROM currant.enqueue_unique(currant.new_job('q', 'test'), '{key}')"
        );
        let in_sql = async |at: usize| {
            let row = clients[at].query_one(&sql, &[]).await.unwrap();
            (row.get::<_, i64>(0), row.get::<_, String>(1) == "stored")
        };
        let at = async |at: usize| {
            let (id, verdict) = one(&brokers[at], again()).await;
            (id, verdict == UniqueVerdict::Stored)
        };
        let (a, b, c, d) = tokio::join!(at(0), in_sql(0), at(1), in_sql(1));
        let all = [a, b, c, d];
        assert_eq!(all.iter().filter(|one| one.1).count(), 1, "{all:?}");
        assert!(all.iter().all(|one| one.0 == a.0), "{all:?}");
    }
    assert_eq!(database.number(JOBS).await, 40);
    // Several keys in opposite orders.
    let keys: Vec<String> = (0..50).map(|n| format!("key {n}")).collect();
    let call = |keys: Vec<String>| {
        keys.into_iter()
            .map(|key| keyed(&key, UniqueScope::Unfinished, UniqueConflict::Existing))
            .collect::<Vec<_>>()
    };
    let there = call(keys.clone());
    let back = call(keys.into_iter().rev().collect());
    let (a, b) = tokio::join!(enqueue(&brokers[0], there), enqueue(&brokers[1], back));
    let (a, mut b) = (a.unwrap().job_ids, b.unwrap().job_ids);
    b.reverse();
    assert_eq!(a, b);
    assert_eq!(database.number(JOBS).await, 90);
}

#[tokio::test]
async fn in_sql_a_rollback_frees_the_key_and_what_is_wrong_is_named() {
    let database = Database::fresh().await;
    let mut client = database.connect().await;
    let sql = "SELECT id FROM currant.enqueue_unique(currant.new_job('q', 'k'), 'a')";
    let transaction = client.transaction().await.unwrap();
    transaction.query_one(sql, &[]).await.unwrap();
    transaction.rollback().await.unwrap();
    assert_eq!(database.number("SELECT count(*) FROM currant.unique_key").await, 0);
    let id: i64 = client.query_one(sql, &[]).await.unwrap().get(0);
    assert_eq!(client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0), id);
    for (arguments, code) in [
        ("'a', conflict => 'reject'", "QC004"),
        ("''", "22023"),
        ("repeat('x', 129)", "22023"),
        ("'a', 'for ever'", "22023"),
        ("'a', 'period'", "22023"),
        ("'a', 'waiting', '1 day'", "22023"),
        ("'a', conflict => 'no'", "22023"),
    ] {
        let sql = format!("SELECT currant.enqueue_unique(currant.new_job('q', 'k'), {arguments})");
        let error = client.query_one(&sql, &[]).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), code, "{arguments}: {error}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_key_is_named_and_keys_go_with_their_jobs() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let good = || keyed("k", UniqueScope::Unfinished, UniqueConflict::Existing);
    let with = |change: fn(&mut Unique)| {
        let mut unique = good().unique.unwrap();
        change(&mut unique);
        NewJob { unique: Some(unique), ..good() }
    };
    for (wrong, limit) in [
        (with(|unique| unique.key.clear()), "key: 1 to 128"),
        (with(|unique| unique.key = "x".repeat(129)), "key: at most 128"),
        (with(|unique| unique.scope = UniqueScope::Period.into()), "period: has to be set"),
        (with(|unique| unique.period = Some(ms(5000))), "period: only with the scope"),
        (with(|unique| unique.scope = 77), "scope: not one"),
        (with(|unique| unique.conflict = 77), "conflict: not one"),
    ] {
        let status = enqueue(&broker, [wrong]).await.unwrap_err();
        assert_invalid(&status, "jobs[0].unique", limit);
    }
    let request = EnqueueRequest {
        jobs: vec![good()],
        idempotency_key: "i".to_owned(),
        ..EnqueueRequest::default()
    };
    let status = broker.jobs().enqueue(request).await.unwrap_err();
    assert_invalid(&status, "idempotency_key", "not in a call with a unique job");
    let status = enqueue(&broker, (0..1001).map(|_| good())).await.unwrap_err();
    assert_invalid(&status, "jobs", "1 to 1000");
    assert_eq!(database.number(JOBS).await, 0);
    let (id, _) = one(&broker, good()).await;
    let keys = "SELECT count(*) FROM currant.unique_key";
    assert_eq!(database.number(keys).await, 1);
    delete(&broker, &[id]).await;
    assert_eq!(database.number(keys).await, 0);
}

#[tokio::test]
async fn the_sdk_has_keys() {
    let database = Database::fresh().await;
    let broker = Broker::start_with(&database, &[("DISPATCH__POLL_INTERVAL_MS", "50")]).await;
    let client = sdk::Client::connect(broker.endpoint()).await.unwrap();
    let job =
        |unique: sdk::Unique| sdk::NewJob::json("q", "test", &1).unwrap().tag("t").unique(unique);
    let first = client.enqueue(job(sdk::Unique::key("k"))).await.unwrap();
    assert_eq!(client.enqueue(job(sdk::Unique::key("k").while_waiting())).await.unwrap(), first);
    assert_eq!(client.enqueue(job(sdk::Unique::key("k").replace())).await.unwrap(), first);
    let error = client.enqueue(job(sdk::Unique::key("k").reject())).await.unwrap_err();
    assert!(matches!(error, sdk::Error::AlreadyExists { .. }), "{error:?}");
    let period = Duration::from_secs(60);
    assert_eq!(client.enqueue(job(sdk::Unique::key("k").for_period(period))).await.unwrap(), first);
    let stream = client.enqueue_stream();
    let sent = stream.send([job(sdk::Unique::key("k"))]).await.unwrap();
    assert_eq!(sent.await.unwrap(), [first]);
    eventually("it is one job", async || database.number(JOBS).await == 1).await;
}

/// From now on ids that the database makes are of a time so much ahead.
async fn put_clock_of_ids_ahead(database: &Database) {
    let client = database.connect().await;
    let sql =
        "SELECT replace(pg_get_functiondef('currant.store_jobs'::regproc), 'clock_timestamp()',
                              'clock_timestamp() + interval ''40 ms''')";
    let definition: String = client.query_one(sql, &[]).await.unwrap().get(0);
    client.batch_execute(&definition).await.unwrap();
}

/// With and without a key in turns: each has an id above those before.
async fn assert_order(broker: &Broker, what: &str) {
    let mut last = 0;
    for n in 0..6 {
        let with_key = keyed(&n.to_string(), UniqueScope::Unfinished, UniqueConflict::Existing);
        for new in [job("q", b""), with_key] {
            let id = enqueue(broker, [new]).await.unwrap().job_ids[0];
            assert!(id > last, "{what}, {n}: {id} came after {last}");
            last = id;
        }
    }
}

/// Takes the ids that the broker makes next, so that it leaves out a second of them, until it is seen to be ahead.
async fn put_broker_ahead(broker: &Broker, database: &Database) {
    let taken = "INSERT INTO currant.job (id, queue_id, attempt, priority, phase, kind, payload)
        SELECT (floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint + ms << 22) | (b.slot << 12),
               q.id, 0, 0, 1, 'test', ''
        FROM generate_series(1, 900) ms, currant.broker b, currant.queue q
        ON CONFLICT DO NOTHING";
    let now = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint";
    let client = database.connect().await;
    eventually("the broker is ahead", async || {
        client.batch_execute(taken).await.unwrap();
        let made = broker.enqueue([job("q", b"")]).await[0];
        (made >> 22) - database.number(now).await > 100
    })
    .await;
}

#[tokio::test]
async fn jobs_with_and_without_a_key_have_one_order_whose_clock_ever_is_ahead() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    put_clock_of_ids_ahead(&database).await;
    assert_order(&broker, "the database is ahead").await;
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    broker.enqueue([job("q", b"")]).await;
    put_broker_ahead(&broker, &database).await;
    assert_order(&broker, "the broker is ahead").await;
}

#[tokio::test]
async fn a_key_that_a_transaction_holds_keeps_up_nobody_else_and_is_refused_soon() {
    let database = Database::fresh().await;
    let broker = Arc::new(Broker::start(&database).await);
    let again = |key: &str| keyed(key, UniqueScope::Unfinished, UniqueConflict::Existing);
    one(&broker, again("free before")).await;
    let sql = "SELECT id FROM currant.enqueue_unique(currant.new_job('q', 'test'), $1)";
    let mut client = database.connect().await;
    let transaction = client.transaction().await.unwrap();
    transaction.query_one(sql, &[&"held"]).await.unwrap();
    let waiting: Vec<_> = (0..4)
        .map(|_| {
            let (broker, job) = (Arc::clone(&broker), again("held"));
            tokio::spawn(async move { enqueue(&broker, [job]).await })
        })
        .collect();
    eventually("one waits for the key", async || database.waiting().await > 0).await;
    let others = async {
        let filter = Some(JobFilter { queue: "q".to_owned(), ..JobFilter::default() });
        let request = ListRequest { filter, ..ListRequest::default() };
        broker.jobs().list(request).await.unwrap();
        one(&broker, again("free")).await.1
    };
    let others = tokio::time::timeout(Duration::from_millis(900), others).await;
    assert_eq!(others.expect("they wait for the key too"), UniqueVerdict::Stored);
    for call in waiting {
        let status = call.await.unwrap().unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        assert!(status.message().contains("the key \"held\" of the queue q"), "{status:?}");
        assert!(status.get_error_details().retry_info().is_some(), "{status:?}");
    }
    assert_eq!(database.number(JOBS).await, 2, "nothing of them is stored");
    // One that needn't wait for so long gets its answer.
    let call = {
        let (broker, job) = (Arc::clone(&broker), again("held"));
        tokio::spawn(async move { one(&broker, job).await })
    };
    eventually("it waits for the key", async || database.waiting().await > 0).await;
    transaction.commit().await.unwrap();
    let id = database.number("SELECT id FROM currant.unique_key WHERE key = 'held'").await;
    assert_eq!(call.await.unwrap(), (id, UniqueVerdict::Existing));
}

#[tokio::test]
async fn a_job_is_deleted_while_another_replaces_it() {
    let database = Database::fresh().await;
    let broker = Arc::new(Broker::start(&database).await);
    let replace = keyed("k", UniqueScope::Unfinished, UniqueConflict::Replace);
    let (id, _) =
        one(&broker, NewJob { start: Some(Start::Delay(ms(3_600_000))), ..replace }).await;
    let stall = database.stall_writes().await;
    let client = database.connect().await;
    let replaced = tokio::spawn(async move {
        let sql = "SELECT id, verdict FROM currant.enqueue_unique(
                       currant.new_job('q', 'test'), 'k', conflict => 'replace')";
        client.query_one(sql, &[]).await.map(|row| (row.get::<_, i64>(0), row.get::<_, String>(1)))
    });
    // It has the key, and not yet the job.
    database.write_waiting().await;
    let deleted = {
        let broker = Arc::clone(&broker);
        tokio::spawn(async move { delete(&broker, &[id]).await })
    };
    eventually("both wait", async || database.waiting().await == 2).await;
    stall.end().await;
    let replaced = replaced.await.unwrap();
    assert_eq!(replaced.expect("no deadlock"), (id, "replaced".to_owned()));
    assert_eq!(deleted.await.unwrap(), [DeleteVerdict::Deleted]);
    assert_eq!(database.number(JOBS).await, 0);
    assert_eq!(database.number("SELECT count(*) FROM currant.unique_key").await, 0);
}
