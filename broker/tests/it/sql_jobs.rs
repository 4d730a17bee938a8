//! Jobs enqueued in SQL with all that a job can have, many in a call, and calls that are repeated.

use std::collections::BTreeMap;

use currant_proto::v1::{
    EnqueueRequest, ExponentialRetry, FixedRetry, JobState, LinearRetry, ListRetry, NewJob,
    RetryPolicy, retry_policy::Policy,
};
use tokio_postgres::{Client, Error, error::SqlState};

use crate::{
    outcomes::ms,
    support::{Broker, Database, PATIENCE, TestWorker, connect, get, job},
};

const JOBS: &str = "SELECT count(*) FROM currant.job";

/// The ids that the call returns.
async fn ids(client: &Client, call: &str) -> Result<Vec<i64>, Error> {
    Ok(client.query_one(&format!("SELECT currant.{call}"), &[]).await?.get(0))
}

/// What the database says against the call, and the detail.
async fn refusal(client: &Client, call: &str) -> (String, String) {
    let error = client.query_one(&format!("SELECT currant.{call}"), &[]).await.expect_err(call);
    let error = error.as_db_error().unwrap_or_else(|| panic!("{call}: {error}"));
    assert_eq!(error.code(), &SqlState::INVALID_PARAMETER_VALUE, "{call}: {error}");
    (error.message().to_owned(), error.detail().unwrap_or_default().to_owned())
}

const ALL_OPTIONS: &str = r#"priority => 3, max_attempts => 4, delay => '1 hour',
    retry => currant.exponential_retry('2 s', '1 minute', factor => 3, jitter => 0),
    timeout => '1500 ms', tags => '{a,b,a}', metadata => '{"customer": "7"}', traceparent => '00-1-2-01'"#;

#[tokio::test]
async fn whatever_a_job_can_have_it_can_have_in_sql() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let client = database.connect().await;
    for call in
        ["enqueue('q', 'test', '1'", "enqueue_bytes('q', 'test', '1', content_type => 'image/png'"]
    {
        let sql = format!("SELECT currant.{call}, {ALL_OPTIONS})");
        let id: i64 = client.query_one(&sql, &[]).await.unwrap().get(0);
        let stored = get(&broker, id).await;
        assert_eq!(stored.state(), JobState::Scheduled);
        let wait = stored.run_at.unwrap().seconds - database.now().await;
        assert!((3590..=3600).contains(&wait), "{wait} s");
        assert_eq!((stored.priority, stored.max_attempts), (3, 4));
        assert_eq!(stored.timeout, Some(ms(1500)));
        let retry = ExponentialRetry {
            base_delay: Some(ms(2000)),
            max_delay: Some(ms(60_000)),
            factor: 3.0,
            jitter: Some(0.0),
        };
        assert_eq!(stored.retry, Some(RetryPolicy { policy: Some(Policy::Exponential(retry)) }));
        assert_eq!(stored.tags, ["a", "b", "a"]);
        assert_eq!(stored.metadata, BTreeMap::from([("customer".to_owned(), "7".to_owned())]));
        assert_eq!(stored.traceparent, "00-1-2-01");
        let expected = if call.contains("png") { "image/png" } else { "application/json" };
        assert_eq!(stored.content_type, expected);
        let tags = format!("SELECT count(*) FROM currant.tag WHERE id = {id}");
        assert_eq!(database.number(&tags).await, 3);
    }
    // As in the contract, for what is left out.
    client.batch_execute("UPDATE currant.queue SET priority = 7").await.unwrap();
    let sql = "SELECT currant.enqueue('q', 'test', retry => currant.exponential_retry())";
    let id: i64 = client.query_one(sql, &[]).await.unwrap().get(0);
    let stored = get(&broker, id).await;
    assert_eq!(stored.priority, 7, "its queue's");
    let Some(Policy::Exponential(retry)) = stored.retry.unwrap().policy else {
        panic!("no policy");
    };
    assert_eq!((retry.base_delay, retry.max_delay), (Some(ms(1000)), Some(ms(3_600_000))));
    assert_eq!((retry.factor, retry.jitter), (2.0, Some(0.1)));
}

#[tokio::test]
async fn retry_policies_of_every_form() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let client = database.connect().await;
    let jitter = Some(0.1);
    let linear = LinearRetry {
        base_delay: Some(ms(2000)),
        step: Some(ms(500)),
        max_delay: Some(ms(60_000)),
        jitter: Some(0.0),
    };
    let delays = [1000, 0, 60_000].map(ms).to_vec();
    for (call, policy) in [
        ("linear_retry('2 s', '500 ms', '1 minute', 0)", Policy::Linear(linear)),
        ("fixed_retry('90 ms')", Policy::Fixed(FixedRetry { delay: Some(ms(90)), jitter })),
        ("list_retry('{1 s,0,1 minute}')", Policy::List(ListRetry { delays, jitter })),
    ] {
        let sql = format!("SELECT currant.enqueue('q', 'test', retry => currant.{call})");
        let id: i64 = client.query_one(&sql, &[]).await.unwrap().get(0);
        let expected = RetryPolicy { policy: Some(policy) };
        assert_eq!(get(&broker, id).await.retry, Some(expected), "{call}");
    }
}

#[tokio::test]
async fn many_jobs_go_in_one_call_in_their_order() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&broker, &["a", "b"], 5000).await;
    let client = database.connect().await;
    let call = "enqueue_many(array_agg(currant.new_job(
        CASE WHEN n % 2 = 0 THEN 'a' ELSE 'b' END, 'test', to_jsonb(n),
        tags => CASE WHEN n % 100 = 0 THEN '{hundred}'::text[] END) ORDER BY n))
        FROM generate_series(1, 2000) n";
    let stored = ids(&client, call).await.unwrap();
    assert!(stored.is_sorted_by(|a, b| a < b));
    let jobs = tokio::time::timeout(PATIENCE, worker.take(2000)).await.expect("they don't come");
    for job in &jobs {
        let at: usize = str::from_utf8(&job.payload).unwrap().parse().unwrap();
        assert_eq!(stored[at - 1], job.job_id);
    }
    assert_eq!(database.number("SELECT count(*) FROM currant.tag WHERE tag = 'hundred'").await, 20);
    assert_eq!(ids(&client, "enqueue_many('{}')").await.unwrap(), [0_i64; 0]);
    assert_eq!(ids(&client, "enqueue_many(NULL)").await.unwrap(), [0_i64; 0]);
}

#[tokio::test]
async fn when_the_sequence_begins_anew_ids_go_on() {
    let database = Database::fresh().await;
    let client = database.connect().await;
    client.batch_execute("SELECT setval('currant.enqueue_sequence', 524287 - 500)").await.unwrap();
    let call =
        "enqueue_many(array_agg(currant.new_job('q', 'test'))) FROM generate_series(1, 1000)";
    let stored = ids(&client, call).await.unwrap();
    assert!(stored.is_sorted_by(|a, b| a < b));
    assert!(stored.iter().all(|id| (768..896).contains(&(id >> 12 & 1023))));
}

#[tokio::test]
async fn one_bad_job_of_a_call_is_named_and_none_is_stored() {
    let database = Database::fresh().await;
    let client = database.connect().await;
    let call = "enqueue_many(array_agg(currant.new_job(
        'q', CASE WHEN n = 7 THEN 'no good' ELSE 'test' END) ORDER BY n)) FROM generate_series(1, 10) n";
    let (message, detail) = refusal(&client, call).await;
    assert!(message.starts_with("kind: 1 to 128 characters"), "{message}");
    assert_eq!(detail, "job 7 of the call");
    let refused = [
        ("priority", "enqueue('q', 'k', priority => 100000)"),
        ("max_attempts", "enqueue('q', 'k', max_attempts => 100000)"),
        ("delay", "enqueue('q', 'k', delay => '-1 ms')"),
        ("delay", "enqueue('q', 'k', delay => '10 years 2 days')"),
        ("delay", "enqueue('q', 'k', delay => '1000000 years')"),
        ("delay", "enqueue('q', 'k', delay => '1 s', run_at => now())"),
        ("timeout", "enqueue('q', 'k', timeout => '0')"),
        ("timeout", "enqueue('q', 'k', timeout => '31 days')"),
        ("retry: base_delay", "enqueue('q', 'k', retry => currant.exponential_retry('-1 s'))"),
        ("retry: max_delay", "enqueue('q', 'k', retry => currant.exponential_retry('2 s', '1 s'))"),
        ("retry: factor", "enqueue('q', 'k', retry => currant.exponential_retry(factor => 0.5))"),
        ("retry: step", "enqueue('q', 'k', retry => currant.linear_retry(step => '-1 s'))"),
        (
            "retry: max_delay",
            "enqueue('q', 'k', retry => currant.linear_retry('2 s', max_delay => '1 s'))",
        ),
        ("retry: delays", "enqueue('q', 'k', retry => currant.list_retry('{}'))"),
        ("retry: delays", "enqueue('q', 'k', retry => currant.list_retry('{1 s,-1 s}'))"),
        ("retry: delays", "enqueue('q', 'k', retry => currant.fixed_retry('11 years'))"),
        ("retry: jitter", "enqueue('q', 'k', retry => currant.exponential_retry(jitter => 1.5))"),
        ("tags", "enqueue('q', 'k', tags => array_fill('x'::text, ARRAY[17]))"),
        ("tags", "enqueue('q', 'k', tags => ARRAY[repeat('x', 65)])"),
        ("tags", "enqueue('q', 'k', tags => ARRAY[NULL::text])"),
        ("metadata", "enqueue('q', 'k', metadata => '[]')"),
        ("metadata", r#"enqueue('q', 'k', metadata => '{"a": 1}')"#),
        ("metadata", r#"enqueue('q', 'k', metadata => '{"a=b": "c"}')"#),
        ("metadata", r#"enqueue('q', 'k', metadata => '{"": "c"}')"#),
        ("metadata", "enqueue('q', 'k', metadata => jsonb_build_object('a', repeat('x', 257)))"),
        ("traceparent", "enqueue('q', 'k', traceparent => repeat('x', 129))"),
        ("idempotency_key", "enqueue('q', 'k', idempotency_key => repeat('x', 65))"),
        ("queue", "enqueue_many(ARRAY[NULL::currant.new_job])"),
    ];
    for (argument, call) in refused {
        let (message, detail) = refusal(&client, call).await;
        assert!(message.starts_with(&format!("{argument}: ")), "{call}: {message}");
        assert_eq!(detail, "", "{call}");
    }
    let stored = "SELECT (SELECT count(*) FROM currant.job) + (SELECT count(*) FROM currant.queue)";
    assert_eq!(database.number(stored).await, 0);
}

/// One job, several, more than a block has ids for.
const CALLS: [(&str, usize); 3] = [("one", 1), ("several", 10), ("many", 6000)];

fn keyed(key: &str, jobs: usize) -> String {
    format!(
        "enqueue_many(array_agg(currant.new_job_bytes('q', 'test', '')), '{key}')
         FROM generate_series(1, {jobs})"
    )
}

fn request(key: &str, jobs: usize) -> EnqueueRequest {
    let jobs: Vec<NewJob> = (0..jobs).map(|_| job("q", b"")).collect();
    EnqueueRequest { jobs, idempotency_key: key.to_owned(), ..EnqueueRequest::default() }
}

#[tokio::test]
async fn a_key_means_the_same_call_in_sql_and_at_a_broker() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let client = database.connect().await;
    for (key, jobs) in CALLS {
        let first = ids(&client, &keyed(key, jobs)).await.unwrap();
        assert_eq!(first.len(), jobs);
        assert!(first.is_sorted_by(|a, b| a < b));
        assert_eq!(ids(&client, &keyed(key, jobs)).await.unwrap(), first);
        let answer = broker.jobs().enqueue(request(key, jobs)).await.unwrap().into_inner();
        assert_eq!((answer.duplicate, answer.job_ids), (true, first));

        let key = format!("{key} at the broker");
        let first = broker.jobs().enqueue(request(&key, jobs)).await.unwrap().into_inner().job_ids;
        assert_eq!(ids(&client, &keyed(&key, jobs)).await.unwrap(), first);
    }
    assert_eq!(database.number(JOBS).await, 2 * 6011);
    let (message, _) = refusal(&client, &keyed("several", 9)).await;
    assert_eq!(message, "idempotency_key: was used for another call, of 10 jobs");
    let single = "SELECT currant.enqueue('q', 'test', idempotency_key => 'single')";
    let first: i64 = client.query_one(single, &[]).await.unwrap().get(0);
    assert_eq!(client.query_one(single, &[]).await.unwrap().get::<_, i64>(0), first);
}

#[tokio::test]
async fn calls_with_one_key_at_once_in_sql_and_at_brokers_store_once() {
    let database = Database::fresh().await;
    let brokers = [Broker::start(&database).await, Broker::start(&database).await];
    let clients = [database.connect().await, database.connect().await];
    for round in 0..40 {
        let key = format!("round {round}");
        let (sql, request) = (keyed(&key, 3), request(&key, 3));
        let broker = async |broker: &Broker| {
            broker.jobs().enqueue(request.clone()).await.unwrap().into_inner().job_ids
        };
        let (a, b, c, d) = tokio::join!(
            ids(&clients[0], &sql),
            broker(&brokers[0]),
            ids(&clients[1], &sql),
            broker(&brokers[1]),
        );
        let first = a.unwrap();
        assert_eq!([c.unwrap(), b, d], [first.clone(), first.clone(), first]);
    }
    assert_eq!(database.number(JOBS).await, 120);
}

#[tokio::test]
async fn a_key_whose_transaction_rolled_back_is_free() {
    let database = Database::fresh().await;
    let mut client = database.connect().await;
    let transaction = client.transaction().await.unwrap();
    transaction.query_one(&format!("SELECT currant.{}", keyed("k", 2)), &[]).await.unwrap();
    transaction.rollback().await.unwrap();
    assert_eq!(database.number(JOBS).await, 0);
    ids(&client, &keyed("k", 2)).await.unwrap();
    assert_eq!(database.number(JOBS).await, 2);
}

#[tokio::test]
async fn a_role_needs_the_right_to_call_and_no_other() {
    let database = Database::fresh().await;
    let owner = database.connect().await;
    let role = format!("{}_enqueue", database.name);
    owner
        .batch_execute(&format!(
            "CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA currant TO {role};
             GRANT EXECUTE ON FUNCTION currant.enqueue, currant.enqueue_bytes, currant.enqueue_many,
                                       currant.enqueue_unique TO {role}"
        ))
        .await
        .unwrap();
    let client = connect(&database.url.replace("user=postgres", &format!("user={role}"))).await;
    // Not fooled by what the caller puts in its way.
    let traps = "CREATE TEMP TABLE job (id int);
        CREATE FUNCTION pg_temp.nextval(regclass) RETURNS bigint LANGUAGE sql AS 'SELECT 1 / 0';
        SET search_path = pg_temp, currant, pg_catalog";
    client.batch_execute(traps).await.unwrap();
    let sql = format!(
        "SELECT currant.enqueue('q', 'k', '1', idempotency_key => 'x', {ALL_OPTIONS}),
                currant.enqueue_bytes('q', 'k', 'x'), currant.enqueue_many(ARRAY[currant.new_job('r', 'k')])"
    );
    client.query_one(&sql, &[]).await.unwrap();
    // Stores one, and replaces it.
    for _ in 0..2 {
        let sql =
            "SELECT currant.enqueue_unique(currant.new_job('q', 'k'), 'u', conflict => 'replace')";
        client.query_one(sql, &[]).await.unwrap();
    }
    assert_eq!(database.number(JOBS).await, 4);
    for sql in [
        "SELECT FROM currant.job",
        "SELECT FROM currant.unique_key",
        "SELECT FROM currant.jobs",
        "SELECT FROM currant.queue",
        "SELECT FROM currant.tag",
        "INSERT INTO currant.queue (name) VALUES ('x')",
        "INSERT INTO currant.completion (queue_id, id, attempt) VALUES (1, 1, 1)",
        "UPDATE currant.job SET outcome = 1",
        "SELECT nextval('currant.enqueue_sequence')",
        "SELECT currant.store_jobs('{}', NULL)",
        "SELECT currant.queue_of('x')",
        "SELECT currant.complete(1, 1)",
    ] {
        let error = client.batch_execute(sql).await.unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{sql}");
    }
    drop(client);
    owner.batch_execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await.unwrap();
}
