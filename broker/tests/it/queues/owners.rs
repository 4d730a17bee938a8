//! All limits at once, while the broker that owns the queue goes, again and again.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use currant_broker::clock::Stopwatch;
use currant_proto::v1::{NewJob, QueueSettings, RateLimit};
use currant_worker_sdk::{Bytes, Running, Worker};

use super::{QUICK, configure};
use crate::{
    outcomes::ms,
    support::{Broker, Database, eventually, job},
};

const JOBS: i64 = 300;
const KEYS: [&str; 3] = ["a", "b", "c"];
const OF_QUEUE: (u32, u32) = (60, 10);
const OF_KEY: (u32, u32) = (25, 5);
/// What a handler may begin later than its job was sent.
const LATE: Duration = Duration::from_secs(1);
const DONE: &str = "SELECT count(*) FROM currant.job WHERE outcome = 1";
const OWNER: &str =
    "SELECT b.name FROM currant.queue_owner o JOIN currant.broker b ON b.id = o.owner";

/// What handlers saw, by key: how many run, and ran at most; when each began.
#[derive(Clone)]
struct Seen(Arc<Mutex<BTreeMap<String, OfKey>>>, Stopwatch);

#[derive(Default)]
struct OfKey {
    now: usize,
    most: usize,
    begun: Vec<Duration>,
}

impl Seen {
    fn worker(&self, broker: &Broker) -> Running {
        let seen = self.clone();
        let handler = move |job: currant_worker_sdk::Job<Bytes>| {
            let seen = seen.clone();
            async move {
                // The queue's own are those of no key.
                for key in ["", &*job.key] {
                    let mut all = seen.0.lock().unwrap();
                    let of_key = all.entry(key.to_owned()).or_default();
                    of_key.begun.push(seen.1.elapsed());
                    of_key.now += 1;
                    of_key.most = of_key.most.max(of_key.now);
                }
                tokio::time::sleep(Duration::from_millis(40)).await;
                for key in ["", &*job.key] {
                    seen.0.lock().unwrap().get_mut(key).unwrap().now -= 1;
                }
                Ok(Bytes::new())
            }
        };
        let worker = Worker::builder(broker.endpoint()).queue("q").concurrency(10);
        worker.raw_handler("test", handler).build().unwrap().start()
    }
}

/// In any span of time a burst, and as many as the rate gives in it.
fn assert_rate(whose: &str, begun: &mut [Duration], (per_second, burst): (u32, u32)) {
    begun.sort_unstable();
    for (n, from) in begun.iter().enumerate() {
        for (more, until) in begun[n..].iter().enumerate() {
            let span = *until - *from + LATE;
            let most = f64::from(burst) + f64::from(per_second) * span.as_secs_f64();
            assert!((more + 1) as f64 <= most, "{more} jobs of {whose:?} in {span:?}");
        }
    }
}

#[tokio::test]
async fn no_limit_is_exceeded_while_one_owner_after_the_other_goes() {
    let database = Database::fresh().await;
    let start = async |name: &str| {
        Broker::start_with(&database, &[QUICK, &[("BROKER__NAME", name)]].concat()).await
    };
    let client = database.connect().await;
    let (mut name, mut broker) = ("0", start("0").await);
    let rate = |(jobs, burst)| Some(RateLimit { jobs, period: Some(ms(1000)), burst });
    let settings = QueueSettings {
        concurrency_max: 4,
        rate: rate(OF_QUEUE),
        key_concurrency_max: 2,
        key_rate: rate(OF_KEY),
        ..QueueSettings::default()
    };
    configure(&broker, "q", settings).await.unwrap();
    let of = |n: i64| NewJob { key: KEYS[n as usize % 3].to_owned(), ..job("q", b"") };
    broker.enqueue((0..JOBS).map(of)).await;
    let seen = Seen(Arc::default(), Stopwatch::start());
    let mut workers = vec![seen.worker(&broker)];
    for (kill, next) in [(true, "1"), (false, "2"), (true, "3")] {
        let before = database.number(DONE).await;
        let works = async || {
            let owner = client.query_opt(OWNER, &[]).await.unwrap();
            owner.is_some_and(|owner| owner.get::<_, &str>(0) == name)
                && database.number(DONE).await >= before + JOBS / 6
        };
        eventually("the owner works", works).await;
        let gone = std::mem::replace(&mut broker, start(next).await);
        name = next;
        workers.push(seen.worker(&broker));
        if kill {
            gone.kill();
        } else {
            gone.terminate().await;
        }
    }
    eventually("all are done", async || database.number(DONE).await == JOBS).await;
    let mut seen = seen.0.lock().unwrap();
    for (whose, of_key) in seen.iter_mut() {
        let (most, rate) = if whose.is_empty() { (4, OF_QUEUE) } else { (2, OF_KEY) };
        assert!(of_key.most <= most, "{} of {whose:?} at once", of_key.most);
        assert_rate(whose, &mut of_key.begun, rate);
    }
}
