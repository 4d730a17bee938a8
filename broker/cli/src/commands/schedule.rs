use clap::{Args, Subcommand, ValueEnum};
use currant_worker_sdk::{CatchUp, Client, Overlap, Schedule, StoredSchedule};
use serde_json::json;

use super::enqueue::JobOptions;
use crate::{
    end::{End, Failure},
    payload::PayloadArgs,
    printer::Printer,
    shown::schedule as shown,
    values,
};

#[derive(Subcommand)]
pub(crate) enum ScheduleCommand {
    /// All schedules
    List,
    /// A schedule, and where it stands
    Show(Named),
    /// Create a schedule, or replace the one of that name
    Set(Box<Set>),
    /// Delete schedules; their jobs stay
    Delete(Several),
    /// Make no fire until it is resumed
    Pause(Named),
    /// Go on with the next time that comes
    Resume(Named),
    /// Store a job of it at once, beside its fires, and print its id
    RunNow(Named),
    /// Print when it fires next
    Next(Next),
}

#[derive(Args)]
pub(crate) struct Named {
    /// Its name
    name: String,
}

#[derive(Args)]
pub(crate) struct Several {
    /// Their names
    #[arg(required = true)]
    names: Vec<String>,
}

#[derive(Args)]
pub(crate) struct Next {
    /// Its name
    name: String,
    /// So many times
    #[arg(long, value_name = "NUMBER", default_value_t = 10)]
    count: u32,
}

#[derive(Args)]
pub(crate) struct Set {
    /// Its name
    name: String,
    /// Five fields, or six with seconds first: '0 6 * * MON-FRI'
    cron: String,
    /// Where its jobs go
    queue: String,
    /// What workers have a handler for
    kind: String,
    #[command(flatten)]
    payload: PayloadArgs,
    #[command(flatten)]
    options: JobOptions,
    /// By the clock of this place
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    time_zone: String,
    /// Fires that were missed: skip, latest, or how far back all are made, as 24h
    #[arg(long, value_name = "WHICH", default_value = "skip", value_parser = catch_up)]
    catch_up: CatchUp,
    /// A fire while the job of the one before isn't over
    #[arg(long, value_enum, value_name = "HOW", default_value = "allow")]
    overlap: OverlapArg,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OverlapArg {
    /// It is made
    Allow,
    /// It is left out
    Skip,
    /// One waits until that job is over
    QueueOne,
}

fn catch_up(text: &str) -> Result<CatchUp, String> {
    match text {
        "skip" => Ok(CatchUp::Skip),
        "latest" => Ok(CatchUp::Latest),
        window => values::duration(window).map(CatchUp::All),
    }
}

impl ScheduleCommand {
    pub(crate) async fn run(self, client: &Client, printer: &mut Printer) -> Result<End, Failure> {
        match self {
            ScheduleCommand::List => {
                let schedules = client.schedules().await?;
                printer.things(&schedules, shown::HEAD, shown::row, shown::json)?;
            }
            ScheduleCommand::Show(Named { name }) => show(&client.schedule(name).await?, printer)?,
            ScheduleCommand::Set(set) => {
                show(&client.put_schedule(set.schedule()?).await?, printer)?;
            }
            ScheduleCommand::Delete(Several { names }) => {
                return delete(names, client, printer).await;
            }
            ScheduleCommand::Pause(Named { name }) => {
                let schedule = client.pause_schedule(name).await?;
                printer.done(&format!("{} is paused", schedule.name), &shown::json(&schedule))?;
            }
            ScheduleCommand::Resume(Named { name }) => {
                let schedule = client.resume_schedule(name).await?;
                let next = values::show_time(schedule.next_fire);
                let sentence = format!("{} goes on, next at {next}", schedule.name);
                printer.done(&sentence, &shown::json(&schedule))?;
            }
            ScheduleCommand::RunNow(Named { name }) => {
                let id = client.run_schedule(name).await?.to_string();
                printer.done(&id, &json!({ "id": id }))?;
            }
            ScheduleCommand::Next(Next { name, count }) => {
                let fires = client.next_fires(name, count).await?;
                for fire in fires {
                    let fire = values::show_time(Some(fire));
                    printer.done(&fire, &json!({ "fire": fire }))?;
                }
            }
        }
        Ok(End::Done)
    }
}

fn show(schedule: &StoredSchedule, printer: &mut Printer) -> Result<(), Failure> {
    printer.thing(&shown::fields(schedule), &shown::json(schedule))
}

async fn delete(
    names: Vec<String>,
    client: &Client,
    printer: &mut Printer,
) -> Result<End, Failure> {
    let mut end = End::Done;
    for name in names {
        let deleted = client.delete_schedule(&name).await?;
        let verdict = if deleted { "deleted" } else { "not_found" };
        let json = json!({ "name": name, "verdict": verdict });
        printer.done(&format!("{name}  {verdict}"), &json)?;
        end = end.max(if deleted { End::Done } else { End::NotFound });
    }
    Ok(end)
}

impl Set {
    fn schedule(self) -> Result<Schedule, Failure> {
        let Set { name, cron, queue, kind, payload, options, time_zone, catch_up, overlap } = self;
        let job = options.of(payload.job(queue, kind)?);
        let overlap = match overlap {
            OverlapArg::Allow => Overlap::Allow,
            OverlapArg::Skip => Overlap::Skip,
            OverlapArg::QueueOne => Overlap::QueueOne,
        };
        let schedule = Schedule::new(name, cron, job).time_zone(time_zone);
        Ok(schedule.catch_up(catch_up).overlap(overlap))
    }
}
