//! Jobs that start later: at a time, after a delay, after a failure. Or never.

use std::{collections::HashMap, time::Duration};

use currant_broker::clock::Stopwatch;
use currant_proto::v1::{
    ConfigureQueueRequest, CreateScheduleRequest, ExponentialRetry, FixedRetry, JobState,
    LinearRetry, ListRetry, NewJob, QueueSettings, RetryPolicy, RetryRequest,
    RunScheduleNowRequest, Schedule, Unique,
    new_job::{Expiry, Start},
    retry_policy::Policy,
};

use crate::{
    outcomes::{failed, micros, ms},
    support::{Broker, Database, TestWorker, assert_invalid, eventually, get, job, value},
};

fn policy(policy: Policy) -> RetryPolicy {
    RetryPolicy { policy: Some(policy) }
}

fn exponential() -> RetryPolicy {
    policy(Policy::Exponential(ExponentialRetry {
        base_delay: Some(ms(10_000)),
        max_delay: Some(ms(25_000)),
        factor: 2.0,
        jitter: Some(0.0),
    }))
}

fn linear() -> RetryPolicy {
    policy(Policy::Linear(LinearRetry {
        base_delay: Some(ms(7_000)),
        step: Some(ms(10_000)),
        max_delay: Some(ms(20_000)),
        jitter: Some(0.0),
    }))
}

fn list() -> RetryPolicy {
    let delays = [20_000, 5_000].map(ms).to_vec();
    policy(Policy::List(ListRetry { delays, jitter: Some(0.0) }))
}

fn fixed(delay_ms: i64) -> RetryPolicy {
    policy(Policy::Fixed(FixedRetry { delay: Some(ms(delay_ms)), jitter: Some(0.0) }))
}

/// Of a broker that looks for due jobs again and again.
const LOOKS: &[(&str, &str)] = &[("DISPATCH__SWEEP_INTERVAL_MS", "100")];

/// Fails a job again and again, and compares its waits. Nobody waits for them.
async fn assert_waits(
    database: &Database,
    broker: &Broker,
    worker: &mut TestWorker,
    id: i64,
    waits_s: [i64; 3],
) {
    // The broker's idea of the database's clock may be off by a little.
    const OFF_MICROS: i64 = 1_000_000;
    let client = database.connect().await;
    for wait_s in waits_s {
        let held = worker.job().await;
        let before = database.now_micros().await;
        worker.report([&held], failed("")).await;
        let after = database.now_micros().await;
        let run_at = micros(get(broker, id).await.run_at);
        let wait = wait_s * 1_000_000;
        let due = before + wait - OFF_MICROS..=after + wait + OFF_MICROS;
        assert!(due.contains(&run_at), "{run_at} not in {due:?}");
        let now = "UPDATE currant.job SET run_at = now() WHERE id = $1";
        assert_eq!(client.execute(now, &[&id]).await.unwrap(), 1);
    }
    let held = worker.job().await;
    worker.succeed([&held]).await;
}

#[tokio::test]
async fn the_wait_after_a_failure_is_as_the_retry_policy_says() {
    let database = Database::fresh().await;
    let broker = Broker::start_with(&database, LOOKS).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 1).await;
    for (retry, waits_s) in [
        (exponential(), [10, 20, 25]),
        (linear(), [7, 17, 20]),
        (list(), [20, 5, 5]),
        (fixed(6_000), [6, 6, 6]),
    ] {
        let id = broker.enqueue([NewJob { retry: Some(retry.clone()), ..job("q", b"") }]).await[0];
        assert_eq!(get(&broker, id).await.retry, Some(retry));
        assert_waits(&database, &broker, &mut worker, id, waits_s).await;
    }
}

#[tokio::test]
async fn a_jobs_own_policy_comes_before_its_kinds_and_that_before_the_queues() {
    let database = Database::fresh().await;
    let broker = Broker::start_with(&database, LOOKS).await;
    let settings = QueueSettings {
        retry: Some(linear()),
        retry_by_kind: [("test".to_owned(), fixed(5_000))].into(),
        ..QueueSettings::default()
    };
    let request = ConfigureQueueRequest { queue: "q".to_owned(), settings: Some(settings.clone()) };
    let configured = broker.queues().configure(request).await.unwrap().into_inner();
    assert_eq!(configured.queue.unwrap().settings, Some(settings));
    let mut worker = TestWorker::subscribe(&broker, &["q"], 1).await;
    let other = NewJob { kind: "other".to_owned(), ..job("q", b"") };
    let own = NewJob { retry: Some(list()), ..job("q", b"") };
    for (job, waits_s) in [(job("q", b""), [5, 5, 5]), (other, [7, 17, 20]), (own, [20, 5, 5])] {
        let id = broker.enqueue([job]).await[0];
        assert_waits(&database, &broker, &mut worker, id, waits_s).await;
    }
}

#[tokio::test]
async fn what_has_expired_never_starts() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let expire =
        |delay_ms: i64| NewJob { expiry: Some(Expiry::ExpireAfter(ms(delay_ms))), ..job("q", b"") };
    // Two wait in the table, the next in memory behind a worker that is busy.
    let early = broker.enqueue([expire(1), expire(600_000)]).await;
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 1).await;
    let held = worker.job().await;
    assert_eq!(held.job_id, early[1]);
    let late = broker.enqueue([expire(300), job("q", b"")]).await;
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    worker.succeed([&held]).await;
    let next = worker.job().await;
    assert_eq!(next.job_id, late[1]);
    for id in [early[0], late[0]] {
        eventually("it is cancelled", async || {
            get(&broker, id).await.state() == JobState::Cancelled
        })
        .await;
        let stored = get(&broker, id).await;
        assert!(stored.error.contains("had to start"), "{}", stored.error);
        assert_eq!((stored.attempt, stored.failures), (1, 0));
    }
    assert_eq!(broker.metric("currant_jobs_expired_total").await, Some(2.0));
    // Somebody wants it nevertheless.
    let request = RetryRequest { job_ids: vec![late[0]], ..RetryRequest::default() };
    broker.jobs().retry(request).await.unwrap();
    worker.succeed([&next]).await;
    assert_eq!(worker.job().await.job_id, late[0]);
}

/// How long after its id says that a job was stored it expires, in seconds.
async fn expires_after(broker: &Broker, id: i64) -> i64 {
    let stored = get(broker, id).await;
    stored.expire_at.unwrap().seconds - stored.created_at.unwrap().seconds
}

#[tokio::test]
async fn jobs_by_sql_and_unique_ones_expire_too() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let client = database.connect().await;
    let by_sql = async |sql: &str| {
        client.query(&format!("SELECT {sql}"), &[]).await.map(|rows| rows[0].get::<_, i64>(0))
    };
    for (sql, seconds) in [
        ("currant.enqueue('q', 'test', expire_after => '100 s')", 100),
        ("currant.enqueue_bytes('q', 'test', '', expire_at => now() + interval '50 s')", 50),
        (
            "(currant.enqueue_many(ARRAY[currant.new_job('q', 'test', delay => '1 s', expire_after => '9 s')]))[1]",
            9,
        ),
        (
            "id FROM currant.enqueue_unique(currant.new_job('q', 'test', expire_after => '1 h'), 'one')",
            3600,
        ),
        // Another in its place, with its own time.
        (
            "id FROM currant.enqueue_unique(currant.new_job_bytes('q', 'test', '', expire_after => '2 h'), 'one', \
          conflict => 'replace')",
            7200,
        ),
    ] {
        let after = expires_after(&broker, by_sql(sql).await.unwrap()).await;
        assert!((seconds - 1..=seconds + 1).contains(&after), "{sql}: {after} s");
    }
    for (arguments, problem) in [
        ("expire_after => '0 s'", "expire_after: 1 ms to 10 years"),
        ("expire_after => '11 years'", "expire_after: 1 ms to 10 years"),
        ("expire_at => '1999-12-31'", "expire_at: not before 2000"),
        ("expire_at => now() + interval '11 years'", "expire_at: not before 2000"),
        ("expire_at => now(), expire_after => '1 s'", "expire_after: not beside expire_at"),
        ("delay => '9 s', expire_after => '8 s'", "expire_at: not before it may start"),
    ] {
        let error =
            by_sql(&format!("currant.enqueue('q', 'test', {arguments})")).await.unwrap_err();
        let message = error.as_db_error().unwrap().message().to_owned();
        assert!(message.starts_with(problem), "{arguments}: {message}");
    }
    // By a broker; one that nobody took in time.
    let unique = Some(Unique { key: "two".to_owned(), ..Unique::default() });
    let expiry = Some(Expiry::ExpireAfter(ms(1)));
    let id = broker.enqueue([NewJob { unique, expiry, ..job("unique", b"") }]).await[0];
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    let _worker = TestWorker::subscribe(&broker, &["unique"], 1).await;
    eventually("it is cancelled", async || get(&broker, id).await.state() == JobState::Cancelled)
        .await;
}

#[tokio::test]
async fn jobs_of_a_schedule_expire_so_long_after_their_fire() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let create = async |expiry| {
        let schedule = Schedule {
            name: "report".to_owned(),
            cron: "* * * * * *".to_owned(),
            job: Some(NewJob { expiry: Some(expiry), ..job("q", b"") }),
            ..Schedule::default()
        };
        let request = CreateScheduleRequest { schedule: Some(schedule) };
        broker.schedules().create(request).await.map(|answer| answer.into_inner().schedule.unwrap())
    };
    let at = prost_types::Timestamp { seconds: 2_000_000_000, nanos: 0 };
    let status = create(Expiry::ExpireAt(at)).await.unwrap_err();
    assert_invalid(&status, "schedule.job.expiry", "expire_after");
    let status = create(Expiry::ExpireAfter(ms(0))).await.unwrap_err();
    assert_invalid(&status, "schedule.job.expiry", "1 ms");
    let expiry = Expiry::ExpireAfter(ms(100_000));
    let created = create(expiry).await.unwrap().schedule.unwrap();
    assert_eq!(created.job.unwrap().expiry, Some(expiry));
    let fired = "SELECT count(*) FROM currant.job WHERE options ->> 'expires_at'
                 = ((extract(epoch FROM run_at) + 100) * 1000000)::bigint::text";
    eventually("it has fired", async || database.number(fired).await > 0).await;
    assert_eq!(database.number("SELECT count(*) FROM currant.job WHERE options IS NULL").await, 0);
    let request = RunScheduleNowRequest { name: "report".to_owned(), ..Default::default() };
    let id = broker.schedules().run_now(request).await.unwrap().into_inner().job_id;
    assert!((99..=101).contains(&expires_after(&broker, id).await));
}

#[tokio::test]
async fn a_retry_that_comes_too_late_does_not_start_either() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 1).await;
    let expiry = Some(Expiry::ExpireAfter(ms(300)));
    let retry = Some(fixed(400));
    let id = broker.enqueue([NewJob { expiry, retry, ..job("q", b"") }]).await[0];
    let held = worker.job().await;
    worker.report([&held], failed("not yet")).await;
    eventually("it is cancelled", async || get(&broker, id).await.state() == JobState::Cancelled)
        .await;
    assert_eq!(get(&broker, id).await.failures, 1);
}

#[tokio::test]
async fn scheduled_jobs_start_at_their_time_and_in_its_order() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 10).await;
    let now = database.now_micros().await;
    let at = |delay_ms: i64| {
        let micros = now + delay_ms * 1000;
        let nanos = i32::try_from(micros % 1_000_000).unwrap() * 1000;
        let at = prost_types::Timestamp { seconds: micros / 1_000_000, nanos };
        NewJob { start: Some(Start::RunAt(at)), ..job("q", b"") }
    };
    let after = |delay_ms: i64| NewJob { start: Some(Start::Delay(ms(delay_ms))), ..job("q", b"") };
    let scheduled = [at(900), after(300), at(600), at(3_600_000), after(1200)];
    let ids = broker.enqueue(scheduled).await;
    let mut due = HashMap::new();
    for &id in &ids {
        let stored = get(&broker, id).await;
        assert_eq!((stored.state(), stored.attempt), (JobState::Scheduled, 0));
        due.insert(id, micros(stored.run_at));
    }
    assert_eq!((due[&ids[0]], due[&ids[2]]), (now + 900_000, now + 600_000));
    let mut order = Vec::new();
    for _ in 0..4 {
        let job = worker.job().await;
        let late = database.now_micros().await - due[&job.job_id];
        // Not before, but for what the broker's idea of the database's clock is off; soon after.
        assert!((-20_000..5_000_000).contains(&late), "{late} µs late");
        assert_eq!((job.attempt, job.failures), (1, 0));
        order.push(job.job_id);
    }
    assert_eq!(order, [ids[1], ids[2], ids[0], ids[4]]);
    assert_eq!(get(&broker, ids[3]).await.state(), JobState::Scheduled);
}

#[tokio::test]
async fn an_earlier_job_is_not_kept_by_a_later_one() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 10).await;
    let after = |delay_ms| NewJob { start: Some(Start::Delay(ms(delay_ms))), ..job("q", b"") };
    broker.enqueue([after(3_600_000)]).await;
    let soon = broker.enqueue([after(100)]).await[0];
    assert_eq!(worker.job().await.job_id, soon);
    // Nor is a second one, after a promotion.
    let soon = broker.enqueue([after(50)]).await[0];
    assert_eq!(worker.job().await.job_id, soon);
}

/// How often the broker has asked for due jobs.
async fn looks(broker: &Broker) -> f64 {
    let metrics = broker.metrics().await;
    let count =
        |name| value(&metrics, &format!("currant_statement_seconds_count{{statement=\"{name}\"}}"));
    ["promote_jobs", "next_due"].into_iter().filter_map(count).sum()
}

#[tokio::test]
async fn a_due_job_that_a_transaction_locks_costs_a_look_now_and_then_and_keeps_up_no_other() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 10).await;
    let after = |delay_ms| NewJob { start: Some(Start::Delay(ms(delay_ms))), ..job("q", b"") };
    let locked = broker.enqueue([after(3_600_000)]).await[0];
    let mut client = database.connect().await;
    let due = "UPDATE currant.job SET run_at = now() WHERE id = $1";
    client.execute(due, &[&locked]).await.unwrap();
    let transaction = client.transaction().await.unwrap();
    let lock = "SELECT FROM currant.job WHERE id = $1 FOR UPDATE";
    assert_eq!(transaction.execute(lock, &[&locked]).await.unwrap(), 1);
    for delay_ms in [100, 300] {
        let other = broker.enqueue([after(delay_ms)]).await[0];
        assert_eq!(worker.job().await.job_id, other);
    }
    let before = looks(&broker).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let looks = looks(&broker).await - before;
    assert!((1.0..=20.0).contains(&looks), "{looks} in a second");
    transaction.rollback().await.unwrap();
    let watch = Stopwatch::start();
    assert_eq!(worker.job().await.job_id, locked);
    // Long before anything else lets it look.
    assert!(watch.elapsed() < Duration::from_secs(5), "{:?}", watch.elapsed());
}
