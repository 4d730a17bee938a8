//! Recurring jobs: each fire is made once, however many brokers there are and whatever becomes of them.

use std::time::Duration;

use currant_proto::v1::{
    CatchUp, CreateScheduleRequest, DeleteScheduleRequest, GetScheduleRequest,
    ListSchedulesRequest, NewJob, NextFiresRequest, Overlap, PauseScheduleRequest,
    ResumeScheduleRequest, RunScheduleNowRequest, Schedule, StoredSchedule, UpdateScheduleRequest,
    Verdict, new_job::Start,
};
use currant_worker_sdk::{Client, Schedule as NewSchedule};
use tonic::{Code, Status};

use crate::{
    outcomes::{micros, ms},
    support::{
        Broker, Database, PATIENCE, TestWorker, assert_invalid, cut, eventually, get, job,
        token::{REQUIRED, named, refusal, schedules, token},
    },
};

const QUICK: &[(&str, &str)] = &[
    ("BROKER__HEARTBEAT_INTERVAL_MS", "200"),
    ("BROKER__DEAD_AFTER_MS", "1000"),
    ("BROKER__ADOPTION_GRACE_MS", "100"),
    ("DISPATCH__SWEEP_INTERVAL_MS", "60000"),
];

const EVERY_SECOND: &str = "* * * * * *";
const JOBS: &str = "SELECT count(*) FROM currant.job";
const TAGS: &str = "SELECT count(*) FROM currant.tag WHERE tag IN ('nightly', 'team=a')";

fn schedule(cron: &str) -> Schedule {
    Schedule {
        name: "report".to_owned(),
        cron: cron.to_owned(),
        job: Some(NewJob {
            tags: vec!["nightly".to_owned()],
            metadata: [("team".to_owned(), "a".to_owned())].into(),
            ..job("reports", b"payload")
        }),
        ..Schedule::default()
    }
}

async fn create(broker: &Broker, schedule: Schedule) -> Result<StoredSchedule, Status> {
    let request = CreateScheduleRequest { schedule: Some(schedule) };
    Ok(broker.schedules().create(request).await?.into_inner().schedule.unwrap())
}

async fn stored(broker: &Broker) -> StoredSchedule {
    let request = GetScheduleRequest { name: "report".to_owned() };
    broker.schedules().get(request).await.unwrap().into_inner().schedule.unwrap()
}

/// The times of all fires, in whole seconds since 1970, and whether each is there once.
async fn assert_each_second_once(database: &Database) -> Vec<i64> {
    let sql = "SELECT extract(epoch FROM run_at)::bigint FROM currant.job ORDER BY 1";
    let rows = database.connect().await.query(sql, &[]).await.unwrap();
    let seconds: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
    let whole: Vec<i64> = (seconds[0]..=seconds[seconds.len() - 1]).collect();
    assert_eq!(seconds, whole);
    seconds
}

#[tokio::test]
async fn a_schedule_stores_a_job_at_each_of_its_times() {
    let database = Database::fresh().await;
    let broker = Broker::start_with(&database, QUICK).await;
    let mut worker = TestWorker::subscribe(&broker, &["reports"], 10).await;
    let before = database.now_micros().await;
    let created = create(&broker, schedule(EVERY_SECOND)).await.unwrap();
    assert!(micros(created.next_fire) > before);
    for _ in 0..3 {
        let job = worker.job().await;
        assert_eq!((&*job.kind, &job.payload[..]), ("test", &b"payload"[..]));
        let stored = get(&broker, job.job_id).await;
        let late = micros(stored.created_at) - micros(stored.run_at);
        assert!((-20_000..3_000_000).contains(&late), "{late} µs late");
        worker.succeed([&job]).await;
    }
    let stands = stored(&broker).await;
    assert!(stands.last_job_id != 0 && stands.last_fire.is_some());
    let seconds = assert_each_second_once(&database).await;
    assert!(database.number(TAGS).await >= 2 * seconds.len() as i64, "its jobs are found by tags");
}

#[tokio::test]
async fn of_three_brokers_one_makes_each_fire_and_the_kill_of_one_loses_none() {
    let database = Database::fresh().await;
    let brokers = [
        Broker::start_with(&database, QUICK).await,
        Broker::start_with(&database, QUICK).await,
        Broker::start_with(&database, QUICK).await,
    ];
    create(&brokers[0], schedule(EVERY_SECOND)).await.unwrap();
    eventually("it fires", async || database.number(JOBS).await >= 3).await;
    let [a, b, c] = brokers;
    a.kill();
    let jobs = database.number(JOBS).await;
    eventually("it goes on", async || database.number(JOBS).await >= jobs + 3).await;
    b.kill();
    let jobs = database.number(JOBS).await;
    eventually("it goes on", async || database.number(JOBS).await >= jobs + 3).await;
    assert_each_second_once(&database).await;
    drop(c);
}

#[tokio::test]
async fn what_no_broker_was_there_for_is_made_up_by_the_policy() {
    let database = Database::fresh().await;
    let client = database.connect().await;
    let broker = Broker::start_with(&database, QUICK).await;
    for (name, catch_up, window) in [
        ("skip", CatchUp::Skip, None),
        ("latest", CatchUp::Latest, None),
        ("all", CatchUp::All, Some(ms(14 * 3_600_000))),
    ] {
        let job = Some(job(name, b""));
        let schedule = Schedule {
            name: name.to_owned(),
            catch_up: catch_up.into(),
            catch_up_window: window,
            job,
            ..schedule("0 */6 * * *")
        };
        create(&broker, schedule).await.unwrap();
    }
    assert!(broker.terminate().await.success());
    // As if it had been away for a day.
    let sql = "UPDATE currant.schedule SET next_at = next_at - interval '30 hours'";
    client.batch_execute(sql).await.unwrap();
    let broker = Broker::start_with(&database, QUICK).await;
    let passed = "SELECT count(*) FROM currant.schedule WHERE next_at > now()";
    eventually("all go on", async || database.number(passed).await == 3).await;
    let sql = "SELECT q.name, count(*), max(now() - j.run_at) < interval '14 hours'
               FROM currant.job j JOIN currant.queue q ON q.id = j.queue_id GROUP BY 1 ORDER BY 1";
    let rows = client.query(sql, &[]).await.unwrap();
    let made: Vec<(String, i64, bool)> =
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    assert_eq!((&*made[0].0, made[0].2), ("all", true));
    assert!((2..=3).contains(&made[0].1), "{made:?}");
    assert_eq!((&*made[1].0, made[1].1), ("latest", 1));
    // Unless one was due within the last minute.
    assert!(made.len() == 2 || made[2].1 == 1, "{made:?}");
    drop(broker);
}

#[tokio::test]
async fn a_fire_whose_predecessor_is_not_over_is_left_out_or_waits() {
    let database = Database::fresh().await;
    let broker = Broker::start_with(&database, QUICK).await;
    for (name, overlap) in [("skip", Overlap::Skip), ("one", Overlap::QueueOne)] {
        let job = Some(job(name, b""));
        let overlap = overlap.into();
        let schedule = Schedule { name: name.to_owned(), job, overlap, ..schedule(EVERY_SECOND) };
        create(&broker, schedule).await.unwrap();
    }
    let mut worker = TestWorker::subscribe(&broker, &["skip", "one"], 10).await;
    let held = worker.take(2).await;
    worker.no_job_for(Duration::from_millis(2500)).await;
    assert_eq!(database.number(JOBS).await, 2, "one runs, none is stored beside it");
    assert_eq!(worker.succeed(&held).await, [Verdict::Applied; 2]);
    let next = worker.take(2).await;
    // What waited was due before its predecessor was over.
    let one = next.iter().find(|job| job.kind == "test" && !held.contains(job)).unwrap();
    assert!(get(&broker, one.job_id).await.run_at.is_some());
    let waited = "SELECT count(*) FROM currant.job j JOIN currant.queue q ON q.id = j.queue_id
                  WHERE q.name = 'one' AND j.run_at < to_timestamp((j.id >> 22) / 1000.0) - interval '1 s'";
    assert_eq!(database.number(waited).await, 1);
}

#[tokio::test]
async fn a_schedule_is_paused_resumed_run_changed_and_deleted() {
    let database = Database::fresh().await;
    let [a, b] =
        [Broker::start_with(&database, QUICK).await, Broker::start_with(&database, QUICK).await];
    let name = || "report".to_owned();
    create(&a, schedule(EVERY_SECOND)).await.unwrap();
    eventually("it fires", async || database.number(JOBS).await > 0).await;
    let request = PauseScheduleRequest { name: name() };
    let paused = b.schedules().pause(request).await.unwrap().into_inner().schedule.unwrap();
    assert!(paused.paused_at.is_some() && paused.next_fire.is_none());
    let jobs = database.number(JOBS).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(database.number(JOBS).await, jobs);
    // Beside its fires, and once for a key.
    for _ in 0..2 {
        let request = RunScheduleNowRequest { name: name(), idempotency_key: "k".to_owned() };
        let id = b.schedules().run_now(request).await.unwrap().into_inner().job_id;
        assert_eq!(get(&a, id).await.payload, &b"payload"[..]);
    }
    assert_eq!(database.number(JOBS).await, jobs + 1);
    let request = ResumeScheduleRequest { name: name() };
    let resumed = a.schedules().resume(request).await.unwrap().into_inner().schedule.unwrap();
    assert!(resumed.paused_at.is_none() && resumed.next_fire.is_some());
    eventually("it fires again", async || database.number(JOBS).await > jobs + 1).await;
    let yearly = Schedule { time_zone: "Europe/Vienna".to_owned(), ..schedule("30 6 1 1 *") };
    let request = UpdateScheduleRequest { schedule: Some(yearly.clone()) };
    let changed = b.schedules().update(request).await.unwrap().into_inner().schedule.unwrap();
    let mut kept = changed.schedule.unwrap();
    kept.catch_up = yearly.catch_up;
    kept.overlap = yearly.overlap;
    assert_eq!(kept, yearly);
    let request = NextFiresRequest { name: name(), count: 3 };
    let fires = a.schedules().next_fires(request).await.unwrap().into_inner().fires;
    assert_eq!(fires.len(), 3);
    assert_eq!(Some(fires[0]), changed.next_fire);
    // 05:30 UTC in winter.
    assert!(fires.iter().all(|fire| fire.seconds % 86_400 == 5 * 3600 + 1800));
    let request = DeleteScheduleRequest { name: name() };
    a.schedules().delete(request.clone()).await.unwrap();
    assert_eq!(a.schedules().delete(request).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn a_schedule_that_nobody_was_told_of_is_found_by_the_heartbeat() {
    let database = Database::fresh().await;
    let deaf = [QUICK, &[("DATABASE__LISTEN_URL", "")]].concat();
    let broker = Broker::start_with(&database, &deaf).await;
    create(&broker, schedule(EVERY_SECOND)).await.unwrap();
    eventually("it fires", async || database.number(JOBS).await >= 2).await;
    assert!(cut(&database.connect().await, "currant-broker%").await > 0);
    let jobs = database.number(JOBS).await;
    eventually("it fires after the connections were cut", async || {
        database.number(JOBS).await >= jobs + 2
    })
    .await;
    assert_each_second_once(&database).await;
}

#[tokio::test]
async fn the_priority_of_its_jobs_is_the_queues_unless_it_says_one() {
    let database = Database::fresh().await;
    let broker = Broker::start_with(&database, QUICK).await;
    let sql = "INSERT INTO currant.queue (name, priority) VALUES ('reports', 4)";
    database.connect().await.batch_execute(sql).await.unwrap();
    create(&broker, schedule(EVERY_SECOND)).await.unwrap();
    let own = Some(NewJob { priority: Some(9), ..job("reports", b"") });
    let own = Schedule { name: "own".to_owned(), job: own, ..schedule(EVERY_SECOND) };
    create(&broker, own).await.unwrap();
    let mut worker = TestWorker::subscribe(&broker, &["reports"], 10).await;
    let mut seen = std::collections::HashSet::new();
    while seen.len() < 2 {
        seen.insert(worker.job().await.priority);
    }
    assert_eq!(seen, [4, 9].into());
}

#[tokio::test]
async fn what_is_wrong_with_a_schedule_is_named() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let refused = async |schedule| create(&broker, schedule).await.unwrap_err();
    let good = || schedule("0 * * * *");
    let later = NewJob { start: Some(Start::Delay(ms(1))), ..job("q", b"") };
    for (schedule, field, limit) in [
        (Schedule { name: ".".to_owned(), ..good() }, "schedule.name", "1 to 128"),
        (schedule("61 * * * *"), "schedule.cron", ""),
        (schedule("0 0 30 2 *"), "schedule.cron", "never"),
        (Schedule { time_zone: "Mars".to_owned(), ..good() }, "schedule.time_zone", "IANA"),
        (Schedule { job: None, ..good() }, "schedule.job.queue", "1 to 128"),
        (Schedule { job: Some(later), ..good() }, "schedule.job.start", "says when"),
        (Schedule { catch_up: 3, ..good() }, "schedule.catch_up_window", "60000 ms"),
        (Schedule { catch_up: 9, ..good() }, "schedule.catch_up", "CatchUp"),
        (Schedule { overlap: 9, ..good() }, "schedule.overlap", "Overlap"),
    ] {
        let status = refused(schedule).await;
        if field == "schedule.cron" {
            assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
            assert!(status.message().starts_with("schedule.cron: "), "{status:?}");
        } else {
            assert_invalid(&status, field, limit);
        }
    }
    assert_eq!(database.number("SELECT count(*) FROM currant.schedule").await, 0);
    create(&broker, good()).await.unwrap();
    assert_eq!(refused(good()).await.code(), Code::AlreadyExists);
    let request = UpdateScheduleRequest { schedule: Some(Schedule { name: "x".into(), ..good() }) };
    let status = broker.schedules().update(request).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::NotFound, "there is no schedule x"));
}

#[tokio::test]
async fn the_schedules_of_a_file_hold_from_the_start() {
    let database = Database::fresh().await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("schedules.toml");
    let entry = |name: &str, cron: &str| {
        format!(
            "[[schedule]]\nname = '{name}'\ncron = '{cron}'\nqueue = 'reports'\nkind = 'daily'\n"
        )
    };
    std::fs::write(&path, entry("one", EVERY_SECOND) + &entry("two", "0 0 1 1 *")).unwrap();
    let file = path.to_str().unwrap().to_owned();
    let settings = [QUICK, &[("SCHEDULES__FILE", &*file)]].concat();
    let broker = Broker::start_with(&database, &settings).await;
    create(&broker, schedule("0 0 1 1 *")).await.unwrap();
    let client = Client::connect(broker.endpoint()).await.unwrap();
    let names = async |client: &Client| {
        let all = client.schedules().await.unwrap();
        all.into_iter().map(|one| (one.name, one.from_file)).collect::<Vec<_>>()
    };
    let named = |name: &str, from_file| (name.to_owned(), from_file);
    let all = [named("one", true), named("report", false), named("two", true)];
    assert_eq!(names(&client).await, all);
    eventually("it fires", async || database.number(JOBS).await > 1).await;
    let at = client.schedule("one").await.unwrap().next_fire;
    assert!(broker.terminate().await.success());
    // A line that is gone, one that stays, one that comes.
    let one = entry("one", EVERY_SECOND) + "expire_after_ms = 60000\n";
    std::fs::write(&path, one + &entry("three", "0 0 1 1 *")).unwrap();
    let broker = Broker::start_with(&database, &settings).await;
    let client = Client::connect(broker.endpoint()).await.unwrap();
    let all = [named("one", true), named("report", false), named("three", true)];
    assert_eq!(names(&client).await, all);
    eventually("it goes on", async || client.schedule("one").await.unwrap().next_fire > at).await;
    assert_each_second_once(&database).await;
    for (text, says) in [
        (entry("one", "61 * * * *"), "cron: "),
        (entry("one", "* * * * *") + "colour = 1", "colour"),
        (entry("one", "* * * * *") + "expire_after_ms = 0", "expire_after_ms: 1 to"),
        (entry("one two", "* * * * *"), "name"),
    ] {
        std::fs::write(&path, text).unwrap();
        let said = Broker::refused_with(&database.url, &[("SCHEDULES__FILE", &file)]).await;
        assert!(said.contains(says), "{said}");
    }
}

#[tokio::test]
async fn the_sdk_puts_runs_and_deletes_schedules() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let client = Client::connect(broker.endpoint()).await.unwrap();
    let job = || {
        let job = currant_worker_sdk::NewJob::raw("reports", "daily", "x").max_attempts(3);
        job.timeout(Duration::from_secs(90)).expire_after(Duration::from_secs(3600)).tag("night")
    };
    let daily = || NewSchedule::new("daily", "0 6 * * *", job()).time_zone("Europe/Vienna");
    let stored = client.put_schedule(daily()).await.unwrap();
    assert_eq!((&*stored.queue, &*stored.kind, stored.from_file), ("reports", "daily", false));
    assert_eq!((stored.max_attempts, &stored.tags[..]), (Some(3), &["night".to_owned()][..]));
    let (timeout, expire_after) = (Duration::from_secs(90), Duration::from_secs(3600));
    assert_eq!((stored.timeout, stored.expire_after), (Some(timeout), Some(expire_after)));
    let plain = currant_worker_sdk::NewJob::raw("reports", "plain", "x");
    let plain = client.put_schedule(NewSchedule::new("plain", "0 6 * * *", plain)).await.unwrap();
    let unset = (plain.max_attempts, plain.timeout, plain.expire_after, plain.tags.len());
    assert_eq!(unset, (None, None, None, 0));
    assert!(client.delete_schedule("plain").await.unwrap());
    let again = client.put_schedule(daily().overlap(currant_worker_sdk::Overlap::Skip));
    assert_eq!(again.await.unwrap().next_fire, stored.next_fire);
    assert_eq!(client.next_fires("daily", 2).await.unwrap()[0], stored.next_fire.unwrap());
    let id = client.run_schedule("daily").await.unwrap();
    assert_eq!(client.get(id).await.unwrap().payload, "x");
    assert!(client.pause_schedule("daily").await.unwrap().next_fire.is_none());
    assert_eq!(client.resume_schedule("daily").await.unwrap().next_fire, stored.next_fire);
    assert!(client.delete_schedule("daily").await.unwrap());
    assert!(!client.delete_schedule("daily").await.unwrap());
    assert!(tokio::time::timeout(PATIENCE, client.schedules()).await.unwrap().unwrap().is_empty());
}

#[tokio::test]
async fn schedules_of_other_queues_are_as_if_they_were_not_there() {
    let database = Database::fresh().await;
    let [all, some] = ["*", "emails*"].map(|queue| token(&database, "admin", queue));
    let broker = Broker::start_with(&database, &[REQUIRED]).await;
    let create = |name: &str, queue: &str| {
        let (name, cron, job) = (name.to_owned(), "0 0 1 1 *".to_owned(), Some(job(queue, b"x")));
        let schedule = Schedule { name, cron, job, ..Schedule::default() };
        CreateScheduleRequest { schedule: Some(schedule) }
    };
    for queue in ["emails", "other"] {
        schedules(&broker, &all).create(create(queue, queue)).await.unwrap();
    }
    let (mut client, name) = (schedules(&broker, &some), || "other".to_owned());
    let update = UpdateScheduleRequest { schedule: create("other", "emails").schedule };
    let run = RunScheduleNowRequest { name: name(), ..RunScheduleNowRequest::default() };
    let missing = [
        client.get(GetScheduleRequest { name: name() }).await.map(drop),
        client.next_fires(NextFiresRequest { name: name(), count: 1 }).await.map(drop),
        client.update(update).await.map(drop),
        client.pause(PauseScheduleRequest { name: name() }).await.map(drop),
        client.resume(ResumeScheduleRequest { name: name() }).await.map(drop),
        client.run_now(run).await.map(drop),
        client.delete(DeleteScheduleRequest { name: name() }).await.map(drop),
    ];
    for answer in missing {
        assert_eq!(answer.unwrap_err().code(), Code::NotFound);
    }
    let listed = client.list(ListSchedulesRequest::default()).await.unwrap().into_inner();
    let names = listed.schedules.into_iter().map(|stored| stored.schedule.unwrap().name);
    assert_eq!(names.collect::<Vec<_>>(), ["emails"]);
    let status = client.create(create("new", "other")).await.unwrap_err();
    assert_eq!(refusal(&status).2, named("queue", "other"));
    client.delete(DeleteScheduleRequest { name: "emails".to_owned() }).await.unwrap();
    assert_eq!(database.number("SELECT count(*) FROM currant.schedule").await, 1);
    let record = "SELECT count(*) FROM currant.audit WHERE object = 'other' AND action LIKE 'run%'";
    assert_eq!(database.number(record).await, 1);
}
