//! `figures`: every figure that Currant is held against, by one command. `rows` says what they are.
//!
//! A row is measured by ordinary runs of the load test, each on a fresh stack, in turns; a figure is the
//! median over the repetitions. What fails its check makes the command fail; a target that is missed
//! doesn't.

mod markdown;
mod measure;
mod outcome;
mod row;
mod rows;
mod values;

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use self::{
    outcome::Outcome,
    row::{Row, Sizes},
    rows::ROWS,
};
use crate::{
    cli::FiguresOptions,
    probe::machine::Machine,
    report::{self, json},
};

/// `figures.json`.
#[derive(Serialize)]
struct Figures<'a> {
    version: u32,
    passed: bool,
    runs: u32,
    sizes: Sizes,
    rows: &'a [Outcome],
    /// None: no step came to its end.
    machine: Option<&'a Machine>,
    command_line: String,
    finished_at: String,
}

const VERSION: u32 = 1;

/// For `--only`.
pub(crate) fn names() -> Vec<&'static str> {
    ROWS.iter().map(|row| row.name).collect()
}

/// True if every step of every row passed its check.
pub(crate) async fn run(options: &FiguresOptions) -> Result<bool> {
    let sizes = Sizes::of(options);
    let wanted = |row: &&Row| options.only.is_empty() || options.only.iter().any(|n| n == row.name);
    let rows: Vec<&'static Row> = ROWS.iter().filter(wanted).collect();
    announce(&rows, &sizes, options.runs)?;

    let mut outcomes = Vec::with_capacity(rows.len());
    let mut machine = None;
    for row in rows {
        outcomes.push(measure::row(row, &sizes, options.runs, &mut machine).await);
        // After each, so that a measurement that is interrupted has what was found until then.
        write(options, &sizes, &outcomes, machine.as_ref())?;
    }
    for (outcome, failure) in outcomes.iter().flat_map(|o| o.failures.iter().map(move |f| (o, f))) {
        eprintln!("\nFAILED {}: {failure}", outcome.name);
    }
    report::print(&format!("\n{}", markdown::render(&outcomes)))?;
    Ok(outcomes.iter().all(|outcome| outcome.passed))
}

fn announce(rows: &[&Row], sizes: &Sizes, runs: u32) -> Result<()> {
    let mut total = Duration::ZERO;
    for row in rows {
        let expected = measure::expected_for(row, sizes, runs)?;
        eprintln!("{:<22} {:>5.1} minutes", row.name, expected.as_secs_f64() / 60.0);
        total += expected;
    }
    eprintln!("{runs} runs of each: about {:.0} minutes", total.as_secs_f64() / 60.0);
    Ok(())
}

fn write(
    options: &FiguresOptions,
    sizes: &Sizes,
    rows: &[Outcome],
    machine: Option<&Machine>,
) -> Result<()> {
    let figures = Figures {
        version: VERSION,
        passed: rows.iter().all(|row| row.passed),
        runs: options.runs,
        sizes: *sizes,
        rows,
        machine,
        command_line: report::command_line(std::env::args()),
        finished_at: report::now(),
    };
    report::write(&options.json, &json::render(&figures)?)?;
    match &options.markdown {
        Some(path) => report::write(path, &markdown::render(rows)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::HashSet;

    use super::*;

    const FULL: Sizes =
        Sizes { percent: 100, sustained_seconds: 300, snapshot_seconds: 60, idle_workers: 10_000 };

    #[test]
    fn every_row_has_a_name_of_its_own_and_commands_that_the_load_test_takes() {
        assert_eq!(names().iter().collect::<HashSet<_>>().len(), ROWS.len());
        let small =
            Sizes { percent: 1, sustained_seconds: 1, snapshot_seconds: 1, idle_workers: 1 };
        for (row, sizes) in ROWS.iter().flat_map(|row| [(row, FULL), (row, small)]) {
            for step in row.steps {
                let command = step(&sizes, &[]);
                measure::settings(&command).unwrap_or_else(|error| panic!("{command}: {error:#}"));
            }
            assert!(row.figures.iter().all(|figure| (figure.of)(&[]).is_none()), "{}", row.name);
        }
    }

    #[test]
    fn three_runs_of_everything_take_about_an_hour() {
        let expected = ROWS.iter().map(|row| measure::expected_for(row, &FULL, 3).unwrap());
        let minutes = expected.sum::<Duration>().as_secs() / 60;
        assert!((45..=85).contains(&minutes), "{minutes} minutes");
    }
}
