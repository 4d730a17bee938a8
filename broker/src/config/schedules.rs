use std::path::Path;

use config::{File, FileFormat};
use serde::Deserialize;

use super::ConfigError;

/// A file of schedules: one `[[schedule]]` each.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ScheduleFile {
    schedule: Vec<ScheduleEntry>,
}

/// A schedule of the file; what each key means is in docs/schedules.md.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleEntry {
    pub name: String,
    pub cron: String,
    #[serde(default = "utc")]
    pub time_zone: String,
    pub queue: String,
    pub kind: String,
    #[serde(default)]
    pub payload: String,
    #[serde(default)]
    pub content_type: String,
    pub priority: Option<i16>,
    pub max_attempts: Option<u16>,
    pub timeout_ms: Option<u64>,
    pub expire_after_ms: Option<u64>,
    #[serde(default)]
    pub catch_up: CatchUpKey,
    #[serde(default)]
    pub catch_up_window_ms: u64,
    #[serde(default)]
    pub overlap: OverlapKey,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CatchUpKey {
    #[default]
    Skip,
    Latest,
    All,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OverlapKey {
    #[default]
    Allow,
    Skip,
    QueueOne,
}

fn utc() -> String {
    "UTC".to_owned()
}

/// Reads a file of schedules; checks keys and types.
///
/// # Errors
/// When it can't be read, and for unknown keys and values of another type.
pub fn load_schedules(path: &Path) -> Result<Vec<ScheduleEntry>, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Unreadable { path: path.into(), source })?;
    parse(&text)
}

fn parse(text: &str) -> Result<Vec<ScheduleEntry>, ConfigError> {
    let file = config::Config::builder().add_source(File::from_str(text, FileFormat::Toml));
    let file: ScheduleFile = file.build()?.try_deserialize()?;
    Ok(file.schedule)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_and_what_is_unknown_is_refused() {
        let text = "[[schedule]]\nname = 'report'\ncron = '0 6 * * *'\nqueue = 'q'\nkind = 'k'\n";
        let entries =
            parse(&format!("{text}overlap = 'queue_one'\ncatch_up = 'latest'")).expect("good");
        assert_eq!((entries.len(), &*entries[0].time_zone), (1, "UTC"));
        assert_eq!(entries[0].overlap, OverlapKey::QueueOne);
        assert_eq!(entries[0].catch_up, CatchUpKey::Latest);
        for bad in ["colour = 1", "overlap = 'never'", "priority = 'high'"] {
            assert!(parse(&format!("{text}{bad}")).is_err(), "{bad}");
        }
        assert!(parse("").expect("nothing").is_empty());
    }
}
