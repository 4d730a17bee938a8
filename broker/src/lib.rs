//! Currant's broker: stores jobs in Postgres, streams them to workers over gRPC, records outcomes.
//!
//! Layers, each using only those to its right:
//! `cli -> app -> rpc, http, timers -> pipeline -> store | engine -> domain`.

pub mod app;
pub mod causes;
pub mod cli;
pub mod clock;
pub mod config;
pub mod domain;
pub mod engine;
pub mod http;
pub mod meters;
pub mod mutation;
pub mod pipeline;
pub mod port;
pub mod private_postgres;
pub mod rpc;
pub mod store;
pub mod telemetry;
pub mod timers;
pub mod traces;
