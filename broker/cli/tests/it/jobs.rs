use std::{
    io::{BufRead, BufReader},
    sync::Arc,
};

use currant_worker_sdk::{Client, HandlerError, Job, NewJob, Worker};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::support::{Broker, PATIENCE, eventually, fresh};

/// The states of all jobs of a queue, in order.
fn states(broker: &Broker, queue: &str) -> Vec<Value> {
    let jobs = broker.json(&["job", "list", queue]);
    jobs.into_iter().map(|job| job["state"].clone()).collect()
}

#[test]
fn a_job_is_stored_with_what_is_said_and_shown_so() {
    let (broker, queue) = (Broker::shared(), fresh("show"));
    let options = ["--priority", "-3", "--max-attempts", "4", "--timeout", "90s", "--delay", "1h"];
    let options = [&options[..], &["--retry-base", "2s", "--key", "acme"]].concat();
    let found_by = ["--tag", "a", "--tag", "b", "--meta", "team=x"];
    let enqueue = ["enqueue", &queue, "test", r#"{"to": 1}"#];
    let id = broker.one(&[&enqueue[..], &options, &found_by].concat())["id"].clone();
    let job = broker.one(&["job", "show", id.as_str().unwrap()]);
    for (field, value) in [
        ("id", id.clone()),
        ("queue", json!(queue)),
        ("kind", json!("test")),
        ("state", json!("scheduled")),
        ("payload", json!({ "to": 1 })),
        ("content_type", json!("application/json")),
        ("priority", json!(-3)),
        ("max_attempts", json!(4)),
        ("timeout_ms", json!(90_000)),
        ("tags", json!(["a", "b"])),
        ("metadata", json!({ "team": "x" })),
        ("key", json!("acme")),
        ("progress", Value::Null),
        ("attempt", json!(0)),
        ("result", Value::Null),
        ("failed_attempts", json!([])),
    ] {
        assert_eq!(job[field], value, "{field}");
    }
    assert_eq!(job["retry"]["base_delay_ms"], 2000);
    let shown = broker.run(&["job", "show", id.as_str().unwrap(), "--queue", &queue]);
    assert!(shown.out.contains("timeout       1m 30s\n"), "{}", shown.out);
    assert!(shown.out.contains("tags          a, b, team=x\n"), "{}", shown.out);
    // Where it isn't.
    broker.enqueue("elsewhere", "1");
    let ran = broker.run(&["job", "show", id.as_str().unwrap(), "--queue", "elsewhere"]);
    assert_eq!((ran.code, &*ran.out), (3, ""));
    assert!(ran.err.starts_with("error: not found: there is no job"), "{}", ran.err);
}

#[test]
fn payloads_come_from_the_line_a_file_and_the_standard_input() {
    let (broker, queue) = (Broker::shared(), fresh("payloads"));
    let directory = std::env::temp_dir().join(&queue);
    std::fs::create_dir_all(&directory).unwrap();
    let file = directory.join("payload");
    std::fs::write(&file, [0xff, 0]).unwrap();
    let path = file.to_str().unwrap();
    let binary = ["--payload-file", path, "--content-type", "application/octet-stream"];
    let text = ["hello", "--content-type", "text/plain"];
    for (arguments, payload) in [
        (&[][..], Value::Null),
        (&text, json!({ "text": "hello" })),
        (&binary, json!({ "base64": "/wA=" })),
    ] {
        let id = broker.one(&[&["enqueue", &queue, "test"], arguments].concat())["id"].clone();
        let job = broker.one(&["job", "show", id.as_str().unwrap()]);
        assert_eq!(job["payload"], payload);
    }
    std::fs::remove_dir_all(&directory).unwrap();
    let ran = broker.run(&["enqueue", &queue, "test", "hello"]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("the payload isn't JSON"), "{}", ran.err);
    // Nothing comes on the standard input.
    let ran = broker.run(&["enqueue", &queue, "test", "--payload-file", "-"]);
    assert!(ran.err.contains("the payload isn't JSON"), "{}", ran.err);
}

#[test]
fn the_same_idempotency_key_stores_a_job_once() {
    let (broker, queue) = (Broker::shared(), fresh("idempotency"));
    let once = || broker.run(&["enqueue", &queue, "test", "--idempotency-key", "monday"]);
    let (first, second) = (once(), once());
    assert_eq!((first.code, &first.out), (0, &second.out));
    assert_eq!(states(broker, &queue), ["ready"]);
}

#[test]
fn a_unique_job_is_what_is_said_of_another_one_in_the_way() {
    let (broker, queue) = (Broker::shared(), fresh("unique"));
    let enqueue = |payload: &str, options: &[&str]| {
        broker.run(&[&["enqueue", &queue, "test", payload, "--unique", "a"], options].concat())
    };
    let first = enqueue("1", &[]);
    let payload = || broker.one(&["job", "show", first.out.trim()])["payload"].clone();
    assert_eq!((first.code, &enqueue("2", &[]).out, payload()), (0, &first.out, json!(1)));
    let replaced = enqueue("3", &["--unique-scope", "waiting", "--unique-conflict", "replace"]);
    assert_eq!((&replaced.out, payload()), (&first.out, json!(3)));
    let refused = enqueue("4", &["--unique-conflict", "reject"]);
    assert_eq!((refused.code, &*refused.out), (4, ""), "{refused:?}");
    // One that is over is in the way for a period alone.
    broker.one(&["job", "cancel", first.out.trim()]);
    assert_eq!(enqueue("5", &["--unique-period", "1h"]).out, first.out);
    assert_ne!(enqueue("6", &[]).out, first.out);
    assert_eq!(states(broker, &queue), ["cancelled", "ready"]);
}

#[test]
fn a_wait_ends_when_its_time_is_over_and_the_job_goes_on() {
    let (broker, queue) = (Broker::shared(), fresh("nobody"));
    let ran = broker.run(&["enqueue", &queue, "test", "1", "--wait", "50ms"]);
    assert_eq!((ran.code, &*ran.out), (4, ""), "{ran:?}");
    assert!(ran.err.ends_with(" isn't over after 50ms: it goes on\n"), "{ran:?}");
    let ran = broker.run(&["enqueue", &queue, "test", "--wait", "50ms", "-o", "json"]);
    let jobs = broker.json(&["job", "list", &queue]);
    assert_eq!((ran.code, &ran.json()[0]["id"]), (4, &jobs[1]["id"]), "{ran:?}");
    assert_eq!(states(broker, &queue), ["ready"; 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_is_shown_and_watched() {
    let (broker, queue) = (Broker::shared(), fresh("progress"));
    let id = broker.enqueue(&queue, "[1]");
    let mut watch = broker.begin(&["job", "watch", &id]);
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().as_deref(), Some("ready"));
    let go_on = Arc::new(Notify::new());
    let wait = Arc::clone(&go_on);
    let handler = move |job: Job<Value>| {
        let wait = Arc::clone(&wait);
        async move {
            job.progress(42.04, "row 4200");
            tokio::time::timeout(PATIENCE, wait.notified()).await?;
            Ok::<_, HandlerError>(job.payload)
        }
    };
    let worker = Worker::builder(&broker.address).queue(queue.clone()).handler("test", handler);
    let worker = worker.build().unwrap().start();
    let seen: Vec<String> =
        lines.by_ref().take_while(|line| line != "running, attempt 1: 42 % row 4200").collect();
    assert!(seen.is_empty() || seen == ["running, attempt 1"], "{seen:?}");
    let shown = broker.run(&["job", "show", &id]).out;
    assert!(shown.contains("progress      42 % row 4200, attempt 1\n"), "{shown}");
    let progress = broker.one(&["job", "show", &id])["progress"].clone();
    assert_eq!((&progress["attempt"], &progress["message"]), (&json!(1), &json!("row 4200")));
    assert!(progress["percent"].is_f64() && progress["reported_at"].is_string(), "{progress}");
    go_on.notify_one();
    assert_eq!(lines.collect::<Vec<_>>(), ["succeeded, attempt 1: [1]"]);
    assert_eq!(watch.wait().unwrap().code(), Some(0));
    worker.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_waited_for_and_watched_until_it_is_over() {
    let (broker, queue) = (Broker::shared(), fresh("wait"));
    let worker = broker.worker(&queue);
    let ran = broker.run(&["enqueue", &queue, "test", "[7]", "--wait"]);
    assert_eq!((ran.code, &*ran.out), (0, "[7]\n"), "{ran:?}");
    let job = broker.one(&["enqueue", &queue, "test", "[8]", "--wait"]);
    assert_eq!((&job["state"], &job["result"]), (&json!("succeeded"), &json!([8])));
    let ran = broker.run(&["enqueue", &queue, "test", "\"fail\"", "--wait"]);
    assert_eq!((ran.code, &*ran.out), (4, ""));
    assert!(ran.err.contains("is dead: no such address"), "{}", ran.err);

    let id = broker.enqueue(&queue, "\"fail\"");
    let watched = broker.run(&["job", "watch", &id, "--output", "json"]);
    let last = watched.json().pop().unwrap();
    assert_eq!((watched.code, &last["state"]), (4, &json!("dead")));
    let ran = broker.run(&["job", "watch", &id]);
    assert_eq!((ran.code, &*ran.out), (4, "dead, attempt 1: no such address\n"));
    let job = broker.one(&["job", "show", &id]);
    let failed = &job["failed_attempts"][0];
    assert_eq!((&failed["attempt"], &failed["error"]), (&json!(1), &json!("no such address")));
    worker.shutdown().await.unwrap();
}

#[test]
fn jobs_are_found_by_what_is_asked_for() {
    let (broker, queue) = (Broker::shared(), fresh("find"));
    let ids: Vec<String> = (0..3).map(|n| broker.enqueue(&queue, &n.to_string())).collect();
    broker.one(&["enqueue", &queue, "other", "--tag", "x", "--delay", "1h"]);
    let count =
        |arguments: &[&str]| broker.json(&[&["job", "list", &queue], arguments].concat()).len();
    assert_eq!(count(&[]), 4);
    assert_eq!(count(&["--limit", "2"]), 2);
    assert_eq!(count(&["--kind", "other"]), 1);
    assert_eq!(count(&["--tag", "x"]), 1);
    assert_eq!(count(&["--state", "ready"]), 3);
    assert_eq!(count(&["--state", "scheduled,dead"]), 1);
    assert_eq!(count(&["--above", &ids[0], "--below", &ids[2]]), 1);
    assert_eq!(count(&["--before", "1h"]), 0);
    assert_eq!(count(&["--from", "1h", "--error", "none has one"]), 0);
    for form in ["table", "json"] {
        let said =
            |limit: &str| broker.run(&["job", "list", &queue, "--limit", limit, "-o", form]).err;
        assert_eq!(said("2"), "2 shown, there are more: --limit 0 for all\n");
        assert_eq!((said("4"), said("0")), (String::new(), String::new()));
    }
    let newest = broker.json(&["job", "list", &queue, "--newest", "--state", "ready"]);
    assert_eq!(newest[0]["id"], json!(ids[2]));
    let table = broker.run(&["job", "list", &queue, "--limit", "1"]).out;
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("ID ") && lines[1].starts_with(&ids[0]), "{table}");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_jobs_are_listed_under_one_head() {
    const JOBS: usize = 1001;
    let (broker, queue) = (Broker::shared(), fresh("long"));
    let client = Client::connect(&broker.address).await.unwrap();
    let jobs = (0..JOBS).map(|_| NewJob::raw(queue.clone(), "test", ""));
    client.enqueue_many(jobs).await.unwrap();
    let lines = |limit: &str| broker.run(&["job", "list", &queue, "--limit", limit]).out;
    let all = lines("0");
    assert_eq!((all.lines().count(), all.matches("STATE").count()), (JOBS + 1, 1));
    assert_eq!(lines("600"), all.lines().take(601).fold(String::new(), |it, one| it + one + "\n"));
}

#[test]
fn jobs_are_changed_by_their_ids_with_a_verdict_for_each() {
    let (broker, queue) = (Broker::shared(), fresh("change"));
    let id = broker.enqueue(&queue, "1");
    let change = |verb: &str, ids: &[&str]| {
        let ran = broker.run(&[&["job", verb, "--output", "json"], ids].concat());
        let verdicts = ran.json().into_iter().map(|one| one["verdict"].clone()).collect();
        (ran.code, verdicts)
    };
    let verdicts = |all: &[&str]| -> Vec<Value> { all.iter().map(|one| json!(one)).collect() };
    assert_eq!(change("cancel", &[&id, "1"]), (3, verdicts(&["cancelled", "not_found"])));
    assert_eq!(change("retry", &[&id]), (0, verdicts(&["ready"])));
    assert_eq!(change("retry", &[&id, "--queue", &queue]), (4, verdicts(&["open"])));
    assert_eq!(change("delete", &[&id]), (0, verdicts(&["deleted"])));
    assert_eq!(change("delete", &[&id]), (3, verdicts(&["not_found"])));
    let ran = broker.run(&["job", "cancel", "1", "--kind", "test"]);
    assert_eq!((ran.code, &*ran.err), (2, "error: either ids or a filter\n"));
}

#[test]
fn all_jobs_of_a_filter_are_changed_after_a_yes() {
    let (broker, queue) = (Broker::shared(), fresh("all"));
    for n in 0..3 {
        broker.enqueue(&queue, &n.to_string());
    }
    broker.one(&["enqueue", &queue, "other"]);
    let ran = broker.run(&["job", "cancel", "--queue", &queue, "--kind", "test"]);
    let question =
        format!("cancel all jobs of {queue} that the filter finds (3)? Say so with --yes");
    assert_eq!((ran.code, ran.err), (2, format!("error: {question}\n")), "nobody can be asked");
    let ran = broker.run(&["job", "delete", "--queue", &queue, "--state", "dead,ready"]);
    assert!(ran.err.contains(&format!("delete all dead or ready jobs of {queue} (4)?")), "{ran:?}");
    assert_eq!(states(broker, &queue), ["ready"; 4]);
    let done = broker.one(&["job", "cancel", "--queue", &queue, "--kind", "test", "--yes"]);
    assert_eq!(done, json!({ "found": 3, "changed": 3 }));
    assert_eq!(states(broker, &queue), ["cancelled", "cancelled", "cancelled", "ready"]);
    // Those that are over aren't meant.
    let done = broker.one(&["job", "cancel", "--queue", &queue, "--kind", "test", "--yes"]);
    assert_eq!(done, json!({ "found": 0, "changed": 0 }));
    let ran = broker.run(&["job", "retry", "--queue", &queue, "-y"]);
    assert_eq!((ran.code, &*ran.out), (0, "3 found, 3 changed\n"));
    let ran = broker.run(&["job", "retry", "--queue", &queue, "--state", "ready", "-y"]);
    assert_eq!((ran.code, &*ran.out), (4, "4 found, 0 changed\n"), "not all was done");
    let done = broker.one(&["job", "delete", "--queue", &queue, "--yes"]);
    assert_eq!(done, json!({ "found": 4, "changed": 4 }));
    assert!(states(broker, &queue).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_jobs_are_listed_retried_and_deleted() {
    let (broker, queue) = (Broker::shared(), fresh("dead"));
    let worker = broker.worker(&queue);
    for payload in ["\"fail\"", "\"fail\"", "1"] {
        broker.enqueue(&queue, payload);
    }
    let dead = || broker.json(&["dead", "list", &queue, "--error", "ADDRESS"]).len();
    eventually("two are dead", || dead() == 2);
    worker.shutdown().await.unwrap();
    let ran = broker.run(&["dead", "retry", &queue]);
    let question = format!("retry all dead jobs of {queue} (2)?");
    assert!(ran.code == 2 && ran.err.contains(&question), "{ran:?}");
    let below = broker.json(&["dead", "list", &queue])[1]["id"].as_str().unwrap().to_owned();
    let done = broker.one(&["dead", "retry", &queue, "--below", &below, "--yes"]);
    assert_eq!(done, json!({ "found": 1, "changed": 1 }));
    assert_eq!(states(broker, &queue), ["ready", "dead", "succeeded"]);
    let done = broker.one(&["dead", "delete", &queue, "--yes"]);
    assert_eq!(done, json!({ "found": 1, "changed": 1 }));
    assert_eq!(states(broker, &queue), ["ready", "succeeded"]);
}
