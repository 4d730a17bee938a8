//! The wire: parse, call, reply. The only place that sees generated types.

mod access;
mod admission;
#[cfg(test)]
mod arbitrary;
#[doc(hidden)]
pub mod bench;
mod brokers;
mod cancel;
mod change_all;
mod check;
mod complete;
mod configure;
mod convert;
mod convert_queue;
mod convert_retry;
mod convert_schedule;
mod convert_token;
mod convert_unique;
mod delete;
mod enqueue;
mod explain;
mod filter;
#[doc(hidden)]
pub mod fuzz;
mod get;
mod heartbeat;
mod jobs;
mod json;
mod json_values;
mod list;
mod queues;
mod reading;
mod report_progress;
mod retry;
mod route;
mod schedule;
mod schedules;
mod server;
mod status;
mod stored;
mod subscribe;
mod tokens;
mod verdict;
mod watch;
mod workers;

use std::{sync::Arc, time::Duration};

pub use access::{ACCESS, Needs};
pub use check::AHEAD_MS_MAX;
pub use server::{Services, serve};

use crate::{pipeline::Core, traces::Traces};

/// Limits of requests, and what a Welcome says; see the configuration reference.
#[derive(Clone, Debug)]
pub struct RpcSettings {
    pub message_bytes_max: usize,
    pub streams_per_connection_max: u32,
    pub ping_interval: Duration,
    pub concurrent_requests_max: usize,
    pub jobs_per_request_max: usize,
    pub payload_bytes_max: usize,
    pub completions_per_request_max: usize,
    pub result_bytes_max: usize,
    pub checkpoint_bytes_max: usize,
    pub max_in_flight_max: u32,
    pub queues_per_session_max: usize,
    pub heartbeat_interval: Duration,
    pub keep_alive_interval: Duration,
    pub session_timeout: Duration,
    pub reconnect_grace: Duration,
}

/// A message may have besides its longest list.
const FIELDS: usize = 100;

impl RpcSettings {
    /// No call takes a message of more fields and elements of lists.
    fn fields_max(&self) -> usize {
        let lists = [
            self.jobs_per_request_max,
            self.completions_per_request_max,
            self.max_in_flight_max as usize,
        ];
        lists.into_iter().fold(0, usize::max) + FIELDS
    }
}

/// What every service has.
#[derive(Clone)]
struct Context {
    core: Arc<Core>,
    settings: Arc<RpcSettings>,
    /// None unless spans are wanted.
    traces: Option<Arc<Traces>>,
}
