//! What the run ran on, for the report.

use std::fs;

use serde::Serialize;

use super::process::TICKS_PER_SECOND;

/// What can't be found out is None.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) cpu: Option<String>,
    /// Logical cores that this process may use.
    pub(crate) cores: Option<usize>,
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) os: String,
    pub(crate) kernel: Option<String>,
    /// `server_version`, and the settings that decide what a commit costs.
    pub(crate) postgres: Option<Vec<(String, String)>>,
    /// Built with optimisations.
    pub(crate) release_build: bool,
}

impl Machine {
    pub(crate) fn look(postgres: Option<Vec<(String, String)>>) -> Machine {
        Machine {
            cpu: field("/proc/cpuinfo", "model name"),
            cores: std::thread::available_parallelism().ok().map(usize::from),
            memory_bytes: field("/proc/meminfo", "MemTotal")
                .and_then(|text| text.strip_suffix(" kB")?.parse::<u64>().ok())
                .map(|kib| kib * 1024),
            os: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")
                .ok()
                .map(|text| text.trim().to_owned()),
            postgres,
            release_build: !cfg!(debug_assertions),
        }
    }
}

/// What a host has taken of the time of all cores since they started; 0 where nobody can tell.
pub(crate) fn stolen_ms() -> u64 {
    // cpu user nice system idle iowait irq softirq steal …
    let all = fs::read_to_string("/proc/stat").unwrap_or_default();
    let stolen = all.split_whitespace().nth(8).and_then(|ticks| ticks.parse::<u64>().ok());
    stolen.unwrap_or(0) * 1000 / TICKS_PER_SECOND
}

/// The value of the first `name: value` line of a file.
fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
