use std::{
    convert::Infallible,
    sync::Arc,
    task::{self, Poll},
    time::Duration,
};

use currant_proto::v1::{
    job_service_server::JobServiceServer, worker_service_server::WorkerServiceServer,
};
use futures_util::future::BoxFuture;
use tonic::{Status, body::Body};
use tower::{Layer, Service};

use super::{Context, reading::Counted};
use crate::pipeline::{Core, Share};

pub(super) const JOBS: &str = "/currant.v1.JobService/";
const WORKERS: &str = "/currant.v1.WorkerService/";
const HEALTH: &str = "/grpc.health.v1.Health/";
/// For the message of a health check, which strangers may send: they needn't be waited for.
const HEALTH_TIME_MAX: Duration = Duration::from_secs(5);

/// Leads calls of our own services straight to them. The router beneath, which serves everything else on
/// the port, takes a call's path to pieces and wraps its request and its answer several times, which a
/// call of a single job feels. Whatever is called, its messages count while they come in.
#[derive(Clone)]
pub(super) struct RouteLayer {
    pub(super) core: Arc<Core>,
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
        let (jobs, workers) = (path.starts_with(JOBS), path.starts_with(WORKERS));
        let health = path.starts_with(HEALTH);
        let share = if jobs { Share::Half } else { Share::All };
        let room = self.services.core.room_to_read(share);
        let request = request.map(|body| Counted::new(body, room));
        if jobs {
            return self.services.jobs.call(request);
        }
        if workers {
            return self.services.workers.call(request);
        }
        let request = request.map(Body::new);
        if health {
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
