//! The broker's settings: one struct, read from a TOML file and the environment, checked as a whole
//! before anything starts.
//!
//! The doc comment, the default and the range of a field stand once, at the field in `sections.rs`;
//! what is checked, `docs/configuration.md` and `deploy/currant.example.toml` come from there.

mod check;
mod load;
mod reference;
mod schedules;
mod schema;
mod secret;
mod sections;

pub use self::{
    load::ConfigError,
    reference::{example, reference},
    schedules::{CatchUpKey, OverlapKey, ScheduleEntry, load_schedules},
    secret::Secret,
    sections::{
        Access, Broker, Complete, Config, Database, Dispatch, Enqueue, Grpc, Http, Log, LogFormat,
        QueueDefaults, Retention, Schedules, Session, Telemetry, Tls,
    },
};
