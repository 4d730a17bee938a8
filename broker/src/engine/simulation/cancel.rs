use std::time::Duration;

use super::{
    World,
    model::{Phase, Row},
};
use crate::{
    domain::{JobId, JobKey},
    engine::Action,
};

impl World {
    pub(super) fn open(&self) -> impl Iterator<Item = JobId> + '_ {
        let open = |row: &Row| matches!(row.phase, Phase::Ready | Phase::Taken);
        self.rows.iter().filter(move |(_, row)| open(row)).map(|(id, _)| *id)
    }

    pub(super) fn cancel(&mut self, id: JobId) {
        let row = self.rows.get_mut(&id).unwrap();
        if row.phase == Phase::Taken {
            self.untold.push((JobKey { queue: row.queue, id }, row.attempt));
            row.attempt += 1;
        }
        row.phase = Phase::Cancelled;
    }

    pub(super) fn tell_cancelled(&mut self, actions: &mut Vec<Action>) {
        let expect = Duration::from_secs(60);
        let untold = std::mem::take(&mut self.untold);
        self.dispatcher.cancelled(self.now, &untold, expect, actions);
    }

    pub(super) fn retry(&mut self, which: usize, actions: &mut Vec<Action>) {
        let cancelled = |(_, row): &(&JobId, &Row)| row.phase == Phase::Cancelled;
        let ids: Vec<JobId> = self.rows.iter().filter(cancelled).map(|(id, _)| *id).collect();
        if ids.is_empty() {
            return;
        }
        let id = ids[which % ids.len()];
        let row = self.rows.get_mut(&id).unwrap();
        row.phase = Phase::Ready;
        let row = *row;
        self.became_ready(id, row, actions);
    }
}
