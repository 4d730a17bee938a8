//! For tests of programs that have workers, with the feature `testing`: a handler run inline on a job
//! ([`TestJob`]), and a broker with a Postgres of its own ([`TestBroker`]), at which jobs can be looked for.
//! `docs/worker-sdk.md` has an example of each.

mod broker;
mod job;
mod recorder;

pub use self::{
    broker::{TestBroker, TestBrokerError},
    job::{Outcome, Ran, TestJob},
};
