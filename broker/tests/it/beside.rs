//! A client that behaves, beside each kind of those that don't: its p99 is at most three times what it is alone.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    sync::mpsc::{Receiver, RecvTimeoutError, sync_channel},
    thread,
    time::Duration,
};

use crate::support::{
    Broker, Bystander, Database, PATIENCE,
    frames::{CONTINUATION, DATA, END_HEADERS, HEADERS, RESET, beginning, frame, headers, stream},
};

const FACTOR: u32 = 3;
const ROUND: Duration = Duration::from_millis(700);
/// Other tests run on this machine: a round that they disturb is repeated.
const ROUNDS: usize = 10;

const ENQUEUE: &str = "/currant.v1.JobService/Enqueue";
/// Between two of an abuse.
const PAUSE: Duration = Duration::from_millis(1);
const IDLE: usize = 500;

/// Where the ports are, and who says when it is over.
struct Ports {
    grpc: String,
    http: String,
    stop: Receiver<()>,
}

impl Ports {
    fn is_over(&self) -> bool {
        self.stop.recv_timeout(PAUSE) != Err(RecvTimeoutError::Timeout)
    }

    /// Sends this on a connection of its own, until it is closed.
    fn send(&self, address: &str, pieces: impl IntoIterator<Item = Vec<u8>>) {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        for piece in pieces {
            if stream.write_all(&piece).is_err() {
                return;
            }
        }
        // It may be closed, or reset, already.
        let _ = stream.shutdown(Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    }
}

fn call(number: u32, flags: u8) -> Vec<u8> {
    frame(HEADERS, flags, stream(number), &headers(ENQUEUE))
}

fn garbage(ports: &Ports) {
    for address in [&ports.grpc, &ports.http] {
        let noise = (0..2000).map(|_| fastrand::u8(..));
        let begins = if fastrand::bool() { beginning() } else { Vec::new() };
        ports.send(address, [begins.into_iter().chain(noise).collect()]);
    }
}

fn resets(ports: &Ports) {
    const CANCEL: [u8; 4] = 8_u32.to_be_bytes();
    let reset = |n| [call(n, END_HEADERS), frame(RESET, 0, stream(n), &CANCEL)].concat();
    ports.send(&ports.grpc, [beginning()].into_iter().chain((0..500).map(reset)));
}

fn headers_without_end(ports: &Ports) {
    let more = || frame(CONTINUATION, 0, 1, &b"\x00\x01x\x01y".repeat(2000));
    ports.send(&ports.grpc, [beginning(), call(0, 0)].into_iter().chain((0..50).map(|_| more())));
    let large = format!("GET / HTTP/1.1\r\nX-Large: {}\r\n\r\n", "x".repeat(1 << 20));
    ports.send(&ports.http, [large.into_bytes()]);
}

fn messages_too_large(ports: &Ports) {
    let calls = (0..50).map(|number| {
        let head = frame(DATA, 0, stream(number), &[0, 0x7f, 0, 0, 0, 1, 2, 3]);
        [call(number, END_HEADERS), head].concat()
    });
    ports.send(&ports.grpc, [beginning()].into_iter().chain(calls));
}

fn halves(ports: &Ports) {
    let half = frame(DATA, 0, 1, &[0, 0, 0, 1, 0, 1, 2, 3]);
    ports.send(&ports.grpc, [beginning(), call(0, END_HEADERS), half]);
    ports.send(&ports.http, [b"POST /api/x/y HTTP/1.1\r\nContent-Length: 9\r\n\r\nx".to_vec()]);
}

fn idle(ports: &Ports) {
    let connect = |_| TcpStream::connect(&ports.grpc).unwrap();
    let connections: Vec<TcpStream> = (0..IDLE).map(connect).collect();
    // Until the other end is dropped.
    let _ = ports.stop.recv();
    drop(connections);
}

/// Once; it is repeated until it is over.
type Abuse = fn(&Ports);

const ABUSES: [(&str, Abuse); 6] = [
    ("garbage", garbage),
    ("streams opened and reset", resets),
    ("headers without an end", headers_without_end),
    ("messages too large", messages_too_large),
    ("halves of calls", halves),
    ("idle connections", idle),
];

/// Its p99 beside this abuse.
async fn beside(broker: &Broker, abuse: Abuse) -> Duration {
    let (stop, stopped) = sync_channel(0);
    let ports = Ports { grpc: broker.grpc.clone(), http: broker.http.clone(), stop: stopped };
    let abuser = thread::spawn(move || {
        while !ports.is_over() {
            abuse(&ports);
        }
    });
    let bystander = Bystander::beside(broker);
    tokio::time::sleep(ROUND).await;
    let p99 = bystander.end().await;
    drop(stop);
    abuser.join().unwrap();
    p99
}

#[tokio::test]
async fn a_client_that_behaves_waits_at_most_three_times_as_long_beside_each_abuse() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    for (name, abuse) in ABUSES {
        let mut rounds = Vec::new();
        loop {
            let alone = Bystander::alone(&broker).await;
            let beside = beside(&broker, abuse).await;
            println!("{name}: p99 alone {alone:?}, beside {beside:?}");
            if beside <= FACTOR * alone {
                break;
            }
            rounds.push((alone, beside));
            assert!(rounds.len() < ROUNDS, "{name}: {rounds:?}");
        }
    }
    assert_eq!(broker.terminate().await.code(), Some(0));
}
