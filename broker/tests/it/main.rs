//! A broker process on a real Postgres, driven over gRPC.
//!
//! `support` starts one Postgres for the whole run, makes a fresh database for each test from a
//! template, starts brokers as processes, and speaks as a worker by the protocol alone.

#![allow(clippy::unwrap_used)]

mod brokers;
mod crash;
mod database;
mod dispatch;
mod enqueue;
mod flood;
mod garbage;
mod idempotency;
mod order;
mod outcomes;
mod refusals;
mod schedule;
mod sdk;
mod sessions;
mod shutdown;
mod cli;
mod http;
mod idle;
mod plans;
mod python;
mod reflection;
mod schema;
mod smoke;
mod sql;
mod support;
mod verdicts;
