use std::fs;

use serde_json::json;

use crate::support::{Broker, broker_says, fresh};

const TOKEN: &str = "CURRANT_TOKEN";

#[test]
fn tokens_are_made_used_listed_and_revoked() {
    let create = ["token", "create", "--name", "root", "--scope", "admin"];
    let root = broker_says(&create, "currant_");
    let broker = Broker::start(&[("CURRANT_ACCESS__REQUIRED", "true")]);
    let ran = broker.run(&["queue", "list"]);
    assert_eq!((ran.code, &*ran.out), (5, ""), "{ran:?}");

    let name = fresh("reader");
    let create = ["token", "create", &name, "--scope", "read", "--queue", "a*", "--expires", "90d"];
    let as_root = [(TOKEN, &*root)];
    let made = broker.json_with(&as_root, &create).remove(0);
    let (id, secret) = (made["id"].as_str().unwrap(), made["secret"].as_str().unwrap());
    assert_eq!((&made["scopes"], &made["queues"]), (&json!(["read"]), &json!(["a*"])));
    assert!(made["expires_at"].is_string() && made["revoked_at"].is_null(), "{made}");

    // What each may do.
    let doctor = |variables: &[(&str, &str)]| broker.run_with(variables, &["doctor"]);
    let (reader, nobody) = (doctor(&[(TOKEN, secret)]), doctor(&[]));
    assert!(reader.code == 0 && reader.out.contains("to look (read)\n"), "{reader:?}");
    assert!(nobody.code == 4 && nobody.out.contains("CURRANT_TOKEN"), "{nobody:?}");

    // By an argument, by the variable, by a file.
    assert_eq!(broker.run(&["queue", "list", "--token", secret]).code, 0);
    let path = std::env::temp_dir().join(&name);
    fs::write(&path, format!("{secret}\n")).unwrap();
    assert_eq!(broker.run(&["--token-file", path.to_str().unwrap(), "queue", "list"]).code, 0);
    fs::remove_file(&path).unwrap();
    let as_reader = [(TOKEN, secret)];
    let ran = broker.run_with(&as_reader, &["queue", "pause", "apples"]);
    assert_eq!(ran.code, 5, "{ran:?}");
    assert_eq!(broker.run_with(&as_reader, &["queue", "show", "pears"]).code, 5);

    let listed = broker.json_with(&as_root, &["token", "list"]);
    let mine = listed.iter().find(|one| one["id"] == json!(id)).unwrap();
    assert!(mine.get("secret").is_none() && mine["name"] == json!(name), "{mine}");
    broker.json_with(&as_root, &["token", "revoke", id]);
    assert_eq!(broker.run_with(&as_reader, &["queue", "list"]).code, 5);
    assert_eq!(broker.run_with(&as_root, &["token", "revoke", "999999"]).code, 3);
    let host = format!("{name}.example.org");
    let granted = ["token", "create", "host", "--scope", "work", "--certificate", &host];
    let made = broker.json_with(&as_root, &granted).remove(0);
    assert!(made.get("secret").is_none(), "{made}");
}

#[test]
fn a_file_that_is_not_there_is_said() {
    let ran = Broker::shared().run(&["--token-file", "/nowhere/token", "queue", "list"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.starts_with("error: reading /nowhere/token: "), "{}", ran.err);
}
