use serde_json::json;

use crate::support::{Broker, eventually, fresh};

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_is_listed_while_it_is_there_and_so_is_its_broker() {
    let (broker, queue) = (Broker::shared(), fresh("workers"));
    let worker = broker.worker(&queue);
    let mine = || {
        let sessions = broker.json(&["worker", "list"]);
        sessions.into_iter().find(|session| session["queues"] == json!([queue]))
    };
    eventually("it has a session", || mine().is_some());
    let session = mine().unwrap();
    assert_eq!((&session["attached"], &session["held"]), (&json!(true), &json!(0)), "{session}");
    assert!(session["max_in_flight"].as_u64() >= session["concurrency"].as_u64(), "{session}");
    let shown = broker.run(&["worker", "list"]).out;
    assert!(shown.starts_with("SESSION ") && shown.contains(&queue), "{shown}");
    worker.shutdown().await.unwrap();
    eventually("it has none any more", || mine().is_none());

    let brokers = broker.json(&["broker", "list"]);
    let answers: Vec<_> = brokers.iter().filter(|one| one["answers"] == json!(true)).collect();
    assert!(answers.len() == 1 && answers[0]["dead_at"].is_null(), "{brokers:?}");
    assert!(broker.run(&["broker", "list"]).out.contains("answers"));
}
