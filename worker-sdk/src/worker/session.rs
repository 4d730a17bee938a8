//! The task that keeps a worker's session: its stream, its heartbeats, its completions and what it
//! holds. [`Session::wait`] waits, the rest changes state and starts calls. It never runs a handler:
//! a handler that blocks its thread stops no heartbeat.

use std::{collections::HashMap, sync::Arc};

use currant_proto::v1::{
    Assignments, CompleteRequest, CompleteResponse, Completion, HeartbeatRequest,
    HeartbeatResponse, LeaseLost, SubscribeRequest, Welcome, subscribe_response::Message,
    worker_service_client::WorkerServiceClient,
};
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, transport::Channel};

use super::{
    Settings,
    attempts::{Attempt, from_proto},
    call::Call,
    heartbeat::Heartbeats,
    held::Held,
    link::{Link, LinkEvent},
    outbox::{Limits, Outbox, Refused},
    outcome::attempt_of,
    runner::{Command, Runner},
    shutdown::{Due, Shutdown},
    timer::Timer,
    verdict,
};
use crate::{
    error::{Error, WorkerError},
    handler::HandlerService,
    retry::Backoff,
};
