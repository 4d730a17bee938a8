use serde_json::{Value, json};

use crate::support::{Broker, eventually, fresh};

#[test]
fn settings_change_as_far_as_they_are_given() {
    let (broker, queue) = (Broker::shared(), fresh("set"));
    let set = |arguments: &[&str]| broker.one(&[&["queue", "set", &queue], arguments].concat());
    set(&["--priority", "-2", "--timeout", "30s", "--retry-base", "2s", "--keep-dead", "forever"]);
    let after = set(&[
        "--max-attempts",
        "7",
        "--unset",
        "timeout",
        "--retry-jitter",
        "0",
        "--rate",
        "9",
        "--rate-burst",
        "2",
        "--key-weight",
        "acme=3",
    ]);
    let settings = json!({
        "priority": -2,
        "max_attempts": 7,
        "timeout_ms": null,
        "retry": after["settings"]["retry"],
        "retry_by_kind": {},
        "keep_succeeded_ms": null,
        "keep_cancelled_ms": null,
        "keep_dead_ms": 0,
        "concurrency_max": null,
        "rate": { "jobs": 9, "period_ms": 1000, "burst": 2 },
        "key_concurrency_max": null,
        "key_rate": null,
        "key_ordered": false,
        "key_weights": { "acme": 3 },
    });
    assert_eq!(after["settings"], settings);
    let retry = &after["settings"]["retry"];
    assert_eq!((&retry["base_delay_ms"], &retry["jitter"]), (&json!(2000), &json!(0.0)));
    assert_eq!(broker.one(&["queue", "show", &queue]), after);
    // The broker's setting holds.
    assert_eq!(after["effective"]["keep_succeeded_ms"], 7 * 86_400_000);
    let shown = broker.run(&["queue", "show", &queue]).out;
    assert!(shown.contains("max attempts    7\n"), "{shown}");
    assert!(shown.contains("keep succeeded  7days  (of the broker)\n"), "{shown}");
    assert!(shown.contains("key weights     acme 3\n"), "{shown}");
    let ran = broker.run(&["queue", "set", &queue, "--priority", "101"]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("settings.priority"), "{}", ran.err);
    assert_eq!(broker.run(&["queue", "show", "nowhere"]).code, 3);
}

#[test]
fn kinds_have_policies_of_their_own_and_keys_a_rate() {
    let (broker, queue) = (Broker::shared(), fresh("kinds"));
    let set = |arguments: &[&str]| {
        let stored = broker.one(&[&["queue", "set", &queue], arguments].concat());
        stored["settings"].clone()
    };
    set(&["--retry-kind", "slow", "--retry-base", "1m", "--key-rate", "10"]);
    set(&["--retry-kind", "quick", "--retry-delays", "1s,5s"]);
    let settings = set(&["--retry-kind", "slow", "--retry-max", "1h", "--key-rate-period", "1m"]);
    let slow = &settings["retry_by_kind"]["slow"];
    let times = (&slow["base_delay_ms"], &slow["max_delay_ms"]);
    assert_eq!((times, &settings["retry"]), ((&json!(60_000), &json!(3_600_000)), &Value::Null));
    let shown = broker.run(&["queue", "show", &queue]).out;
    let policies = "\nretry by kind   quick: 1s, then 5s, jitter 0.1\n                \
                    slow: after 1m, at most 1h, factor 2, jitter 0.1\n";
    assert!(shown.contains(policies), "{shown}");
    assert!(shown.contains("\nkey rate        10 in 1m, 10 at once\n"), "{shown}");
    let settings = set(&["--retry-kind", "slow", "--unset", "retry", "--key-rate", "5"]);
    assert_eq!(settings["retry_by_kind"].as_object().unwrap().len(), 1, "{settings}");
    let rate = json!({ "jobs": 5, "period_ms": 60_000, "burst": 5 });
    assert_eq!(settings["key_rate"], rate);
    assert_eq!(set(&["--unset", "retry-by-kind"])["retry_by_kind"], json!({}));
    let ran = broker.run(&["queue", "set", &queue, "--retry-kind", "slow"]);
    assert!(ran.code == 2 && ran.err.contains("--retry-kind"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_is_paused_resumed_drained_and_looked_at() {
    let (broker, queue) = (Broker::shared(), fresh("pause"));
    broker.enqueue(&queue, "1");
    let paused = broker.one(&["queue", "pause", &queue]);
    assert!(paused["paused_at"].is_string(), "{paused}");
    let listed = broker.json(&["queue", "list"]);
    assert!(listed.contains(&paused), "{listed:?}");
    let worker = broker.worker(&queue);
    let drained = broker.one(&["queue", "drain", &queue, "--wait", "20s"]);
    assert_eq!(drained, json!({ "queue": queue, "drained": true }));
    let stats = broker.one(&["queue", "stats", &queue]);
    assert_eq!(stats["ready"], json!({ "jobs": 1, "exact": true }));
    assert_eq!(stats["running"], 0);
    assert!(stats["oldest_ready_ms"].is_u64(), "{stats}");
    assert_eq!(broker.run(&["queue", "resume", &queue]).out, format!("{queue} goes on\n"));
    eventually("it is done", || {
        let of = |one: &Value| one["queue"] == json!(queue) && one["succeeded"]["jobs"] == 1;
        broker.json(&["queue", "stats"]).iter().any(of)
    });
    worker.shutdown().await.unwrap();
    let table = broker.run(&["queue", "stats", &queue]).out;
    assert!(table.starts_with("QUEUE ") && table.lines().count() == 2, "{table}");
    for verb in ["pause", "resume", "drain", "stats"] {
        assert_eq!(broker.run(&["queue", verb, "nowhere"]).code, 3, "{verb}");
    }
}

#[test]
fn rounds_show_the_busiest_queue_first_again_and_again() {
    let (broker, idle, busy) = (Broker::shared(), fresh("idle"), fresh("busy"));
    broker.one(&["queue", "set", &idle]);
    broker.enqueue(&busy, "1");
    let arguments = ["top", &idle, &busy, "--rounds", "2", "--interval", "1ms"];
    let rounds = broker.json(&arguments);
    let names: Vec<&Value> = rounds.iter().map(|one| &one["queue"]).collect();
    assert_eq!(
        names,
        [&busy, &idle, &busy, &idle].map(|name| json!(name)).iter().collect::<Vec<_>>()
    );
    // Not a terminal: no screen is drawn.
    let printed = broker.run(&arguments).out;
    assert_eq!((printed.lines().count(), printed.contains('\x1b')), (6, false), "{printed}");
    assert_eq!(broker.run(&["top", "nowhere", "--rounds", "1"]).code, 3);
}
