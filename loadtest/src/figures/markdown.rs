//! The rows as a Markdown table.

use std::fmt::Write;

use super::{
    outcome::{Measured, Outcome},
    row::{Target, Unit},
};
use crate::report::table::{millis, whole};

/// A line a figure; the command stands on the first line of its row.
pub(super) fn render(outcomes: &[Outcome]) -> String {
    let mut text = "| figure | target | measured: median (min–max) | met | command |\n\
                    | --- | --- | --- | --- | --- |\n"
        .to_owned();
    for outcome in outcomes {
        for (number, figure) in outcome.figures.iter().enumerate() {
            let met = match (outcome.passed, figure.met) {
                (false, _) => "**FAILED**",
                (true, Some(true)) => "yes",
                (true, Some(false)) => "**no**",
                (true, None) => "",
            };
            let command =
                if number == 0 { format!("`{}`", outcome.command) } else { String::new() };
            // Writing to a String can't fail.
            let _ = writeln!(
                text,
                "| {} | {} | {} | {met} | {command} |",
                figure.what,
                target(figure),
                measured(figure)
            );
        }
    }
    text
}

fn target(figure: &Measured) -> String {
    let unit = figure.unit;
    match figure.target {
        Target::AtLeast(value) => format!("≥ {}{}", number(value, unit), unit.suffix()),
        Target::AtMost(value) => format!("≤ {}{}", number(value, unit), unit.suffix()),
        Target::Below(value) => format!("< {}{}", number(value, unit), unit.suffix()),
        Target::None => String::new(),
    }
}

fn measured(figure: &Measured) -> String {
    let Measured { unit, median: Some(median), min: Some(min), max: Some(max), .. } = *figure
    else {
        return "–".to_owned();
    };
    let range = match figure.values.len() {
        1 => String::new(),
        _ => format!(" ({}–{})", number(min, unit), number(max, unit)),
    };
    format!("{}{range}{}", number(median, unit), unit.suffix())
}

fn number(value: f64, unit: Unit) -> String {
    match unit {
        Unit::JobsPerS | Unit::Jobs | Unit::Rows | Unit::Sessions | Unit::Mebibytes => whole(value),
        Unit::Ratio | Unit::PerS => format!("{value:.2}"),
        Unit::Millis => millis(value),
        Unit::Seconds | Unit::Kibibytes | Unit::Percent => format!("{value:.1}"),
    }
}

impl Unit {
    fn suffix(self) -> &'static str {
        match self {
            Unit::JobsPerS => " jobs/s",
            Unit::Jobs => " jobs",
            Unit::Rows => " rows",
            Unit::Sessions => " sessions",
            Unit::Ratio => "",
            Unit::Millis => " ms",
            Unit::Seconds => " s",
            Unit::PerS => " /s",
            Unit::Kibibytes => " KiB",
            Unit::Mebibytes => " MiB",
            Unit::Percent => " %",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(passed: bool) -> Outcome {
        let figure = Measured {
            what: "end to end",
            unit: Unit::JobsPerS,
            target: Target::AtLeast(95_000.0),
            met: Some(true),
            median: Some(101_234.4),
            min: Some(99_000.0),
            max: Some(102_000.0),
            values: vec![99_000.0, 101_234.4, 102_000.0],
        };
        Outcome {
            name: "drain",
            command: "currant-loadtest figures --only drain".to_owned(),
            steps: Vec::new(),
            passed,
            failures: Vec::new(),
            seconds: 1.0,
            figures: vec![figure],
        }
    }

    #[test]
    fn a_line_has_target_median_range_and_command() {
        let table = render(&[outcome(true)]);
        let expected = "| end to end | ≥ 95,000 jobs/s | 101,234 (99,000–102,000) jobs/s | yes | \
                        `currant-loadtest figures --only drain` |\n";
        assert_eq!(table.lines().count(), 3);
        assert!(table.ends_with(expected), "{table}");
    }

    #[test]
    fn a_failed_row_meets_nothing() {
        assert!(render(&[outcome(false)]).contains("| **FAILED** |"));
    }
}
