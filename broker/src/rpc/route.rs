use std::{
    convert::Infallible,
    task::{self, Poll},
    time::Duration,
};

use currant_proto::v1::{
    job_service_server::JobServiceServer, worker_service_server::WorkerServiceServer,
};
use futures_util::future::BoxFuture;
use tonic::{Status, body::Body};
use tower::{Layer, Service};

use super::Context;

pub(super) const JOBS: &str = "/currant.v1.JobService/";
const WORKERS: &str = "/currant.v1.WorkerService/";
const HEALTH: &str = "/grpc.health.v1.Health/";
/// For the message of a health check, which strangers may send: they needn't be waited for.
const HEALTH_TIME_MAX: Duration = Duration::from_secs(5);

/// Leads calls of our own services straight to them. The router beneath, which serves everything else on
/// the port, takes a call's path to pieces and wraps its request and its answer several times, which a
/// call of a single job feels.
#[derive(Clone)]
pub(super) struct RouteLayer {
    pub(super) jobs: JobServiceServer<Context>,
    pub(super) workers: WorkerServiceServer<Context>,
}

#[derive(Clone)]
pub(super) struct Route<S> {
    services: RouteLayer,
    others: S,
}

impl<S> Layer<S> for RouteLayer {
    type Service = Route<S>;

    fn layer(&self, others: S) -> Route<S> {
        Route { services: self.clone(), others }
    }
}

impl<S> Service<http::Request<Body>> for Route<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), Infallible>> {
        // Our own are always ready.
        self.others.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let path = request.uri().path();
        if path.starts_with(JOBS) {
            self.services.jobs.call(request)
        } else if path.starts_with(WORKERS) {
            self.services.workers.call(request)
        } else if path.starts_with(HEALTH) {
            let answer = tokio::time::timeout(HEALTH_TIME_MAX, self.others.call(request));
            Box::pin(async move {
                let late = || Status::deadline_exceeded("the call has no message").into_http();
                answer.await.unwrap_or_else(|_| Ok(late()))
            })
        } else {
            Box::pin(self.others.call(request))
        }
    }
}
