//! What became of a row: its figures over all repetitions.

use serde::Serialize;

use super::row::{Row, Target, Unit};
use crate::report::Report;

/// One row.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    pub(super) name: &'static str,
    /// Measures this row alone.
    pub(super) command: String,
    /// What it did, in turns; that of the last repetition.
    pub(super) steps: Vec<String>,
    /// Every step came to its end and passed its check.
    pub(super) passed: bool,
    pub(super) failures: Vec<String>,
    pub(super) seconds: f64,
    pub(super) figures: Vec<Measured>,
}

/// A figure over all repetitions.
#[derive(Debug, Serialize)]
pub(super) struct Measured {
    pub(super) what: &'static str,
    pub(super) unit: Unit,
    pub(super) target: Target,
    /// None: there is nothing to be met, or nothing was measured.
    pub(super) met: Option<bool>,
    pub(super) median: Option<f64>,
    pub(super) min: Option<f64>,
    pub(super) max: Option<f64>,
    /// Of each repetition that has one.
    pub(super) values: Vec<f64>,
}

impl Outcome {
    pub(super) fn new(row: &Row) -> Outcome {
        let figures = row.figures.iter().map(|figure| Measured {
            what: figure.what,
            unit: figure.unit,
            target: figure.target,
            met: None,
            median: None,
            min: None,
            max: None,
            values: Vec::new(),
        });
        Outcome {
            name: row.name,
            command: format!("currant-loadtest figures --only {}", row.name),
            steps: Vec::new(),
            passed: true,
            failures: Vec::new(),
            seconds: 0.0,
            figures: figures.collect(),
        }
    }

    pub(super) fn fail(&mut self, failure: String) {
        self.passed = false;
        self.failures.push(failure);
    }

    /// Takes the figures of a repetition: those that its reports have.
    pub(super) fn add(&mut self, row: &Row, reports: &[Report]) {
        for (measured, figure) in self.figures.iter_mut().zip(row.figures) {
            if let Some(value) = (figure.of)(reports) {
                measured.add(value);
            }
        }
    }
}

impl Measured {
    fn add(&mut self, value: f64) {
        self.values.push(value);
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let median = match sorted.len() % 2 {
            0 => (sorted[middle - 1] + sorted[middle]) / 2.0,
            _ => sorted[middle],
        };
        (self.min, self.max) = (sorted.first().copied(), sorted.last().copied());
        self.median = Some(median);
        self.met = self.target.is_met(median);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_its_median_and_is_held_against_the_target() {
        static ROW: Row = Row {
            name: "one",
            steps: &[],
            figures: &[super::super::row::Figure {
                what: "reports",
                unit: Unit::Sessions,
                target: Target::AtMost(2.0),
                of: |reports| Some(reports.len() as f64),
            }],
        };
        let mut outcome = Outcome::new(&ROW);
        assert_eq!((outcome.figures[0].median, outcome.figures[0].met), (None, None));
        for value in [5.0, 1.0] {
            outcome.figures[0].add(value);
        }
        assert_eq!((outcome.figures[0].median, outcome.figures[0].met), (Some(3.0), Some(false)));
        outcome.add(&ROW, &[]);
        let figure = &outcome.figures[0];
        assert_eq!((figure.min, figure.median, figure.max), (Some(0.0), Some(1.0), Some(5.0)));
        assert_eq!((figure.met, outcome.passed), (Some(true), true));
        outcome.fail("lost".to_owned());
        assert!(!outcome.passed);
    }
}
