use clap::{Args, Subcommand};
use currant_worker_sdk::{Client, JobId, JobState, Listing, StoredJob};

use crate::{
    changes::Change,
    end::{End, Failure},
    filter::{FilterArgs, StateArg},
    printer::Printer,
    shown,
};

#[derive(Subcommand)]
pub(crate) enum JobCommand {
    /// Jobs of a queue, in the order in which they were stored
    List(List),
    /// All about a job: payload, result, failed attempts
    Show(Named),
    /// Why a job isn't running
    Explain(Named),
    /// Tell each change of a job's state until it is over; fails unless it succeeds
    Watch(Named),
    /// Cancel jobs for good, whether they wait or run
    Cancel(Changed),
    /// Let dead and cancelled jobs run again
    Retry(Changed),
    /// Delete jobs that don't run
    Delete(Changed),
}

#[derive(Args)]
pub(crate) struct List {
    queue: String,
    /// In one of these states
    #[arg(long = "state", value_enum, value_name = "STATE", value_delimiter = ',')]
    states: Vec<StateArg>,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    page: Page,
}

/// How many are listed, and from which end.
#[derive(Args)]
pub(crate) struct Page {
    /// The newest first
    #[arg(long)]
    newest: bool,
    /// At most so many
    #[arg(long, value_name = "NUMBER", default_value_t = 50)]
    limit: usize,
}

#[derive(Args)]
pub(crate) struct Named {
    id: JobId,
    /// The queue that it is in: saves the broker a look into each
    #[arg(long)]
    queue: Option<String>,
}

#[derive(Args)]
pub(crate) struct Changed {
    /// These jobs
    ids: Vec<JobId>,
    /// Without ids: all jobs of this queue that the filter finds; with them, where they are
    #[arg(long, required_unless_present = "ids")]
    queue: Option<String>,
    /// In one of these states
    #[arg(long = "state", value_enum, value_name = "STATE", value_delimiter = ',')]
    states: Vec<StateArg>,
    #[command(flatten)]
    filter: FilterArgs,
    /// Without a question
    #[arg(long, short)]
    yes: bool,
}

impl JobCommand {
    pub(crate) async fn run(self, client: &Client, printer: &mut Printer) -> Result<End, Failure> {
        match self {
            JobCommand::List(List { queue, states, filter, page }) => {
                list(page, client.list(filter.filter(queue, &states)), printer).await
            }
            JobCommand::Show(named) => {
                let job = named.client(client).get(named.id).await?;
                printer.thing(&shown::job::fields(&job), &shown::job::json(&job))?;
                Ok(End::Done)
            }
            JobCommand::Explain(named) => {
                let explanation = named.client(client).explain(named.id).await?;
                printer.done(&explanation.message, &shown::job::explanation(&explanation))?;
                Ok(End::Done)
            }
            JobCommand::Watch(named) => watch(&named, client, printer).await,
            JobCommand::Cancel(changed) => changed.run(Change::Cancel, client, printer).await,
            JobCommand::Retry(changed) => changed.run(Change::Retry, client, printer).await,
            JobCommand::Delete(changed) => changed.run(Change::Delete, client, printer).await,
        }
    }
}

pub(crate) async fn list(
    page: Page,
    listing: Listing,
    printer: &mut Printer,
) -> Result<End, Failure> {
    let Page { newest, limit } = page;
    let mut listing = if newest { listing.newest_first() } else { listing };
    let mut jobs: Vec<StoredJob> = Vec::new();
    while jobs.len() < limit
        && let Some(job) = listing.next().await?
    {
        jobs.push(job);
    }
    printer.things(&jobs, shown::job::HEAD, shown::job::row, shown::job::json)?;
    Ok(End::Done)
}

async fn watch(named: &Named, client: &Client, printer: &mut Printer) -> Result<End, Failure> {
    let mut watch = named.client(client).watch(named.id);
    let mut last = None;
    while let Some(job) = watch.next().await? {
        printer.done(&shown::job::change(&job), &shown::job::json(&job))?;
        last = Some(job.state);
    }
    Ok(if last == Some(JobState::Succeeded) { End::Done } else { End::Refused })
}

impl Named {
    fn client(&self, client: &Client) -> Client {
        self.queue.as_ref().map_or_else(|| client.clone(), |queue| client.in_queue(queue))
    }
}

impl Changed {
    async fn run(
        self,
        change: Change,
        client: &Client,
        printer: &mut Printer,
    ) -> Result<End, Failure> {
        let Changed { ids, queue, states, filter, yes } = self;
        if !ids.is_empty() {
            if !filter.is_empty() || !states.is_empty() {
                return Err(Failure::Usage("either ids or a filter".to_owned()));
            }
            let client = queue.map_or_else(|| client.clone(), |queue| client.in_queue(queue));
            return change.each(&client, &ids, printer).await;
        }
        let Some(queue) = queue else { return Err(Failure::Usage("no queue".to_owned())) };
        let every = filter.is_empty() && states.is_empty();
        let which = if every { "" } else { " that the filter finds" };
        let what = format!("all jobs of {queue}{which}");
        change.all(client, filter.filter(queue, &states), (&what, yes), printer).await
    }
}
