use clap::{Args, Subcommand};
use currant_worker_sdk::Client;

use super::job::{Page, list};
use crate::{
    changes::Change,
    end::{End, Failure},
    filter::{FilterArgs, Meant, StateArg},
    printer::Printer,
};

#[derive(Subcommand)]
pub(crate) enum DeadCommand {
    /// Dead jobs of a queue, in the order in which they were stored
    List(List),
    /// Let those that the filter finds run again
    Retry(Changed),
    /// Delete those that the filter finds
    Delete(Changed),
}

#[derive(Args)]
pub(crate) struct List {
    /// Where they are
    queue: String,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    page: Page,
}

#[derive(Args)]
pub(crate) struct Changed {
    /// Where they are
    queue: String,
    #[command(flatten)]
    filter: FilterArgs,
    /// Without a question
    #[arg(long, short)]
    yes: bool,
}

impl DeadCommand {
    pub(crate) async fn run(self, client: &Client, printer: &mut Printer) -> Result<End, Failure> {
        let (change, Changed { queue, filter, yes }) = match self {
            DeadCommand::List(List { queue, filter, page }) => {
                let listing = client.list(filter.filter(queue, &[StateArg::Dead]));
                return list(page, listing, printer).await;
            }
            DeadCommand::Retry(changed) => (Change::Retry, changed),
            DeadCommand::Delete(changed) => (Change::Delete, changed),
        };
        let meant = Meant { queue, states: vec![StateArg::Dead], filter, yes };
        change.all(client, meant, printer).await
    }
}
