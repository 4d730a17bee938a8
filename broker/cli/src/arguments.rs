use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use currant_worker_sdk::{Client, Tls};

use crate::{
    commands::{dead, doctor, enqueue, job, queue, schedule, token, top, worker},
    end::{End, Failure},
    printer::Printer,
    values,
};

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  the call failed: no broker, no answer, an error of the broker; or a file can't be read
  2  something that can't be was asked for, or nobody said yes
  3  there is no such job, queue, schedule or token
  4  not all was done: a verdict says why, the time was over, the job didn't succeed, another one
     is in the way, or the doctor found something wrong
  5  the token is missing, isn't valid, or doesn't allow that";

/// What every command takes.
const EVERYWHERE: &str = "Everywhere";

/// Jobs, queues, schedules and tokens of a Currant broker
#[derive(Parser)]
#[command(name = "currant", version, after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) connection: Connection,
    /// For people, or an object a line for programs
    #[arg(long, short, global = true, help_heading = EVERYWHERE, value_enum, value_name = "FORM", default_value = "table")]
    pub(crate) output: Output,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Table,
    Json,
}

/// Where the broker is, and who calls.
#[derive(Args)]
pub(crate) struct Connection {
    /// Where the broker is
    #[arg(
        long,
        global = true, help_heading = EVERYWHERE,
        value_name = "URL",
        env = "CURRANT_ADDRESS",
        default_value = "http://127.0.0.1:7070"
    )]
    address: String,
    /// A token's secret. As an argument others on the machine can read it: better use the variable, or a
    /// file
    #[arg(
        long,
        global = true, help_heading = EVERYWHERE,
        value_name = "SECRET",
        env = "CURRANT_TOKEN",
        hide_env_values = true,
        conflicts_with = "token_file"
    )]
    token: Option<String>,
    /// A file that has a token's secret
    #[arg(long, global = true, help_heading = EVERYWHERE, value_name = "FILE", env = "CURRANT_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// Certificates of authorities that are trusted instead of the system's, in PEM
    #[arg(
        long,
        global = true,
        help_heading = EVERYWHERE,
        value_name = "FILE",
        env = "CURRANT_CA_FILE"
    )]
    ca_file: Option<PathBuf>,
    /// A certificate to show to the broker, in PEM
    #[arg(
        long,
        global = true,
        help_heading = EVERYWHERE,
        value_name = "FILE",
        env = "CURRANT_CERTIFICATE_FILE",
        requires = "key_file"
    )]
    certificate_file: Option<PathBuf>,
    /// Its key, in PEM
    #[arg(
        long,
        global = true,
        help_heading = EVERYWHERE,
        value_name = "FILE",
        env = "CURRANT_KEY_FILE",
        requires = "certificate_file"
    )]
    key_file: Option<PathBuf>,
    /// For how long a call is repeated that fails for a passing reason
    #[arg(
        long,
        global = true, help_heading = EVERYWHERE,
        value_name = "DURATION",
        default_value = "10s",
        value_parser = values::duration
    )]
    deadline: Duration,
}

impl Connection {
    pub(crate) async fn client(&self) -> Result<Client, Failure> {
        let client = match self.tls()? {
            Some(tls) => Client::connect_tls(&self.address, tls).await?,
            None => Client::connect(&self.address).await?,
        };
        let client = client.deadline(self.deadline);
        let token = match (&self.token, &self.token_file) {
            (Some(token), _) => token.clone(),
            (None, Some(path)) => read(path)?,
            (None, None) => return Ok(client),
        };
        Ok(client.token(token.trim())?)
    }

    /// `None`: as the address says, with the system's certificates.
    fn tls(&self) -> Result<Option<Tls>, Failure> {
        let Connection { ca_file, certificate_file, key_file, .. } = self;
        let mut tls = Tls::new();
        if let Some(path) = ca_file {
            tls = tls.ca_certificate(read(path)?);
        }
        if let (Some(certificate), Some(key)) = (certificate_file, key_file) {
            tls = tls.client_certificate(read(certificate)?, read(key)?);
        }
        Ok((ca_file.is_some() || certificate_file.is_some()).then_some(tls))
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path)
        .map_err(|error| Failure::System(format!("reading {}", path.display()), error))
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Store a job and print its id
    Enqueue(enqueue::Enqueue),
    /// Find jobs, look at them, change their course
    #[command(subcommand)]
    Job(job::JobCommand),
    /// Jobs that failed for good
    #[command(subcommand)]
    Dead(dead::DeadCommand),
    /// Pause, resume, drain and set queues, and see how they stand
    #[command(subcommand)]
    Queue(queue::QueueCommand),
    /// Recurring jobs
    #[command(subcommand)]
    Schedule(schedule::ScheduleCommand),
    /// Who may call
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Workers, as the broker sees them
    #[command(subcommand)]
    Worker(worker::WorkerCommand),
    /// Brokers of the database
    #[command(subcommand)]
    Broker(worker::BrokerCommand),
    /// Queues as they are now, the busiest first, again and again
    Top(top::Top),
    /// Look whether the broker answers, and what the token allows
    Doctor,
    /// Print a script that lets a shell complete what is typed
    Completion {
        /// For which one
        shell: Shell,
    },
}

impl Command {
    pub(crate) async fn run(
        self,
        connection: &Connection,
        printer: &mut Printer,
    ) -> Result<End, Failure> {
        if let Command::Completion { shell } = self {
            printer.completion(shell, &mut Arguments::command())?;
            return Ok(End::Done);
        }
        if matches!(self, Command::Doctor) {
            return doctor::run(connection, printer).await;
        }
        let client = connection.client().await?;
        match self {
            Command::Enqueue(enqueue) => enqueue.run(&client, printer).await,
            Command::Job(command) => command.run(&client, printer).await,
            Command::Dead(command) => command.run(&client, printer).await,
            Command::Queue(command) => command.run(&client, printer).await,
            Command::Schedule(command) => command.run(&client, printer).await,
            Command::Token(command) => command.run(&client, printer).await,
            Command::Worker(command) => command.run(&client, printer).await,
            Command::Broker(command) => command.run(&client, printer).await,
            Command::Top(top) => top.run(&client, printer).await,
            // Above.
            Command::Doctor | Command::Completion { .. } => Ok(End::Done),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a terminal.
    const COLUMNS: usize = 100;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    /// As a shell would, as far as the pages need it: quotes, comments, pipes.
    fn words(line: &str) -> Vec<String> {
        let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
        for sign in line.chars() {
            match (quote, sign) {
                (Some(open), _) if sign == open => quote = None,
                (Some(_), _) => word.get_or_insert_default().push(sign),
                (None, '\'' | '"') => {
                    quote = Some(sign);
                    word.get_or_insert_default();
                }
                (None, '#') if word.is_none() => break,
                (None, '|') => break,
                (None, ' ') => words.extend(word.take()),
                (None, _) => word.get_or_insert_default().push(sign),
            }
        }
        words.extend(word);
        words
    }

    #[test]
    fn what_the_pages_show_can_be_typed() {
        let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs");
        let mut typed = 0;
        for page in std::fs::read_dir(docs).expect("the pages are there") {
            let page = page.expect("it has a name").path();
            if page.extension().is_none_or(|extension| extension != "md") {
                continue;
            }
            let text = std::fs::read_to_string(&page).expect("text").replace("\\\n", " ");
            for line in text.lines().map(|line| line.trim_start_matches("$ ")) {
                let built = line.strip_prefix("target/debug/").unwrap_or(line);
                let Some(line) = built.strip_prefix("currant ") else { continue };
                let arguments = std::iter::once("currant".to_owned()).chain(words(line));
                let read = Arguments::try_parse_from(arguments);
                let refused = read.err().map(|error| format!("{}: {error}", page.display()));
                assert_eq!(refused, None, "{line}");
                typed += 1;
            }
        }
        assert!(typed >= 40, "{typed}");
    }

    #[test]
    fn the_page_and_the_help_have_the_same_exit_codes() {
        let page = include_str!("../../../docs/cli.md");
        let rows = page.lines().filter_map(|line| {
            let (code, meaning) = line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | ")?;
            code.parse::<u8>().ok().map(|code| format!(" {code} {meaning}"))
        });
        let help: Vec<&str> = EXIT_CODES.split_whitespace().collect();
        assert_eq!(help.join(" "), format!("Exit codes:{}", rows.collect::<String>()));
    }

    /// A command and those below it.
    fn all(command: &clap::Command) -> Vec<clap::Command> {
        let below = command.get_subcommands().filter(|one| one.get_name() != "help").flat_map(all);
        std::iter::once(command.clone()).chain(below).collect()
    }

    #[test]
    fn every_argument_is_explained_and_every_help_fits_a_terminal() {
        let mut root = Arguments::command();
        root.build();
        for command in all(&root) {
            let mut command = command.term_width(COLUMNS);
            let name = command.get_name().to_owned();
            let silent = command.get_arguments().find(|one| one.get_help().is_none());
            assert_eq!(silent.map(|one| one.get_id().as_str()), None, "{name}");
            for help in [command.render_help(), command.render_long_help()] {
                let help = help.to_string();
                let long = help.lines().find(|line| line.chars().count() > COLUMNS);
                assert_eq!(long, None, "{name}");
            }
        }
    }

    #[test]
    fn a_secret_is_not_shown_by_the_help() {
        let help = Arguments::command().render_long_help().to_string();
        assert!(help.contains("CURRANT_TOKEN") && help.contains("Exit codes:"), "{help}");
    }
}
