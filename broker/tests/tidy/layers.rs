//! Who may know whom.

use super::{
    Source,
    scan::{lines_with, production},
};

/// Each module of the broker and what it may use. `main -> cli -> app -> rpc, http, timers ->
/// pipeline -> store | engine -> domain`; beside them stand `causes`, `clock`, `config`, `meters`, `mutation`,
/// `port`, `private_postgres`, `telemetry` and `traces`.
const LAYERS: [(&str, &[&str]); 18] = [
    ("cli", &["app", "config", "private_postgres", "telemetry"]),
    (
        "app",
        &[
            "rpc",
            "http",
            "timers",
            "pipeline",
            "store",
            "engine",
            "domain",
            "causes",
            "clock",
            "config",
            "port",
            "telemetry",
            "traces",
        ],
    ),
    ("rpc", &["pipeline", "store", "engine", "domain", "clock", "port", "traces"]),
    ("http", &["port"]),
    ("timers", &["pipeline", "store", "engine", "domain", "causes", "clock", "mutation"]),
    ("pipeline", &["store", "engine", "domain", "causes", "clock", "meters", "mutation"]),
    ("store", &["domain", "causes", "clock", "mutation"]),
    ("engine", &["domain", "mutation"]),
    ("domain", &[]),
    ("causes", &[]),
    ("clock", &[]),
    ("config", &[]),
    ("mutation", &[]),
    ("port", &["causes"]),
    ("private_postgres", &["causes", "clock"]),
    ("meters", &["engine", "domain"]),
    ("telemetry", &["config", "meters"]),
    ("traces", &["domain"]),
];

/// What domain and engine have no use for: I/O, clocks, randomness.
const IMPURE: [&str; 14] = [
    "tokio",
    "tonic",
    "tokio_postgres",
    "deadpool_postgres",
    "currant_proto",
    "fastrand",
    "metrics",
    "Instant",
    "SystemTime",
    "Utc::now",
    "std::fs",
    "std::net",
    "std::thread",
    "std::env",
];

const PURE: [&str; 2] = ["domain", "engine"];

pub(crate) fn no_upward_use(source: &Source<'_>) -> Vec<String> {
    if source.path == "broker/src/main.rs" {
        return main_knows_the_command_line_only(source);
    }
    let Some(modules) = module_path(source.path) else { return Vec::new() };
    let layer = modules[0];
    let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == layer) else {
        return vec![format!("{}: {layer} has no place among the layers", source.path)];
    };
    let used = used_modules(&production(source).code, modules.len());
    used.into_iter()
        .filter(|(_, used)| *used != layer && !allowed.contains(used))
        .map(|(line, used)| format!("{}:{line}: {layer} may not use {used}", source.path))
        .collect()
}

fn main_knows_the_command_line_only(source: &Source<'_>) -> Vec<String> {
    let code = production(source).code;
    let all = code.matches("currant_broker::").count();
    let allowed = code.matches("currant_broker::cli::").count();
    if all == allowed {
        return Vec::new();
    }
    vec![format!("{}: main uses the command line and nothing else", source.path)]
}

/// `broker/src/store/mod.rs` is [store], `broker/src/store/insert_jobs.rs` is [store, insert_jobs].
fn module_path(path: &str) -> Option<Vec<&str>> {
    let inside = path.strip_prefix("broker/src/")?.strip_suffix(".rs")?;
    let inside = inside.strip_suffix("/mod").unwrap_or(inside);
    (!["lib", "main"].contains(&inside)).then(|| inside.split('/').collect())
}

/// Line and name of each layer that the code of a module at this depth names.
fn used_modules(code: &str, depth: usize) -> Vec<(usize, &'static str)> {
    let to_root = "super::".repeat(depth);
    let mut used = Vec::new();
    for prefix in ["crate::", &to_root] {
        for (at, _) in code.match_indices(prefix) {
            let before = &code[..at];
            if before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            let line = before.matches('\n').count() + 1;
            let names = first_names(&code[at + prefix.len()..]);
            used.extend(names.into_iter().filter_map(|(lines, name)| {
                Some((line + lines, LAYERS.iter().find(|(layer, _)| *layer == name)?.0))
            }));
        }
    }
    used
}

/// Of `a::b` it is a, of `{a::b, c, d::{e, f}}` a, c and d; each with the lines before it.
fn first_names(path: &str) -> Vec<(usize, &str)> {
    let name = |from: usize| {
        let word = &path[from..];
        let end = word.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(word.len());
        (path[..from].matches('\n').count(), &word[..end])
    };
    if !path.starts_with('{') {
        return vec![name(0)];
    }
    let (mut names, mut nesting, mut begins) = (Vec::new(), 0, false);
    for (at, c) in path.char_indices() {
        match c {
            '{' => {
                nesting += 1;
                begins = nesting == 1;
            }
            '}' if nesting == 1 => break,
            '}' => nesting -= 1,
            ',' => begins = nesting == 1,
            _ if begins && !c.is_whitespace() => {
                names.push(name(at));
                begins = false;
            }
            _ => {}
        }
    }
    names
}

pub(crate) fn pure_layers_stay_pure(source: &Source<'_>) -> Vec<String> {
    let pure = module_path(source.path).is_some_and(|modules| PURE.contains(&modules[0]));
    if !pure {
        return Vec::new();
    }
    let code = production(source).code;
    let found = IMPURE
        .iter()
        .flat_map(|word| lines_with(&code, word).into_iter().map(move |line| (line, word)));
    found
        .map(|(line, word)| {
            format!("{}:{line}: {word} in pure code; let it be an argument", source.path)
        })
        .collect()
}

pub(crate) fn generated_types_stay_in_rpc(source: &Source<'_>) -> Vec<String> {
    match module_path(source.path) {
        Some(modules) if modules[0] != "rpc" => {}
        _ => return Vec::new(),
    }
    let lines = lines_with(&production(source).code, "currant_proto");
    let say = |line| format!("{}:{line}: generated types belong to rpc only", source.path);
    lines.into_iter().map(say).collect()
}

pub(crate) fn sdk_and_contract_dont_know_the_broker(source: &Source<'_>) -> Vec<String> {
    if !["worker-sdk/", "proto/", "broker/cli/src/"]
        .iter()
        .any(|outside| source.path.starts_with(outside))
    {
        return Vec::new();
    }
    let names_crate = source.text.contains("currant_broker");
    let depends = source.path.ends_with("Cargo.toml") && source.text.contains("currant-broker");
    if names_crate || depends {
        return vec![format!("{}: may know the contract, never the broker", source.path)];
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::say;

    #[test]
    fn an_upward_use_is_found_in_every_spelling() {
        let planted = [
            "use crate::pipeline::Core;",
            "use crate::{\n    domain::JobId,\n    pipeline::{self, Core},\n};",
            "fn f() { crate::pipeline::start() }",
            "use super::super::pipeline::Core;",
            "use crate::engine::Dispatcher;",
        ];
        for text in planted {
            let wrong = say(no_upward_use, "broker/src/store/claim_jobs.rs", text);
            assert_eq!(wrong.len(), 1, "{text}: {wrong:?}");
        }
        let grouped = say(no_upward_use, "broker/src/store/claim_jobs.rs", planted[1]);
        assert!(grouped[0].starts_with("broker/src/store/claim_jobs.rs:3:"), "{grouped:?}");
        let wrong = say(no_upward_use, "broker/src/store/mod.rs", "use super::engine::Batcher;");
        assert_eq!(wrong.len(), 1);
        let wrong = say(no_upward_use, "broker/src/engine/mod.rs", "use crate::store::Claim;");
        assert_eq!(wrong.len(), 1);
        let wrong = say(no_upward_use, "broker/src/rpc/mod.rs", "use crate::timers::Prune;");
        assert_eq!(wrong.len(), 1);
        let wrong = say(no_upward_use, "broker/src/main.rs", "use currant_broker::app::serve;");
        assert_eq!(wrong.len(), 1);
        let wrong = say(no_upward_use, "broker/src/extra/mod.rs", "");
        assert_eq!(wrong.len(), 1);
    }

    #[test]
    fn a_downward_use_is_fine() {
        let text = "use crate::{clock::Stopwatch, domain::{JobId, engine}};\n// crate::pipeline\n\
                    use super::engine;\nuse other::crate::pipeline;";
        let wrong = say(no_upward_use, "broker/src/store/claim_jobs.rs", text);
        assert_eq!(wrong, Vec::<String>::new());
        let text = "use crate::{engine::Batcher, store};";
        assert!(say(no_upward_use, "broker/src/pipeline/enqueue.rs", text).is_empty());
        assert!(say(no_upward_use, "worker-sdk/src/lib.rs", "use crate::rpc;").is_empty());
    }

    #[test]
    fn impure_code_is_found() {
        let planted = [
            "use tokio::sync::mpsc;",
            "let now = std::time::Instant::now();",
            "let now = Utc::now();",
            "let x = fastrand::f64();",
        ];
        for text in planted {
            let wrong = say(pure_layers_stay_pure, "broker/src/engine/batcher.rs", text);
            assert_eq!(wrong.len(), 1, "{text}: {wrong:?}");
        }
        let text = "// tokio\nfn instant(now: Duration) {}";
        assert!(say(pure_layers_stay_pure, "broker/src/engine/batcher.rs", text).is_empty());
        assert!(say(pure_layers_stay_pure, "broker/src/pipeline/x.rs", planted[0]).is_empty());
    }

    #[test]
    fn generated_types_outside_of_rpc_are_found() {
        let text = "use currant_proto::v1::EnqueueRequest;";
        assert_eq!(say(generated_types_stay_in_rpc, "broker/src/app.rs", text).len(), 1);
        assert!(say(generated_types_stay_in_rpc, "broker/src/rpc/enqueue.rs", text).is_empty());
    }

    #[test]
    fn an_sdk_that_knows_the_broker_is_found() {
        let rule = sdk_and_contract_dont_know_the_broker;
        assert_eq!(say(rule, "worker-sdk/src/lib.rs", "use currant_broker::cli;").len(), 1);
        assert_eq!(say(rule, "proto/Cargo.toml", "currant-broker.workspace = true").len(), 1);
        assert_eq!(say(rule, "broker/cli/src/main.rs", "use currant_broker::cli;").len(), 1);
        assert!(say(rule, "loadtest/src/main.rs", "use currant_broker::cli;").is_empty());
    }
}
