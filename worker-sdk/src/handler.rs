use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use serde::de::DeserializeOwned;
use tower::{BoxError, Service, ServiceExt};

use crate::{
    handler_error::HandlerError,
    job::Job,
    output::{IntoOutput, Output},
};

/// What a handler returns while it runs.
pub type HandlerFuture = Pin<Box<dyn Future<Output = Result<Output, HandlerError>> + Send>>;

/// A registered handler of any sort, as a [`Service`]: what a layer wraps. Always ready; cheap to
/// clone.
#[derive(Clone)]
pub struct HandlerService(Arc<dyn Handle>);

impl HandlerService {
    pub(crate) fn raw<O, F, Fut>(handler: F) -> HandlerService
    where
        O: Into<Output>,
        F: Fn(Job<Bytes>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<O, HandlerError>> + Send + 'static,
    {
        HandlerService(Arc::new(Raw(handler)))
    }

    pub(crate) fn json<T, O, F, Fut>(handler: F) -> HandlerService
    where
        T: DeserializeOwned + Send + 'static,
        O: IntoOutput,
        F: Fn(Job<T>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<O, HandlerError>> + Send + 'static,
    {
        HandlerService::raw(move |job: Job<Bytes>| {
            let running = match serde_json::from_slice(&job.payload) {
                Ok(payload) => Ok(handler(job.map(|_| payload))),
                Err(error) => Err(HandlerError::new(format_args!("payload: {error}"))),
            };
            async move { running?.await?.into_output() }
        })
    }

    pub(crate) fn service<S>(service: S) -> HandlerService
    where
        S: Service<Job<Bytes>> + Clone + Send + Sync + 'static,
        S::Response: Into<Output>,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
    {
        HandlerService(Arc::new(Tower(service)))
    }

    /// Starts a job. One allocation: the future, with the handler's own inside.
    pub(crate) fn handle(&self, job: Job<Bytes>) -> HandlerFuture {
        self.0.handle(job)
    }
}

impl Service<Job<Bytes>> for HandlerService {
    type Response = Output;
    type Error = HandlerError;
    type Future = HandlerFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), HandlerError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, job: Job<Bytes>) -> HandlerFuture {
        self.handle(job)
    }
}

impl fmt::Debug for HandlerService {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("HandlerService")
    }
}

trait Handle: Send + Sync {
    fn handle(&self, job: Job<Bytes>) -> HandlerFuture;
}

struct Raw<F>(F);

impl<F, Fut, O> Handle for Raw<F>
where
    F: Fn(Job<Bytes>) -> Fut + Send + Sync,
    Fut: Future<Output = Result<O, HandlerError>> + Send + 'static,
    O: Into<Output>,
{
    fn handle(&self, job: Job<Bytes>) -> HandlerFuture {
        let running = (self.0)(job);
        Box::pin(async move { running.await.map(Into::into) })
    }
}

struct Tower<S>(S);

impl<S> Handle for Tower<S>
where
    S: Service<Job<Bytes>> + Clone + Send + Sync + 'static,
    S::Response: Into<Output>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    fn handle(&self, job: Job<Bytes>) -> HandlerFuture {
        // A clone of its own for each job: a service that isn't ready holds up only its own job.
        let mut service = self.0.clone();
        Box::pin(async move {
            let ready =
                service.ready().await.map_err(|error| HandlerError::from_boxed(error.into()))?;
            let output = ready.call(job).await;
            output.map(Into::into).map_err(|error| HandlerError::from_boxed(error.into()))
        })
    }
}
