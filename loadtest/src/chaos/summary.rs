//! What a run came to, for people and as JSON.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result};
use serde::Serialize;

use super::{
    fault::Kind,
    history::Event,
    judge::{self, Case, Violation, Wrong},
    recovery::{Load, Recoveries, recoveries},
};
use crate::report::json;

/// Violations of one kind that are shown; all are in the JSON.
const SHOWN_MAX: usize = 3;

#[derive(Debug, Serialize)]
pub(super) struct Summary {
    seed: u64,
    duration_seconds: u32,
    /// By TLS and with tokens.
    secure: bool,
    mutation: Option<&'static str>,
    jobs_acknowledged: usize,
    calls_of_unknown_fate: usize,
    jobs_stored: usize,
    handler_runs: usize,
    ended_by_itself: usize,
    settled_ms: u64,
    faults: BTreeMap<Kind, usize>,
    recoveries: Recoveries,
    violations_by_kind: BTreeMap<Wrong, usize>,
    violations: Vec<Violation>,
    /// Runs the same again.
    command: String,
}

/// What a summary can't tell from the history.
pub(super) struct Facts {
    pub(super) seed: u64,
    pub(super) duration_seconds: u32,
    pub(super) secure: bool,
    pub(super) mutation: Option<&'static str>,
    pub(super) settled_ms: u64,
    pub(super) command: String,
}

impl Summary {
    pub(super) fn new(facts: Facts, case: &Case, violations: Vec<Violation>) -> Summary {
        let mut faults: BTreeMap<Kind, usize> = BTreeMap::new();
        let (mut acknowledged, mut unknown, mut runs, mut ended) = (0, 0, 0, 0);
        for line in &case.history {
            match &line.event {
                Event::Acknowledged { jobs, .. } => acknowledged += jobs.len(),
                Event::Unknown { .. } => unknown += 1,
                Event::Started { .. } => runs += 1,
                Event::EndedByItself { .. } => ended += 1,
                Event::Fault { kind, .. } => *faults.entry(*kind).or_default() += 1,
                _ => {}
            }
        }
        let load = Load::of(&case.rows);
        let Facts { seed, duration_seconds, secure, mutation, settled_ms, command } = facts;
        Summary {
            seed,
            duration_seconds,
            secure,
            mutation,
            jobs_acknowledged: acknowledged,
            calls_of_unknown_fate: unknown,
            jobs_stored: case.rows.len(),
            handler_runs: runs,
            ended_by_itself: ended,
            settled_ms,
            faults,
            recoveries: recoveries(&case.history, &load),
            violations_by_kind: judge::count(&violations),
            violations,
            command,
        }
    }

    pub(super) fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }

    pub(super) fn has(&self, wrong: Wrong) -> bool {
        self.violations_by_kind.contains_key(&wrong)
    }

    pub(super) fn print(&self) {
        let mut shown: BTreeMap<Wrong, usize> = BTreeMap::new();
        for violation in &self.violations {
            let count = shown.entry(violation.wrong).or_default();
            *count += 1;
            if *count <= SHOWN_MAX {
                println!("{violation}\n    again: {}", self.command);
            }
        }
        println!(
            "{} jobs acknowledged, {} calls of unknown fate, {} stored, {} handler runs, {} \
             processes ended by themselves, settled in {} ms",
            self.jobs_acknowledged,
            self.calls_of_unknown_fate,
            self.jobs_stored,
            self.handler_runs,
            self.ended_by_itself,
            self.settled_ms
        );
        println!(
            "times   fault                worst of each, ms: full rate | first start | run again"
        );
        for (kind, count) in &self.faults {
            let all = self.recoveries.get(kind).map_or(&[][..], Vec::as_slice);
            let full = all.iter().map(|one| one.full_rate_ms).collect::<Option<Vec<i64>>>();
            let full = full.and_then(|all| all.into_iter().max());
            let wait = all.iter().map(|one| one.longest_wait_ms).max();
            let again = all.iter().filter_map(|one| one.run_again_ms).max();
            let [full, wait, again] =
                [full, wait, again].map(|ms| ms.map_or("-".to_owned(), |ms| ms.to_string()));
            println!("{count:>5}   {kind:<20} {full:>6} | {wait:>6} | {again:>6}");
        }
        if self.is_clean() {
            println!("no violation");
        }
        for (wrong, count) in &self.violations_by_kind {
            println!("{count:>4} {wrong}");
        }
    }

    pub(super) fn write(&self, path: &Path) -> Result<()> {
        let text = json::render(self)?;
        std::fs::write(path, text).with_context(|| format!("can't write {}", path.display()))
    }
}
