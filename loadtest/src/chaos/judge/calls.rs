//! A call is stored whole or not at all, and once, however often it was tried.

use std::collections::{BTreeMap, BTreeSet};

use super::{Case, Row, Violation, Wrong};
use crate::chaos::history::Event;

pub(super) fn check(case: &Case, found: &mut Vec<Violation>) {
    let mut calls: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    for row in &case.rows {
        calls.entry(&row.payload.call).or_default().push(row);
    }
    for (call, rows) in &calls {
        let mut say = |wrong, what: String| {
            let evidence = rows.iter().map(|row| format!("{row:?}")).collect();
            let job = rows.first().map(|row| row.id);
            found.push(Violation { wrong, job, what, evidence });
        };
        let places: BTreeSet<u32> = rows.iter().map(|row| row.payload.index).collect();
        if places.len() < rows.len() && !is_unique(rows) {
            say(Wrong::Doubled, format!("{} rows of call {call}", rows.len()));
        }
        let jobs = rows.first().map_or(0, |row| row.payload.jobs as usize);
        if places.len() != jobs {
            say(Wrong::Torn, format!("{} of {jobs} jobs of call {call}", places.len()));
        }
    }
    for line in &case.history {
        let Event::Acknowledged { call, jobs, .. } = &line.event else { continue };
        let Some(rows) = calls.get(call.as_str()) else { continue };
        let stored: BTreeSet<i64> = rows.iter().map(|row| row.id).collect();
        // What is missing among these is lost, which is said elsewhere.
        if !is_unique(rows) && stored.iter().any(|id| !jobs.contains(id)) {
            let what = format!("call {call} was answered with other ids than it is stored with");
            let evidence = vec![line.to_string(), format!("{stored:?}")];
            found.push(Violation { wrong: Wrong::Doubled, job: None, what, evidence });
        }
    }
}

/// The repetition of a unique job's call finds its own job only as long as that is in the way.
fn is_unique(rows: &[&Row]) -> bool {
    rows.iter().any(|row| row.payload.unique.is_some())
}
