//! A process of another system: a Node program of ours in `loadtest/peers`, told what to do by a JSON
//! object a line. It ends when its standard input does, so that it never outlives this program.

use std::{process::Stdio, time::Duration};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use super::install::Node;

/// A process from which nothing is heard for so long is given up.
const SILENCE_MAX: Duration = Duration::from_secs(60);
const END_MAX: Duration = Duration::from_secs(10);

/// Killed when dropped.
#[derive(Debug)]
pub(super) struct Program {
    name: String,
    child: Child,
    commands: ChildStdin,
    events: Lines<BufReader<ChildStdout>>,
    pub(super) versions: Map<String, Value>,
}

/// What a program says.
#[derive(Debug, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Event {
    Ready {
        versions: Map<String, Value>,
    },
    Answer(Answer),
    /// A worker: jobs finished since it began, and when the last one was.
    Progress {
        finished: u64,
        at_us: u64,
    },
    Failed {
        error: String,
    },
}

/// To a command; which fields it has depends on that.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Answer {
    start_us: Option<u64>,
    end_us: Option<u64>,
    stored: Option<u64>,
    left: Option<u64>,
    starts: Option<String>,
    finished: Option<u64>,
    latencies_us: Option<Vec<u64>>,
}

/// What a producer has enqueued.
#[derive(Clone, Copy, Debug)]
pub(super) struct Enqueued {
    pub(super) start_us: u64,
    pub(super) end_us: u64,
    pub(super) stored: u64,
}

/// What a worker has seen.
#[derive(Debug)]
pub(super) struct Tally {
    /// A digit a job: how often its handler started.
    pub(super) starts: String,
    pub(super) finished: u64,
    pub(super) latencies_us: Vec<u64>,
}

impl Program {
    /// Starts it and waits until it is connected.
    pub(super) async fn start(node: &Node, name: &str, config: &Value) -> Result<Program> {
        let mut child = Command::new(node.binary())
            .arg(node.program())
            .arg(config.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("can't start {}", node.binary().display()))?;
        let commands = child.stdin.take().context("standard input is piped")?;
        let events = child.stdout.take().context("standard output is piped")?;
        let events = BufReader::new(events).lines();
        let versions = Map::new();
        let mut program = Program { name: name.to_owned(), child, commands, events, versions };
        match program.next().await? {
            Event::Ready { versions } => program.versions = versions,
            other => bail!("{name} isn't ready but says {other:?}"),
        }
        Ok(program)
    }

    /// Tells it what to do; `next` will have the answer.
    pub(super) async fn command(&mut self, command: &str, options: Value) -> Result<()> {
        let mut line = json!({ "command": command });
        if let (Some(line), Value::Object(options)) = (line.as_object_mut(), options) {
            line.extend(options);
        }
        let written = self.commands.write_all(format!("{line}\n").as_bytes()).await;
        written.with_context(|| format!("{} has ended", self.name))
    }

    /// What it says next. Can be dropped while it waits: nothing gets lost.
    pub(super) async fn next(&mut self) -> Result<Event> {
        let heard = timeout(SILENCE_MAX, self.events.next_line()).await;
        let Ok(line) = heard else {
            bail!("{}: nothing happened for {} s", self.name, SILENCE_MAX.as_secs());
        };
        let Some(line) = line.with_context(|| format!("can't read from {}", self.name))? else {
            let status = self.child.wait().await.context("can't wait for a program")?;
            bail!("{} ended with {status}", self.name);
        };
        match serde_json::from_str(&line) {
            Ok(Event::Failed { error }) => bail!("{}: {error}", self.name),
            Ok(event) => Ok(event),
            Err(error) => bail!("{} says {line:?}: {error}", self.name),
        }
    }

    /// The answer to the last command; what is said before it is progress and counts in the end.
    pub(super) async fn answer(&mut self) -> Result<Answer> {
        loop {
            match self.next().await? {
                Event::Answer(answer) => return Ok(answer),
                Event::Progress { .. } => {}
                other => bail!("{} should have answered but says {other:?}", self.name),
            }
        }
    }

    /// Ends it, and waits for that.
    pub(super) async fn stop(self) -> Result<()> {
        let Program { name, mut child, commands, .. } = self;
        drop(commands);
        let ended = timeout(END_MAX, child.wait()).await;
        let ended = ended.with_context(|| format!("{name} doesn't end"))?;
        ended.with_context(|| format!("can't wait for {name}"))?;
        Ok(())
    }
}

impl Answer {
    pub(super) fn start_us(&self) -> Result<u64> {
        self.start_us.context("an answer without start_us")
    }

    pub(super) fn left(&self) -> Result<u64> {
        self.left.context("an answer without left")
    }

    pub(super) fn enqueued(&self) -> Result<Enqueued> {
        Ok(Enqueued {
            start_us: self.start_us()?,
            end_us: self.end_us.context("an answer without end_us")?,
            stored: self.stored.context("an answer without stored")?,
        })
    }

    pub(super) fn tally(self) -> Result<Tally> {
        Ok(Tally {
            starts: self.starts.context("an answer without starts")?,
            finished: self.finished.context("an answer without finished")?,
            latencies_us: self.latencies_us.context("an answer without latencies_us")?,
        })
    }
}
