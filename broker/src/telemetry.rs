//! Log lines, metrics, and what a panic leaves behind.

use std::{backtrace::Backtrace, io::IsTerminal, panic, process, sync::OnceLock};

use anyhow::Context;
use metrics::{Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use crate::{
    config::{Log, LogFormat},
    meters::{FAMILIES, Family, Kind},
};

/// Upper bounds of the histograms that count seconds: from a cached statement to a long drain.
const BUCKETS_SECONDS: [f64; 18] = [
    0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0,
    2.0, 5.0, 10.0, 30.0,
];

/// Upper bounds of `currant_flush_rows`: from one job alone to the most that a flush takes.
const BUCKETS_ROWS: [f64; 13] =
    [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10_000.0];

/// Whatever the settings say: below this level the driver logs the parameters of each statement,
/// payloads among them.
const NO_PARAMETERS: &str = "tokio_postgres::query=info";

/// The first two warn of whoever breaks the rules of HTTP/2 or of TLS, so that any stranger could fill the log;
/// the third tells of each migration, as we do. They do so where the settings name them.
const QUIET: [(&str, &str); 3] =
    [("h2", "h2=error"), ("rustls", "rustls=error"), ("refinery_core", "refinery_core=warn")];

/// Sends log lines to standard error, and panics into the log.
///
/// # Errors
/// When the filter can't be read, and when logging was already set up.
pub fn log(settings: &Log) -> anyhow::Result<()> {
    let mut filter: EnvFilter = settings.filter.parse().context("log.filter")?;
    let quiet = QUIET.iter().filter(|(target, _)| !settings.filter.contains(target));
    for directive in quiet.map(|(_, directive)| *directive).chain([NO_PARAMETERS]) {
        filter = filter.add_directive(directive.parse().context("a filter of our own")?);
    }
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let built = match settings.format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    built.map_err(|error| anyhow::anyhow!(error)).context("setting up the log")?;
    abort_on_panic();
    Ok(())
}

/// A task that died would leave its callers waiting: the process ends instead, and workers and
/// database see a broker that is gone, which they know how to handle.
fn abort_on_panic() {
    panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string);
        let backtrace = Backtrace::force_capture();
        let payload = panic.payload();
        let message = payload.downcast_ref::<&str>().copied();
        let message = message.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let message = message.unwrap_or("a value that isn't text");
        tracing::error!(location, %backtrace, "panic: {message}");
        process::abort();
    }));
}

/// The metrics of this process; the first call begins to collect them.
pub fn metrics() -> PrometheusHandle {
    static METRICS: OnceLock<PrometheusHandle> = OnceLock::new();
    METRICS.get_or_init(collect).clone()
}

fn collect() -> PrometheusHandle {
    let rows = Matcher::Full("currant_flush_rows".to_owned());
    let builder = PrometheusBuilder::new()
        .set_buckets(&BUCKETS_SECONDS)
        .and_then(|builder| builder.set_buckets_for_metric(rows, &BUCKETS_ROWS));
    let recorder = builder.expect("there are buckets").build_recorder();
    let handle = recorder.handle();
    announce(&recorder);
    if metrics::set_global_recorder(recorder).is_err() {
        tracing::warn!("another library collects metrics in this process; /metrics stays empty");
    }
    handle
}

/// Says what each family means, and shows counts from 0 on: a rate knows its first step only then.
/// Gauges are there once somebody has set them, and so is what is labelled by what is in use.
fn announce(recorder: &impl Recorder) {
    let metadata = Metadata::new(module_path!(), Level::INFO, None);
    for Family { name, kind, labels, meaning, .. } in FAMILIES {
        match kind {
            Kind::Counter => recorder.describe_counter(name.into(), None, meaning.into()),
            Kind::Gauge => recorder.describe_gauge(name.into(), None, meaning.into()),
            Kind::Histogram => recorder.describe_histogram(name.into(), None, meaning.into()),
        }
        let keys: Vec<Key> = match labels {
            [] => vec![Key::from_name(name)],
            [label] => {
                let labels =
                    label.values.iter().map(|value| Label::from_static_parts(label.name, value));
                labels.map(|label| Key::from_parts(name, vec![label])).collect()
            }
            _ => Vec::new(),
        };
        for key in keys {
            match kind {
                Kind::Counter => drop(recorder.register_counter(&key, &metadata)),
                Kind::Gauge => {}
                Kind::Histogram => drop(recorder.register_histogram(&key, &metadata)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_recorded_is_shown_in_buckets() {
        let handle = metrics();
        metrics::histogram!("currant_test_seconds").record(0.000_06);
        let text = handle.render();
        assert!(text.contains("currant_test_seconds_bucket{le=\"0.0001\"} 1"), "{text}");
        assert!(text.contains("currant_test_seconds_bucket{le=\"0.00005\"} 0"), "{text}");
    }
}
