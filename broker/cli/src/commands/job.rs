use clap::{Args, Subcommand};
use currant_worker_sdk::{Client, JobId, JobState, Listing, StoredJob};

use crate::{
    changes::Change,
    end::{End, Failure},
    filter::{FilterArgs, Meant, PAGE_SIZE_MAX, StateArg},
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
    /// Tell each change of a job's state and progress until it is over; fails unless it succeeds
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
    /// Where they are
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
    /// At most so many; 0 for all
    #[arg(long, value_name = "NUMBER", default_value_t = 50)]
    limit: usize,
}

#[derive(Args)]
pub(crate) struct Named {
    /// The job
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
    /// In one of these states [default: cancel those that aren't over, retry dead and cancelled ones]
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
    let limit = if limit == 0 { usize::MAX } else { limit };
    // One beyond the limit tells whether there are more.
    let page_size = u32::try_from(limit.saturating_add(1)).unwrap_or(PAGE_SIZE_MAX);
    let listing = listing.page_size(page_size.min(PAGE_SIZE_MAX));
    let mut listing = if newest { listing.newest_first() } else { listing };
    let (mut printed, mut jobs) = (0, Vec::new());
    let mut left = None;
    while let Some(page) = listing.next_page().await? {
        let was_full = printed + jobs.len() == limit;
        jobs.extend(page);
        if printed + jobs.len() > limit {
            jobs.truncate(limit - printed);
            left = Some("there are more");
            break;
        }
        if was_full && !listing.page_token().is_empty() {
            // One look is enough: the next one may be far away.
            left = Some("there may be more");
            break;
        }
        if jobs.len() >= PAGE_SIZE_MAX as usize {
            print(&jobs, printed == 0, printer)?;
            printed += jobs.len();
            jobs.clear();
        }
    }
    if printed == 0 || !jobs.is_empty() {
        print(&jobs, printed == 0, printer)?;
    }
    if let Some(left) = left {
        eprintln!("{limit} shown, {left}: --limit 0 for all");
    }
    Ok(End::Done)
}

fn print(jobs: &[StoredJob], with_head: bool, printer: &mut Printer) -> Result<(), Failure> {
    let head = if with_head { shown::job::HEAD } else { &[] };
    printer.things(jobs, head, shown::job::row, shown::job::json)
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
        change.all(client, Meant { queue, states, filter, yes }, printer).await
    }
}
