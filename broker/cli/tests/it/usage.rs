use serde_json::json;

use crate::support::{Broker, run};

#[test]
fn what_makes_no_sense_is_refused_before_anybody_is_asked() {
    for arguments in [
        &["job", "show"][..],
        &["job", "show", "x"],
        &["job", "cancel"],
        &["job", "list", "q", "--state", "tired"],
        &["job", "list", "q", "--from", "yesterday"],
        &["enqueue", "q", "k", "--delay", "5"],
        &["enqueue", "q", "k", "--wait", "[7]"],
        &["enqueue", "q", "k", "--unique-scope", "waiting"],
        &["enqueue", "q", "k", "--unique", "a", "--idempotency-key", "b"],
        &[
            "enqueue",
            "q",
            "k",
            "--unique",
            "a",
            "--unique-scope",
            "waiting",
            "--unique-period",
            "1h",
        ],
        &["queue", "set", "q", "--unset", "colour"],
        &["token", "create", "x"],
        &["schedule", "delete"],
    ] {
        let ran = run(arguments);
        assert_eq!((ran.code, &*ran.out), (2, ""), "{arguments:?}: {ran:?}");
    }
    assert_eq!(run(&["--version"]).out, format!("currant {}\n", env!("CARGO_PKG_VERSION")));
    assert!(run(&["--help"]).out.contains("Exit codes:"));
}

#[test]
fn a_broker_that_is_not_there_is_said_with_the_reason() {
    let ran = run(&["--address", "http://127.0.0.1:1", "queue", "list"]);
    assert_eq!((ran.code, &*ran.out), (1, ""));
    assert!(ran.err.starts_with("error: cannot connect to the broker\n  caused by: "), "{ran:?}");
    assert_eq!(run(&["--address", "http://", "queue", "list"]).code, 2);
}

#[test]
fn the_doctor_says_what_is_wrong_and_how_to_mend_it() {
    let checks = Broker::shared().json(&["doctor"]);
    let signs: Vec<_> = checks.iter().map(|one| (&one["check"], &one["good"])).collect();
    assert_eq!(signs, [(&json!("broker"), &json!(true)), (&json!("token"), &json!(true))]);
    assert!(checks[1]["found"].as_str().unwrap().contains("to make tokens"), "{checks:?}");
    let ran = run(&["--address", "http://127.0.0.1:1", "doctor"]);
    assert!(
        ran.code == 4 && ran.out.contains("WRONG") && ran.out.contains("grpc.listen"),
        "{ran:?}"
    );
}

#[test]
fn shells_complete_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let ran = run(&["completion", shell]);
        assert_eq!(ran.code, 0);
        assert!(ran.out.contains("run-now") && ran.out.contains("keep-dead"), "{shell}");
    }
}

#[test]
fn nobody_has_to_read_to_the_end() {
    let broker = Broker::shared();
    for _ in 0..3 {
        broker.enqueue("unread", "1");
    }
    let ran = broker.unread(&["job", "list", "unread", "--output", "json"]);
    assert_eq!((ran.code, &*ran.err), (0, ""));
}
