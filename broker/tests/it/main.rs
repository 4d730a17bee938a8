//! A broker process on a real Postgres, driven over gRPC.
//!
//! `support` starts one Postgres for the whole run, makes a fresh database for each test from a
//! template, starts brokers as processes, and speaks as a worker by the protocol alone.

#![allow(clippy::unwrap_used)]

mod abuse;
mod access;
mod beside;
mod brokers;
mod cancel;
mod change_all;
mod cli;
mod crash;
mod cron;
mod database;
mod dispatch;
mod doctor;
mod enqueue;
mod errors;
mod explain;
mod flood;
mod garbage;
mod http;
mod idempotency;
mod idle;
mod json;
mod list;
mod memory;
mod metrics;
mod order;
mod outcomes;
mod plans;
mod pooler;
mod progress;
mod prune;
mod python;
mod queues;
mod rare;
mod reflection;
mod refusals;
mod retry;
mod roles;
mod samples;
mod schedule;
mod schema;
mod sdk;
mod secrets;
mod sessions;
mod shutdown;
mod smoke;
mod sql;
mod sql_jobs;
mod support;
mod tls;
mod tokens;
mod transaction;
mod unique;
mod upgrade;
mod verdicts;
mod watch;
