//! The calls as JSON on the HTTP port, and the dashboard's files.

use serde_json::{Value, json};

use crate::support::{
    Broker, Database, http_get, http_send, job,
    token::{REQUIRED, token},
};

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];

/// Makes a call; returns the status and the answer.
async fn call(broker: &Broker, name: &str, body: &Value) -> (u16, Value) {
    call_with(broker, name, body, JSON).await
}

async fn call_with(
    broker: &Broker,
    name: &str,
    body: &Value,
    headers: &[(&str, &str)],
) -> (u16, Value) {
    let path = format!("/api/currant.v1.{name}");
    let (status, text) = http_send(&broker.http, "POST", &path, headers, &body.to_string()).await;
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

#[tokio::test]
async fn calls_are_made_as_json_and_answered_as_json() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let jobs = json!({ "jobs": [{ "queue": "emails", "kind": "send", "payload": "aGVsbG8=",
                                  "delay": "3600s", "tags": ["a"] }] });
    let (status, stored) = call(&broker, "JobService/Enqueue", &jobs).await;
    assert_eq!(status, 200, "{stored}");
    let id = stored["jobIds"][0].as_str().unwrap();
    let (status, got) = call(&broker, "JobService/Get", &json!({ "jobId": id })).await;
    assert_eq!(status, 200, "{got}");
    let it = &got["job"];
    assert_eq!((&it["queue"], &it["payload"]), (&json!("emails"), &json!("aGVsbG8=")));
    assert_eq!((&it["state"], &it["tags"]), (&json!("JOB_STATE_SCHEDULED"), &json!(["a"])));
    // What is as it is by default is there too.
    assert_eq!(it["failures"], 0);
    let (_, brokers) = call(&broker, "BrokerService/ListBrokers", &json!({})).await;
    assert_eq!(brokers["brokers"][0]["answers"], true);
}

#[tokio::test]
async fn a_stream_of_answers_is_events() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let ids = broker.enqueue((0..3).map(|_| job("emails", b"x"))).await;
    let filter = json!({ "filter": { "queue": "emails" }, "change": "CHANGE_CANCEL" });
    let (status, text) = call(&broker, "JobService/ChangeAll", &filter).await;
    assert_eq!(status, 200);
    let text = text.as_str().unwrap().to_owned();
    let events: Vec<&str> = text.split_terminator("\n\n").collect();
    let last: Value = serde_json::from_str(events[0].strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!((&last["found"], &last["changed"]), (&json!("3"), &json!("3")));
    assert_eq!(*events.last().unwrap(), "event: end\ndata: {}");
    // One that ends with an error says so.
    let over = json!({ "jobId": ids[0].to_string(), "queue": "emails" });
    let (_, watched) = call(&broker, "JobService/Watch", &over).await;
    assert!(watched.as_str().unwrap().contains("JOB_STATE_CANCELLED"), "{watched}");
    let (status, missing) = call(&broker, "JobService/Watch", &json!({ "jobId": "7" })).await;
    assert_eq!((status, &missing["code"]), (404, &json!("not_found")));
}

#[tokio::test]
async fn what_is_wrong_is_named_and_what_is_no_call_is_refused() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let name = "JobService/Enqueue";
    let bad = json!({ "jobs": [{ "queue": ".emails", "kind": "send" }] });
    let (status, refused) = call(&broker, name, &bad).await;
    assert_eq!((status, &refused["code"]), (400, &json!("invalid_argument")));
    assert_eq!(refused["violations"][0]["field"], "jobs[0].queue");
    for (call_name, body, expected) in [
        (name, json!({ "no_such_field": 1 }), 400),
        (name, json!("text"), 400),
        ("JobService/EnqueueStream", json!({}), 501),
        ("JobService/NoSuch", json!({}), 501),
        ("NoService/Get", json!({}), 501),
    ] {
        let (status, refused) = call(&broker, call_name, &body).await;
        assert_eq!(status, expected, "{call_name} {body}: {refused}");
    }
    let large = "x".repeat(9 << 20);
    let (status, refused) = call(&broker, name, &json!({ "queue": large })).await;
    assert_eq!((status, &refused["code"]), (400, &json!("out_of_range")));
    assert_eq!(database.number("SELECT count(*) FROM currant.job").await, 0);
}

#[tokio::test]
async fn a_page_of_another_site_calls_nothing() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let list = "QueueService/List";
    let json = ("content-type", "application/json; charset=utf-8");
    let own = format!("http://{}", broker.http);
    let port = broker.http.rsplit(':').next().unwrap();
    let named = format!("localhost:{port}");
    for (headers, expected) in [
        (vec![json], 200),
        (vec![json, ("origin", &*own)], 200),
        (vec![json, ("host", &*named)], 200),
        // What a form can send without being asked for leave.
        (vec![("content-type", "text/plain")], 400),
        (vec![], 400),
        (vec![json, ("origin", "http://evil.example")], 403),
        (vec![json, ("origin", "null")], 403),
        // A name that leads here, and may belong to anybody.
        (vec![json, ("host", "evil.example")], 403),
        (vec![json, ("host", "127.0.0.1.evil.example:80")], 403),
    ] {
        let (status, answer) = call_with(&broker, list, &serde_json::json!({}), &headers).await;
        assert_eq!(status, expected, "{headers:?}: {answer}");
    }
}

#[tokio::test]
async fn tokens_and_scopes_hold_as_for_grpc() {
    let database = Database::fresh().await;
    let [reader, admin] = ["read", "admin"].map(|scope| token(&database, scope, "emails"));
    let broker = Broker::start_with(&database, &[REQUIRED]).await;
    let as_bearer = |token: &str| format!("Bearer {token}");
    let (reader, admin) = (as_bearer(&reader), as_bearer(&admin));
    let json = ("content-type", "application/json");
    let emails = json!({ "queue": "emails" });
    for (headers, name, expected) in [
        (vec![json], "QueueService/List", 401),
        (vec![json, ("authorization", "Bearer x")], "QueueService/List", 401),
        (vec![json, ("authorization", &*reader)], "QueueService/List", 200),
        (vec![json, ("authorization", &*reader)], "QueueService/Configure", 403),
        (vec![json, ("authorization", &*admin)], "QueueService/Configure", 200),
        // With a token any name will do.
        (vec![json, ("authorization", &*admin), ("host", "jobs.example")], "QueueService/Get", 200),
    ] {
        let body = if name == "QueueService/List" { json!({}) } else { emails.clone() };
        let (status, answer) = call_with(&broker, name, &body, &headers).await;
        assert_eq!(status, expected, "{name} {headers:?}: {answer}");
    }
}

#[tokio::test]
async fn the_dashboard_is_served_unless_it_is_switched_off() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    for path in [
        "/ui/",
        "/ui/app.js",
        "/ui/api.js",
        "/ui/latency.js",
        "/ui/limits.js",
        "/ui/parts.js",
        "/ui/views.js",
        "/ui/style.css",
    ] {
        let (status, text) = http_get(&broker.http, path).await;
        assert_eq!(status, 200, "{path}");
        assert!(!text.is_empty());
    }
    let (status, _) = http_get(&broker.http, "/").await;
    assert_eq!(status, 307);
    let off = Broker::start_with(&database, &[("HTTP__DASHBOARD", "false")]).await;
    assert_eq!(http_get(&off.http, "/ui/").await.0, 404);
    assert_eq!(call(&off, "QueueService/List", &json!({})).await.0, 404);
}

#[tokio::test]
async fn sessions_and_standings_are_told() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut worker = crate::support::TestWorker::subscribe(&broker, &["emails"], 5).await;
    broker.enqueue([job("emails", b"")]).await;
    worker.job().await;
    let (_, found) = call(&broker, "BrokerService/ListSessions", &json!({})).await;
    let session = &found["sessions"][0];
    assert_eq!(session["queues"], json!(["emails"]));
    assert_eq!((&session["held"], &session["maxInFlight"]), (&json!(1), &json!(5)));
    let id = session["id"].as_str().unwrap();
    assert!(id.len() == 8 && worker.welcome.session_id.starts_with(id));
    let (status, refused) =
        call(&broker, "BrokerService/ListSessions", &json!({ "pageToken": "x" })).await;
    assert_eq!((status, &refused["violations"][0]["field"]), (400, &json!("page_token")));
    let mut queues = broker.queues();
    let request = currant_proto::v1::WatchQueueStatsRequest::default();
    let mut standings = queues.watch_stats(request).await.unwrap().into_inner();
    let first = standings.message().await.unwrap().unwrap();
    assert_eq!((first.queues.len(), first.more), (1, false));
    assert_eq!(first.queues[0].queue.as_ref().unwrap().name, "emails");
    // At most 16 are told at a time; the others have their places back when they end.
    let mut open = vec![standings];
    loop {
        match queues.watch_stats(request_after("")).await {
            Ok(stream) => open.push(stream.into_inner()),
            Err(status) => {
                assert_eq!((status.code(), open.len()), (tonic::Code::ResourceExhausted, 16));
                break;
            }
        }
    }
    let status = queues.watch_stats(request_after(".x")).await.unwrap_err();
    crate::support::assert_invalid(&status, "after", "1 to 128");
}

fn request_after(after: &str) -> currant_proto::v1::WatchQueueStatsRequest {
    currant_proto::v1::WatchQueueStatsRequest { after: after.to_owned(), ..Default::default() }
}
