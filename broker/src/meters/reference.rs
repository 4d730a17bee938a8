//! `docs/metrics.md`, from the families.

use std::{fmt::Write, fs, path::PathBuf};

use super::{FAMILIES, Family, Label};

const INTRODUCTION: &str = "\
# Metrics

`GET /metrics` on the HTTP port answers in Prometheus' text form. This page is made from the code: `just
generate`. A test compares it with what a broker under load serves.

Where OpenTelemetry's conventions for messaging have a word, it is used in Prometheus' spelling:
`messaging_destination_name` is the queue, `messaging_process_duration_seconds` how long attempts take. All
else is named after Currant's own words, which [Concepts](concepts.md#words) lists.

The first `http.metered_queues_max` queues that a broker has to do with have figures of their own, those after
them one together, as `_other`: the number of series has a bound. Counters begin at 0 with each start of a
broker, and each broker counts what it did itself: sum over brokers. `deploy/grafana/currant.json` and
`deploy/prometheus/alerts.yaml` use these names.

To count rows is work for the database that grows with their number, at every scrape. So `currant_queue_jobs`
counts up to a bound and estimates beyond it; a scrape costs the database four statements at most, whatever the
number of queues and jobs.

| name | type | unit | labels | meaning |
| --- | --- | --- | --- | --- |
";

fn reference() -> String {
    let mut text = INTRODUCTION.to_owned();
    for Family { name, kind, unit, labels, meaning } in FAMILIES {
        let labels: Vec<String> = labels.iter().map(label).collect();
        let (kind, labels) = (kind.name(), labels.join("; "));
        writeln!(text, "| `{name}` | {kind} | {unit} | {labels} | {meaning} |")
            .expect("writing to a string doesn't fail");
    }
    text
}

fn label(label: &Label) -> String {
    let values: Vec<String> = label.values.iter().map(|value| format!("`{value}`")).collect();
    match (label.name, values.as_slice()) {
        (name, []) => format!("`{name}`"),
        // Another one with each release.
        (name @ "version", _) => format!("`{name}`"),
        (name, _) => format!("`{name}`: {}", values.join(", ")),
    }
}

/// Run with `CURRANT_UPDATE_GENERATED=1` to write the file.
#[test]
fn the_reference_is_fresh() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let generated = reference();
    if std::env::var_os("CURRANT_UPDATE_GENERATED").is_some() {
        fs::write(&path, &generated).expect("written");
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(there, generated, "{} is stale: run `just generate`", path.display());
}

#[test]
fn names_are_unique_and_end_as_prometheus_wants_it() {
    let mut seen = std::collections::HashSet::new();
    for Family { name, kind, unit, .. } in FAMILIES {
        assert!(seen.insert(name), "{name} is there twice");
        assert_eq!(kind.name() == "counter", name.ends_with("_total"), "{name}");
        assert_eq!(unit == "seconds", name.ends_with("_seconds"), "{name}");
    }
}
