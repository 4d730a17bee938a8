//! The ports: who may connect, how long a connection may say nothing, and TLS.
//!
//! A connection has its place from the moment it is accepted, so that one number bounds all of them: those
//! that haven't said anything yet, those in their handshake, those at work. One that keeps its place for
//! nothing loses it after a while; how that is told, `connection` says.

mod certificates;
mod connection;
mod descriptors;
mod listener;
mod tls;

use std::time::Duration;

pub use self::{
    certificates::{TlsError, TlsFiles},
    connection::{Connection, Peer},
    descriptors::raise_descriptors,
    listener::Listener,
    tls::{Tls, keep_fresh},
};

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    Grpc,
    Http,
}

impl Port {
    const ALL: [Self; 2] = [Self::Grpc, Self::Http];

    /// As metrics call it.
    fn name(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Http => "http",
        }
    }

    /// What clients may speak, by its name in ALPN.
    fn protocol(self) -> &'static [u8] {
        match self {
            Self::Grpc => b"h2",
            Self::Http => b"http/1.1",
        }
    }
}

/// What holds for the connections of a port.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open at once.
    pub connections_max: usize,
    /// gRPC: from the connection to the end of HTTP/2's preface; what keeps a place after that is found by
    /// pings. HTTP: from the connection, or the last byte of an answer, to the next one.
    pub silence_max: Duration,
}

/// Counts a connection that was closed for this reason before it was of use.
fn refused(reason: &'static str) {
    metrics::counter!("currant_connections_refused_total", "reason" => reason).increment(1);
}
