use currant_proto::v1 as pb;
use tonic::Status;

use super::{Context, check, convert, status, status::Violations};
use crate::{
    domain::{Attempt, Completion},
    engine::SessionId,
    pipeline::Caller,
    traces::{Time, Traced},
};

impl Context {
    pub(super) async fn complete(
        &self,
        caller: &Caller,
        request: pb::CompleteRequest,
    ) -> Result<pb::CompleteResponse, Status> {
        let pb::CompleteRequest { session_id, completions, received_seq, mean_run_time } = request;
        let mut violations = Violations::default();
        let session = if session_id.is_empty() {
            SessionId(0)
        } else {
            check::session(&session_id).unwrap_or_else(|problem| {
                violations.add("session_id", problem);
                SessionId(0)
            })
        };
        let max = self.settings.completions_per_request_max;
        if let Err(problem) = check::count(completions.len(), 1, max) {
            violations.add("completions", problem);
        }
        let mut checked: Vec<Completion> = Vec::with_capacity(completions.len().min(max));
        for (index, completion) in completions.into_iter().take(max).enumerate() {
            match convert::completion(completion, self.settings.result_bytes_max) {
                Ok(completion) => checked.push(completion),
                Err((field, problem)) => {
                    violations.add(format!("completions[{index}].{field}"), problem);
                }
            }
        }
        let run_time = mean_run_time.and_then(|time| {
            let run_time = check::run_time(&time);
            run_time.map_err(|problem| violations.add("mean_run_time", problem)).ok()
        });
        violations.into_result()?;
        let began = self.core.clock.database_micros();
        let traced = self.traced(&checked);
        let verdicts = self
            .core
            .complete(caller, session, received_seq, run_time, checked)
            .await
            .map_err(|error| status::of(&error))?;
        if let Some(traces) = &self.traces {
            let time = Time { began, ended: self.core.clock.database_micros() };
            for (attempt, outcome, place, traced) in traced {
                traces.completed(time, &traced, attempt, outcome, verdicts[place].as_str());
            }
        }
        let verdicts = verdicts.into_iter().map(|one| convert::verdict(one).into()).collect();
        Ok(pb::CompleteResponse { verdicts })
    }

    /// Of those that are part of a trace: attempt, outcome and place.
    fn traced(&self, completions: &[Completion]) -> Vec<(Attempt, &'static str, usize, Traced)> {
        let Some(traces) = &self.traces else { return Vec::new() };
        let traced = traces.completing(completions.iter().map(|one| one.attempt));
        let about = |(place, traced): (usize, Traced)| {
            let Completion { attempt, outcome, .. } = &completions[place];
            (*attempt, outcome.as_str(), place, traced)
        };
        traced.into_iter().map(about).collect()
    }
}
