//! The figures for a terminal.

use std::fmt::Write;

use super::{
    measure::Figure,
    results::{Findings, Results},
    system::System,
};

pub(super) fn render(results: &Results) -> String {
    let mut text = String::new();
    // Writing to a String can't fail.
    for figure in Figure::ALL {
        let rows: Vec<_> = spreads(results, figure).collect();
        if rows.is_empty() {
            continue;
        }
        let _ = writeln!(text, "\n{:<78}{:>10}   min – max", figure.title(), "median");
        for (system, findings) in rows {
            let spread = &findings.figures[&figure];
            let [median, min, max] =
                [spread.median, spread.min, spread.max].map(|value| figure.number(value));
            let (title, kept) = (system.title(), kept(system));
            let _ = writeln!(text, "  {title:<20}{kept:<56}{median:>10}   {min} – {max}");
        }
    }
    let versions = results.systems.values().flat_map(|findings| &findings.versions);
    let mut versions: Vec<_> = versions
        .map(|(name, version)| format!("{name} {}", version.as_str().unwrap_or_default()))
        .collect();
    versions.sort();
    versions.dedup();
    let _ = writeln!(
        text,
        "\nNo job was lost or ran twice, {} repetitions: {}",
        results.repetitions,
        versions.join(", ")
    );
    text
}

/// The systems that have it, in order.
pub(super) fn spreads(
    results: &Results,
    figure: Figure,
) -> impl Iterator<Item = (System, &Findings)> {
    let all = results.systems.iter().map(|(system, findings)| (*system, findings));
    all.filter(move |(_, findings)| findings.figures.contains_key(&figure))
}

/// What becomes of jobs.
fn kept(system: System) -> String {
    let finished = if system.keeps_finished_jobs() { "keeps" } else { "removes" };
    let crash = if system.survives_a_crash() { "survives a crash" } else { "lost in a crash" };
    format!("{crash}, {finished} finished jobs")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::results::tests::example;

    #[test]
    fn every_figure_of_every_system_has_a_line() {
        let text = render(&example());
        assert_eq!(text.matches("graphile-worker").count(), Figure::ALL.len(), "{text}");
        assert!(text.contains("123,456   111,110 – 135,802"), "{text}");
        assert!(text.contains("lost in a crash"), "{text}");
    }
}
