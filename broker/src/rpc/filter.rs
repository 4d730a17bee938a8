use std::sync::Arc;

use currant_proto::v1 as pb;
use tonic::Status;

use super::{access::check_queue, check, status, status::Violations, stored};
use crate::{
    domain::{JobId, Listing, Queue, QueueId, Scope, State, first_id_at_ms},
    pipeline::{Caller, Core},
};

/// As many as there are.
const STATES_MAX: usize = 6;
const ERROR_CHARS_MAX: usize = 128;
/// As long as name=value of metadata can be.
const TAG_CHARS_MAX: usize = 64 + 1 + 256;

/// Which jobs of a queue are meant, checked.
#[derive(Debug)]
pub(super) struct Filter {
    queue: String,
    states: Vec<State>,
    kind: Option<String>,
    error: Option<String>,
    tag: Option<String>,
    above: JobId,
    below: JobId,
}

impl Filter {
    /// `now`: microseconds since 1970. What is wrong is added to the violations.
    pub(super) fn check(filter: pb::JobFilter, now: i64, violations: &mut Violations) -> Self {
        let pb::JobFilter {
            queue,
            states,
            kind,
            created_from,
            created_before,
            above_id,
            below_id,
            error,
            tag,
        } = filter;
        let mut see = |field: &str, result: Result<(), String>| {
            if let Err(problem) = result {
                violations.add(format!("filter.{field}"), problem);
            }
        };
        see("queue", check::name(&queue));
        see("states", check::count(states.len(), 0, STATES_MAX));
        let mut wanted = Vec::new();
        for (index, state) in states.into_iter().take(STATES_MAX).enumerate() {
            match stored::state_of(state) {
                Some(state) if wanted.contains(&state) => {}
                Some(state) => wanted.push(state),
                None => see(&format!("states[{index}]"), Err("not a state of a job".to_owned())),
            }
        }
        if !kind.is_empty() {
            see("kind", check::name(&kind));
        }
        see("error", check::text(&error, ERROR_CHARS_MAX));
        see("tag", check::text(&tag, TAG_CHARS_MAX));
        let (mut above, mut below) = (JobId(i64::MIN), JobId(i64::MAX));
        if let Some(time) = created_from {
            match check::time_micros(&time, now) {
                Ok(micros) => above = JobId(first_id_from(micros).0 - 1),
                Err(problem) => see("created_from", Err(problem)),
            }
        }
        if let Some(time) = created_before {
            match check::time_micros(&time, now) {
                Ok(micros) => below = first_id_from(micros),
                Err(problem) => see("created_before", Err(problem)),
            }
        }
        if above_id != 0 {
            above = above.max(JobId(above_id));
        }
        if below_id != 0 {
            below = below.min(JobId(below_id));
        }
        let given = |text: String| Some(text).filter(|text| !text.is_empty());
        Self {
            queue,
            states: wanted,
            kind: given(kind),
            error: given(error),
            tag: given(tag),
            above,
            below,
        }
    }

    /// The queue, which has to be the caller's, and what to look for in it. The queue isn't created.
    pub(super) async fn listing(
        self,
        core: &Arc<Core>,
        caller: &Caller,
        newest_first: bool,
    ) -> Result<(Arc<Queue>, Listing), Status> {
        let Self { queue: name, states, kind, error, tag, above, below } = self;
        if error.is_some() && !caller.allows(Scope::Read) {
            // It would be known by what is found.
            return Err(status::no_scope(Scope::Read));
        }
        let queue = find_queue(core, caller, &name).await?;
        let queue_id = queue.id;
        let listing =
            Listing { queue: queue_id, states, kind, error, tag, above, below, newest_first };
        Ok((queue, listing))
    }
}

/// A queue that has to be the caller's and to be there.
async fn find_queue(core: &Arc<Core>, caller: &Caller, name: &str) -> Result<Arc<Queue>, Status> {
    check_queue(caller, name)?;
    let found = core.find_queue(name).await;
    found.map_err(|error| status::of(&error))?.ok_or_else(|| status::not_found("queue", name))
}

/// The queue that a request says its jobs are in; `None`: it doesn't say.
pub(super) async fn hint(
    core: &Arc<Core>,
    caller: &Caller,
    name: &str,
) -> Result<Option<QueueId>, Status> {
    if name.is_empty() {
        return Ok(None);
    }
    check::name(name).map_err(|problem| status::invalid("queue", &problem))?;
    Ok(Some(find_queue(core, caller, name).await?.id))
}

/// The smallest id that is made at this time or later, in microseconds since 1970.
fn first_id_from(micros: i64) -> JobId {
    first_id_at_ms(micros.div_euclid(1000) + i64::from(micros.rem_euclid(1000) > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_between_two_milliseconds_begins_with_the_later_one() {
        assert_eq!(first_id_from(5000).created_ms(), 5);
        assert_eq!(first_id_from(5001).created_ms(), 6);
    }
}
