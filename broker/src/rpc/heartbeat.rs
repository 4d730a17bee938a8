use currant_proto::v1 as pb;
use tonic::Status;

use super::{Context, check, convert, status, status::Violations};
use crate::engine::{Heartbeat, ToStop, UnknownSession};

impl Context {
    pub(super) fn heartbeat(
        &self,
        request: pb::HeartbeatRequest,
    ) -> Result<pb::HeartbeatResponse, Status> {
        let pb::HeartbeatRequest { session_id, epoch, received_seq, held, max_in_flight } = request;
        let mut violations = Violations::default();
        let session = check::session(&session_id)
            .map_err(|problem| violations.add("session_id", problem))
            .ok();
        let in_flight_max = self.settings.max_in_flight_max;
        if let Err(problem) = check::count(held.len(), 0, in_flight_max as usize) {
            violations.add("held", problem);
        }
        if let Some(credit) = max_in_flight
            && credit > in_flight_max
        {
            violations.add("max_in_flight", format!("0 to {in_flight_max}; this is {credit}"));
        }
        let held = convert::attempts(held).unwrap_or_else(|(index, problem)| {
            violations.add(format!("held[{index}].attempt"), problem);
            Vec::new()
        });
        violations.into_result()?;
        let max_in_flight = max_in_flight.map(|credit| credit as usize);
        let ToStop { cancelled, lost } = session
            .map(|session| Heartbeat { session, epoch, received_seq, held, max_in_flight })
            .ok_or(UnknownSession)
            .and_then(|heartbeat| self.core.heartbeat(&heartbeat))
            .map_err(|UnknownSession| status::not_found("session", session_id))?;
        Ok(pb::HeartbeatResponse {
            cancelled: convert::pb_attempts(cancelled),
            lost: convert::pb_attempts(lost),
        })
    }
}
