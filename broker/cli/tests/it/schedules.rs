use serde_json::json;

use crate::support::{Broker, fresh};

#[test]
fn a_schedule_is_set_looked_at_paused_resumed_run_and_deleted() {
    let (broker, name) = (Broker::shared(), fresh("daily"));
    let set = ["schedule", "set", &name, "0 6 1 1 *", "reports", "daily", r#"["sales"]"#];
    let options = ["--time-zone", "Europe/Vienna", "--catch-up", "24h", "--overlap", "queue-one"];
    let of_jobs = ["--priority", "4", "--max-attempts", "3", "--timeout", "1m", "--tag", "money"];
    let stored = broker.one(&[&set[..], &options, &of_jobs, &["--expire-after", "2h"]].concat());
    for (field, value) in [
        ("name", json!(name)),
        ("cron", json!("0 6 1 1 *")),
        ("time_zone", json!("Europe/Vienna")),
        ("queue", json!("reports")),
        ("kind", json!("daily")),
        ("priority", json!(4)),
        ("max_attempts", json!(3)),
        ("timeout_ms", json!(60_000)),
        ("expire_after_ms", json!(7_200_000)),
        ("tags", json!(["money"])),
        ("payload", json!(["sales"])),
        ("catch_up", json!("all")),
        ("catch_up_window_ms", json!(86_400_000)),
        ("overlap", json!("queue_one")),
        ("from_file", json!(false)),
    ] {
        assert_eq!(stored[field], value, "{field}");
    }
    assert_eq!(broker.one(&["schedule", "show", &name]), stored);
    let fires = broker.json(&["schedule", "next", &name, "--count", "2"]);
    assert_eq!((fires.len(), &fires[0]["fire"]), (2, &stored["next_fire"]));
    let names: Vec<_> = broker.json(&["schedule", "list"]);
    assert!(names.iter().any(|one| one["name"] == json!(name)), "{names:?}");
    assert!(broker.one(&["schedule", "pause", &name])["paused_at"].is_string());
    assert_eq!(broker.one(&["schedule", "resume", &name])["next_fire"], stored["next_fire"]);
    let id = broker.one(&["schedule", "run-now", &name])["id"].clone();
    let job = broker.one(&["job", "show", id.as_str().unwrap()]);
    assert_eq!((&job["payload"], &job["priority"]), (&json!(["sales"]), &json!(4)));
    let shown = broker.run(&["schedule", "show", &name]).out;
    assert!(shown.contains("catch up      all of 1day\n"), "{shown}");

    let ran = broker.run(&["schedule", "delete", &name, "nothing", "--output", "json"]);
    let verdicts: Vec<_> = ran.json().into_iter().map(|one| one["verdict"].clone()).collect();
    assert_eq!((ran.code, verdicts), (3, vec![json!("deleted"), json!("not_found")]));
    assert_eq!(broker.run(&["schedule", "show", &name]).code, 3);
    let ran = broker.run(&["schedule", "set", &name, "61 * * * *", "reports", "daily"]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("schedule.cron"), "{}", ran.err);
}
