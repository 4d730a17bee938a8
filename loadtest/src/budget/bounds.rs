//! The bounds of `budget.toml`, and what was measured beside them.

use anyhow::{Context, Result};
use serde::Deserialize;

use super::{Shape, counters::Counters};

const BUDGET: &str = include_str!("../../budget.toml");

/// The file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Bounds {
    margin_percent: Costs,
    direct: Costs,
    backlog: Costs,
    single: Costs,
}

/// What a job costs; or the margin of that, in percent.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Costs {
    transactions_per_job: f64,
    statements_per_job: f64,
    wal_bytes_per_job: f64,
    allocations_per_job: f64,
    /// The only one of which more is better.
    hot_update_percent: f64,
}

/// What was measured.
#[derive(Clone, Debug)]
pub(super) struct Figures {
    costs: Costs,
    /// Executions for each job, by the statement's name.
    statements: Vec<(String, f64)>,
}

/// Which way a figure may not go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    AtMost,
    AtLeast,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Verdict {
    Within,
    /// So far from the figure of the file, to the good side, that it hides regressions.
    Better,
    Over,
}

impl Bounds {
    pub(super) fn read() -> Result<Bounds> {
        toml::from_str(BUDGET).context("budget.toml")
    }

    /// Prints what was measured beside its bounds. False: something is over.
    pub(super) fn compare(&self, shape: Shape, figures: &Figures) -> bool {
        let (title, expected) = match shape {
            Shape::Direct => ("direct, 1,000 jobs a call", &self.direct),
            Shape::Backlog => ("backlog, 1,000 jobs a call", &self.backlog),
            Shape::Single => ("single jobs", &self.single),
        };
        println!("\n{title:<28} {:>12} {:>12}", "measured", "bound");
        let mut within = true;
        let margins = self.margin_percent.lines();
        let lines = figures.costs.lines().into_iter().zip(expected.lines()).zip(margins);
        for (((name, side, measured), (.., expected)), (.., margin)) in lines {
            let (bound, verdict) = judge(side, measured, expected, margin);
            let note = match verdict {
                Verdict::Within => "",
                Verdict::Better => "  better: budget.toml can be stricter",
                Verdict::Over => "  OVER",
            };
            println!("  {name:<26} {:>12} {:>12}{note}", digits(measured), digits(bound));
            within &= verdict != Verdict::Over;
        }
        if !within {
            for (name, calls) in &figures.statements {
                println!("    {name:<24} {:>12}", digits(*calls));
            }
        }
        within
    }
}

impl Costs {
    fn lines(&self) -> [(&'static str, Side, f64); 5] {
        [
            ("transactions a job", Side::AtMost, self.transactions_per_job),
            ("statements a job", Side::AtMost, self.statements_per_job),
            ("WAL, bytes a job", Side::AtMost, self.wal_bytes_per_job),
            ("allocations a job", Side::AtMost, self.allocations_per_job),
            ("HOT updates, percent", Side::AtLeast, self.hot_update_percent),
        ]
    }
}

impl Figures {
    /// What `jobs` more jobs cost: the second run had so many more.
    pub(super) fn of(once: &Counters, twice: &Counters, jobs: u64) -> Figures {
        let per_job = |once: f64, twice: f64| (twice - once) / jobs as f64;
        let calls = |counters: &Counters| counters.statements.values().sum::<i64>() as f64;
        let updates = (once.updates + twice.updates) as f64;
        let hot_updates = (once.hot_updates + twice.hot_updates) as f64;
        let costs = Costs {
            transactions_per_job: per_job(once.transactions as f64, twice.transactions as f64),
            statements_per_job: per_job(calls(once), calls(twice)),
            wal_bytes_per_job: per_job(once.wal_bytes as f64, twice.wal_bytes as f64),
            allocations_per_job: per_job(once.allocations as f64, twice.allocations as f64),
            hot_update_percent: if updates > 0.0 { 100.0 * hot_updates / updates } else { 0.0 },
        };
        let statement = |(name, calls): (&String, &i64)| {
            let before = once.statements.get(name).copied().unwrap_or_default();
            let more = per_job(before as f64, *calls as f64);
            (more != 0.0).then(|| (name.clone(), more))
        };
        Figures { costs, statements: twice.statements.iter().filter_map(statement).collect() }
    }
}

/// The bound, and on which side of it the figure is.
fn judge(side: Side, measured: f64, expected: f64, margin_percent: f64) -> (f64, Verdict) {
    let margin = expected * margin_percent / 100.0;
    let (bound, over, better) = match side {
        Side::AtMost => {
            let bound = expected + margin;
            (bound, measured > bound, measured < expected - margin)
        }
        Side::AtLeast => {
            let bound = expected - margin;
            (bound, measured < bound, measured > expected + margin)
        }
    };
    // What isn't a number is within no bound.
    let verdict = match (over || measured.is_nan(), better) {
        (true, _) => Verdict::Over,
        (false, true) => Verdict::Better,
        (false, false) => Verdict::Within,
    };
    (bound, verdict)
}

fn digits(value: f64) -> String {
    if value.abs() < 10.0 { format!("{value:.5}") } else { format!("{value:.1}") }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_committed_file_can_be_read_and_its_margins_are_no_blank_cheque() {
        let bounds = Bounds::read().unwrap();
        let margins = bounds.margin_percent.lines();
        assert!(margins.iter().all(|(.., margin)| (0.0..=10.0).contains(margin)), "{margins:?}");
    }

    #[test]
    fn a_figure_is_judged_by_its_own_side() {
        let at_most = |measured| judge(Side::AtMost, measured, 100.0, 5.0);
        assert_eq!(at_most(105.0), (105.0, Verdict::Within));
        assert_eq!(at_most(105.1).1, Verdict::Over);
        assert_eq!(at_most(94.0).1, Verdict::Better);
        assert_eq!(at_most(f64::NAN).1, Verdict::Over);
        let at_least = |measured| judge(Side::AtLeast, measured, 100.0, 2.0);
        assert_eq!(at_least(98.0), (98.0, Verdict::Within));
        assert_eq!(at_least(97.9).1, Verdict::Over);
    }

    #[test]
    fn start_and_end_cost_no_job_anything() {
        let counters = |jobs: i64| Counters {
            transactions: 50 + 2 * jobs,
            wal_bytes: 9000 + 300 * jobs,
            updates: jobs,
            hot_updates: jobs / 2,
            allocations: 7000 + 12 * jobs.unsigned_abs(),
            statements: [("start".to_owned(), 3), ("insert_jobs".to_owned(), jobs)].into(),
        };
        let figures = Figures::of(&counters(100), &counters(200), 100);
        assert_eq!(
            figures.costs,
            Costs {
                transactions_per_job: 2.0,
                statements_per_job: 1.0,
                wal_bytes_per_job: 300.0,
                allocations_per_job: 12.0,
                hot_update_percent: 50.0,
            }
        );
        assert_eq!(figures.statements, [("insert_jobs".to_owned(), 1.0)]);
    }

    #[test]
    fn one_figure_over_its_bound_is_enough() {
        let bounds = Bounds::read().unwrap();
        let mut figures = Figures { costs: bounds.direct, statements: Vec::new() };
        assert!(bounds.compare(Shape::Direct, &figures));
        figures.costs.statements_per_job += 1.0;
        assert!(!bounds.compare(Shape::Direct, &figures));
    }
}
