//! The program against a real broker and a real Postgres: what it prints, and how it exits.

#![allow(clippy::unwrap_used)]

mod jobs;
mod queues;
mod schedules;
mod support;
mod tokens;
mod usage;
mod workers;
