//! Calls about brokers and the sessions of workers.

use std::time::{Duration, SystemTime};

use currant_proto::v1;

use crate::{
    client::Client,
    error::Error,
    retry::with_retry,
    time::{from_proto, from_timestamp},
};

/// Sessions that a call asks for.
const PAGE: u32 = 1000;

/// One start of a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Broker {
    /// New with each start.
    pub id: i32,
    /// As in its settings.
    pub name: String,
    /// Whether it is the one that answered.
    pub answers: bool,
    /// When it showed life last, by the database's clock.
    pub heartbeat_at: Option<SystemTime>,
    /// Since when others hold it for dead, or it has ended; None: it lives.
    pub dead_at: Option<SystemTime>,
    /// Open sessions, once for each of their queues, as it said last.
    pub sessions: u64,
    /// Jobs with workers, in its memory or on their way there, as it said last.
    pub held: u64,
    /// The limited queues that it owns.
    pub owned_queues: Vec<String>,
}

/// A worker's session, as the broker that has it knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Session {
    /// The beginning of its id: 8 hexadecimal digits.
    pub id: String,
    /// The worker's name.
    pub worker: String,
    /// Whose jobs it takes.
    pub queues: Vec<String>,
    /// How many it may hold: its credit.
    pub max_in_flight: u32,
    /// How many it runs at a time.
    pub concurrency: u32,
    /// How many it holds.
    pub held: u32,
    /// False: its stream has ended, and it has some time to come back.
    pub attached: bool,
    /// How long ago it showed life.
    pub seen: Duration,
}

impl Broker {
    fn from_proto(broker: v1::Broker) -> Result<Broker, Error> {
        let v1::Broker { id, name, answers, heartbeat_at, dead_at, sessions, held, owned_queues } =
            broker;
        let (heartbeat_at, dead_at) = (from_timestamp(heartbeat_at)?, from_timestamp(dead_at)?);
        Ok(Broker { id, name, answers, heartbeat_at, dead_at, sessions, held, owned_queues })
    }
}

impl Session {
    fn from_proto(session: v1::Session) -> Session {
        let v1::Session { id, worker, queues, max_in_flight, concurrency, held, attached, seen } =
            session;
        let seen = from_proto(seen).unwrap_or_default();
        Session { id, worker, queues, max_in_flight, concurrency, held, attached, seen }
    }
}

impl Client {
    /// The brokers of the database: those that run, and those that have died and aren't forgotten.
    pub async fn brokers(&self) -> Result<Vec<Broker>, Error> {
        let answer = with_retry(self.deadline, || {
            let mut brokers = self.brokers.clone();
            async move { brokers.list_brokers(v1::ListBrokersRequest {}).await }
        });
        answer.await?.into_inner().brokers.into_iter().map(Broker::from_proto).collect()
    }

    /// The sessions at the broker that answers, in the order in which they were opened, roughly.
    pub async fn sessions(&self) -> Result<Vec<Session>, Error> {
        let mut all = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = v1::ListSessionsRequest { page_size: PAGE, page_token };
            let answer = with_retry(self.deadline, || {
                let mut brokers = self.brokers.clone();
                let request = request.clone();
                async move { brokers.list_sessions(request).await }
            });
            let page = answer.await?.into_inner();
            all.extend(page.sessions.into_iter().map(Session::from_proto));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(all);
            }
        }
    }
}
