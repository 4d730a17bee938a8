//! `report.html`: one page that needs nothing else, for people.

use anyhow::Result;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{
    Report, SweepPoint, plot,
    table::{self, Line, millis, whole},
};
use crate::probe::machine::Machine;

const STYLE: &str = include_str!("style.css");

pub(super) fn render(report: &Report) -> Result<String> {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Currant load test: " (report.settings.mode.name()) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { "Currant load test " span.mode { (report.settings.mode.name()) } }
                    p.verdict.failed[!report.passed] { (table::verdict(report)) }
                    p.when { (report.finished_at) " · " code { (report.command_line) } }
                }
                (headline(report))
                (plots(report)?)
                @if let Some(points) = &report.sweep { (sweep(points)) }
                (groups(report))
                (circumstances(report))
            }
        }
    };
    Ok(page.into_string())
}

/// The few numbers that most people come for.
fn headline(report: &Report) -> Markup {
    let figures = &report.figures;
    let rate = |value: Option<f64>| value.map(whole);
    let ms = |value: Option<f64>| value.map(millis);
    let numbers = [
        ("jobs/s, end to end", rate(figures.end_to_end_jobs_per_s)),
        ("jobs/s, drained", rate(figures.drain_jobs_per_s)),
        ("jobs/s, enqueued", rate(figures.enqueue_jobs_per_s)),
        ("ms to start, median", ms(figures.start_latency_ms.map(|p| p.p50))),
        ("ms to start, p99", ms(figures.start_latency_ms.map(|p| p.p99))),
        (
            "transactions/s when idle",
            figures.idle_transactions_per_s.map(|rate| format!("{rate:.2}")),
        ),
        ("jobs/s append-only", rate(report.limit.as_ref().map(|l| l.append_only.jobs_per_s))),
        ("jobs lost", figures.lost.map(|jobs| jobs.to_string())),
        ("jobs finished twice", figures.finished_twice.map(|jobs| jobs.to_string())),
    ];
    html! {
        section.headline {
            @for (name, value) in numbers {
                @if let Some(value) = value {
                    div { strong { (value) } span { (name) } }
                }
            }
        }
    }
}

fn plots(report: &Report) -> Result<Markup> {
    let mut figures = Vec::new();
    if let Some(series) = &report.series {
        let legend = html! {
            "Throughput over time: " span.main { "finished" } ", " span.second { "enqueued" }
            ", warm-up included"
        };
        figures.push((legend, plot::throughput(series)?));
    }
    if let Some(histogram) = report.start_histogram.as_ref().filter(|h| !h.is_empty()) {
        let legend = html! { "Latency from enqueue to " span.main { "handler start" } };
        figures.push((legend, plot::latency(histogram, plot::Latency::Start)?));
    }
    if let Some(histogram) = report.enqueue_histogram.as_ref().filter(|h| !h.is_empty()) {
        let legend = html! { "Latency from enqueue to " span.second { "acknowledgement" } };
        figures.push((legend, plot::latency(histogram, plot::Latency::Enqueue)?));
    }
    if let Some(points) = &report.sweep {
        figures.push((html! { "Throughput by number of workers" }, plot::sweep(points)?));
    }
    Ok(html! {
        @for (legend, svg) in figures {
            figure { figcaption { (legend) } (PreEscaped(svg)) }
        }
    })
}

fn sweep(points: &[SweepPoint]) -> Markup {
    let number = |value: Option<f64>| value.map_or("–".to_owned(), whole);
    html! {
        section.wide {
            table {
                thead {
                    tr {
                        th { "workers" } th { "jobs/s" } th { "start p50, ms" }
                        th { "start p99, ms" } th { "Postgres connections" } th { "lost" }
                        th { "finished twice" }
                    }
                }
                tbody {
                    @for SweepPoint { workers, figures, .. } in points {
                        @let start = figures.start_latency_ms;
                        tr {
                            td { (whole((*workers).into())) }
                            td { (number(figures.end_to_end_jobs_per_s)) }
                            td { (start.map_or("–".to_owned(), |p| millis(p.p50))) }
                            td { (start.map_or("–".to_owned(), |p| millis(p.p99))) }
                            td { (number(figures.postgres_connections.map(f64::from))) }
                            td { (number(figures.lost.map(|n| n as f64))) }
                            td { (number(figures.finished_twice.map(|n| n as f64))) }
                        }
                    }
                }
            }
        }
    }
}

fn groups(report: &Report) -> Markup {
    html! {
        div.groups {
            @for (title, lines) in table::groups(report) {
                section {
                    h2 { (title) }
                    table {
                        @for Line { name, value, note } in lines {
                            tr { th { (name) @if !note.is_empty() { small { (note) } } } td { (value) } }
                        }
                    }
                }
            }
        }
    }
}

/// What the numbers hold for.
fn circumstances(report: &Report) -> Markup {
    html! {
        div.groups {
            section {
                h2 { "Machine" }
                table {
                    @for (name, value) in machine(&report.machine) {
                        tr { th { (name) } td { (value) } }
                    }
                }
            }
            section {
                h2 { "Settings" }
                table {
                    @for (name, value) in settings(report) {
                        tr { th { (name) } td { (value) } }
                    }
                }
            }
        }
        footer {
            "What each figure means is in docs/loadtest.md. Broker, Postgres and load shared this "
            "machine; they were separate processes."
        }
    }
}

fn machine(machine: &Machine) -> Vec<(String, String)> {
    let unknown = || "unknown".to_owned();
    let gib = |bytes: u64| format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30));
    let mut rows = vec![
        ("CPU", machine.cpu.clone().unwrap_or_else(unknown)),
        ("cores", machine.cores.map_or_else(unknown, |n| n.to_string())),
        ("memory", machine.memory_bytes.map_or_else(unknown, gib)),
        ("system", machine.os.clone()),
        ("kernel", machine.kernel.clone().unwrap_or_else(unknown)),
        ("build", if machine.release_build { "release" } else { "DEBUG: slow" }.to_owned()),
    ];
    let postgres = machine.postgres.iter().flatten();
    rows.extend(postgres.map(|(name, value)| (name.as_str(), value.clone())));
    rows.into_iter().map(|(name, value)| (words(name), value)).collect()
}

/// As they stand in report.json, without those that don't apply.
fn settings(report: &Report) -> Vec<(String, String)> {
    let settings = serde_json::to_value(&report.settings).unwrap_or_default();
    let fields = settings.as_object().into_iter().flatten();
    let text = |value: &serde_json::Value| match value {
        serde_json::Value::Null | serde_json::Value::Bool(false) => None,
        serde_json::Value::Bool(true) => Some("yes".to_owned()),
        serde_json::Value::Number(number) => Some(whole(number.as_f64().unwrap_or_default())),
        serde_json::Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    };
    fields.filter_map(|(name, value)| Some((words(name), text(value)?))).collect()
}

fn words(name: &str) -> String {
    name.replace('_', " ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::report::tests::example;

    #[test]
    fn the_page_stands_alone_and_shows_plots_and_circumstances() {
        let page = render(&example()).unwrap();
        assert_eq!(page.matches("<svg").count(), 3);
        for wanted in ["123,457", "Machine", "payload bytes", "passed:", "DEBUG"] {
            assert!(page.contains(wanted), "{wanted}");
        }
        let elsewhere = ["<script", "<link", "src=", "@import", "url("];
        assert!(elsewhere.iter().all(|part| !page.contains(part)));
    }

    #[test]
    fn text_from_outside_is_escaped() {
        let mut report = example();
        report.command_line = "currant-loadtest --json <b>&".to_owned();
        assert!(render(&report).unwrap().contains("--json &lt;b&gt;&amp;"));
    }
}
