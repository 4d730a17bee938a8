//! All that is known of one job, side by side.

use std::{collections::BTreeMap, fmt};

use super::{Row, rows::SUCCEEDED};
use crate::chaos::{
    fault::Kind,
    history::{Event, Line, Touches, Verdict},
};

#[derive(Debug, Default)]
pub(super) struct JobView<'a> {
    pub(super) id: i64,
    pub(super) acknowledged_at: Option<i64>,
    pub(super) runs: Vec<Run<'a>>,
    pub(super) answers: Vec<Answer>,
    pub(super) cancel_asked: bool,
    pub(super) cancelled: bool,
    pub(super) row: Option<&'a Row>,
    pub(super) lines: Vec<&'a Line>,
}

/// A handler's run, in the order of beginning.
#[derive(Clone, Debug)]
pub(super) struct Run<'a> {
    pub(super) who: &'a str,
    pub(super) attempt: u32,
    pub(super) started_at: i64,
    /// And whether it succeeded. None: its process was killed, or it was told to stop.
    pub(super) ended: Option<(i64, bool)>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    pub(super) attempt: u32,
    pub(super) verdict: Verdict,
}

/// A fault from its beginning to its end.
#[derive(Clone, Debug)]
pub(super) struct FaultSpan<'a> {
    pub(super) kind: Kind,
    pub(super) touches: &'a Touches,
    pub(super) begins: i64,
    pub(super) ends: i64,
}

impl FaultSpan<'_> {
    /// Whether it, or the time for which it may have consequences, has a part in this span.
    pub(super) fn reaches(&self, from: i64, to: i64, aftermath: i64) -> bool {
        self.begins < to && from < self.ends.saturating_add(aftermath)
    }

    /// Whether a worker of this name has to do with it.
    pub(super) fn concerns(&self, worker: &str) -> bool {
        match self.touches {
            Touches::All => true,
            Touches::Clients => false,
            Touches::Worker(name) => name == worker,
        }
    }
}

impl JobView<'_> {
    pub(super) fn run_of(&self, attempt: u32) -> Option<&Run<'_>> {
        self.runs.iter().find(|run| run.attempt == attempt)
    }

    /// Attempts whose success was answered as stored.
    pub(super) fn applied_successes(&self) -> Vec<u32> {
        self.applied(true)
    }

    pub(super) fn is_of(&self, queue: &str) -> bool {
        self.row.is_some_and(|row| row.queue == queue)
    }

    /// Whether nobody took this attempt from its worker: its completion is what is stored of it.
    pub(super) fn is_kept(&self, attempt: u32) -> bool {
        let stored = |row: &Row| row.attempt == attempt && row.outcome == Some(SUCCEEDED);
        let applied =
            |answer: &Answer| answer.attempt == attempt && answer.verdict == Verdict::Applied;
        self.row.is_some_and(stored) || self.answers.iter().any(applied)
    }

    pub(super) fn applied_failures(&self) -> Vec<u32> {
        self.applied(false)
    }

    fn applied(&self, succeeded: bool) -> Vec<u32> {
        let reported = |attempt| {
            let ended = self.run_of(attempt).and_then(|run| run.ended);
            ended.is_some_and(|(_, success)| success == succeeded)
        };
        let applied = self.answers.iter().filter(|answer| answer.verdict == Verdict::Applied);
        applied.map(|answer| answer.attempt).filter(|attempt| reported(*attempt)).collect()
    }
}

pub(super) fn views<'a>(history: &'a [Line], rows: &'a [Row]) -> BTreeMap<i64, JobView<'a>> {
    let mut jobs: BTreeMap<i64, JobView<'a>> = BTreeMap::new();
    for row in rows {
        jobs.entry(row.id).or_default().row = Some(row);
    }
    for line in history {
        match &line.event {
            Event::Acknowledged { jobs: ids, .. } => {
                for id in ids {
                    // Of a unique job the first of several.
                    see(&mut jobs, *id, line).acknowledged_at.get_or_insert(line.at);
                }
            }
            Event::CancelAsked { job } => see(&mut jobs, *job, line).cancel_asked = true,
            Event::Cancelled { job } => see(&mut jobs, *job, line).cancelled = true,
            Event::Started { job, attempt } => {
                let run =
                    Run { who: &line.who, attempt: *attempt, started_at: line.at, ended: None };
                see(&mut jobs, *job, line).runs.push(run);
            }
            Event::Ended { job, attempt, succeeded } => {
                let view = see(&mut jobs, *job, line);
                let open = |run: &&mut Run<'_>| {
                    run.attempt == *attempt && run.who == &*line.who && run.ended.is_none()
                };
                if let Some(run) = view.runs.iter_mut().find(open) {
                    run.ended = Some((line.at, *succeeded));
                }
            }
            Event::Answered { job, attempt, verdict } => {
                let answer = Answer { attempt: *attempt, verdict: *verdict };
                see(&mut jobs, *job, line).answers.push(answer);
            }
            Event::Unknown { .. }
            | Event::Paused { .. }
            | Event::ResumeAsked { .. }
            | Event::Fault { .. }
            | Event::Healed
            | Event::EndedByItself { .. }
            | Event::Phase { .. } => {}
        }
    }
    for (id, job) in &mut jobs {
        job.id = *id;
    }
    jobs
}

fn see<'a, 'b>(
    jobs: &'b mut BTreeMap<i64, JobView<'a>>,
    id: i64,
    line: &'a Line,
) -> &'b mut JobView<'a> {
    let view = jobs.entry(id).or_default();
    view.lines.push(line);
    view
}

pub(super) fn fault_spans(history: &[Line]) -> Vec<FaultSpan<'_>> {
    let mut spans: Vec<FaultSpan<'_>> = Vec::new();
    for line in history {
        match &line.event {
            Event::Fault { kind, touches, .. } => {
                spans.push(FaultSpan { kind: *kind, touches, begins: line.at, ends: i64::MAX })
            }
            Event::Healed => {
                if let Some(span) = spans.last_mut() {
                    span.ends = line.at;
                }
            }
            _ => {}
        }
    }
    spans
}

impl fmt::Display for Line {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.at / 1_000_000 % 100_000;
        let micros = self.at % 1_000_000;
        write!(out, "{seconds}.{micros:06} {:<14} {:?}", self.who, self.event)
    }
}
