//! Tokens and the clients that send them.

use std::process::Command;

use currant_proto::v1::{
    job_service_client::JobServiceClient, queue_service_client::QueueServiceClient,
    schedule_service_client::ScheduleServiceClient, token_service_client::TokenServiceClient,
    worker_service_client::WorkerServiceClient,
};
use tonic::{
    Code, Request, Status,
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};
use tonic_types::StatusExt;

use super::{Broker, Database};

pub(crate) const REQUIRED: (&str, &str) = ("ACCESS__REQUIRED", "true");

/// Puts a token into every call.
#[derive(Clone)]
pub(crate) struct Bearer(pub(crate) String);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let value = format!("Bearer {}", self.0).parse().unwrap();
        request.metadata_mut().insert("authorization", value);
        Ok(request)
    }
}

pub(crate) type Authorized = InterceptedService<Channel, Bearer>;

pub(crate) fn jobs(broker: &Broker, secret: &str) -> JobServiceClient<Authorized> {
    JobServiceClient::with_interceptor(broker.channel(), Bearer(secret.to_owned()))
}

pub(crate) fn queues(broker: &Broker, secret: &str) -> QueueServiceClient<Authorized> {
    QueueServiceClient::with_interceptor(broker.channel(), Bearer(secret.to_owned()))
}

pub(crate) fn schedules(broker: &Broker, secret: &str) -> ScheduleServiceClient<Authorized> {
    ScheduleServiceClient::with_interceptor(broker.channel(), Bearer(secret.to_owned()))
}

pub(crate) fn workers(broker: &Broker, secret: &str) -> WorkerServiceClient<Authorized> {
    WorkerServiceClient::with_interceptor(broker.channel(), Bearer(secret.to_owned()))
}

pub(crate) fn tokens(broker: &Broker, secret: &str) -> TokenServiceClient<Authorized> {
    TokenServiceClient::with_interceptor(broker.channel(), Bearer(secret.to_owned()))
}

/// `currant-broker token` with these words; what it prints.
pub(crate) fn program(database: &Database, words: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_currant-broker"));
    command.arg("token").args(words).env("CURRANT_DATABASE__URL", &database.url);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// The secret of a new token, made at the command line.
pub(crate) fn token(database: &Database, scopes: &str, queue: &str) -> String {
    program(database, &["create", "--name", scopes, "--scope", scopes, "--queue", queue])
}

/// The number within a secret.
pub(crate) fn number(secret: &str) -> i64 {
    secret.split('_').nth(1).unwrap().parse().unwrap()
}

/// Code, reason, and what the details name.
pub(crate) fn refusal(status: &Status) -> (Code, String, Vec<(String, String)>) {
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("{status:?}"));
    assert_eq!(info.domain, "currant");
    (status.code(), info.reason, info.metadata.into_iter().collect())
}

pub(crate) fn named(what: &str, name: &str) -> Vec<(String, String)> {
    vec![(what.to_owned(), name.to_owned())]
}
