use std::time::SystemTime;

use clap::{Args, ValueEnum};
use currant_worker_sdk::{JobFilter, JobId, JobState};

use crate::values;

/// How many jobs a call lists at most.
pub(crate) const PAGE_SIZE_MAX: u32 = 500;

/// Which jobs of a queue are meant. All that is given has to hold.
#[derive(Args)]
pub(crate) struct FilterArgs {
    /// Of this kind
    #[arg(long)]
    kind: Option<String>,
    /// Whose last error contains this, in upper or lower case
    #[arg(long, value_name = "TEXT")]
    error: Option<String>,
    /// With this tag; NAME=VALUE for metadata
    #[arg(long)]
    tag: Option<String>,
    /// Stored then or later: a time, or how long ago, as 2h
    #[arg(long, value_name = "TIME", value_parser = values::past)]
    from: Option<SystemTime>,
    /// Stored before: a time, or how long ago
    #[arg(long, value_name = "TIME", value_parser = values::past)]
    before: Option<SystemTime>,
    /// With greater ids
    #[arg(long, value_name = "ID")]
    above: Option<JobId>,
    /// With smaller ids
    #[arg(long, value_name = "ID")]
    below: Option<JobId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum StateArg {
    Scheduled,
    Ready,
    Running,
    Succeeded,
    Dead,
    Cancelled,
}

impl StateArg {
    pub(crate) fn state(self) -> JobState {
        match self {
            StateArg::Scheduled => JobState::Scheduled,
            StateArg::Ready => JobState::Ready,
            StateArg::Running => JobState::Running,
            StateArg::Succeeded => JobState::Succeeded,
            StateArg::Dead => JobState::Dead,
            StateArg::Cancelled => JobState::Cancelled,
        }
    }
}

/// Jobs of a queue that are to be changed.
pub(crate) struct Meant {
    pub(crate) queue: String,
    /// Empty: not said.
    pub(crate) states: Vec<StateArg>,
    pub(crate) filter: FilterArgs,
    /// That they are meant was said.
    pub(crate) yes: bool,
}

impl FilterArgs {
    /// Nothing is given.
    pub(crate) fn is_empty(&self) -> bool {
        let FilterArgs { kind, error, tag, from, before, above, below } = self;
        kind.is_none()
            && error.is_none()
            && tag.is_none()
            && from.is_none()
            && before.is_none()
            && above.is_none()
            && below.is_none()
    }

    pub(crate) fn filter(self, queue: String, states: &[StateArg]) -> JobFilter {
        let FilterArgs { kind, error, tag, from, before, above, below } = self;
        let filter = JobFilter::queue(queue);
        let filter = states.iter().fold(filter, |filter, state| filter.state(state.state()));
        let filter = with(filter, kind, JobFilter::kind);
        let filter = with(filter, error, JobFilter::error);
        let filter = with(filter, tag, JobFilter::tag);
        let filter = with(filter, from, JobFilter::created_from);
        let filter = with(filter, before, JobFilter::created_before);
        let filter = with(filter, above, JobFilter::above);
        with(filter, below, JobFilter::below)
    }
}

fn with<T>(
    filter: JobFilter,
    value: Option<T>,
    set: impl FnOnce(JobFilter, T) -> JobFilter,
) -> JobFilter {
    match value {
        Some(value) => set(filter, value),
        None => filter,
    }
}
