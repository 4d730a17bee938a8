//! What messages of a thousand jobs cost to read and to write.

#![allow(missing_docs, reason = "criterion's macros make items without")]

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use currant_proto::v1::{
    Assignment, Assignments, CompleteRequest, Completion, EnqueueRequest, NewJob, Succeeded,
    completion::Outcome,
};
use prost::Message;

const JOBS: u64 = 1000;
const PAYLOAD: Bytes = Bytes::from_static(&[7; 100]);

fn enqueue() -> EnqueueRequest {
    let job = NewJob {
        queue: "emails".to_owned(),
        kind: "send_email".to_owned(),
        payload: PAYLOAD,
        ..NewJob::default()
    };
    EnqueueRequest { jobs: vec![job; JOBS as usize], ..EnqueueRequest::default() }
}

fn assignments() -> Assignments {
    let job = Assignment {
        job_id: i64::MAX >> 2,
        attempt: 1,
        kind: "send_email".to_owned(),
        payload: PAYLOAD,
        ..Assignment::default()
    };
    Assignments { seq: 1, queue: "emails".to_owned(), jobs: vec![job; JOBS as usize] }
}

fn complete() -> CompleteRequest {
    let completion = Completion {
        job_id: i64::MAX >> 2,
        attempt: 1,
        outcome: Some(Outcome::Succeeded(Succeeded::default())),
    };
    CompleteRequest { completions: vec![completion; JOBS as usize], ..CompleteRequest::default() }
}

fn decode<M: Message + Default>(criterion: &mut Criterion, name: &str, message: &M) {
    let bytes = Bytes::from(message.encode_to_vec());
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Elements(JOBS));
    group.bench_function(name, |bencher| {
        bencher.iter(|| M::decode(black_box(bytes.clone())).expect("it was encoded above"));
    });
    group.finish();
}

fn encode<M: Message>(criterion: &mut Criterion, name: &str, message: &M) {
    let mut group = criterion.benchmark_group("encode");
    group.throughput(Throughput::Elements(JOBS));
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            let mut buffer = BytesMut::with_capacity(message.encoded_len());
            black_box(message).encode(&mut buffer).expect("there is room");
            buffer
        });
    });
    group.finish();
}

fn wire(criterion: &mut Criterion) {
    decode(criterion, "Enqueue", &enqueue());
    decode(criterion, "Complete", &complete());
    encode(criterion, "Assignments", &assignments());
}

criterion_group!(benches, wire);
criterion_main!(benches);
