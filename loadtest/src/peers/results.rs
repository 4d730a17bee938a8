//! What was found, by system: `peers.json`. Its keys are documented in docs/peers.md.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{
    measure::{Figure, Found, Measure},
    peer::Plan,
    system::System,
};
use crate::{probe::machine::Machine, report, settings::Settings};

/// Version of the keys; grows when one changes its meaning or goes.
const VERSION: u32 = 1;

#[derive(Debug, Serialize)]
pub(super) struct Results {
    version: u32,
    pub(super) repetitions: u32,
    pub(super) payload_bytes: u32,
    pub(super) systems: BTreeMap<System, Findings>,
    pub(super) machine: Machine,
    command_line: String,
    /// RFC 3339, UTC.
    pub(super) finished_at: String,
}

/// Of one system.
#[derive(Debug, Default, Serialize)]
pub(super) struct Findings {
    pub(super) figures: BTreeMap<Figure, Spread>,
    keeps_finished_jobs: bool,
    survives_a_crash: bool,
    pub(super) versions: Map<String, Value>,
    settings: BTreeMap<Measure, Value>,
}

/// One figure over the repetitions.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
    /// In the order in which they were measured.
    values: Vec<f64>,
}

impl Results {
    pub(super) fn new(repetitions: u32, payload_bytes: u32) -> Results {
        Results {
            version: VERSION,
            repetitions,
            payload_bytes,
            systems: BTreeMap::new(),
            machine: Machine::look(None),
            command_line: report::command_line(std::env::args()),
            finished_at: String::new(),
        }
    }

    pub(super) fn add(&mut self, system: System, found: &Found) {
        let figures = &mut self.findings(system).figures;
        for &(figure, value) in found {
            figures.entry(figure).or_default().add(value);
        }
    }

    /// The machine is Currant's report's: it knows Postgres.
    pub(super) fn describe_currant(
        &mut self,
        measure: Measure,
        settings: &Settings,
        machine: Machine,
    ) -> Result<()> {
        self.machine = machine;
        let findings = self.findings(System::Currant);
        findings.settings.insert(measure, serde_json::to_value(settings)?);
        findings.versions =
            Map::from_iter([("currant".to_owned(), env!("CARGO_PKG_VERSION").into())]);
        Ok(())
    }

    pub(super) fn describe(&mut self, plan: &Plan, versions: Map<String, Value>) {
        let mut settings = plan.settings.clone();
        settings["jobs"] = plan.jobs.into();
        settings["payload_bytes"] = plan.payload_bytes.into();
        if let Some(persistence) = plan.system.redis() {
            let redis =
                persistence.settings().iter().map(|(name, value)| format!("{name} {value:?}"));
            settings["redis"] = json!(redis.collect::<Vec<_>>());
        }
        let findings = self.findings(plan.system);
        findings.settings.insert(plan.measure, settings);
        findings.versions = versions;
    }

    pub(super) fn finish(&mut self) {
        self.finished_at = report::now();
    }

    fn findings(&mut self, system: System) -> &mut Findings {
        self.systems.entry(system).or_insert_with(|| Findings {
            keeps_finished_jobs: system.keeps_finished_jobs(),
            survives_a_crash: system.survives_a_crash(),
            ..Findings::default()
        })
    }
}

impl Spread {
    fn add(&mut self, value: f64) {
        self.values.push(value);
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let even = sorted.len().is_multiple_of(2);
        self.median =
            if even { (sorted[middle - 1] + sorted[middle]) / 2.0 } else { sorted[middle] };
        self.min = sorted[0];
        self.max = sorted[sorted.len() - 1];
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// Three repetitions of everything.
    pub(in crate::peers) fn example() -> Results {
        let mut results = Results::new(3, 100);
        for (system, scale) in System::ALL.into_iter().zip([1.0, 0.3, 0.1, 0.08]) {
            for repetition in [0.9, 1.1, 1.0] {
                let value = |figure: Figure| {
                    if figure.is_latency() {
                        repetition / scale
                    } else {
                        123_456.0 * repetition * scale
                    }
                };
                results.add(system, &Figure::ALL.map(|figure| (figure, value(figure))).to_vec());
            }
        }
        results.finish();
        results
    }

    #[test]
    fn the_median_of_two_is_their_middle() {
        let mut spread = Spread::default();
        for (value, median) in [(3.0, 3.0), (1.0, 2.0), (1.5, 1.5)] {
            spread.add(value);
            assert_eq!(spread.median, median);
        }
        assert_eq!((spread.min, spread.max, spread.values.len()), (1.0, 3.0, 3));
    }

    #[test]
    fn programs_find_figures_by_system_and_name() {
        let json = report::json::render(&example()).unwrap();
        let json: Value = serde_json::from_str(&json).unwrap();
        let currant = &json["systems"]["currant"];
        assert_eq!(currant["figures"]["end_to_end_jobs_per_s"]["median"], 123_456.0);
        assert_eq!(currant["keeps_finished_jobs"], true);
        assert_eq!(json["systems"]["bullmq-memory"]["survives_a_crash"], false);
    }
}
