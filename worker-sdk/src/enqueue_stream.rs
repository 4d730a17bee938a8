//! Pipelined enqueues. A task owns the stream and what is unanswered on it: when the stream breaks
//! it opens another and sends the unanswered requests again under the same idempotency keys.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use currant_proto::v1::{
    EnqueueRequest, EnqueueStreamRequest, EnqueueStreamResponse,
    enqueue_stream_response::Result as Answer, job_service_client::JobServiceClient,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Response, Status, Streaming};

use crate::{
    client::ids,
    clock,
    credentials::Transport,
    error::Error,
    job::JobId,
    new_job::{NewJob, fresh_key, request},
    retry::{Backoff, is_transient},
    span,
    timer::Timer,
};

/// The broker reads on only while fewer requests of a stream are unanswered.
const UNANSWERED_MAX: usize = 64;

type Ids = Result<Vec<JobId>, Error>;
type Opening = Pin<
    Box<dyn Future<Output = Result<Response<Streaming<EnqueueStreamResponse>>, Status>> + Send>,
>;

/// A stream of enqueues, from [`Client::enqueue_stream`](crate::Client::enqueue_stream). Cheap to
/// clone. Ends by itself when the last clone is dropped and everything is answered.
#[derive(Clone, Debug)]
pub struct EnqueueStream {
    requests: mpsc::Sender<Unanswered>,
    deadline: Duration,
}

impl EnqueueStream {
    pub(crate) fn open(client: JobServiceClient<Transport>, deadline: Duration) -> EnqueueStream {
        let (requests, receiver) = mpsc::channel(1);
        tokio::spawn(Driver::new(client, receiver, deadline).run());
        EnqueueStream { requests, deadline }
    }

    /// Sends jobs, to be stored all or none, without waiting for the answer: that is the future
    /// which this returns. Waits only while 64 sends are unanswered. No jobs: the broker refuses.
    pub async fn send(&self, jobs: impl IntoIterator<Item = NewJob>) -> Result<Enqueued, Error> {
        let jobs: Vec<NewJob> = jobs.into_iter().collect();
        let request = span::of_enqueue(&jobs).in_scope(|| request(fresh_key(), jobs));
        let (reply, ids) = oneshot::channel();
        let give_up_at = clock::now() + self.deadline;
        let unanswered =
            Unanswered { request, reply, give_up_at, send_at: None, backoff: None, last: None };
        self.requests.send(unanswered).await.map_err(|_| Error::StreamEnded)?;
        Ok(Enqueued(ids))
    }
}

/// The ids of the jobs of one [`EnqueueStream::send`], once they are committed. Dropping it doesn't
/// take the jobs back.
#[derive(Debug)]
pub struct Enqueued(oneshot::Receiver<Ids>);

impl Future for Enqueued {
    type Output = Ids;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ids> {
        Poll::Ready(ready!(Pin::new(&mut self.0).poll(cx)).unwrap_or(Err(Error::StreamEnded)))
    }
}

#[derive(Debug)]
struct Unanswered {
    request: EnqueueRequest,
    reply: oneshot::Sender<Ids>,
    give_up_at: Instant,
    /// Refused for now; to be sent again then.
    send_at: Option<Instant>,
    backoff: Option<Box<Backoff>>,
    last: Option<Box<Status>>,
}

impl Unanswered {
    /// When it is to be sent again or given up.
    fn due_at(&self) -> Instant {
        self.send_at.map_or(self.give_up_at, |at| at.min(self.give_up_at))
    }
}

/// The wire as it is now.
enum Wire {
    Down { until: Instant },
    Opening(Opening),
    Up(Box<Streaming<EnqueueStreamResponse>>),
}

enum Event {
    Send(Option<Unanswered>),
    Opened(Result<Response<Streaming<EnqueueStreamResponse>>, Status>),
    Answered(Result<Option<EnqueueStreamResponse>, Status>),
    Timer,
}

struct Driver {
    client: JobServiceClient<Transport>,
    deadline: Duration,
    requests: mpsc::Receiver<Unanswered>,
    /// By tag, which is the order of sending: the broker answers in that order.
    unanswered: BTreeMap<u64, Unanswered>,
    next_tag: u64,
    wire: Wire,
    /// Where requests of the open stream go; never full, its capacity is that of `unanswered`.
    outgoing: Option<mpsc::Sender<EnqueueStreamRequest>>,
    backoff: Backoff,
    timer: Timer,
    ended: bool,
}

impl Driver {
    fn new(
        client: JobServiceClient<Transport>,
        requests: mpsc::Receiver<Unanswered>,
        deadline: Duration,
    ) -> Driver {
        Driver {
            client,
            deadline,
            requests,
            unanswered: BTreeMap::new(),
            next_tag: 1,
            wire: Wire::Down { until: clock::now() },
            outgoing: None,
            backoff: Backoff::new(),
            timer: Timer::new(clock::now()),
            ended: false,
        }
    }

    async fn run(mut self) {
        while !(self.ended && self.unanswered.is_empty()) {
            let event = self.wait().await;
            self.apply(event, clock::now());
        }
    }

    async fn wait(&mut self) -> Event {
        self.timer.set(self.next_deadline());
        tokio::select! {
            request = self.requests.recv(),
                if !self.ended && self.unanswered.len() < UNANSWERED_MAX => Event::Send(request),
            event = self.wire.next() => event,
            () = self.timer.elapsed() => Event::Timer,
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let reopen = match &self.wire {
            Wire::Down { until } if !self.unanswered.is_empty() => Some(*until),
            _ => None,
        };
        self.unanswered.values().map(Unanswered::due_at).chain(reopen).min()
    }

    fn apply(&mut self, event: Event, now: Instant) {
        match event {
            Event::Send(None) => self.ended = true,
            Event::Send(Some(one)) => self.send(one),
            Event::Opened(Ok(response)) => self.wire = Wire::Up(Box::new(response.into_inner())),
            Event::Answered(Ok(Some(response))) => self.answer(response, now),
            Event::Answered(Ok(None)) => self.lose(None, now),
            Event::Opened(Err(status)) | Event::Answered(Err(status)) => {
                self.lose(Some(status), now);
            }
            Event::Timer => self.on_time(now),
        }
        if self.ended && self.unanswered.is_empty() {
            self.outgoing = None;
        }
        if let Wire::Down { until } = self.wire
            && until <= now
            && !self.unanswered.is_empty()
        {
            self.open();
        }
    }

    /// Opens a stream and sends on it all that is unanswered.
    fn open(&mut self) {
        let (outgoing, requests) = mpsc::channel(UNANSWERED_MAX);
        let mut client = self.client.clone();
        let call = async move { client.enqueue_stream(ReceiverStream::new(requests)).await };
        self.wire = Wire::Opening(Box::pin(call));
        self.outgoing = Some(outgoing);
        for (tag, one) in self.unanswered.iter().filter(|(_, one)| one.send_at.is_none()) {
            self.put(*tag, &one.request);
        }
    }

    fn send(&mut self, one: Unanswered) {
        let tag = self.next_tag;
        self.next_tag += 1;
        self.put(tag, &one.request);
        self.unanswered.insert(tag, one);
    }

    fn put(&self, tag: u64, request: &EnqueueRequest) {
        if let Some(outgoing) = &self.outgoing {
            let request = EnqueueStreamRequest { tag, request: Some(request.clone()) };
            // It fails only if the stream has just broken: then all is sent again on the next one.
            let _ = outgoing.try_send(request);
        }
    }

    fn answer(&mut self, response: EnqueueStreamResponse, now: Instant) {
        let EnqueueStreamResponse { tag, result } = response;
        let Some(mut one) = self.unanswered.remove(&tag) else { return };
        self.backoff = Backoff::new();
        let status = match result {
            Some(Answer::Stored(stored)) => {
                return reply(one.reply, ids(stored.job_ids, one.request.jobs.len()));
            }
            Some(Answer::Error(error)) => {
                Status::with_details(Code::from_i32(error.code), error.message, error.status)
            }
            None => return reply(one.reply, Err(Error::Protocol("an answer without a result"))),
        };
        if !is_transient(&status) {
            return reply(one.reply, Err(status.into()));
        }
        let backoff = one.backoff.get_or_insert_with(|| Box::new(Backoff::new()));
        one.send_at = Some(now + backoff.after(&status));
        one.last = Some(Box::new(status));
        self.unanswered.insert(tag, one);
    }

    /// The stream is gone, or could not be opened.
    fn lose(&mut self, status: Option<Status>, now: Instant) {
        let was_up = matches!(self.wire, Wire::Up(_));
        self.outgoing = None;
        let delay = match &status {
            Some(status) => self.backoff.after(status),
            None => self.backoff.next(),
        };
        self.wire = Wire::Down { until: now + delay };
        let Some(status) = status else { return };
        tracing::debug!(%status, "an enqueue stream broke, opening another");
        if is_transient(&status) {
            for one in self.unanswered.values_mut() {
                one.last = Some(Box::new(status.clone()));
            }
        } else if was_up {
            // It ended where an answer should have come: to the first request without one.
            let sent = self.unanswered.iter().find(|(_, one)| one.send_at.is_none());
            if let Some(culprit) =
                sent.map(|(tag, _)| *tag).and_then(|tag| self.unanswered.remove(&tag))
            {
                reply(culprit.reply, Err(status.into()));
            }
        } else {
            // No stream will ever be taken: say so to everybody who waits.
            for (_, one) in std::mem::take(&mut self.unanswered) {
                reply(one.reply, Err(status.clone().into()));
            }
        }
    }

    /// Sends again what was refused for now, gives up what is over its deadline.
    fn on_time(&mut self, now: Instant) {
        let due = self.unanswered.extract_if(.., |_, one| one.due_at() <= now);
        let mut gave_up = false;
        for (_, mut one) in due.collect::<Vec<_>>() {
            if one.give_up_at <= now {
                gave_up |= one.send_at.is_none();
                reply(one.reply, Err(Error::GaveUp { after: self.deadline, last: one.last }));
            } else {
                one.send_at = None;
                self.send(one);
            }
        }
        if gave_up && !matches!(self.wire, Wire::Down { .. }) {
            // A stream without an answer for so long may be dead, and what was given up mustn't
            // fill its channel.
            self.lose(None, now);
        }
    }
}

impl Wire {
    async fn next(&mut self) -> Event {
        match self {
            Wire::Down { .. } => std::future::pending().await,
            Wire::Opening(opening) => Event::Opened(opening.await),
            Wire::Up(stream) => Event::Answered(stream.message().await),
        }
    }
}

/// Nobody may wait for the answer any more; that is fine.
fn reply(waiter: oneshot::Sender<Ids>, answer: Ids) {
    let _ = waiter.send(answer);
}
