//! docs/errors.md and docs/limits.md: each row names a test, where its table has such a column, and settings and
//! metrics that are there.

use std::{collections::HashSet, fs, path::Path};

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Of all settings, `section.key`.
fn settings() -> HashSet<String> {
    let mut section = String::new();
    let mut settings = HashSet::new();
    for line in read("../docs/configuration.md").lines() {
        if let Some(name) = line.strip_prefix("## ") {
            section = name.to_owned();
        } else if let Some((key, _)) = line.strip_prefix("| `").and_then(|it| it.split_once('`')) {
            settings.insert(format!("{section}.{key}"));
        }
    }
    settings
}

/// What is between backquotes.
fn quoted(row: &str) -> impl Iterator<Item = &str> {
    row.split('`').skip(1).step_by(2)
}

#[test]
fn every_row_names_a_test_and_what_is_there() {
    let metrics = read("../docs/metrics.md");
    let settings = settings();
    assert!(settings.len() > 40 && settings.contains("grpc.connections_max"), "{settings:?}");
    for (page, rows_min) in [("errors.md", 30), ("limits.md", 25)] {
        let page = read(&format!("../docs/{page}"));
        let mut rows = 0;
        // Of a table that has a column of tests.
        let mut tested = false;
        for row in page.lines().filter(|line| !line.starts_with("| ---")) {
            if !row.starts_with("| ") || row.ends_with("| test |") {
                tested = row.ends_with("| test |");
                continue;
            }
            if !tested {
                continue;
            }
            rows += 1;
            let test = quoted(row).last().and_then(|test| test.rsplit_once("::"));
            let (file, name) = test.unwrap_or_else(|| panic!("no test: {row}"));
            let source = read(&format!("tests/it/{}.rs", file.replace("::", "/")));
            assert!(source.contains(&format!("async fn {name}(")), "no such test: {row}");
            for word in quoted(row) {
                let there = match word.split_once('.') {
                    _ if word.starts_with("currant_") => metrics.contains(&format!("| `{word}` |")),
                    Some((section, _)) if settings.iter().any(|it| it.starts_with(section)) => {
                        settings.contains(word)
                    }
                    _ => true,
                };
                assert!(there, "there is no {word}: {row}");
            }
        }
        assert!(rows >= rows_min, "{rows} rows");
    }
}
