//! What the machine says about the run: CPU and memory of the processes, counters of Postgres.

pub(crate) mod machine;
pub(crate) mod postgres;
pub(crate) mod process;
