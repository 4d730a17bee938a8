use std::{
    cmp::Reverse,
    collections::{BTreeMap, VecDeque},
};

use crate::{
    domain::{JobId, TakenJob},
    mutation::{self, Mutation},
};

/// The taken jobs of one queue that no session has yet: higher priority first, then by id. Those with keys
/// beside them, in the order in which their keys had turns; where there are both, they alternate.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    levels: BTreeMap<Reverse<i16>, VecDeque<TakenJob>>,
    keyed: VecDeque<TakenJob>,
    /// Whether the next is one with a key.
    keyed_is_next: bool,
    len: usize,
    bytes: usize,
    /// No job of it expires earlier, in microseconds since 1970.
    first_expiry: Option<i64>,
}

impl Buffer {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn lowest_priority(&self) -> Option<i16> {
        self.levels.last_key_value().map(|(priority, _)| priority.0)
    }

    pub(super) fn push(&mut self, job: TakenJob) {
        self.len += 1;
        self.bytes += job.bytes();
        self.first_expiry = earlier(self.first_expiry, job.expires_at());
        if job.key.is_some() {
            self.keyed.push_back(job);
            return;
        }
        let level = self.levels.entry(Reverse(job.priority)).or_default();
        // Ids come nearly in order: the end is nearly always the place.
        if level.back().is_none_or(|last| last.id < job.id) {
            level.push_back(job);
        } else {
            let at = level.partition_point(|other| other.id < job.id);
            level.insert(at, job);
        }
    }

    /// Removes the first `count` jobs, or as many as there are and as `bytes` hold; at least one.
    pub(super) fn take(&mut self, count: usize, bytes: usize) -> Vec<TakenJob> {
        if !self.keyed.is_empty() {
            return self.take_in_turns(count, bytes);
        }
        let mut taken = Vec::with_capacity(count.min(self.len));
        let mut used = 0;
        while taken.len() < count
            && let Some(mut level) = self.levels.first_entry()
        {
            let jobs = level.get_mut();
            let fits = |job: &&TakenJob| {
                used += job.bytes();
                used <= bytes
            };
            let left = count - taken.len();
            let fitting = jobs.iter().take(left).take_while(fits).count();
            let share = if taken.is_empty() { fitting.max(1) } else { fitting };
            taken.extend(jobs.drain(..share));
            if jobs.is_empty() {
                level.remove();
            }
            if used > bytes {
                break;
            }
        }
        self.note_removed(&taken);
        taken
    }

    fn take_in_turns(&mut self, count: usize, bytes: usize) -> Vec<TakenJob> {
        let mut taken = Vec::with_capacity(count.min(self.len));
        let mut used = 0;
        while taken.len() < count {
            let keyed = self.levels.is_empty() || self.keyed_is_next && !self.keyed.is_empty();
            let job = if keyed {
                self.keyed.pop_front()
            } else {
                self.levels.first_entry().and_then(|mut level| {
                    let job = level.get_mut().pop_front();
                    if level.get().is_empty() {
                        level.remove();
                    }
                    job
                })
            };
            let Some(job) = job else { break };
            used += job.bytes();
            self.keyed_is_next = !keyed;
            taken.push(job);
            if used >= bytes {
                break;
            }
        }
        self.note_removed(&taken);
        taken
    }

    /// Removes the last `count` jobs, or as many as there are: the least urgent, those with keys before.
    pub(super) fn take_last(&mut self, count: usize) -> Vec<TakenJob> {
        let keyed = self.keyed.split_off(self.keyed.len().saturating_sub(count));
        let mut taken = Vec::from(keyed);
        while taken.len() < count
            && let Some(mut level) = self.levels.last_entry()
        {
            match level.get_mut().pop_back() {
                Some(job) => taken.push(job),
                None => {
                    level.remove();
                }
            }
        }
        self.levels.retain(|_, jobs| !jobs.is_empty());
        self.note_removed(&taken);
        taken
    }

    /// Removes the job, if it is here under this attempt.
    pub(super) fn remove(&mut self, id: JobId, attempt: i32) -> Option<TakenJob> {
        let same = |job: &TakenJob| (job.id, job.attempt) == (id, attempt);
        if let Some(at) = self.keyed.iter().position(same) {
            let job = self.keyed.remove(at)?;
            self.note_removed(std::slice::from_ref(&job));
            return Some(job);
        }
        let (&priority, at) = self.levels.iter().find_map(|(priority, jobs)| {
            let from = jobs.partition_point(|job| job.id < id);
            // An attempt that was cancelled and the one after it may be here together.
            let same = jobs.range(from..).take_while(|job| job.id == id);
            let at = same.map(|job| job.attempt).position(|number| number == attempt)?;
            Some((priority, from + at))
        })?;
        let level = self.levels.get_mut(&priority)?;
        let job = level.remove(at)?;
        if level.is_empty() {
            self.levels.remove(&priority);
        }
        self.note_removed(std::slice::from_ref(&job));
        Some(job)
    }

    /// Removes those that may not start any more.
    pub(super) fn take_expired(&mut self, now_micros: i64) -> Vec<TakenJob> {
        let none = self.first_expiry.is_none_or(|at| now_micros <= at);
        if none || mutation::on(Mutation::NoExpiry) {
            return Vec::new();
        }
        let mut taken = Vec::new();
        for jobs in self.levels.values_mut().chain([&mut self.keyed]) {
            let expired = |job: &TakenJob| job.expires_at().is_some_and(|at| now_micros > at);
            let (gone, left): (VecDeque<_>, VecDeque<_>) =
                std::mem::take(jobs).into_iter().partition(expired);
            taken.extend(gone);
            *jobs = left;
        }
        self.levels.retain(|_, jobs| !jobs.is_empty());
        self.first_expiry = self.iter().map(TakenJob::expires_at).fold(None, earlier);
        self.note_removed(&taken);
        taken
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &TakenJob> {
        self.levels.values().flatten().chain(&self.keyed)
    }

    fn note_removed(&mut self, jobs: &[TakenJob]) {
        self.len -= jobs.len();
        self.bytes -= jobs.iter().map(TakenJob::bytes).sum::<usize>();
    }
}

fn earlier(a: Option<i64>, b: Option<i64>) -> Option<i64> {
    a.into_iter().chain(b).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::JobOptions;

    fn job(id: i64, priority: i16) -> TakenJob {
        TakenJob {
            id: JobId(id),
            attempt: 1,
            priority,
            failures: 0,
            max_attempts: None,
            run_at: None,
            kind: String::new(),
            payload: bytes::Bytes::new(),
            options: None,
            key: None,
        }
    }

    fn ids(jobs: Vec<TakenJob>) -> Vec<i64> {
        jobs.into_iter().map(|job| job.id.0).collect()
    }

    #[test]
    fn priority_first_then_by_id_whatever_the_order_of_arrival() {
        let mut buffer = Buffer::default();
        for (id, priority) in [(5, 0), (3, 0), (4, 9), (1, -1), (6, 9), (2, 0)] {
            buffer.push(job(id, priority));
        }
        assert_eq!(ids(buffer.take(3, usize::MAX)), [4, 6, 2]);
        assert_eq!(ids(buffer.take(9, usize::MAX)), [3, 5, 1]);
        assert_eq!((buffer.len(), buffer.bytes()), (0, 0));
    }

    #[test]
    fn takes_as_many_as_the_bytes_hold_and_at_least_one() {
        let mut buffer = Buffer::default();
        for id in 1..=5 {
            buffer.push(job(id, 0));
        }
        buffer.push(job(6, -1));
        let one = job(1, 0).bytes();
        assert_eq!(ids(buffer.take(9, 2 * one)), [1, 2]);
        assert_eq!(ids(buffer.take(9, one - 1)), [3]);
        assert_eq!(ids(buffer.take(9, 3 * one)), [4, 5, 6]);
    }

    #[test]
    fn one_job_can_be_removed_by_id_and_attempt() {
        let mut buffer = Buffer::default();
        for (id, priority) in [(5, 0), (3, 9), (1, -1), (2, 0)] {
            buffer.push(job(id, priority));
        }
        assert!(buffer.remove(JobId(5), 2).is_none() && buffer.remove(JobId(4), 1).is_none());
        assert_eq!(buffer.remove(JobId(3), 1).map(|job| job.priority), Some(9));
        assert_eq!(buffer.remove(JobId(5), 1).map(|job| job.priority), Some(0));
        assert_eq!(ids(buffer.take(9, usize::MAX)), [2, 1]);
        assert_eq!((buffer.len(), buffer.bytes(), buffer.lowest_priority()), (0, 0, None));
    }

    #[test]
    fn what_expires_goes_when_its_time_has_passed() {
        let mut buffer = Buffer::default();
        let job = |id, priority, expires_at| {
            let options = JobOptions { expires_at, ..JobOptions::default() };
            TakenJob { options: Some(Box::new(options)), ..job(id, priority) }
        };
        for (id, priority, expires_at) in [(1, 0, Some(50)), (2, 9, Some(90)), (3, 0, None)] {
            buffer.push(job(id, priority, expires_at));
        }
        buffer.push(TakenJob { key: Some("a".into()), ..job(4, 0, Some(70)) });
        assert!(buffer.take_expired(50).is_empty());
        assert_eq!(ids(buffer.take_expired(51)), [1]);
        assert_eq!(ids(buffer.take_expired(90)), [4]);
        assert_eq!(ids(buffer.take_expired(91)), [2]);
        assert_eq!((buffer.len(), buffer.lowest_priority()), (1, Some(0)));
        assert_eq!(buffer.bytes(), job(3, 0, None).bytes());
    }

    #[test]
    fn those_with_keys_come_as_their_keys_had_turns_and_alternate_with_others() {
        let mut buffer = Buffer::default();
        let keyed = |id| TakenJob { key: Some("a".into()), ..job(id, 0) };
        for one in [keyed(9), keyed(3), keyed(5), job(1, 0), job(2, 7), keyed(4)] {
            buffer.push(one);
        }
        assert_eq!(ids(buffer.take(1, usize::MAX)), [2]);
        assert_eq!(ids(buffer.take(3, usize::MAX)), [9, 1, 3]);
        assert_eq!(buffer.remove(JobId(5), 1).map(|job| job.id), Some(JobId(5)));
        buffer.push(job(6, 0));
        assert_eq!(ids(buffer.take_last(1)), [4]);
        buffer.push(keyed(4));
        assert_eq!(ids(buffer.take(9, 1)), [6]);
        assert_eq!(ids(buffer.take(9, usize::MAX)), [4]);
        assert_eq!((buffer.len(), buffer.bytes(), buffer.iter().count()), (0, 0, 0));
    }

    #[test]
    fn gives_back_the_least_urgent_first() {
        let mut buffer = Buffer::default();
        for (id, priority) in [(1, 0), (2, 9), (3, 0)] {
            buffer.push(job(id, priority));
        }
        assert_eq!(ids(buffer.take_last(2)), [3, 1]);
        assert_eq!(buffer.lowest_priority(), Some(9));
        assert_eq!(buffer.len(), 1);
    }
}
