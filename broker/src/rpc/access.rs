//! Who may call what: one table, looked at before a call begins.

use std::{
    collections::HashMap,
    future::{Ready, ready},
    sync::Arc,
    task::{self, Poll},
};

use futures_util::{FutureExt, Stream, StreamExt, future::Either, stream, stream::BoxStream};
use http::HeaderValue;
use tonic::{Code, Status};
use tower::{Layer, Service};

use super::{Context, status};
use crate::{
    domain::Scope,
    pipeline::{Caller, Core, Stranger},
    port::Peer,
};

/// What a call needs of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    Nothing,
    /// A valid token, whatever it is for.
    Token,
    Scope(Scope),
    /// The scope of an admin, for all queues.
    AdminOfAll,
}

/// Every RPC of the port. One that isn't here can't be called where tokens are required.
pub const ACCESS: [(&str, Needs); 41] = [
    ("/currant.v1.JobService/Enqueue", Needs::Scope(Scope::Enqueue)),
    ("/currant.v1.JobService/EnqueueStream", Needs::Scope(Scope::Enqueue)),
    ("/currant.v1.JobService/Get", Needs::Scope(Scope::View)),
    ("/currant.v1.JobService/Explain", Needs::Scope(Scope::View)),
    ("/currant.v1.JobService/List", Needs::Scope(Scope::View)),
    ("/currant.v1.JobService/Watch", Needs::Scope(Scope::View)),
    ("/currant.v1.JobService/Cancel", Needs::Scope(Scope::Admin)),
    ("/currant.v1.JobService/Retry", Needs::Scope(Scope::Admin)),
    ("/currant.v1.JobService/Delete", Needs::Scope(Scope::Admin)),
    ("/currant.v1.JobService/ChangeAll", Needs::Scope(Scope::Admin)),
    ("/currant.v1.QueueService/List", Needs::Scope(Scope::View)),
    ("/currant.v1.QueueService/Get", Needs::Scope(Scope::View)),
    ("/currant.v1.QueueService/Stats", Needs::Scope(Scope::View)),
    ("/currant.v1.QueueService/WatchStats", Needs::Scope(Scope::View)),
    ("/currant.v1.QueueService/Configure", Needs::Scope(Scope::Admin)),
    ("/currant.v1.QueueService/Pause", Needs::Scope(Scope::Admin)),
    ("/currant.v1.QueueService/Resume", Needs::Scope(Scope::Admin)),
    ("/currant.v1.QueueService/Drain", Needs::Scope(Scope::Admin)),
    ("/currant.v1.ScheduleService/List", Needs::Scope(Scope::View)),
    ("/currant.v1.ScheduleService/Get", Needs::Scope(Scope::View)),
    ("/currant.v1.ScheduleService/NextFires", Needs::Scope(Scope::View)),
    ("/currant.v1.ScheduleService/Create", Needs::Scope(Scope::Admin)),
    ("/currant.v1.ScheduleService/Update", Needs::Scope(Scope::Admin)),
    ("/currant.v1.ScheduleService/Delete", Needs::Scope(Scope::Admin)),
    ("/currant.v1.ScheduleService/Pause", Needs::Scope(Scope::Admin)),
    ("/currant.v1.ScheduleService/Resume", Needs::Scope(Scope::Admin)),
    ("/currant.v1.ScheduleService/RunNow", Needs::Scope(Scope::Admin)),
    ("/currant.v1.BrokerService/ListBrokers", Needs::Scope(Scope::View)),
    ("/currant.v1.BrokerService/ListSessions", Needs::Scope(Scope::View)),
    ("/currant.v1.WorkerService/Subscribe", Needs::Scope(Scope::Work)),
    ("/currant.v1.WorkerService/Complete", Needs::Scope(Scope::Work)),
    ("/currant.v1.WorkerService/Heartbeat", Needs::Scope(Scope::Work)),
    ("/currant.v1.WorkerService/ReportProgress", Needs::Scope(Scope::Work)),
    ("/currant.v1.WorkerService/GetCheckpoint", Needs::Scope(Scope::Work)),
    ("/currant.v1.TokenService/CreateToken", Needs::AdminOfAll),
    ("/currant.v1.TokenService/ListTokens", Needs::AdminOfAll),
    ("/currant.v1.TokenService/RevokeToken", Needs::AdminOfAll),
    // For load balancers, which have no token.
    ("/grpc.health.v1.Health/Check", Needs::Nothing),
    ("/grpc.health.v1.Health/Watch", Needs::Token),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Needs::Token),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Needs::Token),
];

/// Refuses callers that may not call, and tells the service who the others are.
#[derive(Clone)]
pub(super) struct AccessLayer {
    core: Arc<Core>,
    needs: Arc<HashMap<&'static str, Needs>>,
}

impl AccessLayer {
    pub(super) fn new(core: Arc<Core>) -> Self {
        Self { core, needs: Arc::new(HashMap::from(ACCESS)) }
    }

    /// Who calls, if he may; `None` where everybody may.
    pub(super) fn check<B>(&self, request: &http::Request<B>) -> Result<Option<Caller>, Status> {
        if !self.core.access.is_required() {
            return Ok(None);
        }
        let caller = self.caller(request).inspect_err(|refusal| {
            let code = match refusal.code() {
                Code::Unauthenticated => "unauthenticated",
                Code::PermissionDenied => "permission_denied",
                _ => "unimplemented",
            };
            metrics::counter!("currant_callers_refused_total", "code" => code).increment(1);
        });
        caller.map(Some)
    }

    fn caller<B>(&self, request: &http::Request<B>) -> Result<Caller, Status> {
        let needs = self.needs.get(request.uri().path()).copied();
        if needs == Some(Needs::Nothing) {
            return Ok(Caller::default());
        }
        let header = request.headers().get(http::header::AUTHORIZATION);
        let names = request.extensions().get().map(Peer::names).unwrap_or_default();
        let Core { access, clock, .. } = &*self.core;
        let caller = access.caller(clock, header.map(HeaderValue::as_bytes), names);
        let caller = caller.map_err(status::stranger)?;
        let (scope, all_queues) = match needs {
            Some(Needs::Nothing | Needs::Token) => return Ok(caller),
            Some(Needs::Scope(scope)) => (scope, false),
            Some(Needs::AdminOfAll) => (Scope::Admin, true),
            None => return Err(Status::unimplemented("there is no such call")),
        };
        if !caller.allows(scope) {
            return Err(status::no_scope(scope));
        }
        if all_queues && !caller.may_use_all_queues() {
            return Err(status::no_queue("*"));
        }
        Ok(caller)
    }
}

impl<S> Layer<S> for AccessLayer {
    type Service = Guard<S>;

    fn layer(&self, inner: S) -> Guard<S> {
        Guard { inner, layer: self.clone() }
    }
}

#[derive(Clone)]
pub(super) struct Guard<S> {
    inner: S,
    layer: AccessLayer,
}

impl<S, B, Body> Service<http::Request<B>> for Guard<S>
where
    S: Service<http::Request<B>, Response = http::Response<Body>>,
    Body: Default,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<S::Response, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<B>) -> Self::Future {
        match self.layer.check(&request) {
            Ok(caller) => {
                if let Some(caller) = caller {
                    request.extensions_mut().insert(caller);
                }
                Either::Left(self.inner.call(request))
            }
            Err(refusal) => Either::Right(ready(Ok(refusal.into_http()))),
        }
    }
}

impl Context {
    /// Who calls, as the layer found out.
    pub(super) fn caller<T>(&self, request: &tonic::Request<T>) -> Result<Caller, Status> {
        known(request.extensions().get(), self.core.access.is_required())
    }
}

/// Where tokens are required, whoever isn't known is nobody, however he came past the layer.
fn known(caller: Option<&Caller>, is_required: bool) -> Result<Caller, Status> {
    match caller {
        Some(caller) => Ok(caller.clone()),
        None if is_required => Err(status::stranger(Stranger::NoToken)),
        None => Ok(Caller::default()),
    }
}

/// Refuses a queue that isn't the caller's.
pub(super) fn check_queue(caller: &Caller, queue: &str) -> Result<(), Status> {
    if caller.may_use(queue) { Ok(()) } else { Err(status::no_queue(queue)) }
}

/// The stream, until the caller's token isn't valid any more.
pub(super) fn while_valid<T: Send + 'static>(
    caller: &Caller,
    stream: impl Stream<Item = Result<T, Status>> + Send + 'static,
) -> BoxStream<'static, Result<T, Status>> {
    let Some(ended) = caller.ended() else { return stream.boxed() };
    let refusal = ended.clone();
    let refusal =
        async move { refusal.is_cancelled().then(|| Err(status::stranger(Stranger::BadToken))) };
    let refusal = stream::once(refusal).filter_map(ready);
    stream.take_until(ended.cancelled_owned().boxed()).chain(refusal).boxed()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message;
    use prost_types::FileDescriptorSet;

    use super::*;

    #[test]
    fn who_is_not_known_is_let_in_only_where_everybody_is() {
        assert!(known(Some(&Caller::default()), true).is_ok());
        assert!(known(None, false).is_ok());
        let refused = known(None, true).expect_err("nobody knows him");
        assert_eq!(refused.code(), Code::Unauthenticated);
    }

    #[test]
    fn every_rpc_of_the_contract_has_its_line() {
        let files = FileDescriptorSet::decode(currant_proto::DESCRIPTORS).expect("descriptors");
        let mut in_contract = BTreeSet::new();
        for file in &files.file {
            for service in &file.service {
                for method in &service.method {
                    in_contract.insert(format!(
                        "/{}.{}/{}",
                        file.package(),
                        service.name(),
                        method.name()
                    ));
                }
            }
        }
        let listed = ACCESS.iter().map(|(path, _)| (*path).to_owned());
        let listed: BTreeSet<_> = listed.filter(|path| path.starts_with("/currant.")).collect();
        assert_eq!(listed, in_contract, "ACCESS and the contract differ");
        let open: Vec<_> = ACCESS.iter().filter(|(_, needs)| *needs == Needs::Nothing).collect();
        assert!(open.iter().all(|(path, _)| path.starts_with("/grpc.health.")), "{open:?}");
    }
}
