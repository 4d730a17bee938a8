//! What producers were told and handlers saw: a file for each, an event a line, written before it
//! counts, so that a process which is killed leaves all that it has done.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::Write,
    path::Path,
    sync::Arc,
    sync::LazyLock,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, bail};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::fault::Kind;

const SUFFIX: &str = ".jsonl";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Event {
    /// An enqueue was answered: these jobs are stored.
    Acknowledged {
        call: String,
        by: Producer,
        jobs: Vec<i64>,
    },
    /// An enqueue that began at this time, as `at` of a line, failed; whether it was stored isn't known.
    Unknown {
        call: String,
        by: Producer,
        jobs: u32,
        began: i64,
    },
    /// A cancel is about to be asked for.
    CancelAsked {
        job: i64,
    },
    /// A cancel was answered: the job is cancelled.
    Cancelled {
        job: i64,
    },
    /// A handler began.
    Started {
        job: i64,
        attempt: u32,
    },
    /// A handler returned.
    Ended {
        job: i64,
        attempt: u32,
        succeeded: bool,
    },
    /// A completion was answered.
    Answered {
        job: i64,
        attempt: u32,
        verdict: Verdict,
    },
    /// A pause of a queue was answered.
    Paused {
        queue: String,
    },
    /// Its end is about to be asked for.
    ResumeAsked {
        queue: String,
    },
    /// A fault begins.
    Fault {
        kind: Kind,
        name: String,
        touches: Touches,
    },
    /// It is over, and what it ended runs again.
    Healed,
    /// What a broker or worker did that nobody asked it to.
    EndedByItself {
        who: String,
        status: String,
    },
    Phase {
        phase: Phase,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Producer {
    Grpc,
    Sql,
}

/// Whom a fault concerns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Touches {
    All,
    /// Producers alone.
    Clients,
    /// This one alone.
    Worker(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    Applied,
    Duplicate,
    Stale,
    NotFound,
}

/// Begins with the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Phase {
    /// Load without faults.
    Quiet,
    /// All of the quiet phase's jobs are over, or should be.
    QuietOver,
    Faults,
    Settling,
    Over,
}

impl fmt::Display for Phase {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Phase::Quiet => "load without faults",
            Phase::QuietOver => "one worker and the order of its jobs",
            Phase::Faults => "load with faults",
            Phase::Settling => "no load, no faults: all jobs have to end",
            Phase::Over => "over",
        })
    }
}

/// An event as it stands in a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Line {
    /// In microseconds since 1970; one clock for all processes.
    pub(super) at: i64,
    /// Whose file it is.
    #[serde(skip)]
    pub(super) who: Arc<str>,
    #[serde(flatten)]
    pub(super) event: Event,
}

/// Appends to one file.
#[derive(Clone, Debug)]
pub(super) struct Writer(Arc<Mutex<File>>);

impl Writer {
    pub(super) fn open(path: &Path) -> Result<Writer> {
        let file = OpenOptions::new().create(true).append(true).open(path);
        let file = file.with_context(|| format!("can't open {}", path.display()))?;
        Ok(Writer(Arc::new(Mutex::new(file))))
    }

    pub(super) fn write(&self, event: Event) -> Result<()> {
        let line = Line { at: now_micros(), who: "".into(), event };
        let mut text = serde_json::to_vec(&line)?;
        text.push(b'\n');
        self.0.lock().write_all(&text).context("can't write history")
    }
}

/// The file of `who` in this directory.
pub(super) fn file_name(who: &str) -> String {
    format!("{who}{SUFFIX}")
}

/// By the clock as it was when this was asked first: a worker's may be set meanwhile.
pub(super) fn now_micros() -> i64 {
    static BEGAN: LazyLock<(Instant, Duration)> = LazyLock::new(|| {
        // Two clocks, of which one is read a little later, or much later where another process has its turn.
        let looks = (0..100).map(|_| {
            let before = Instant::now();
            let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            (before.elapsed(), before, since.unwrap_or_default())
        });
        let (_, at, since) = looks.min().unwrap_or_else(|| unreachable!("a hundred looks"));
        (at, since)
    });
    let (at, since) = *BEGAN;
    (since + at.elapsed()).as_micros() as i64
}

/// All files of a directory, in the order of time.
pub(super) fn read(directory: &Path) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for entry in fs::read_dir(directory).context("can't read the history")? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some(who) = name.strip_suffix(SUFFIX) else { continue };
        let text = fs::read_to_string(&path)?;
        parse(who, &text, &mut lines)?;
    }
    lines.sort_by_key(|line| line.at);
    Ok(lines)
}

fn parse(who: &str, text: &str, lines: &mut Vec<Line>) -> Result<()> {
    let who: Arc<str> = who.into();
    for (number, text) in text.split_inclusive('\n').enumerate() {
        // Only the last line of a killed process may be cut.
        if !text.ends_with('\n') {
            break;
        }
        match serde_json::from_str::<Line>(text) {
            Ok(line) => lines.push(Line { who: Arc::clone(&who), ..line }),
            Err(error) => bail!("history of {who}, line {}: {error}: {text}", number + 1),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_is_written_is_read_in_the_order_of_time_with_its_writer() {
        let directory = tempfile::tempdir().unwrap();
        let open = |who| Writer::open(&directory.path().join(file_name(who))).unwrap();
        let events = [
            Event::Started { job: 5, attempt: 1 },
            Event::Answered { job: 5, attempt: 1, verdict: Verdict::Applied },
            Event::Acknowledged { call: "a".into(), by: Producer::Sql, jobs: vec![5, 6] },
            Event::Fault { kind: Kind::Drip, name: "x".into(), touches: Touches::All },
        ];
        let (one, other) = (open("one"), open("other"));
        for (index, event) in events.iter().enumerate() {
            [&one, &other][index % 2].write(event.clone()).unwrap();
        }
        let mut read = read(directory.path()).unwrap();
        assert!(read.is_sorted_by_key(|line| line.at));
        // Two of one microsecond may be in any order.
        read.sort_by_key(|line| events.iter().position(|event| *event == line.event));
        let seen: Vec<_> = read.iter().map(|line| (&*line.who, line.event.clone())).collect();
        let expected = events.iter().enumerate();
        let expected: Vec<_> =
            expected.map(|(index, event)| (["one", "other"][index % 2], event.clone())).collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_line_that_was_cut_by_a_kill_is_left_out_and_nonsense_is_an_error() {
        let whole = r#"{"at":1,"event":"started","job":5,"attempt":1}"#;
        let mut lines = Vec::new();
        parse("x", &format!("{whole}\n{{\"at\":2,"), &mut lines).unwrap();
        assert_eq!(lines.len(), 1);
        assert!(parse("x", "nonsense\n", &mut lines).is_err());
    }
}
