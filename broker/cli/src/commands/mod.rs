//! A file for each thing that there are commands for.

pub(crate) mod dead;
pub(crate) mod doctor;
pub(crate) mod enqueue;
pub(crate) mod job;
pub(crate) mod queue;
pub(crate) mod queue_set;
pub(crate) mod schedule;
pub(crate) mod token;
pub(crate) mod top;
pub(crate) mod worker;
