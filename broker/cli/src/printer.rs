use std::io::{self, IsTerminal, Write};

use clap_complete::Shell;
use serde_json::Value;

use crate::{arguments::Output, end::Failure};

/// Prints what was asked for: for people as a table, for programs as an object a line.
pub(crate) struct Printer {
    output: Output,
}

impl Printer {
    pub(crate) fn new(output: Output) -> Printer {
        Printer { output }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.output == Output::Json
    }

    /// Several of a kind. Without a head they go on from those before.
    pub(crate) fn things<T>(
        &mut self,
        things: &[T],
        head: &[&str],
        row: impl Fn(&T) -> Vec<String>,
        json: impl Fn(&T) -> Value,
    ) -> Result<(), Failure> {
        match self.output {
            Output::Json => things.iter().try_for_each(|thing| self.line(&json(thing).to_string())),
            Output::Table => {
                let named = head.iter().map(|&name| name.to_owned()).collect();
                let head = Some(named).filter(|named: &Vec<String>| !named.is_empty());
                let rows: Vec<Vec<String>> =
                    head.into_iter().chain(things.iter().map(row)).collect();
                aligned(&rows).iter().try_for_each(|line| self.line(line))
            }
        }
    }

    /// One, with a line for each of its fields that has a value.
    pub(crate) fn thing(&mut self, fields: &[(&str, String)], json: &Value) -> Result<(), Failure> {
        match self.output {
            Output::Json => self.line(&json.to_string()),
            Output::Table => {
                let said = fields.iter().filter(|(_, value)| !value.is_empty());
                let rows: Vec<Vec<String>> = said
                    // A text of several lines stays one column.
                    .flat_map(|(name, value)| {
                        let name = |at| if at == 0 { (*name).to_owned() } else { String::new() };
                        value
                            .lines()
                            .enumerate()
                            .map(move |(at, line)| vec![name(at), line.to_owned()])
                    })
                    .collect();
                aligned(&rows).iter().try_for_each(|line| self.line(line))
            }
        }
    }

    /// What was done: a sentence for people.
    pub(crate) fn done(&mut self, sentence: &str, json: &Value) -> Result<(), Failure> {
        match self.output {
            Output::Json => self.line(&json.to_string()),
            Output::Table => self.line(sentence),
        }
    }

    pub(crate) fn completion(
        &mut self,
        shell: Shell,
        command: &mut clap::Command,
    ) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(shell, command, "currant", &mut script);
        self.raw(&String::from_utf8_lossy(&script))
    }

    /// As it is, for a terminal.
    pub(crate) fn raw(&self, text: &str) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Failure::printing)
    }

    pub(crate) fn line(&self, line: &str) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        writeln!(out, "{line}").and_then(|()| out.flush()).map_err(Failure::printing)
    }
}

/// Shows how far something is, on a line that is written over, if somebody looks.
pub(crate) struct Progress {
    shown: bool,
}

impl Progress {
    pub(crate) fn new() -> Progress {
        Progress { shown: false }
    }

    pub(crate) fn show(&mut self, text: &str) {
        if io::stderr().is_terminal() {
            eprint!("\r\x1b[K{text}");
            self.shown = true;
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            eprint!("\r\x1b[K");
        }
    }
}

/// Lines with columns as wide as what is in them, two blanks apart.
pub(crate) fn aligned(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        cells.collect::<Vec<String>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let row = |cells: &[&str]| cells.iter().map(|&cell| cell.to_owned()).collect();
        let lines = aligned(&[row(&["ID", "KIND", "ERROR"]), row(&["1234", "é", ""])]);
        assert_eq!(lines, ["ID    KIND  ERROR", "1234  é"]);
        assert!(aligned(&[]).is_empty());
    }
}
