//! What the steps between messages, decisions and statements cost, a thousand jobs at a time.

#![allow(missing_docs, reason = "criterion's macros make items without")]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use currant_broker::{
    domain::{JobId, JobKey, QueueId, TakenJob},
    engine, rpc,
    store::{self, InsertRow, Success},
};
use currant_proto::v1::{Completion, NewJob, Succeeded, completion::Outcome};

const JOBS: usize = 1000;
const QUEUE: QueueId = QueueId(1);
const KIND: &str = "send_email";
static PAYLOAD: Bytes = Bytes::from_static(&[7; 100]);

fn ids() -> impl Iterator<Item = JobId> {
    (1..=JOBS as i64).map(JobId)
}

fn taken(id: JobId) -> TakenJob {
    engine::bench::taken(id, PAYLOAD.clone())
}

fn convert(criterion: &mut Criterion) {
    let job = || NewJob {
        queue: "emails".to_owned(),
        kind: KIND.to_owned(),
        payload: PAYLOAD.clone(),
        ..NewJob::default()
    };
    let completion = |id: JobId| Completion {
        job_id: id.0,
        attempt: 1,
        outcome: Some(Outcome::Succeeded(Succeeded::default())),
    };
    let jobs = || (0..JOBS).map(|_| job()).collect::<Vec<_>>();
    let completions = || ids().map(completion).collect::<Vec<_>>();
    let taken = || ids().map(taken).collect::<Vec<_>>();
    let mut group = criterion.benchmark_group("convert");
    group.throughput(Throughput::Elements(JOBS as u64));
    group.bench_function("jobs of an Enqueue", |bencher| {
        bencher.iter_batched(jobs, |jobs| rpc::bench::new_jobs(jobs, QUEUE), BatchSize::SmallInput);
    });
    group.bench_function("completions", |bencher| {
        bencher.iter_batched(completions, rpc::bench::completions, BatchSize::SmallInput);
    });
    group.bench_function("assignments", |bencher| {
        bencher.iter_batched(taken, rpc::bench::assignments, BatchSize::SmallInput);
    });
    group.finish();
}

fn statements(criterion: &mut Criterion) {
    let row = |id| InsertRow {
        key: JobKey { queue: QUEUE, id },
        kind: KIND,
        payload: &PAYLOAD,
        priority: 0,
        phase: store::PHASE_TAKEN,
        run_at: None,
        max_attempts: None,
        options: None,
        idempotency_key: None,
        job_key: None,
    };
    let rows: Vec<InsertRow<'_>> = ids().map(row).collect();
    let mut group = criterion.benchmark_group("statements");
    group.throughput(Throughput::Elements(JOBS as u64));
    for (name, plain) in [("plain", true), ("full", false)] {
        group.bench_function(BenchmarkId::new("COPY rows", name), |bencher| {
            bencher.iter(|| store::bench::copy_rows(black_box(&rows), plain));
        });
    }
    // Every so many ids one is missing.
    for run in [1, 10, JOBS] {
        let success = |id: JobId| Success {
            key: JobKey { queue: QUEUE, id: JobId(id.0 + id.0 / run as i64) },
            attempt: 1,
            result: &[],
        };
        let successes: Vec<Success<'_>> = ids().map(success).collect();
        group.bench_function(BenchmarkId::new("runs of ids", run), |bencher| {
            bencher.iter(|| store::bench::count_runs(black_box(&successes)));
        });
    }
    group.finish();
}

fn engine_parts(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("engine");
    group.throughput(Throughput::Elements(JOBS as u64));
    group.bench_function("buffer, packs of 64", |bencher| {
        let taken = || ids().map(taken).collect::<Vec<_>>();
        bencher.iter_batched(taken, |jobs| engine::bench::buffer(jobs, 64), BatchSize::SmallInput);
    });
    for sessions in [16, JOBS] {
        group.bench_function(BenchmarkId::new("fill, sessions", sessions), |bencher| {
            bencher.iter(|| {
                let held = (0..black_box(sessions)).map(|session| session % 7);
                engine::bench::share(held, 100, JOBS)
            });
        });
    }
    group.bench_function("backlog, claims of 100", |bencher| {
        let rows: Vec<(i16, JobId)> = ids().map(|id| (0, id)).collect();
        bencher.iter(|| engine::bench::backlog(black_box(&rows), 100));
    });
    group.finish();
}

criterion_group!(benches, convert, statements, engine_parts);
criterion_main!(benches);
