//! One unary call that may be in flight.

use std::{future::Future, pin::Pin};

use tokio::time::Instant;
use tonic::{Response, Status};

type Answer<T> = Pin<Box<dyn Future<Output = Result<Response<T>, Status>> + Send>>;

/// At most one call at a time.
pub(super) struct Call<T> {
    flight: Option<(Answer<T>, Instant)>,
}

impl<T> Call<T> {
    pub(super) fn idle() -> Call<T> {
        Call { flight: None }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.flight.is_none()
    }

    /// When the call in flight was sent.
    pub(super) fn sent_at(&self) -> Option<Instant> {
        self.flight.as_ref().map(|(_, sent_at)| *sent_at)
    }

    /// Starts a call; one that was in flight is dropped.
    pub(super) fn start(
        &mut self,
        now: Instant,
        call: impl Future<Output = Result<Response<T>, Status>> + Send + 'static,
    ) {
        self.flight = Some((Box::pin(call), now));
    }

    pub(super) fn abandon(&mut self) {
        self.flight = None;
    }

    /// Waits for the answer of the call in flight; for ever if there is none. Cancel safe.
    pub(super) async fn answer(&mut self) -> Result<T, Status> {
        let Some((answer, _)) = &mut self.flight else { return std::future::pending().await };
        let answer = answer.await;
        self.flight = None;
        answer.map(Response::into_inner)
    }
}
