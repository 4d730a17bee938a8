//! The command line: what to do, and with which settings.

mod dev;
mod doctor;
mod health;
mod runtime;
mod token;

use std::{
    ffi::OsString,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::{Parser, Subcommand};

use crate::{
    app,
    config::{self, Config},
    telemetry,
};

#[derive(Debug, Parser)]
#[command(name = "currant-broker", version, about = "A job queue on Postgres", long_about = None)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a broker on the database of the settings
    Serve(Settings),
    /// Run a broker with a Postgres of its own, which ends with it and keeps its data
    Dev(Dev),
    /// Bring the database's schema up to date and say what was done
    Migrate(Migrate),
    /// Look at the database of the settings, and say what is wrong and how to mend it
    Doctor(Settings),
    /// Ask the broker of these settings whether it is ready: a probe for containers
    Health(Settings),
    /// Create, list and revoke tokens, in the database of the settings
    Token {
        #[command(subcommand)]
        command: token::TokenCommand,
    },
    /// Print or check settings
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
}

#[derive(Debug, clap::Args)]
struct Settings {
    /// A TOML file; CURRANT_SECTION__KEY variables win over it
    #[arg(long = "config", value_name = "FILE", env = "CURRANT_CONFIG")]
    file: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct Migrate {
    #[command(flatten)]
    settings: Settings,
    /// Change nothing: say what would be done
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, clap::Args)]
struct Dev {
    /// Where to keep the data [default: /var/lib/currant-dev as root, else
    /// $XDG_DATA_HOME/currant-dev or ~/.local/share/currant-dev]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where producers and workers call [default: 127.0.0.1:7070]
    #[arg(long, value_name = "ADDRESS")]
    grpc_listen: Option<SocketAddr>,
    /// Where metrics and health are [default: 127.0.0.1:7071]
    #[arg(long, value_name = "ADDRESS")]
    http_listen: Option<SocketAddr>,
    /// For the tests of a program: on free ports and in a temporary directory, told in a line of JSON;
    /// gone when its standard input ends
    #[arg(long, conflicts_with_all = ["data_dir", "grpc_listen", "http_listen"])]
    for_tests: bool,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print the reference of all settings (Markdown)
    Reference,
    /// Print an example file with every setting and its default (TOML)
    Example,
    /// Check a file and the environment without starting anything
    Check(Settings),
}

/// Does what the arguments say, the first of which is the program's name, and blocks until that is
/// done. Errors go to standard error with their causes.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(args) {
        Ok(arguments) => arguments,
        // Also --help and --version.
        Err(error) => error.exit(),
    };
    let done = match arguments.command {
        Command::Serve(settings) => serve(&settings),
        Command::Dev(options) => dev::run(options),
        Command::Migrate(options) => migrate(&options),
        Command::Doctor(settings) => examine(&settings),
        Command::Health(settings) => health(&settings),
        Command::Token { command } => token::run(&command),
        Command::Config { command } => print(&command),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn serve(settings: &Settings) -> anyhow::Result<()> {
    let config = checked(settings.file.as_deref())?;
    config.check_to_serve()?;
    telemetry::log(&config.log)?;
    runtime::serve(config, |_| {})
}

fn migrate(options: &Migrate) -> anyhow::Result<()> {
    let config = checked(options.settings.file.as_deref())?;
    telemetry::log(&config.log)?;
    let runtime = runtime::build(1)?;
    let done = match options.dry_run {
        true => runtime.block_on(app::missing(&config)),
        false => runtime.block_on(app::migrate(&config)),
    }?;
    for line in &done {
        println!("{line}");
    }
    if done.is_empty() {
        println!("the schema is up to date");
    }
    Ok(())
}

fn examine(settings: &Settings) -> anyhow::Result<()> {
    doctor::run(&checked(settings.file.as_deref())?)
}

fn health(settings: &Settings) -> anyhow::Result<()> {
    let config = Config::load(settings.file.as_deref(), environment()?)?;
    health::run(config.http.listen, config.tls.is_on())
}

fn print(command: &ConfigCommand) -> anyhow::Result<()> {
    match command {
        ConfigCommand::Reference => print!("{}", config::reference()),
        ConfigCommand::Example => print!("{}", config::example()),
        ConfigCommand::Check(settings) => {
            checked(settings.file.as_deref())?.check_to_serve()?;
            println!("the settings are valid");
        }
    }
    Ok(())
}

fn checked(file: Option<&Path>) -> anyhow::Result<Config> {
    let config = Config::load(file, environment()?)?;
    config.check()?;
    Ok(config)
}

/// The variables with our prefix.
fn environment() -> anyhow::Result<Vec<(String, String)>> {
    let ours = std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok().filter(|name| name.starts_with("CURRANT_"))?;
        Some((name, value))
    });
    ours.map(|(name, value)| {
        let value = value.into_string().ok();
        let value =
            value.with_context(|| format!("the environment variable {name} isn't UTF-8"))?;
        Ok((name, value))
    })
    .collect()
}

/// The error and its causes, a line each.
fn chain(error: &anyhow::Error) -> String {
    let lines = error.chain().skip(1).map(|cause| format!("\n  caused by: {cause}"));
    std::iter::once(format!("error: {error}")).chain(lines).collect()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn an_error_is_shown_with_its_causes() {
        let error = anyhow::anyhow!("c").context("b").context("a");
        assert_eq!(chain(&error), "error: a\n  caused by: b\n  caused by: c");
    }
}
