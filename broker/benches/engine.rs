//! What the decisions on a job's way cost: stored, delivered, completed, in batches and one by one.

#![allow(missing_docs, reason = "criterion's macros make items without")]

use std::{hint::black_box, time::Duration};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use currant_broker::{
    domain::{Attempt, JobId, QueueId, TakenJob},
    engine::{self, Action, Batcher, Dispatcher, Limits, SessionId, SessionRequest, Storing},
};

const LIMITS: Limits = Limits {
    sessions_max: 20_000,
    claim_rows_max: 1000,
    limited_keys_max: 100_000,
    buffered_bytes_max: 256 << 20,
    unacknowledged_bytes_max: 16 << 20,
    message_bytes_max: 4 << 20,
    message_jobs_max: 1000,
    hold_max: Duration::from_millis(400),
    completing_max: 100_000,
    session_timeout: Duration::from_secs(30),
    reconnect_grace: Duration::from_secs(10),
    acknowledge_timeout: Duration::from_secs(5),
    keep_alive_interval: Duration::from_secs(20),
};
const QUEUE: QueueId = QueueId(1);
const PAYLOAD: Bytes = Bytes::from_static(&[7; 100]);
/// Handlers that do nothing: jobs go out in packs.
const RUN_TIME: Duration = Duration::from_micros(2);

/// A dispatcher whose sessions have plenty of credit, and what it has delivered.
struct World {
    dispatcher: Dispatcher,
    now: Duration,
    next_id: i64,
    actions: Vec<Action>,
}

impl World {
    fn new(sessions: u128) -> World {
        let mut world = World {
            dispatcher: Dispatcher::new(LIMITS),
            now: Duration::from_secs(1),
            next_id: 1,
            actions: Vec::new(),
        };
        for session in 1..=sessions {
            let request = SessionRequest {
                session: SessionId(session),
                worker: "".into(),
                queues: vec![QUEUE],
                max_in_flight: 400,
                concurrency: 100,
                held: Vec::new(),
                adopted: Vec::new(),
            };
            world.dispatcher.subscribe(world.now, request, &mut world.actions);
        }
        // The first look at the backlog finds nothing: from here on jobs may be taken directly.
        for action in std::mem::take(&mut world.actions) {
            if let Action::Claim { queue, limit, .. } = action {
                let (now, actions) = (world.now, &mut world.actions);
                world.dispatcher.claimed(now, Duration::ZERO, queue, limit, Vec::new(), actions);
            }
        }
        // Sessions that have said how short their jobs are.
        for session in 1..=sessions {
            let (now, id) = (world.now, SessionId(session));
            world.dispatcher.completing(now, id, 0, Some(RUN_TIME), [], &mut world.actions);
        }
        world.actions.clear();
        world
    }

    /// A flush of so many jobs, from the decision to take them to the end of their leases.
    fn cycle(&mut self, jobs: i64) {
        self.now += Duration::from_millis(1);
        let ids = self.next_id..self.next_id + jobs;
        self.next_id += jobs;
        let mut storing: Vec<Storing> = ids
            .map(|id| Storing {
                queue: QUEUE,
                id: JobId(id),
                priority: 0,
                bytes: 200,
                taken: false,
                keyed: false,
            })
            .collect();
        self.dispatcher.storing(&mut storing);
        assert!(storing.iter().all(|job| job.taken), "there is room, and no backlog");
        let taken: Vec<_> = storing.iter().map(|job| (QUEUE, taken(job.id))).collect();
        self.dispatcher.stored(self.now, &storing, taken, &mut self.actions);
        let mut finished = 0;
        for action in std::mem::take(&mut self.actions) {
            let Action::Deliver { session, delivery } = action else { continue };
            let attempts: Vec<Attempt> = delivery
                .jobs
                .iter()
                .map(|job| Attempt { id: job.id, number: job.attempt })
                .collect();
            finished += attempts.len();
            let (now, actions) = (self.now, &mut self.actions);
            let run_time = Some(RUN_TIME);
            let completings =
                self.dispatcher.completing(now, session, delivery.seq, run_time, attempts, actions);
            self.dispatcher.completed(now, session, &completings, actions);
        }
        assert_eq!(finished as i64, jobs, "all were delivered");
    }
}

fn taken(id: JobId) -> TakenJob {
    engine::bench::taken(id, PAYLOAD)
}

fn dispatcher(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("stored to completed");
    for (jobs, sessions) in [(1000, 5), (1000, 100), (1000, 1000), (1, 5), (1, 1000)] {
        let mut world = World::new(sessions);
        group.throughput(Throughput::Elements(jobs));
        let id = BenchmarkId::new(format!("{jobs} jobs"), format!("{sessions} sessions"));
        group.bench_function(id, |bencher| bencher.iter(|| world.cycle(jobs.cast_signed())));
    }
    group.finish();
}

fn batcher(criterion: &mut Criterion) {
    criterion.bench_function("a request into a batch", |bencher| {
        let mut batcher = Batcher::new(2000, 8 << 20, 2);
        bencher.iter(|| {
            batcher.add(black_box(1), black_box(200));
            if batcher.should_flush() {
                batcher.flush_started(1, 200);
                batcher.flush_ended();
            }
        });
    });
}

criterion_group!(benches, dispatcher, batcher);
criterion_main!(benches);
