//! The options of `peers`.

use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

use super::{measure::Measure, system::System};

#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// Systems to measure.
    #[arg(long, value_delimiter = ',', value_enum, value_name = "NAME",
          default_values_t = System::ALL)]
    pub(super) systems: Vec<System>,
    /// What to measure.
    #[arg(long, value_delimiter = ',', value_enum, value_name = "NAME",
          default_values_t = Measure::ALL)]
    pub(super) measures: Vec<Measure>,
    /// How often; the medians count.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(super) repetitions: u32,
    /// Jobs of each measure but `light` [default: by system, so that it takes some seconds].
    #[arg(long, value_parser = clap::value_parser!(u64).range(1000..=100_000_000))]
    pub(super) jobs: Option<u64>,
    /// Seconds of `light`, at 100 jobs per second.
    #[arg(long, value_name = "SECONDS", default_value_t = 10,
          value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub(super) light_seconds: u32,
    /// Bytes of a payload, with its stamp.
    #[arg(long, default_value_t = 100,
          value_parser = clap::value_parser!(u32).range(80..=65_536))]
    pub(super) payload_bytes: u32,
    /// Try other settings: JSON merged into what peers.json has under `settings`, of each system
    /// measured but Currant.
    #[arg(long, value_name = "JSON", value_parser = settings)]
    pub(super) settings: Option<Value>,
    /// Where to write the figures.
    #[arg(long, value_name = "PATH", default_value = "peers.json")]
    pub(super) json: PathBuf,
    /// Where to write the chart.
    #[arg(long, value_name = "PATH", default_value = "peers.svg")]
    pub(super) chart: PathBuf,
}

fn settings(text: &str) -> Result<Value, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if value.is_object() { Ok(value) } else { Err("no object".to_owned()) }
}
