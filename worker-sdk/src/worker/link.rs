//! The worker's stream: opening it, reading it, and knowing when it is dead.

use std::{future::Future, pin::Pin, time::Duration};

use currant_proto::v1::{
    SubscribeRequest, SubscribeResponse, Welcome, subscribe_response::Message,
    worker_service_client::WorkerServiceClient,
};
use tokio::time::{Instant, timeout};
use tonic::{Status, Streaming};

use crate::{credentials::Transport, retry::Backoff};

/// A Subscribe without a Welcome after so long is given up.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(20);
/// A stream that lived so long was a good one: the next reconnect starts with a short wait again.
const GOOD_AFTER: Duration = Duration::from_secs(5);
/// A stream that has been silent for so many keep-alive intervals is dead.
const SILENT_INTERVALS: u32 = 3;
/// When the Welcome doesn't say.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const RECONNECT_GRACE: Duration = Duration::from_secs(10);
/// There is time for so many tries before the broker gives the session's attempts to others.
const TRIES_IN_GRACE: u32 = 4;

type Opening = Pin<Box<dyn Future<Output = Result<Opened, Status>> + Send>>;

/// A stream with its Welcome.
pub(super) struct Opened {
    pub(super) welcome: Welcome,
    stream: Streaming<SubscribeResponse>,
}

pub(super) enum LinkEvent {
    Opened(Box<Opened>),
    Message(Message),
    /// It is over, or could not be opened.
    Lost(Option<Status>),
}

pub(super) struct Link {
    state: State,
    backoff: Backoff,
    wait_max: Duration,
}

enum State {
    Down {
        open_at: Instant,
    },
    Opening(Opening),
    Up {
        stream: Box<Streaming<SubscribeResponse>>,
        opened_at: Instant,
        heard_at: Instant,
        silence_max: Duration,
    },
    /// For good.
    Closed,
}

impl Link {
    pub(super) fn new(now: Instant) -> Link {
        let wait_max = RECONNECT_GRACE / TRIES_IN_GRACE;
        Link { state: State::Down { open_at: now }, backoff: Backoff::up_to(wait_max), wait_max }
    }

    /// Waits for what happens next. Cancel safe.
    pub(super) async fn next(&mut self) -> LinkEvent {
        match &mut self.state {
            State::Down { .. } | State::Closed => std::future::pending().await,
            State::Opening(opening) => match opening.await {
                Ok(opened) => LinkEvent::Opened(Box::new(opened)),
                Err(status) => LinkEvent::Lost(Some(status)),
            },
            State::Up { stream, .. } => loop {
                match stream.message().await {
                    Ok(Some(SubscribeResponse { message: Some(message) })) => {
                        return LinkEvent::Message(message);
                    }
                    // A message of a kind that this version doesn't know.
                    Ok(Some(SubscribeResponse { message: None })) => {}
                    Ok(None) => return LinkEvent::Lost(None),
                    Err(status) => return LinkEvent::Lost(Some(status)),
                }
            },
        }
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(self.state, State::Up { .. })
    }

    /// Whether it is time to call [`open`](Link::open).
    pub(super) fn wants_open(&self, now: Instant) -> bool {
        matches!(self.state, State::Down { open_at } if open_at <= now)
    }

    pub(super) fn open(
        &mut self,
        mut client: WorkerServiceClient<Transport>,
        request: SubscribeRequest,
    ) {
        let opening = async move {
            let mut stream = client.subscribe(request).await?.into_inner();
            match stream.message().await? {
                Some(SubscribeResponse { message: Some(Message::Welcome(welcome)) }) => {
                    Ok(Opened { welcome, stream })
                }
                Some(_) => Err(Status::internal("the stream didn't begin with a Welcome")),
                None => Err(Status::unavailable("the stream ended before its Welcome")),
            }
        };
        self.state = State::Opening(Box::pin(async move {
            let silence = |_| Status::deadline_exceeded("no Welcome");
            timeout(WELCOME_TIMEOUT, opening).await.map_err(silence)?
        }));
    }

    pub(super) fn opened(&mut self, opened: Opened, now: Instant) -> Welcome {
        let Opened { welcome, stream } = opened;
        let interval = crate::time::from_proto(welcome.keep_alive_interval)
            .filter(|interval| !interval.is_zero())
            .unwrap_or(KEEP_ALIVE_INTERVAL);
        let silence_max = interval.saturating_mul(SILENT_INTERVALS);
        let grace = crate::time::from_proto(welcome.reconnect_grace).unwrap_or(RECONNECT_GRACE);
        self.wait_max = grace / TRIES_IN_GRACE;
        self.state =
            State::Up { stream: Box::new(stream), opened_at: now, heard_at: now, silence_max };
        welcome
    }

    pub(super) fn heard(&mut self, now: Instant) {
        if let State::Up { heard_at, .. } = &mut self.state {
            *heard_at = now;
        }
    }

    /// Whether the stream has been silent for too long.
    pub(super) fn is_silent(&self, now: Instant) -> bool {
        self.silent_at().is_some_and(|at| at <= now)
    }

    /// Drops the stream and waits a little before the next. Returns the wait.
    pub(super) fn lost(&mut self, status: Option<&Status>, now: Instant) -> Duration {
        if let State::Up { opened_at, .. } = self.state
            && now.duration_since(opened_at) >= GOOD_AFTER
        {
            self.backoff = Backoff::up_to(self.wait_max);
        }
        let delay = match status {
            Some(status) => self.backoff.after(status),
            None => self.backoff.next(),
        };
        self.state = State::Down { open_at: now + delay };
        delay
    }

    pub(super) fn close(&mut self) {
        self.state = State::Closed;
    }

    /// When something is due if nothing is heard.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Down { open_at } => Some(open_at),
            _ => self.silent_at(),
        }
    }

    fn silent_at(&self) -> Option<Instant> {
        match self.state {
            State::Up { heard_at, silence_max, .. } => heard_at.checked_add(silence_max),
            _ => None,
        }
    }
}
