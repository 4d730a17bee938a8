//! The users' reference and example file, from the comments in the code.

use std::fmt::Write;

use serde_json::Value;

use super::{
    check::limit,
    schema::{Key, Section, sections},
};

const INTRODUCTION: &str = "\
# Configuration

This page is made from the code: `currant-broker config reference > docs/configuration.md`.

A setting comes from the TOML file named by `--config` or the environment variable `CURRANT_CONFIG`,
or from a variable `CURRANT_SECTION__KEY` (two underscores between section and key, for example
`CURRANT_DATABASE__URL`), which wins over the file. Unknown keys are errors, and every value is
checked before the broker opens a port or a connection; `currant-broker config check` only checks.
`deploy/currant.example.toml` has every setting with its default. Durations are in milliseconds,
sizes in bytes. `CURRANT_POSTGRES_BIN` isn't a setting of the broker: it names the directory of the
Postgres binaries that `currant-broker dev`, the tests and the load test start.
";

const EXAMPLE_HEAD: &str = "\
# Every setting of currant-broker with its default.
# Made from the code: currant-broker config example > deploy/currant.example.toml
# A variable CURRANT_SECTION__KEY wins over this file.
";

/// `docs/configuration.md`: a table for each section.
pub fn reference() -> String {
    let mut text = INTRODUCTION.to_owned();
    for section in sections() {
        let Section { name, comment, keys } = section;
        write_to(&mut text, format_args!("\n## {name}\n\n{comment}\n\n"));
        text.push_str("| key | default | range | meaning |\n| --- | --- | --- | --- |\n");
        for key in keys {
            let default = default(&key).map_or("unset".into(), |default| format!("`{default}`"));
            let (range, comment) = (range(&key), key.comment.replace('|', "\\|"));
            let name = key.name;
            write_to(&mut text, format_args!("| `{name}` | {default} | {range} | {comment} |\n"));
        }
    }
    text
}

/// `deploy/currant.example.toml`: every setting, commented out, with its default.
pub fn example() -> String {
    let mut text = EXAMPLE_HEAD.to_owned();
    for section in sections() {
        text.push('\n');
        write_comment(&mut text, &section.comment);
        write_to(&mut text, format_args!("[{}]\n", section.name));
        for key in section.keys {
            text.push('\n');
            write_comment(&mut text, &key.comment);
            let range = range(&key);
            if !range.is_empty() {
                write_comment(&mut text, &format!("Range: {}.", range.replace('`', "")));
            }
            let default = default(&key).unwrap_or_else(|| "\"\"".into());
            write_to(&mut text, format_args!("#{} = {default}\n", key.name));
        }
    }
    text
}

fn range(key: &Key) -> String {
    if !key.choices.is_empty() {
        let quoted: Vec<String> = key.choices.iter().map(|choice| format!("`{choice}`")).collect();
        return quoted.join(", ");
    }
    match (key.minimum, key.maximum, key.length_max) {
        (None, None, None) => String::new(),
        (None, None, Some(length)) => format!("up to {length} bytes"),
        (minimum, maximum, _) => format!("{} to {}", limit(minimum), limit(maximum)),
    }
}

/// As TOML, in which strings, numbers and booleans look as in JSON.
fn default(key: &Key) -> Option<String> {
    match &key.default {
        Value::Null => None,
        value => Some(value.to_string()),
    }
}

/// In lines of up to 100 bytes.
fn write_comment(text: &mut String, comment: &str) {
    let mut line = String::from("#");
    for word in comment.split_whitespace() {
        if line.len() + 1 + word.len() > 100 {
            write_to(text, format_args!("{line}\n"));
            line.truncate(1);
        }
        line.push(' ');
        line.push_str(word);
    }
    write_to(text, format_args!("{line}\n"));
}

fn write_to(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("writing to a string doesn't fail");
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use super::*;
    use crate::config::Config;

    /// Run with `CURRANT_UPDATE_GENERATED=1` to write the files.
    fn assert_fresh(path: &str, generated: &str) {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
        if std::env::var_os("CURRANT_UPDATE_GENERATED").is_some() {
            fs::write(&path, generated).expect("written");
        }
        let there = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(there, generated, "{} is stale: run `just generate`", path.display());
    }

    #[test]
    fn the_reference_is_fresh() {
        assert_fresh("docs/configuration.md", &reference());
    }

    #[test]
    fn the_example_is_fresh() {
        assert_fresh("deploy/currant.example.toml", &example());
    }

    #[test]
    fn the_example_with_every_line_active_is_the_defaults() {
        let active: String = example()
            .lines()
            .filter(|line| !line.starts_with("# ") && !line.contains("listen_url"))
            .map(|line| format!("{}\n", line.trim_start_matches('#')))
            .collect();
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        fs::write(file.path(), active).expect("written");
        assert_eq!(Config::load(Some(file.path()), []).expect("valid"), Config::default());
    }
}
