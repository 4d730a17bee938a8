use std::{
    pin::Pin,
    sync::Arc,
    task::{self, Poll},
    time::Duration,
};

use futures_util::future::{Either, Ready, ready};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::{Layer, Service};

use super::{route, status};

/// Refuses producers' requests beyond a number in progress, at once and with a gRPC status: what waits
/// in a queue of its own would only time out there. A stream counts until its first answer.
///
/// Workers' requests and health checks always pass: under a flood of new work, what ends work has to
/// go on, and a heartbeat refused would make living workers lose their jobs. They have bounds of
/// their own: sessions, and completions that wait.
#[derive(Clone, Debug)]
pub(super) struct AdmissionLayer {
    permits: Arc<Semaphore>,
    max: usize,
}

impl AdmissionLayer {
    pub(super) fn new(max: usize) -> Self {
        Self { permits: Arc::new(Semaphore::new(max)), max }
    }
}

impl<S> Layer<S> for AdmissionLayer {
    type Service = Admission<S>;

    fn layer(&self, inner: S) -> Admission<S> {
        Admission { inner, layer: self.clone() }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Admission<S> {
    inner: S,
    layer: AdmissionLayer,
}

const RETRY_AFTER: Duration = Duration::from_millis(100);

impl<S, B, Body> Service<http::Request<B>> for Admission<S>
where
    S: Service<http::Request<B>, Response = http::Response<Body>>,
    S::Future: Unpin,
    Body: Default,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<Admitted<S::Future>, Ready<Result<S::Response, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let permit = if request.uri().path().starts_with(route::JOBS) {
            let Ok(permit) = Arc::clone(&self.layer.permits).try_acquire_owned() else {
                metrics::counter!("currant_requests_refused_total").increment(1);
                let max = self.layer.max;
                let refusal =
                    status::full(format!("at most {max} requests are in progress"), RETRY_AFTER);
                return Either::Right(ready(Ok(refusal.into_http())));
            };
            Some(permit)
        } else {
            None
        };
        Either::Left(Admitted { answer: self.inner.call(request), permit })
    }
}

/// A request in progress.
#[derive(Debug)]
pub(super) struct Admitted<F> {
    answer: F,
    permit: Option<OwnedSemaphorePermit>,
}

impl<F: Future + Unpin> Future for Admitted<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<F::Output> {
        let answer = task::ready!(Pin::new(&mut self.answer).poll(cx));
        self.permit = None;
        Poll::Ready(answer)
    }
}
