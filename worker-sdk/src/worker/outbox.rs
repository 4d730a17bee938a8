//! Which outcomes go into the next Complete: a batch grows while another is in flight, and is
//! bounded by what the broker's Welcome says. Pure: no clock, no I/O.

use std::collections::VecDeque;

use currant_proto::v1::{Completion, Failed, Welcome, completion::Outcome};
use prost::Message;

use super::{
    attempts::Attempt,
    outcome::{attempt_of, discarded},
};

/// The rest of a Complete message: session id, sequence, and some to spare.
const OVERHEAD_BYTES: usize = 256;
/// Tag and length of one item of the list.
const ITEM_OVERHEAD_BYTES: usize = 8;

/// What one Complete may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    completions_max: usize,
    result_bytes_max: usize,
    message_bytes_max: usize,
}

impl Default for Limits {
    /// The defaults of the contract.
    fn default() -> Limits {
        Limits { completions_max: 10_000, result_bytes_max: 1 << 20, message_bytes_max: 4 << 20 }
    }
}

impl Limits {
    /// What a Welcome says; what it leaves out is the default.
    pub(super) fn of(welcome: &Welcome) -> Limits {
        let default = Limits::default();
        let or = |value: u32, default: usize| match value {
            0 => default,
            value => value as usize,
        };
        let message_bytes_max = or(welcome.message_bytes_max, default.message_bytes_max);
        let room = message_bytes_max.saturating_sub(2 * OVERHEAD_BYTES);
        Limits {
            completions_max: or(welcome.completions_max, default.completions_max),
            result_bytes_max: or(welcome.result_bytes_max, default.result_bytes_max).min(room),
            message_bytes_max,
        }
    }
}

/// Outcomes on their way to the broker, oldest first.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    limits: Limits,
    waiting: VecDeque<Completion>,
    in_flight: Vec<Completion>,
    /// Set while an item that the broker refuses is being looked for: at most so many go together.
    narrowed: Option<usize>,
    /// Already sent in a form that the broker must take.
    replaced: Option<Attempt>,
}

/// What became of a batch that the broker refused as malformed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It goes again in smaller parts, or with its only item replaced by a failure.
    Retried,
    /// Even the failure was refused: this outcome can't be reported.
    Dropped(Attempt),
}

impl Outbox {
    pub(super) fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    pub(super) fn push(&mut self, completion: Completion) {
        self.waiting.push_back(completion);
    }

    /// The next batch, if something waits and nothing is in flight.
    pub(super) fn next_batch(&mut self) -> Option<&[Completion]> {
        if !self.in_flight.is_empty() || self.waiting.is_empty() {
            return None;
        }
        let items_max = self.narrowed.unwrap_or(usize::MAX).min(self.limits.completions_max);
        let mut bytes = OVERHEAD_BYTES;
        while self.in_flight.len() < items_max
            && let Some(mut next) = self.waiting.pop_front()
        {
            fit(&mut next, self.limits.result_bytes_max);
            bytes += next.encoded_len() + ITEM_OVERHEAD_BYTES;
            if bytes > self.limits.message_bytes_max && !self.in_flight.is_empty() {
                self.waiting.push_front(next);
                break;
            }
            self.in_flight.push(next);
        }
        Some(&self.in_flight)
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// The batch in flight has its verdicts.
    pub(super) fn answered(&mut self) -> Vec<Completion> {
        self.replaced = None;
        self.narrowed =
            self.narrowed.map(|most| most * 2).filter(|most| *most < self.limits.completions_max);
        std::mem::take(&mut self.in_flight)
    }

    /// The batch in flight has to be sent again.
    pub(super) fn failed(&mut self) {
        for completion in self.in_flight.drain(..).rev() {
            self.waiting.push_front(completion);
        }
    }

    /// The batch in flight was refused as malformed. It is halved until the culprit is alone.
    pub(super) fn refused(&mut self, why: &str) -> Refused {
        let items = self.in_flight.len();
        let culprit = if items == 1 { self.in_flight.first_mut() } else { None };
        let Some(culprit) = culprit else {
            self.narrowed = Some((items / 2).max(1));
            self.failed();
            return Refused::Retried;
        };
        let attempt = attempt_of(culprit);
        if self.replaced == Some(attempt) {
            self.replaced = None;
            self.in_flight.clear();
            return Refused::Dropped(attempt);
        }
        culprit.outcome = Some(discarded(format!("the broker refused the outcome: {why}")));
        self.replaced = Some(attempt);
        self.failed();
        Refused::Retried
    }
}

/// An outcome that is too large would be refused for ever: it becomes a failure that says so.
fn fit(completion: &mut Completion, result_bytes_max: usize) {
    let bytes = match &completion.outcome {
        Some(Outcome::Succeeded(success)) => success.result.len(),
        Some(Outcome::Failed(Failed { error, class, details, .. })) => {
            error.len() + class.len() + details.len()
        }
        _ => 0,
    };
    if bytes > result_bytes_max {
        let error = format!("the result has {bytes} bytes, at most {result_bytes_max} are taken");
        completion.outcome = Some(discarded(error));
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{job::JobId, output::Output, worker::outcome::ended};

    fn success(job: i64, bytes: usize) -> Completion {
        let result = Ok(Output::Result(Bytes::from(vec![0; bytes])));
        ended(Attempt { job: JobId(job), number: 1 }, result, false)
    }

    fn is_empty(outbox: &Outbox) -> bool {
        outbox.in_flight.is_empty() && outbox.waiting.is_empty()
    }

    fn batch(outbox: &mut Outbox) -> Vec<i64> {
        outbox.next_batch().unwrap_or_default().iter().map(|one| one.job_id).collect()
    }

    #[test]
    fn a_batch_grows_while_another_is_in_flight() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.next_batch(), None);
        outbox.push(success(1, 0));
        assert_eq!(batch(&mut outbox), [1]);
        outbox.push(success(2, 0));
        outbox.push(success(3, 0));
        assert_eq!(outbox.next_batch(), None, "one is in flight");
        outbox.failed();
        assert_eq!(batch(&mut outbox), [1, 2, 3], "sent again, in order, with what came");
        assert_eq!(outbox.answered().len(), 3);
        assert!(is_empty(&outbox));
    }

    #[test]
    fn items_and_bytes_are_bounded() {
        let mut outbox = Outbox::default();
        outbox.set_limits(Limits::of(&Welcome {
            completions_max: 3,
            result_bytes_max: 4000,
            message_bytes_max: 8192,
            ..Welcome::default()
        }));
        (0..4).for_each(|id| outbox.push(success(id, 10)));
        assert_eq!(batch(&mut outbox), [0, 1, 2]);
        outbox.answered();
        outbox.push(success(4, 3990));
        outbox.push(success(5, 3990));
        assert_eq!(batch(&mut outbox), [3, 4]);
        outbox.answered();
        outbox.push(success(6, 4001));
        let sent = outbox.next_batch().unwrap_or_default();
        assert!(sent.iter().map(Message::encoded_len).sum::<usize>() < 8192);
        let too_large = |one: &Completion| match &one.outcome {
            Some(Outcome::Failed(failed)) => failed.discard,
            _ => false,
        };
        assert!(too_large(&sent[1]));
    }

    #[test]
    fn the_one_bad_item_of_a_batch_is_found_and_dropped_at_last() {
        let mut outbox = Outbox::default();
        (0..10).for_each(|id| outbox.push(success(id, 0)));
        let (mut stored, mut calls) = (Vec::new(), 0);
        let dropped = loop {
            let sent = batch(&mut outbox);
            calls += 1;
            assert!(calls < 30, "it must not go on for ever");
            if !sent.contains(&6) {
                stored.extend(sent);
                outbox.answered();
            } else if let Refused::Dropped(attempt) = outbox.refused("bad") {
                break attempt;
            }
        };
        assert_eq!(dropped.job, JobId(6));
        while !is_empty(&outbox) {
            stored.extend(batch(&mut outbox));
            outbox.answered();
        }
        stored.sort_unstable();
        assert_eq!(stored, [0, 1, 2, 3, 4, 5, 7, 8, 9]);
    }

    #[test]
    fn a_refused_item_becomes_a_failure() {
        let mut outbox = Outbox::default();
        outbox.push(success(1, 0));
        batch(&mut outbox);
        assert_eq!(outbox.refused("too odd"), Refused::Retried);
        let expected = discarded("the broker refused the outcome: too odd".into());
        let sent = outbox.next_batch().unwrap_or_default();
        assert_eq!(sent[0].outcome, Some(expected));
    }

    #[test]
    fn limits_that_are_left_out_have_defaults() {
        assert_eq!(Limits::of(&Welcome::default()), Limits::default());
    }
}
