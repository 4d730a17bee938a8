//! The faults that can be injected.

use std::{fmt, time::Duration};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// What happens, without where and for how long. Ordered for reports.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    /// SIGKILL of a broker, a new process some time after; half the time its workers go to another
    /// broker.
    KillBroker,
    /// SIGTERM of a broker, which drains, and a new process, as in a rolling restart.
    DrainBroker,
    /// SIGKILL of a worker, a new process some time after.
    KillWorker,
    /// Fast shutdown of Postgres, and a start.
    PostgresFast,
    /// Immediate shutdown of Postgres, and a start, which recovers from the log.
    PostgresImmediate,
    /// Every connection of every broker is ended, several times a second.
    CutConnections,
    /// Idle clients take all of Postgres' connections after the brokers' were ended.
    ExhaustConnections,
    /// SIGSTOP of a broker, SIGCONT some time after.
    StopBroker,
    /// SIGSTOP of a worker, SIGCONT some time after.
    StopWorker,
    /// Somebody holds a lock on the table of jobs that lets nobody in.
    LockTable,
    /// A broker with the smallest statement timeout, while locks come and go.
    TinyTimeout,
    /// What Postgres writes is on disk late.
    SlowDisk,
    /// A worker's clock is an hour ahead, or back, for a while.
    JumpClock,
    /// Everything on a link comes late.
    Latency,
    /// The connections of a link are reset, several times a second.
    Resets,
    /// What is sent on a link, in one direction or both, doesn't arrive; the connections stay.
    BlackHole,
    /// A link passes a few bytes at a time.
    Drip,
}

/// One fault as planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    KillBroker { broker: usize, failover: bool },
    DrainBroker { broker: usize },
    KillWorker { worker: usize },
    PostgresFast,
    PostgresImmediate,
    CutConnections,
    ExhaustConnections,
    StopBroker { broker: usize },
    StopWorker { worker: usize },
    LockTable,
    TinyTimeout { broker: usize },
    SlowDisk,
    JumpClock { worker: usize, ahead: bool },
    Link { link: Link, trouble: Trouble },
}

/// A way that bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// From the producers to a broker.
    Client(usize),
    /// From a worker to its broker.
    Worker(usize),
    /// From a broker to Postgres.
    Postgres(usize),
}

/// What a proxy does to a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Of each piece, in each direction.
    Latency(Duration),
    Resets,
    BlackHole(Swallows),
    Drip,
}

/// Which direction of a black hole swallows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Swallows {
    Requests,
    Answers,
    Both,
}

impl Fault {
    pub(super) fn kind(self) -> Kind {
        match self {
            Fault::KillBroker { .. } => Kind::KillBroker,
            Fault::DrainBroker { .. } => Kind::DrainBroker,
            Fault::KillWorker { .. } => Kind::KillWorker,
            Fault::PostgresFast => Kind::PostgresFast,
            Fault::PostgresImmediate => Kind::PostgresImmediate,
            Fault::CutConnections => Kind::CutConnections,
            Fault::ExhaustConnections => Kind::ExhaustConnections,
            Fault::StopBroker { .. } => Kind::StopBroker,
            Fault::StopWorker { .. } => Kind::StopWorker,
            Fault::LockTable => Kind::LockTable,
            Fault::TinyTimeout { .. } => Kind::TinyTimeout,
            Fault::SlowDisk => Kind::SlowDisk,
            Fault::JumpClock { .. } => Kind::JumpClock,
            Fault::Link { trouble: Trouble::Latency(_), .. } => Kind::Latency,
            Fault::Link { trouble: Trouble::Resets, .. } => Kind::Resets,
            Fault::Link { trouble: Trouble::BlackHole(_), .. } => Kind::BlackHole,
            Fault::Link { trouble: Trouble::Drip, .. } => Kind::Drip,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_possible_value() {
            Some(value) => out.pad(value.get_name()),
            None => write!(out, "{self:?}"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind();
        match self {
            Fault::KillBroker { broker, failover: true } => {
                write!(out, "{kind} {broker}, its workers go to another")
            }
            Fault::KillBroker { broker, .. }
            | Fault::DrainBroker { broker }
            | Fault::StopBroker { broker }
            | Fault::TinyTimeout { broker } => write!(out, "{kind} {broker}"),
            Fault::KillWorker { worker } | Fault::StopWorker { worker } => {
                write!(out, "{kind} {worker}")
            }
            Fault::JumpClock { worker, ahead } => {
                write!(out, "{kind} {worker} {}", if *ahead { "ahead" } else { "back" })
            }
            Fault::Link { link, trouble } => {
                let (from, number, to) = match link {
                    Link::Client(number) => ("clients", number, "broker"),
                    Link::Worker(number) => ("worker", number, "its broker"),
                    Link::Postgres(number) => ("broker", number, "Postgres"),
                };
                write!(out, "{kind} between {from} and {to} ({number})")?;
                match trouble {
                    Trouble::Latency(late) => write!(out, ", {late:?}"),
                    Trouble::BlackHole(swallows) => write!(out, ", {swallows:?}"),
                    Trouble::Resets | Trouble::Drip => Ok(()),
                }
            }
            _ => write!(out, "{kind}"),
        }
    }
}
