//! Names of metrics in code, alerts and dashboards.

use super::{Source, scan::production};

/// Generated from the families that a broker knows.
const REFERENCE: &str = include_str!("../../../docs/metrics.md");

/// How names of metrics begin; and what else begins so: crates, the channel of LISTEN.
const BEGINNINGS: [&str; 2] = ["currant_", "messaging_process_"];
const OTHERS: [&str; 4] =
    ["currant_broker", "currant_proto", "currant_worker_sdk", "currant_ready"];

pub(crate) fn metrics_are_in_the_reference(source: &Source<'_>) -> Vec<String> {
    let texts = if source.path.starts_with("broker/src/") {
        production(source).strings
    } else if source.path.starts_with("deploy/") {
        source.text.lines().enumerate().map(|(at, line)| (at + 1, line.to_owned())).collect()
    } else {
        return Vec::new();
    };
    let mut wrong = Vec::new();
    for (line, text) in texts {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let ours = words.filter(|word| BEGINNINGS.iter().any(|begin| word.starts_with(begin)));
        for name in ours.filter(|word| !OTHERS.contains(word)) {
            if !is_documented(name) {
                wrong.push(format!("{}:{line}: docs/metrics.md has no {name}", source.path));
            }
        }
    }
    wrong
}

fn is_documented(name: &str) -> bool {
    let endings = ["_bucket", "_sum", "_count"];
    let family = endings.iter().find_map(|ending| name.strip_suffix(ending));
    // A pattern that names several ends in the middle.
    let begins = name.ends_with('_') && REFERENCE.contains(&format!("| `{name}"));
    let row = |name: &str| REFERENCE.contains(&format!("| `{name}` |"));
    row(name) || family.is_some_and(row) || begins
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::say;

    #[test]
    fn a_name_that_no_broker_serves_is_found() {
        let rule = metrics_are_in_the_reference;
        let counter = "metrics::counter!(\"currant_jobs_lost_total\").increment(1);";
        assert_eq!(say(rule, "broker/src/pipeline/claim.rs", counter).len(), 1);
        let expression = "expr: rate(currant_jobs_lost_total[5m]) > currant_flush_seconds_bucket";
        assert_eq!(say(rule, "deploy/prometheus/alerts.yaml", expression).len(), 1);
        let known =
            "rate(currant_jobs_claimed_total[5m]), {__name__=~\"currant_queue_jobs_(a|b)\"}";
        assert!(say(rule, "deploy/grafana/currant.json", known).is_empty());
        assert!(say(rule, "docs/jobs.md", expression).is_empty());
        assert!(say(rule, "broker/src/app.rs", "f(\"currant_broker=debug\")").is_empty());
    }
}
