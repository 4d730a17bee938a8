//! What belongs where, and what belongs nowhere.

use super::{
    Source,
    scan::{lines_with, production, scan},
};

const LINES_MAX: usize = 400;

/// Files that may be longer, each with its reason.
const LONG_FILES: [(&str, &str); 1] =
    [("broker/src/config/sections.rs", "every setting, in one place to read")];

/// How a statement begins.
const SQL: [&str; 8] =
    ["SELECT ", "INSERT INTO ", "UPDATE ", "DELETE FROM ", "WITH ", "LISTEN ", "NOTIFY ", "/* "];

/// Statements whose name plans, logs and metrics need.
const NAMED_SQL: [&str; 5] = ["SELECT ", "INSERT INTO ", "UPDATE ", "DELETE FROM ", "WITH "];

/// Words for which there is another one here.
const WORDS: [(&str, &str); 3] = [
    ("consumer", "worker"),
    ("visibility timeout", "lease, attempt timeout"),
    ("visibility_timeout", "lease, attempt timeout"),
];

/// Files that speak of OpenTelemetry's kinds of spans, which have the first of them.
const FOREIGN_WORDS: [&str; 3] =
    ["worker-sdk/src/otel.rs", "broker/tests/it/sdk/traces.rs", "docs/worker-sdk.md"];

/// Somebody's machine; in pieces, so that this file doesn't have them.
const MACHINE_PATHS: [&str; 4] =
    [concat!("/ho", "me/"), concat!("/Us", "ers/"), concat!("/ro", "ot/"), concat!("/wo", "rk/")];

pub(crate) fn sql_stays_in_the_store(source: &Source<'_>) -> Vec<String> {
    let in_broker = source.path.starts_with("broker/src/");
    let watched = in_broker || source.path.starts_with("worker-sdk/src/");
    if !watched || source.path.starts_with("broker/src/private_postgres/") {
        return Vec::new();
    }
    // The one statement that handlers run themselves.
    if source.path == "worker-sdk/src/output.rs" {
        return Vec::new();
    }
    let in_store = source.path.starts_with("broker/src/store/");
    let (beginnings, say) = if in_store {
        (&NAMED_SQL[..], "a statement begins with its name: /* name */")
    } else {
        (&SQL[..], "SQL belongs to the store")
    };
    let is_sql = |text: &str| {
        let text = text.trim_start_matches(['\\', '\n', ' ']);
        beginnings.iter().any(|beginning| text.starts_with(beginning))
    };
    let strings = production(source).strings;
    let wrong = strings.into_iter().filter(|(_, text)| is_sql(text));
    wrong.map(|(line, _)| format!("{}:{line}: {say}", source.path)).collect()
}

pub(crate) fn sql_files_are_migrations(source: &Source<'_>) -> Vec<String> {
    if source.path.ends_with(".sql") && !source.path.starts_with("migrations/") {
        return vec![format!("{}: .sql files belong to migrations/", source.path)];
    }
    Vec::new()
}

pub(crate) fn no_file_outgrows_its_room(source: &Source<'_>) -> Vec<String> {
    if ![".rs", ".py", ".proto"].iter().any(|kind| source.path.ends_with(kind)) {
        return Vec::new();
    }
    let lines = source.text.lines().count();
    let listed = LONG_FILES.iter().any(|(path, _)| *path == source.path);
    match (lines > LINES_MAX, listed) {
        (true, false) => {
            vec![format!("{}: {lines} lines; split it, or list it with a reason", source.path)]
        }
        (false, true) if lines * 2 < LINES_MAX => {
            vec![format!("{}: {lines} lines; needs no exception any more", source.path)]
        }
        _ => Vec::new(),
    }
}

pub(crate) fn nothing_is_left_to_do(source: &Source<'_>) -> Vec<String> {
    if !source.path.ends_with(".rs") {
        return Vec::new();
    }
    let code = scan(source.text).code;
    let found = ["todo!", "unimplemented!"].map(|word| (word, lines_with(&code, word)));
    let each = found.iter().flat_map(|(word, lines)| lines.iter().map(move |line| (word, line)));
    each.map(|(word, line)| format!("{}:{line}: {word}", source.path)).collect()
}

/// A broker that is broken on purpose is built by who asks for one.
pub(crate) fn no_build_is_broken_by_default(source: &Source<'_>) -> Vec<String> {
    const FEATURES: [&str; 2] = ["mutations = []", "mutations = [\"currant-broker/mutations\"]"];
    if !(source.path.ends_with("Cargo.toml") || source.path.starts_with("deploy/")) {
        return Vec::new();
    }
    let lines = source.text.lines().enumerate();
    let wrong = lines.filter(|(_, line)| {
        line.contains("mutations") && !line.starts_with('#') && !FEATURES.contains(line)
    });
    wrong.map(|(at, _)| format!("{}:{}: mutations by default", source.path, at + 1)).collect()
}

pub(crate) fn words_of_the_vocabulary(source: &Source<'_>) -> Vec<String> {
    if source.path == "broker/tests/tidy/places.rs" || source.path == "Cargo.lock" {
        return Vec::new();
    }
    let mut wrong = Vec::new();
    for (index, line) in source.text.lines().enumerate() {
        let place = format!("{}:{}", source.path, index + 1);
        let lower = line.to_lowercase();
        for (word, instead) in WORDS {
            // The vocabulary itself says which words not to use, after "not".
            let foreign = word == WORDS[0].0 && FOREIGN_WORDS.contains(&source.path);
            if lower.contains(word) && !lower.contains("not:") && !foreign {
                wrong.push(format!("{place}: {word:?}; the word here is {instead}"));
            }
        }
        for path in MACHINE_PATHS {
            let begins = |at: usize| !line[..at].ends_with(|c: char| c.is_alphanumeric());
            if line.match_indices(path).any(|(at, _)| begins(at)) {
                wrong.push(format!("{place}: {path} is somebody's machine"));
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::say;

    #[test]
    fn sql_outside_of_the_store_is_found() {
        for text in [
            "const Q: &str = \"SELECT 1\";",
            "run(\"\\\n    UPDATE job SET x = 1\")",
            "run(r#\"/* claim_jobs */ DELETE\"#)",
        ] {
            let wrong = say(sql_stays_in_the_store, "broker/src/pipeline/claim.rs", text);
            assert_eq!(wrong.len(), 1, "{text}");
        }
        let text = "// SELECT 1\nlet x = \"SELECTED\"; let y = \"say SELECT 1\";";
        assert!(say(sql_stays_in_the_store, "broker/src/pipeline/claim.rs", text).is_empty());
        let text = "fn f() {}\n#[cfg(test)]\nmod tests {\n const Q: &str = \"SELECT 1\";\n}";
        assert!(say(sql_stays_in_the_store, "broker/src/app.rs", text).is_empty());
    }

    #[test]
    fn a_statement_without_a_name_is_found() {
        let path = "broker/src/store/claim_jobs.rs";
        assert_eq!(say(sql_stays_in_the_store, path, "run(\"SELECT 1\")").len(), 1);
        assert!(say(sql_stays_in_the_store, path, "run(\"/* one */ SELECT 1\")").is_empty());
    }

    #[test]
    fn a_sql_file_elsewhere_is_found() {
        assert_eq!(say(sql_files_are_migrations, "broker/src/a.sql", "").len(), 1);
        assert!(say(sql_files_are_migrations, "migrations/V1__jobs.sql", "").is_empty());
    }

    #[test]
    fn a_long_file_and_a_stale_exception_are_found() {
        let rule = no_file_outgrows_its_room;
        assert_eq!(say(rule, "broker/src/a.rs", &"\n".repeat(LINES_MAX + 1)).len(), 1);
        assert!(say(rule, "broker/src/a.rs", &"\n".repeat(LINES_MAX)).is_empty());
        assert!(say(rule, LONG_FILES[0].0, &"\n".repeat(LINES_MAX + 1)).is_empty());
        assert_eq!(say(rule, LONG_FILES[0].0, "\n").len(), 1);
    }

    #[test]
    fn work_left_to_do_is_found() {
        assert_eq!(say(nothing_is_left_to_do, "broker/src/a.rs", "fn a() { todo!() }").len(), 1);
        assert_eq!(say(nothing_is_left_to_do, "a/tests/b.rs", "unimplemented!(\"x\")").len(), 1);
        assert!(say(nothing_is_left_to_do, "broker/src/a.rs", "// todo!()").is_empty());
    }

    #[test]
    fn a_build_with_mutations_is_found() {
        let rule = no_build_is_broken_by_default;
        let manifest = "loadtest/Cargo.toml";
        assert_eq!(say(rule, manifest, "default = [\"mutations\"]").len(), 1);
        let broker = "currant-broker = { workspace = true, features = [\"mutations\"] }";
        assert_eq!(say(rule, manifest, broker).len(), 1);
        let build = "RUN cargo build --release --features mutations";
        assert_eq!(say(rule, "deploy/Dockerfile", build).len(), 1);
        assert!(say(rule, "broker/Cargo.toml", "[features]\nmutations = []").is_empty());
        assert!(say(rule, "docs/chaos.md", build).is_empty());
    }

    #[test]
    fn another_word_and_a_machines_path_are_found() {
        let rule = words_of_the_vocabulary;
        assert_eq!(say(rule, "broker/src/a.rs", "struct Consumer;").len(), 1);
        assert!(say(rule, "ARCHITECTURE.md", "One word each; not: consumer.").is_empty());
        assert!(say(rule, FOREIGN_WORDS[0], "\"consumer\"").is_empty());
        let text = format!("see {}me/x, target{}me/x", "/ho", "/ho");
        assert_eq!(say(rule, "README.md", &text).len(), 1);
        assert!(say(rule, "README.md", "the worker's own clock").is_empty());
    }
}
