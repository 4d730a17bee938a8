//! `currant-broker doctor`: it finds what is wrong and says how to mend it.

use std::process::Command;

use crate::support::Database;

/// Whether all is well, and what is said.
fn doctor(url: &str, settings: &[(&str, &str)]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_currant-broker"))
        .arg("doctor")
        .env("CURRANT_DATABASE__URL", url)
        .envs(settings.iter().map(|(key, value)| (format!("CURRANT_{key}"), value)))
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

/// The sign of each line about something.
fn signs(said: &str) -> Vec<(&str, &str)> {
    let lines = said.lines().filter(|line| !line.starts_with([' ', 'e']));
    let words = lines.map(|line| line.split_whitespace());
    words.filter_map(|mut words| Some((words.next()?, words.next()?))).collect()
}

#[tokio::test]
async fn all_is_well_with_a_database_that_a_broker_uses() {
    let database = Database::fresh().await;
    let (well, said) = doctor(&database.url, &[]);
    let all = [
        "database",
        "clock",
        "durability",
        "vacuum",
        "snapshots",
        "connections",
        "transport",
        "permissions",
        "schema",
        "sessions",
        "LISTEN",
    ];
    assert_eq!(signs(&said), all.map(|what| ("ok", what)), "{said}");
    assert!(well, "{said}");
}

#[tokio::test]
async fn what_is_missing_is_said_with_what_mends_it() {
    let database = Database::empty().await;
    let (well, said) = doctor(&database.url, &[("DATABASE__LISTEN_URL", "")]);
    assert!(well, "it works: {said}");
    assert!(signs(&said).contains(&("poor", "schema")), "{said}");
    assert!(said.contains("to mend it: currant-broker migrate"), "{said}");
    assert!(signs(&said).contains(&("poor", "LISTEN")), "{said}");

    let database = Database::fresh().await;
    let client = database.connect().await;
    let sql = "UPDATE currant.schema_history SET version = 900
               WHERE version = (SELECT max(version) FROM currant.schema_history)";
    client.batch_execute(sql).await.unwrap();
    let (well, said) = doctor(&database.url, &[("DATABASE__LISTEN_URL", "host=/nowhere")]);
    assert!(!well && said.contains("error: 2 things are wrong"), "{said}");
    assert!(signs(&said).contains(&("WRONG", "schema")), "{said}");
    assert!(signs(&said).contains(&("WRONG", "LISTEN")), "{said}");
}

#[tokio::test]
async fn a_user_without_rights_is_told_which() {
    let database = Database::fresh().await;
    let client = database.connect().await;
    let role = format!("poor_{}", database.name);
    client.batch_execute(&format!("CREATE ROLE {role} LOGIN")).await.unwrap();
    let url = database.url.replace("user=postgres", &format!("user={role}"));
    let (well, said) = doctor(&url, &[]);
    assert!(!well && signs(&said).contains(&("WRONG", "permissions")), "{said}");
    assert!(said.contains(&format!("grant {role} what docs/security.md says")), "{said}");
    // What it says there.
    let sql = format!(
        "GRANT USAGE ON SCHEMA currant TO {role};
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA currant TO {role};
         GRANT USAGE ON ALL SEQUENCES IN SCHEMA currant TO {role};
         REVOKE INSERT, UPDATE, DELETE ON currant.schema_history FROM {role};
         REVOKE UPDATE ON currant.audit FROM {role}"
    );
    client.batch_execute(&sql).await.unwrap();
    let (well, said) = doctor(&url, &[]);
    assert!(well && signs(&said).contains(&("ok", "permissions")), "{said}");
    client.batch_execute(&format!("REVOKE DELETE ON currant.job FROM {role}")).await.unwrap();
    let (well, said) = doctor(&url, &[]);
    assert!(!well && said.contains("no access to job"), "{said}");
    client.batch_execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await.unwrap();
}

#[test]
fn a_database_that_is_not_there_is_said() {
    let (well, said) = doctor("host=/nowhere user=postgres", &[]);
    assert!(!well && signs(&said) == [("WRONG", "database")], "{said}");
    assert!(said.contains("pg_hba.conf"), "{said}");
}
