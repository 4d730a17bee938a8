use super::{Dispatcher, SessionId, UnknownSession};
use crate::domain::{Attempt, JobKey};

impl Dispatcher {
    /// The jobs of attempts that the session holds, each at its place; `None`: it doesn't.
    pub fn held_by(
        &self,
        session: SessionId,
        attempts: impl IntoIterator<Item = Attempt>,
    ) -> Result<Vec<Option<JobKey>>, UnknownSession> {
        let index = *self.by_id.get(&session).ok_or(UnknownSession)?;
        let leases = &self.sessions[index].leases;
        let key = |Attempt { id, number }: Attempt| {
            let lease = leases.get(&id).filter(|lease| lease.attempt == number)?;
            Some(JobKey { queue: lease.queue, id })
        };
        Ok(attempts.into_iter().map(key).collect())
    }
}
