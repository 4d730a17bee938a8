//! From a TOML file and the environment to a [`Config`].

use std::path::{Path, PathBuf};

use config::{Environment, File, FileFormat};

use super::{Config, schema};

const PREFIX: &str = "CURRANT_";

/// What is wrong with the settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file isn't there or can't be read.
    #[error("reading {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A key that is unknown, or a value of the wrong type or form.
    #[error("the settings don't have the form that docs/configuration.md describes")]
    Malformed(#[from] config::ConfigError),
    /// A variable that is nobody's.
    #[error("the environment variable {name} names no setting{}", hint(meant.as_deref()))]
    UnknownVariable {
        /// The variable.
        name: String,
        /// The one that was probably meant.
        meant: Option<String>,
    },
    /// Values that can't be; a line for each.
    #[error("{}", .0.join("\n"))]
    Invalid(Vec<String>),
}

fn hint(meant: Option<&str>) -> String {
    meant.map_or_else(String::new, |meant| format!("; {meant} does"))
}

impl Config {
    /// Reads the file, if one is given, and then the variables `CURRANT_SECTION__KEY`, which win.
    /// Checks keys and types; [`Config::check`] checks the values.
    ///
    /// # Errors
    /// When the file can't be read, and for unknown keys and variables and values of another type.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut builder = config::Config::builder();
        if let Some(path) = file {
            let text = std::fs::read_to_string(path)
                .map_err(|source| ConfigError::Unreadable { path: path.into(), source })?;
            builder = builder.add_source(File::from_str(&text, FileFormat::Toml));
        }
        let variables = variables(environment)?.into_iter().collect();
        let environment = Environment::with_prefix("CURRANT").prefix_separator("_").separator("__");
        let merged = builder.add_source(environment.source(Some(variables))).build()?;
        Ok(merged.try_deserialize()?)
    }
}

/// The variables that are settings. Others with our prefix are left alone (Kubernetes makes
/// `CURRANT_SERVICE_HOST` and the like), unless they look like a setting.
fn variables(
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Vec<(String, String)>, ConfigError> {
    let known: Vec<String> = schema::sections()
        .iter()
        .flat_map(|section| {
            section.keys.iter().map(|key| format!("{PREFIX}{}__{}", section.name, key.name))
        })
        .map(|name| name.to_uppercase())
        .collect();
    let mut settings = Vec::new();
    for (name, value) in environment {
        if known.contains(&name) {
            settings.push((name, value));
        } else if name.starts_with(PREFIX) {
            let single = name.replace("__", "_");
            let meant = known.iter().find(|known| known.replace("__", "_") == single).cloned();
            if meant.is_some() || name.contains("__") {
                return Err(ConfigError::UnknownVariable { name, meant });
            }
        }
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::config::LogFormat;

    fn load(file: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let mut toml = tempfile::NamedTempFile::new().expect("a temporary file");
        toml.write_all(file.as_bytes()).expect("written");
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Config::load(Some(toml.path()), environment.iter().map(owned))
    }

    #[test]
    fn nothing_set_is_the_defaults() {
        assert_eq!(Config::load(None, []).expect("defaults"), Config::default());
    }

    #[test]
    fn the_environment_wins_over_the_file_and_the_file_over_the_defaults() {
        let file = "[database]\npool_size = 7\nurl = \"a\"\n[log]\nformat = \"json\"";
        let environment = [
            ("CURRANT_DATABASE__URL", "postgres://u:0123@h/d"),
            ("CURRANT_QUEUE_DEFAULTS__RETRY_FACTOR", "3"),
            ("CURRANT_DATABASE__COMPLETION_SYNCHRONOUS_COMMIT", "false"),
            ("CURRANT_DATABASE__LISTEN_URL", ""),
            ("CURRANT_GRPC__LISTEN", "0.0.0.0:1"),
            ("CURRANT_BROKER__NAME", "007"),
            ("CURRANT_CONFIG", "x"),
            ("CURRANT_SERVICE_HOST", "10.0.0.1"),
            ("PATH", "/bin"),
        ];
        let config = load(file, &environment).expect("valid");
        assert_eq!(config.database.url.expose(), "postgres://u:0123@h/d");
        assert_eq!(config.database.pool_size, 7);
        assert!(!config.database.completion_synchronous_commit);
        assert!(config.database.listen_url.expect("set").is_empty());
        assert_eq!(config.queue_defaults.retry_factor, 3.0);
        assert_eq!(config.grpc.listen.to_string(), "0.0.0.0:1");
        assert_eq!(config.broker.name, "007");
        assert_eq!(config.log.format, LogFormat::Json);
        assert_eq!(config.http, Config::default().http);
    }

    /// The error with its causes.
    fn refused(file: &str, environment: &[(&str, &str)]) -> String {
        format!("{:#}", anyhow::Error::from(load(file, environment).expect_err("refused")))
    }

    #[test]
    fn what_is_unknown_is_refused_by_name() {
        assert!(refused("[database]\npoolsize = 7", &[]).contains("poolsize"));
        assert!(refused("[databas]\n", &[]).contains("databas"));
        let told = refused("", &[("CURRANT_DATABASE__POOLSIZE", "7")]);
        assert!(told.contains("CURRANT_DATABASE__POOLSIZE"), "{told}");
        let told = refused("", &[("CURRANT_DATABASE_URL", "secret")]);
        assert!(told.contains("CURRANT_DATABASE__URL does") && !told.contains("secret"), "{told}");
    }

    #[test]
    fn a_value_of_another_type_is_refused_with_its_key() {
        let told = refused("[database]\npool_size = \"many\"", &[]);
        assert!(told.contains("database.pool_size"), "{told}");
        let told = refused("", &[("CURRANT_GRPC__LISTEN", "here")]);
        assert!(told.contains("grpc.listen"), "{told}");
        let told = refused("[broker]\nthreads = -1", &[]);
        assert!(told.contains("broker.threads"), "{told}");
    }

    #[test]
    fn an_absent_file_is_named() {
        let error = Config::load(Some(Path::new("/no/such.toml")), []).expect_err("absent");
        assert!(error.to_string().contains("/no/such.toml"));
    }
}
