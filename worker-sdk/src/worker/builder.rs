use std::{collections::HashMap, fmt::Display, future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tower::{BoxError, Layer, Service};

use super::{
    Settings, Worker,
    kinds::Kinds,
    verdict::{Observer, Verdict},
};
use crate::{
    channel::{endpoint, is_tls},
    credentials::{Tls, Token},
    error::WorkerError,
    handler::HandlerService,
    handler_error::HandlerError,
    job::{Job, JobId},
    output::{IntoOutput, Output},
};

const CONCURRENCY: u32 = 10;
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(30);
const NAME_CHARS_MAX: usize = 128;
const QUEUES_MAX: usize = 256;

/// Where the worker's channel comes from.
#[derive(Clone, Debug)]
pub(super) enum Target {
    /// A channel that is yet to be made: making one needs a running runtime.
    Endpoint(Box<Endpoint>),
    Channel(Channel),
}

/// Says what a [`Worker`] does. Mistakes are told by [`build`](WorkerBuilder::build).
#[derive(Debug)]
#[must_use = "a builder does nothing until it is built"]
pub struct WorkerBuilder {
    target: Result<Target, String>,
    token: Option<Token>,
    name: String,
    queues: Vec<String>,
    concurrency: u32,
    prefetch: Option<u32>,
    shutdown_timeout: Duration,
    handlers: Vec<(String, HandlerService)>,
    /// How many jobs of a kind run at the same time, where that is limited.
    limits: HashMap<String, u32>,
    observer: Option<Observer>,
}

impl WorkerBuilder {
    pub(super) fn with_url(url: &str) -> WorkerBuilder {
        WorkerBuilder::new(at(url, &Tls::new()))
    }

    pub(super) fn with_channel(channel: Channel) -> WorkerBuilder {
        WorkerBuilder::new(Ok(Target::Channel(channel)))
    }

    fn new(target: Result<Target, String>) -> WorkerBuilder {
        WorkerBuilder {
            target,
            token: Some(Token::default()),
            name: String::new(),
            queues: Vec::new(),
            concurrency: CONCURRENCY,
            prefetch: None,
            shutdown_timeout: SHUTDOWN_TIMEOUT,
            handlers: Vec::new(),
            limits: HashMap::new(),
            observer: None,
        }
    }

    /// Sends this token with every call, its secret as `currant-broker token create` prints it.
    pub fn token(mut self, secret: impl AsRef<str>) -> WorkerBuilder {
        self.token = Token::new(secret.as_ref());
        self
    }

    /// Certificates of your own, for a URL of `https://`.
    pub fn tls(mut self, tls: Tls) -> WorkerBuilder {
        self.target = match self.target {
            Ok(Target::Endpoint(endpoint)) if is_tls(&endpoint.uri().to_string()) => {
                at(&endpoint.uri().to_string(), &tls)
            }
            Ok(_) => Err("certificates are for a URL of https://".to_owned()),
            Err(problem) => Err(problem),
        };
        self
    }

    /// For people: shown in the broker's logs and listings. At most 128 characters; default empty.
    pub fn name(mut self, name: impl Into<String>) -> WorkerBuilder {
        self.name = name.into();
        self
    }

    /// Adds a queue to take jobs from: 1 to 256 of them, created on first use. When several have
    /// jobs they take turns.
    pub fn queue(mut self, queue: impl Into<String>) -> WorkerBuilder {
        self.queues.push(queue.into());
        self
    }

    /// How many jobs run at the same time: at least 1, default 10.
    pub fn concurrency(mut self, jobs: u32) -> WorkerBuilder {
        self.concurrency = jobs;
        self
    }

    /// How many jobs of this kind run at the same time in this worker: at least 1, default as many as of all
    /// kinds together. Jobs beyond wait in the worker, in their order, and jobs of other kinds pass them.
    ///
    /// While they wait they take credit. So only a few of them stay for up to 30 s: half of the
    /// [`prefetch`](WorkerBuilder::prefetch), shared evenly by the kinds with a limit. The others are put off
    /// after a second: they come again after a pause of 1 s, twice as long each further time up to 256 s, to
    /// this worker or to another, which is no failure. No job waits so for more than half of its timeout. A
    /// kind of which a queue may be full for long is better off in a queue of its own.
    pub fn kind_concurrency(mut self, kind: impl Into<String>, jobs: u32) -> WorkerBuilder {
        self.limits.insert(kind.into(), jobs);
        self
    }

    /// How many jobs wait in the worker for their turn, so that it never waits for the broker.
    /// Default: as many as run at the same time. The broker's limit for both together is 10,000 by
    /// default. 0 leaves each job to whichever worker is free first: for few long jobs.
    pub fn prefetch(mut self, jobs: u32) -> WorkerBuilder {
        self.prefetch = Some(jobs);
        self
    }

    /// How long jobs that run may go on after a shutdown has begun; what runs longer is stopped and
    /// given back. Default 30 s.
    pub fn shutdown_timeout(mut self, timeout: Duration) -> WorkerBuilder {
        self.shutdown_timeout = timeout;
        self
    }

    /// Registers a handler for a kind of job whose payload is JSON. What it returns is stored as JSON
    /// with the job; `()` and everything else that is `null` in JSON as no bytes. A payload that
    /// can't be read as a `T` is a failed attempt. Or it returns [`Committed`](crate::Committed).
    pub fn handler<T, O, F, Fut>(self, kind: impl Into<String>, handler: F) -> WorkerBuilder
    where
        T: DeserializeOwned + Send + 'static,
        O: IntoOutput,
        F: Fn(Job<T>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<O, HandlerError>> + Send + 'static,
    {
        self.register(kind, HandlerService::json(handler))
    }

    /// Registers a handler for a kind of job, bytes in and bytes out.
    pub fn raw_handler<F, Fut>(self, kind: impl Into<String>, handler: F) -> WorkerBuilder
    where
        F: Fn(Job<Bytes>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Bytes, HandlerError>> + Send + 'static,
    {
        self.register(kind, HandlerService::raw(handler))
    }

    /// Registers a tower service as the handler for a kind of job. Each job gets a clone of its own,
    /// which is called when it is ready. (A service that isn't `Sync` can be made so with
    /// `tower::util::BoxCloneSyncServiceLayer` or a `Buffer`.)
    pub fn service<S>(self, kind: impl Into<String>, service: S) -> WorkerBuilder
    where
        S: Service<Job<Bytes>> + Clone + Send + Sync + 'static,
        S::Response: Into<Output>,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
    {
        self.register(kind, HandlerService::service(service))
    }

    /// Wraps every handler registered so far, each by itself: a concurrency limit holds for each
    /// kind, a global one (`GlobalConcurrencyLimitLayer`) for all. The layer added last is the
    /// outermost: it sees a job first and what becomes of it last. Handlers that are registered later aren't
    /// wrapped.
    ///
    /// A layer sees the payload as bytes, before a typed handler reads it, and the result as bytes. What it
    /// finds out it hands on in [`Job::extensions`]. It may change the job, answer instead of the handler,
    /// or change the answer; its errors are failed attempts, and a [`HandlerError`] passes unchanged
    /// through layers that box errors. Around all layers are the job's timeout, the net for
    /// panics and the span of the attempt. A job that waits in a layer, as for a permit, runs already and
    /// takes its part of [`concurrency`](WorkerBuilder::concurrency); one that waits for
    /// [`kind_concurrency`](WorkerBuilder::kind_concurrency) doesn't.
    ///
    /// A layer costs an allocation for each job, and what it does itself; several in one
    /// (`tower::ServiceBuilder`, where the first is the outermost) cost one together. A worker without layers
    /// pays nothing.
    pub fn layer<L>(mut self, layer: L) -> WorkerBuilder
    where
        L: Layer<HandlerService>,
        L::Service: Service<Job<Bytes>> + Clone + Send + Sync + 'static,
        <L::Service as Service<Job<Bytes>>>::Response: Into<Output>,
        <L::Service as Service<Job<Bytes>>>::Error: Into<BoxError>,
        <L::Service as Service<Job<Bytes>>>::Future: Send + 'static,
    {
        for (_, handler) in &mut self.handlers {
            *handler = HandlerService::service(layer.layer(handler.clone()));
        }
        self
    }

    /// Calls `observe` once for every answered report of outcomes, with the attempts and a verdict
    /// for each. It runs in the worker's own task: it must be quick and mustn't block.
    pub fn on_verdict(
        mut self,
        observe: impl Fn(&[(JobId, u32)], &[Verdict]) + Send + Sync + 'static,
    ) -> WorkerBuilder {
        self.observer = Some(Observer(Arc::new(observe)));
        self
    }

    /// Checks everything that can be checked without the broker. [`WorkerError::Config`] says what is
    /// wrong.
    pub fn build(self) -> Result<Worker, WorkerError> {
        self.check().map_err(WorkerError::Config)
    }

    fn register(mut self, kind: impl Into<String>, handler: HandlerService) -> WorkerBuilder {
        self.handlers.push((kind.into(), handler));
        self
    }

    fn check(self) -> Result<Worker, String> {
        let WorkerBuilder { target, token, name, queues, concurrency, prefetch, .. } = self;
        let target = target?;
        let token = token.ok_or("that can't be a token")?;
        if name.chars().count() > NAME_CHARS_MAX {
            return Err(format!("the worker's name has more than {NAME_CHARS_MAX} characters"));
        }
        if queues.is_empty() || queues.len() > QUEUES_MAX {
            return Err(format!("a worker has 1 to {QUEUES_MAX} queues, not {}", queues.len()));
        }
        if let Some(queue) = queues.iter().find(|queue| !is_name(queue)) {
            return Err(format!("{queue:?} can't be the name of a queue"));
        }
        if concurrency == 0 {
            return Err("a worker needs a concurrency of at least 1".into());
        }
        let prefetch = prefetch.unwrap_or(concurrency);
        let max_in_flight = concurrency.checked_add(prefetch);
        let settings = Settings {
            name,
            queues,
            concurrency,
            max_in_flight: max_in_flight
                .ok_or("concurrency and prefetch are too large together")?,
            shutdown_timeout: self.shutdown_timeout,
            observer: self.observer,
            open: CancellationToken::new(),
        };
        let kinds = Kinds::new(by_kind(self.handlers, self.limits)?, prefetch);
        Ok(Worker { target, token, settings, kinds })
    }
}

fn at(url: &str, tls: &Tls) -> Result<Target, String> {
    let target = endpoint(url, tls).map(|endpoint| Target::Endpoint(Box::new(endpoint)));
    let wrong = |error: &dyn Display| format!("{url:?} is not an address of a broker: {error}");
    target.map_err(|error| wrong(&error))
}

fn by_kind(
    handlers: Vec<(String, HandlerService)>,
    mut limits: HashMap<String, u32>,
) -> Result<HashMap<String, (HandlerService, Option<u32>)>, String> {
    let mut by_kind = HashMap::new();
    for (kind, handler) in handlers {
        if !is_name(&kind) {
            return Err(format!("{kind:?} can't be a kind of job"));
        }
        if by_kind.contains_key(&kind) {
            return Err(format!("the kind {kind:?} has two handlers"));
        }
        let jobs_max = limits.remove(&kind);
        if jobs_max == Some(0) {
            return Err(format!("the kind {kind:?} needs a concurrency of at least 1"));
        }
        by_kind.insert(kind, (handler, jobs_max));
    }
    if by_kind.is_empty() {
        return Err("a worker needs a handler".into());
    }
    if let Some(kind) = limits.into_keys().next() {
        return Err(format!("the kind {kind:?} has a concurrency and no handler"));
    }
    Ok(by_kind)
}

/// The contract's pattern for queues and kinds.
fn is_name(name: &str) -> bool {
    let first = name.chars().next();
    first.is_some_and(|first| first.is_ascii_alphanumeric())
        && name.len() <= NAME_CHARS_MAX
        && name.chars().all(|one| one.is_ascii_alphanumeric() || "._:/-".contains(one))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn builder() -> WorkerBuilder {
        let handler = |_: Job<()>| async { Ok(()) };
        WorkerBuilder::with_url("http://127.0.0.1:1").queue("emails").handler("send", handler)
    }

    fn refused(builder: WorkerBuilder) -> String {
        builder.build().err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn credit_is_what_runs_and_what_waits() {
        let credit = |builder: WorkerBuilder| builder.build().map(|it| it.settings.max_in_flight);
        assert!(matches!(credit(builder()), Ok(20)));
        assert!(matches!(credit(builder().concurrency(50)), Ok(100)));
        assert!(matches!(credit(builder().concurrency(5).prefetch(0)), Ok(5)));
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(refused(builder()), "");
        assert!(refused(WorkerBuilder::with_url("not a url")).contains("not a url"));
        assert!(refused(builder().queue("a b")).contains("a b"));
        assert!(refused(builder().concurrency(0)).contains("concurrency"));
        assert!(refused(builder().concurrency(u32::MAX)).contains("too large"));
        assert!(refused(builder().name("x".repeat(129))).contains("128"));
        assert!(refused(builder().token("a\nb")).contains("token"));
        assert!(refused(builder().tls(Tls::new())).contains("https"));
        let twice = builder().raw_handler("send", |job: Job<Bytes>| async { Ok(job.payload) });
        assert!(refused(twice).contains("two handlers"));
        assert!(refused(builder().kind_concurrency("send", 0)).contains("at least 1"));
        assert!(refused(builder().kind_concurrency("sent", 1)).contains("no handler"));
        let none = WorkerBuilder::with_url("http://127.0.0.1:1").queue("emails");
        assert!(refused(none).contains("needs a handler"));
    }
}
