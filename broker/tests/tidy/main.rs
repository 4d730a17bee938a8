//! The architecture as a test: which layer may know which, what pure code may not contain, where SQL
//! and generated types live, how long a file may be. ARCHITECTURE.md tells the reasons.
//!
//! Each rule is a function of a file's path and text; its own tests plant a violation.

#![allow(clippy::unwrap_used)]

mod layers;
mod metrics;
mod places;
mod scan;

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A file of the repository.
struct Source<'a> {
    /// From the repository's root, with slashes.
    path: &'a str,
    text: &'a str,
}

/// Answers what is wrong, a line each, beginning with the place.
type Rule = fn(&Source<'_>) -> Vec<String>;

const RULES: [Rule; 11] = [
    layers::no_upward_use,
    layers::pure_layers_stay_pure,
    layers::generated_types_stay_in_rpc,
    layers::sdk_and_contract_dont_know_the_broker,
    places::sql_stays_in_the_store,
    places::sql_files_are_migrations,
    places::no_file_outgrows_its_room,
    places::nothing_is_left_to_do,
    places::no_build_is_broken_by_default,
    places::words_of_the_vocabulary,
    metrics::metrics_are_in_the_reference,
];

#[test]
fn the_repository_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = Vec::new();
    collect(root, &mut files);
    assert!(files.len() > 50, "the sources aren't where they were: {} files", files.len());
    let mut wrong = Vec::new();
    for file in files {
        let path = file.strip_prefix(root).unwrap().to_str().unwrap();
        // What isn't text has no rules.
        let Ok(text) = fs::read_to_string(&file) else { continue };
        let source = Source { path, text: &text };
        wrong.extend(RULES.iter().flat_map(|rule| rule(&source)));
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

/// Every file but build output and what is hidden.
fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if ["target", "node_modules", "__pycache__"].contains(&name)
            || (name.starts_with('.') && name != ".ci")
        {
            continue;
        }
        if path.is_dir() {
            collect(&path, files);
        } else {
            files.push(path);
        }
    }
}

/// For the rules' own tests: what the rule says about such a file.
#[cfg(test)]
fn say(rule: Rule, path: &str, text: &str) -> Vec<String> {
    rule(&Source { path, text })
}
