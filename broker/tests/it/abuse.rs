//! Whoever abuses the ports: it is bounded, it leaves nothing, and others keep their service.

use std::{fs, time::Duration};

use currant_broker::port::raise_descriptors;
use currant_proto::v1::{EnqueueRequest, GetRequest};
use prost::Message;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, tcp::OwnedReadHalf},
};
use tonic::{Code, Request};

use crate::support::{
    Broker, Bystander, Database, PATIENCE, cut, eventually,
    frames::{
        CONTINUATION, DATA, END_HEADERS, END_STREAM, GO_AWAY, HEADERS, PING, RESET, SETTINGS,
        WINDOW_UPDATE, beginning, frame, frames, headers, stream,
    },
    http_get, job, value,
};

const CHECK: &str = "/grpc.health.v1.Health/Check";
const ENQUEUE: &str = "/currant.v1.JobService/Enqueue";

/// What a process holds.
#[derive(Clone, Copy, Debug)]
struct Holds {
    descriptors: usize,
    resident_kib: usize,
    tasks: f64,
    connections: f64,
}

async fn holds(broker: &Broker) -> Holds {
    let process = format!("/proc/{}", broker.pid());
    let status = fs::read_to_string(format!("{process}/status")).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let resident_kib = resident.split_whitespace().next().unwrap().parse().unwrap();
    let metrics = broker.metrics().await;
    let tasks = value(&metrics, "currant_tasks").unwrap();
    let connections = value(&metrics, "currant_connections{port=\"grpc\"}").unwrap();
    let descriptors = fs::read_dir(format!("{process}/fd")).unwrap().count();
    Holds { descriptors, resident_kib, tasks, connections }
}

/// Everything goes back to what it was; `more_kib` may stay with the allocator. Nothing of it is worth a
/// line in the log.
async fn nothing_is_left(broker: &Broker, before: Holds, more_kib: usize) {
    eventually("descriptors and tasks are back", async || {
        let now = holds(broker).await;
        now.descriptors <= before.descriptors + 2
            && now.tasks <= before.tasks + 4.0
            && now.connections <= before.connections + 1.0
    })
    .await;
    let after = holds(broker).await;
    println!("before {before:?}, after {after:?}");
    let log = broker.log();
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
    assert!(after.resident_kib < before.resident_kib + more_kib, "{before:?}, {after:?}");
}

/// Three times what it is alone; the rest is for what else this machine does. `beside` has no rest.
fn assert_served(alone: Duration, beside: Duration) {
    println!("p99 alone {alone:?}, beside {beside:?}");
    assert!(beside < 3 * alone + Duration::from_millis(250), "{alone:?} alone, {beside:?} beside");
}

/// All that comes until the connection ends.
async fn rest(mut half: OwnedReadHalf) -> Vec<u8> {
    let mut bytes = Vec::new();
    // It may be reset.
    let _ = half.read_to_end(&mut bytes).await;
    bytes
}

/// Sends this again and again, until the connection is closed, and returns what came in.
async fn send(broker: &Broker, times: u32, mut bytes: impl FnMut(u32) -> Vec<u8>) -> Vec<u8> {
    let (read, mut write) = TcpStream::connect(&broker.grpc).await.unwrap().into_split();
    let answers = tokio::spawn(rest(read));
    write.write_all(&beginning()).await.unwrap();
    for number in 0..times {
        if write.write_all(&bytes(number)).await.is_err() {
            break;
        }
    }
    let _ = write.shutdown().await;
    tokio::time::timeout(PATIENCE, answers).await.expect("it stays open").unwrap()
}

/// Opens a stream.
fn call(number: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream(number), &headers(path))
}

fn reset(number: u32) -> Vec<u8> {
    const CANCEL: u32 = 8;
    frame(RESET, 0, stream(number), &CANCEL.to_be_bytes())
}

/// Whether the connection was ended for what was sent on it.
fn is_told_off(answer: &[u8]) -> bool {
    let is_error = |payload: &[u8]| payload[4..8] != [0; 4];
    frames(answer).iter().any(|(kind, _, payload)| *kind == GO_AWAY && is_error(payload))
}

#[tokio::test]
async fn floods_of_frames_cost_others_nothing() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let alone = Bystander::alone(&broker).await;
    let before = holds(&broker).await;
    let bystander = Bystander::beside(&broker);

    let answer = send(&broker, 20_000, |n| [call(n, ENQUEUE), reset(n)].concat()).await;
    assert!(is_told_off(&answer), "streams are opened and reset for ever");

    let endless = |n| match n {
        0 => frame(HEADERS, 0, 1, &headers(ENQUEUE)),
        _ => frame(CONTINUATION, 0, 1, &b"\x00\x01x\x01y".repeat(200)),
    };
    assert!(is_told_off(&send(&broker, 20_000, endless).await), "headers have no end");

    let empty = |n| if n == 0 { call(0, ENQUEUE) } else { frame(DATA, 0, 1, &[]) };
    assert!(is_told_off(&send(&broker, 50_000, empty).await), "data says nothing for ever");

    send(&broker, 20_000, |_| frame(PING, 0, 0, &[0; 8])).await;
    send(&broker, 20_000, |_| frame(SETTINGS, 0, 0, &[])).await;
    let window = |increment: u32| frame(WINDOW_UPDATE, 0, 0, &increment.to_be_bytes());
    assert!(is_told_off(&send(&broker, 2, |_| window(0)).await), "a window grows by nothing");
    assert!(is_told_off(&send(&broker, 2, |_| window(u32::MAX >> 1)).await), "or by too much");

    assert_served(alone, bystander.end().await);
    nothing_is_left(&broker, before, 64 << 10).await;
    assert_eq!(broker.terminate().await.code(), Some(0));
}

#[tokio::test]
async fn calls_that_are_reset_while_they_wait_leave_their_places() {
    let database = Database::fresh().await;
    let broker = Broker::start_with(&database, &[("GRPC__CONCURRENT_REQUESTS_MAX", "3")]).await;
    let before = holds(&broker).await;
    let (mut read, mut write) = TcpStream::connect(&broker.grpc).await.unwrap().into_split();
    write.write_all(&beginning()).await.unwrap();
    let mut answer = Vec::new();
    for number in 0..200 {
        let ping = frame(PING, 0, 0, &u64::from(number).to_be_bytes());
        write.write_all(&[call(number, ENQUEUE), ping].concat()).await.unwrap();
        let is_pong = |(kind, _, payload): &(u8, u32, Vec<u8>)| {
            *kind == PING && payload[..] == u64::from(number).to_be_bytes()
        };
        while !frames(&answer).iter().any(is_pong) {
            assert_ne!(read.read_buf(&mut answer).await.unwrap(), 0, "{number}");
        }
        write.write_all(&reset(number)).await.unwrap();
    }
    drop((read, write));
    for _ in 0..10 {
        broker.enqueue([job("q", b"")]).await;
    }
    nothing_is_left(&broker, before, 32 << 10).await;
}

#[tokio::test]
async fn streams_beyond_the_limit_of_a_connection_are_refused() {
    const REFUSED: [u8; 4] = 7_u32.to_be_bytes();
    let database = Database::fresh().await;
    let settings = [("GRPC__STREAMS_PER_CONNECTION_MAX", "100")];
    let broker = Broker::start_with(&database, &settings).await;
    let answer = send(&broker, 150, |number| call(number, CHECK)).await;
    let refused =
        |(kind, _, payload): &&(u8, u32, Vec<u8>)| *kind == RESET && payload[..] == REFUSED;
    assert_eq!(frames(&answer).iter().filter(refused).count(), 50);
}

#[tokio::test]
async fn a_health_check_that_is_never_sent_to_its_end_is_ended() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let (mut read, mut write) = TcpStream::connect(&broker.grpc).await.unwrap().into_split();
    write.write_all(&[beginning(), call(0, CHECK)].concat()).await.unwrap();
    // A large message, as it says, of which a byte has come.
    let half = frame(DATA, 0, 1, &[0, 0, 0, 1, 0, 0]);
    write.write_all(&half).await.unwrap();
    let too_large = frame(DATA, 0, stream(1), &[0, 0, 1, 0, 0, 0]);
    write.write_all(&[call(1, CHECK), too_large].concat()).await.unwrap();
    let mut answer = Vec::new();
    eventually("both are answered", async || {
        let _ = tokio::time::timeout(Duration::from_millis(20), read.read_buf(&mut answer)).await;
        let ended: Vec<u32> = frames(&answer)
            .into_iter()
            .filter_map(|(kind, stream, _)| (kind == HEADERS).then_some(stream))
            .collect();
        ended.contains(&1) && ended.contains(&3)
    })
    .await;
}

#[tokio::test]
async fn headers_over_the_limit_are_refused_and_the_connection_goes_on() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut client = broker.jobs();
    for (len, taken) in [(8 << 10, true), (32 << 10, false), (0, true)] {
        let mut request = Request::new(GetRequest { job_id: 1, ..Default::default() });
        request.metadata_mut().insert("x-large", "x".repeat(len).parse().unwrap());
        let status = client.get(request).await.unwrap_err();
        assert_eq!(status.code() == Code::NotFound, taken, "{len}: {status:?}");
    }
    let (mut read, mut write) = TcpStream::connect(&broker.http).await.unwrap().into_split();
    let large = format!("GET / HTTP/1.1\r\nX-Large: {}\r\n\r\n", "x".repeat(1 << 20));
    let sent = tokio::spawn(async move { write.write_all(large.as_bytes()).await });
    let mut answer = Vec::new();
    let _ = read.read_to_end(&mut answer).await;
    let _ = sent.await.unwrap();
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"), "{}", answer.len());
    assert_eq!(http_get(&broker.http, "/health/live").await.0, 200);
}

#[tokio::test]
async fn what_is_cut_off_anywhere_ends_with_its_connection() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let jobs = vec![job("q", b"payload")];
    let message = EnqueueRequest { jobs, ..Default::default() }.encode_to_vec();
    let prefixed = [&[0, 0, 0, 0, u8::try_from(message.len()).unwrap()][..], &message].concat();
    let call = [beginning(), call(0, ENQUEUE), frame(DATA, END_STREAM, 1, &prefixed)].concat();
    let get = b"GET /health/live HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n".to_vec();
    let before = holds(&broker).await;
    for (address, whole) in [(&broker.grpc, call), (&broker.http, get)] {
        for len in 0..=whole.len() {
            let (read, mut write) = TcpStream::connect(address).await.unwrap().into_split();
            write.write_all(&whole[..len]).await.unwrap();
            write.shutdown().await.unwrap();
            let ended = tokio::time::timeout(PATIENCE, rest(read)).await;
            assert!(ended.is_ok(), "{len} bytes of {} keep a connection open", whole.len());
        }
    }
    nothing_is_left(&broker, before, 32 << 10).await;
    assert!(database.number("SELECT count(*) FROM currant.job").await <= 1);
    assert_eq!(broker.terminate().await.code(), Some(0));
}

#[tokio::test]
async fn thousands_of_idle_connections_cost_little_and_leave_nothing() {
    let database = Database::fresh().await;
    let broker = Broker::start_with(&database, &[("GRPC__OPENING_MS_MAX", "60000")]).await;
    // Each takes one here and one there, and others run tests of their own.
    let count = (raise_descriptors() / 4).min(4000);
    let alone = Bystander::alone(&broker).await;
    let before = holds(&broker).await;
    let bystander = Bystander::beside(&broker);
    let mut idle = Vec::new();
    for number in 0..count {
        let mut stream = TcpStream::connect(&broker.grpc).await.unwrap();
        if number % 2 == 0 {
            stream.write_all(&beginning()).await.unwrap();
        }
        idle.push(stream);
    }
    let open = async || broker.metric("currant_connections{port=\"grpc\"}").await.unwrap();
    eventually("all are there", async || open().await >= count as f64).await;
    let during = holds(&broker).await;
    assert_served(alone, bystander.end().await);
    let each = (during.resident_kib.saturating_sub(before.resident_kib)) * 1024 / count;
    println!("{count} connections, {each} bytes each");
    assert!(each < 64 << 10, "{each} bytes for an idle connection");
    drop(idle);
    nothing_is_left(&broker, before, 128 << 10).await;
    assert_eq!(broker.terminate().await.code(), Some(0));
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_and_the_others_go_on() {
    let database = Database::fresh().await;
    let settings = [("GRPC__CONNECTIONS_MAX", "10"), ("HTTP__CONNECTIONS_MAX", "10")];
    let broker = Broker::start_with(&database, &settings).await;
    broker.enqueue([job("q", b"")]).await;
    for (address, room) in [(&broker.grpc, 9), (&broker.http, 10)] {
        let mut open = Vec::new();
        for _ in 0..room {
            open.push(TcpStream::connect(address).await.unwrap());
        }
        // The listener takes them in order.
        let (read, _write) = TcpStream::connect(address).await.unwrap().into_split();
        let closed = tokio::time::timeout(PATIENCE, rest(read)).await;
        assert_eq!(closed.expect("it is let in"), b"");
        broker.enqueue([job("q", b"")]).await;
        drop(open);
        eventually("there is room again", async || {
            let (mut read, mut write) = TcpStream::connect(address).await.unwrap().into_split();
            let _ = write.write_all(&beginning()).await;
            read.read_u8().await.is_ok()
        })
        .await;
    }
    let refused = broker.metric("currant_connections_refused_total{reason=\"full\"}").await;
    assert!(refused.unwrap() >= 2.0, "{refused:?}");
    assert_eq!(broker.metric("currant_connections_max{port=\"http\"}").await, Some(10.0));
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed() {
    let database = Database::fresh().await;
    let settings = [
        ("GRPC__OPENING_MS_MAX", "200"),
        ("GRPC__PING_INTERVAL_MS", "200"),
        ("HTTP__IDLE_MS_MAX", "200"),
    ];
    let broker = Broker::start_with(&database, &settings).await;
    broker.enqueue([job("q", b"")]).await;
    for address in [&broker.grpc, &broker.http] {
        // The last one begins, but answers no ping.
        for said in [&b""[..], b"P", &beginning()] {
            let (read, mut write) = TcpStream::connect(address).await.unwrap().into_split();
            write.write_all(said).await.unwrap();
            let closed = tokio::time::timeout(PATIENCE, rest(read)).await;
            assert!(closed.is_ok(), "it stays open after {said:?}");
        }
    }
    // One that answers may be silent.
    broker.enqueue([job("q", b"")]).await;
    let silent = broker.metric("currant_connections_refused_total{reason=\"silence\"}").await;
    // All but the one that was ended by its pings.
    assert_eq!(silent, Some(5.0));
}

#[tokio::test]
async fn a_broker_without_descriptors_goes_on_and_keeps_those_of_the_database() {
    let database = Database::fresh().await;
    let broker = Broker::start_with_descriptors(&database, 400).await;
    broker.enqueue([job("q", b"")]).await;
    let mut open = Vec::new();
    for _ in 0..600 {
        open.push(TcpStream::connect(&broker.grpc).await.unwrap());
    }
    let (read, _write) = TcpStream::connect(&broker.grpc).await.unwrap().into_split();
    assert_eq!(tokio::time::timeout(PATIENCE, rest(read)).await.expect("it is let in"), b"");
    // The pool's connections are cut: there is room for new ones.
    let client = database.connect().await;
    cut(&client, "currant-broker%").await;
    let jobs = EnqueueRequest { jobs: vec![job("q", b"")], ..Default::default() };
    let stored = async || broker.jobs().enqueue(jobs.clone()).await.is_ok();
    eventually("the database is reached again", stored).await;
    drop(open);
    broker.enqueue([job("q", b"")]).await;
    assert_eq!(broker.terminate().await.code(), Some(0));
}
