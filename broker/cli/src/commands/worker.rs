use clap::Subcommand;
use currant_worker_sdk::Client;

use crate::{
    end::{End, Failure},
    printer::Printer,
    shown::worker as shown,
};

#[derive(Subcommand)]
pub(crate) enum WorkerCommand {
    /// The sessions at this broker: what each holds of what it may, and when it was seen
    List,
}

#[derive(Subcommand)]
pub(crate) enum BrokerCommand {
    /// The brokers of the database: those that run, and those that have died and aren't forgotten
    List,
}

impl WorkerCommand {
    pub(crate) async fn run(self, client: &Client, printer: &mut Printer) -> Result<End, Failure> {
        let WorkerCommand::List = self;
        let sessions = client.sessions().await?;
        printer.things(&sessions, shown::SESSION_HEAD, shown::session_row, shown::session_json)?;
        Ok(End::Done)
    }
}

impl BrokerCommand {
    pub(crate) async fn run(self, client: &Client, printer: &mut Printer) -> Result<End, Failure> {
        let BrokerCommand::List = self;
        let brokers = client.brokers().await?;
        printer.things(&brokers, shown::BROKER_HEAD, shown::broker_row, shown::broker_json)?;
        Ok(End::Done)
    }
}
