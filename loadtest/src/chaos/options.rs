use std::path::PathBuf;

use clap::Args;

use super::fault::Kind;

#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// Decides which faults come when, where and for how long.
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
    /// Seconds during which faults are injected; a quiet phase comes before, a settling one after.
    #[arg(long, value_name = "SECONDS", default_value_t = 60,
          value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub(super) duration: u32,
    /// Inject faults of these kinds only.
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    pub(super) only: Vec<Kind>,
    /// Break the brokers on purpose, and succeed if the checker names it; `all`: one after the other.
    /// Needs a build with the feature `mutations`.
    #[arg(long, value_name = "NAME")]
    pub(super) mutation: Option<String>,
    /// A rolling update: brokers begin as this currant-broker, of the version before, and as this version when they
    /// start anew; without TLS and tokens.
    #[arg(long, value_name = "PROGRAM", conflicts_with = "mutation")]
    pub(super) previous: Option<PathBuf>,
    /// Where to write the summary.
    #[arg(long, value_name = "PATH", default_value = "chaos.json")]
    pub(super) json: PathBuf,
    /// Keep history and logs here; without it they are kept, in a temporary directory, only when
    /// something is wrong.
    #[arg(long, value_name = "DIRECTORY")]
    pub(super) keep: Option<PathBuf>,
}
