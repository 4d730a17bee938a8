use currant_proto::v1 as pb;
use tonic::Status;

use super::{Context, check, convert, status, status::Violations};
use crate::{
    domain::{Attempt, ProgressReport},
    engine::SessionId,
};

const REPORTS_MAX: usize = 1000;
const MESSAGE_CHARS_MAX: usize = 256;

impl Context {
    pub(super) async fn report_progress(
        &self,
        request: pb::ReportProgressRequest,
    ) -> Result<pb::ReportProgressResponse, Status> {
        let pb::ReportProgressRequest { session_id, reports } = request;
        let mut violations = Violations::default();
        let session = session(&session_id, &mut violations);
        if let Err(problem) = check::count(reports.len(), 1, REPORTS_MAX) {
            violations.add("reports", problem);
        }
        let mut checked = Vec::with_capacity(reports.len().min(REPORTS_MAX));
        for (index, report) in reports.into_iter().take(REPORTS_MAX).enumerate() {
            match checked_report(report, self.settings.checkpoint_bytes_max) {
                Ok(report) => checked.push(report),
                Err((field, problem)) => {
                    violations.add(format!("reports[{index}].{field}"), problem);
                }
            }
        }
        violations.into_result()?;
        let reported = self.core.report_progress(session, checked).await;
        let lost = reported.map_err(|error| status::of(&error))?;
        let lost = lost.ok_or_else(|| status::not_found("session", session_id))?;
        Ok(pb::ReportProgressResponse { lost: convert::pb_attempts(lost) })
    }

    pub(super) async fn get_checkpoint(
        &self,
        request: pb::GetCheckpointRequest,
    ) -> Result<pb::GetCheckpointResponse, Status> {
        let pb::GetCheckpointRequest { session_id, job_id, attempt } = request;
        let mut violations = Violations::default();
        let session = session(&session_id, &mut violations);
        let attempt = convert::attempt_of(job_id, attempt)
            .map_err(|problem| violations.add("attempt", problem))
            .ok();
        violations.into_result()?;
        let held = match attempt {
            Some(attempt) => self.core.checkpoint(session, attempt).await,
            None => Ok(None),
        };
        let held = held.map_err(|error| status::of(&error))?;
        let checkpoint = held.ok_or_else(|| status::not_found("attempt", job_id.to_string()))?;
        Ok(pb::GetCheckpointResponse { checkpoint: checkpoint.unwrap_or_default() })
    }
}

fn session(id: &str, violations: &mut Violations) -> SessionId {
    check::session(id).unwrap_or_else(|problem| {
        violations.add("session_id", problem);
        SessionId(0)
    })
}

pub(super) fn checked_report(
    report: pb::ProgressReport,
    checkpoint_bytes_max: usize,
) -> Result<(Attempt, ProgressReport), (&'static str, String)> {
    let pb::ProgressReport { job_id, attempt, percent, message, checkpoint } = report;
    let attempt = convert::attempt_of(job_id, attempt).map_err(|problem| ("attempt", problem))?;
    if let Some(percent) = percent.filter(|percent| !(0.0..=100.0).contains(percent)) {
        return Err(("percent", format!("0 to 100; this is {percent}")));
    }
    if let Some(message) = &message {
        check::text(message, MESSAGE_CHARS_MAX).map_err(|problem| ("message", problem))?;
    }
    if let Some(checkpoint) = &checkpoint {
        check::bytes(checkpoint, checkpoint_bytes_max)
            .map_err(|problem| ("checkpoint", problem))?;
    }
    Ok((attempt, ProgressReport { percent, message, checkpoint }))
}
