use clap::{Args, Subcommand};
use currant_worker_sdk::Client;

use super::job::{Page, list};
use crate::{
    changes::Change,
    end::{End, Failure},
    filter::{FilterArgs, StateArg},
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
    queue: String,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    page: Page,
}

#[derive(Args)]
pub(crate) struct Changed {
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
        let which = if filter.is_empty() { "" } else { " that the filter finds" };
        let what = format!("all dead jobs of {queue}{which}");
        let filter = filter.filter(queue, &[StateArg::Dead]);
        change.all(client, filter, (&what, yes), printer).await
    }
}
