//! Calls that name a queue: who may, and what they find.

use currant_proto::v1::{
    CancelRequest, CancelVerdict, Change, ChangeAllRequest, ConfigureQueueRequest, DeleteRequest,
    DrainQueueRequest, EnqueueRequest, GetQueueRequest, GetRequest, ListQueuesRequest, ListRequest,
    PauseQueueRequest, QueueStatsRequest, ResumeQueueRequest, RetryRequest, WatchRequest,
};
use tonic::Code;

use crate::{
    access::{record, records},
    list::all,
    support::{
        Broker, Database, job,
        token::{REQUIRED, jobs, named, queues, refusal, token},
    },
};

#[tokio::test]
async fn a_call_that_names_a_queue_is_for_the_callers_queues_alone() {
    let database = Database::fresh().await;
    let producer = token(&database, "enqueue", "*");
    let [reader, admin] = ["read", "admin"].map(|scope| token(&database, scope, "emails"));
    let broker = Broker::start_with(&database, &[REQUIRED]).await;
    let jobs_of = EnqueueRequest {
        jobs: ["other", "emails"].map(|queue| job(queue, b"x")).to_vec(),
        ..EnqueueRequest::default()
    };
    let ids = jobs(&broker, &producer).enqueue(jobs_of).await.unwrap().into_inner().job_ids;
    let (other, email) = (ids[0], ids[1]);
    let (mut reader, mut admin) = (jobs(&broker, &reader), jobs(&broker, &admin));

    let change_all = |queue: &str| ChangeAllRequest {
        filter: Some(all(queue)),
        change: Change::Delete.into(),
        ..ChangeAllRequest::default()
    };
    let status = reader.change_all(change_all("emails")).await.unwrap_err();
    assert_eq!(refusal(&status).2, named("scope", "admin"));
    let watch = WatchRequest { job_id: email, ..WatchRequest::default() };
    let status = jobs(&broker, &producer).watch(watch).await.unwrap_err();
    assert_eq!(refusal(&status).2, named("scope", "view"));

    // Whether or not there is such a queue.
    for name in ["other", "nowhere"] {
        let (job_id, job_ids, queue) = (other, || ids.clone(), || name.to_owned());
        let list = ListRequest { filter: Some(all(name)), ..ListRequest::default() };
        let cancel = CancelRequest { job_ids: job_ids(), queue: queue() };
        let retry = RetryRequest { job_ids: job_ids(), queue: queue() };
        let delete = DeleteRequest { job_ids: job_ids(), queue: queue() };
        let refused = [
            reader.get(GetRequest { job_id, queue: queue() }).await.unwrap_err(),
            reader.watch(WatchRequest { job_id, queue: queue() }).await.unwrap_err(),
            reader.list(list).await.unwrap_err(),
            admin.cancel(cancel).await.unwrap_err(),
            admin.retry(retry).await.unwrap_err(),
            admin.delete(delete).await.unwrap_err(),
            admin.change_all(change_all(name)).await.unwrap_err(),
        ];
        let reason = "QUEUE_FORBIDDEN".to_owned();
        let expected = (Code::PermissionDenied, reason, named("queue", name));
        for status in refused {
            assert_eq!(refusal(&status), expected);
        }
    }

    // A job of another queue is nowhere, whatever is said of its queue.
    for queue in ["", "emails"] {
        let (job_id, queue) = (other, || queue.to_owned());
        let got = reader.get(GetRequest { job_id, queue: queue() }).await;
        let watched = reader.watch(WatchRequest { job_id, queue: queue() }).await;
        assert_eq!(got.unwrap_err().code(), Code::NotFound);
        assert_eq!(watched.unwrap_err().code(), Code::NotFound);
        let request = WatchRequest { job_id: email, queue: queue() };
        let mut watch = reader.watch(request).await.unwrap().into_inner();
        assert_eq!(watch.message().await.unwrap().unwrap().job.unwrap().job_id, email);
    }
    let cancel = CancelRequest { job_ids: ids.clone(), queue: "emails".to_owned() };
    let cancelled = admin.cancel(cancel).await.unwrap().into_inner();
    let expected = [CancelVerdict::NotFound, CancelVerdict::Cancelled].map(i32::from);
    assert_eq!(cancelled.verdicts, expected);
    let mut deleted = admin.change_all(change_all("emails")).await.unwrap().into_inner();
    let last = deleted.message().await.unwrap().unwrap();
    assert_eq!((last.found, last.changed, &*last.page_token), (1, 1, ""));
    assert_eq!(database.number("SELECT id FROM currant.job").await, other);
    // Of all changes those jobs are written down that were found.
    let expected = [record("cancel", ids), record("delete", vec![email])];
    assert_eq!(records(&database).await, expected);
}

#[tokio::test]
async fn queues_of_others_are_neither_seen_nor_changed() {
    let database = Database::fresh().await;
    let producer = token(&database, "enqueue", "*");
    let [reader, admin] = ["read", "admin"].map(|scope| token(&database, scope, "emails*"));
    let broker = Broker::start_with(&database, &[REQUIRED]).await;
    for queue in ["a", "emails", "emails/eu", "other"] {
        let jobs_of = EnqueueRequest { jobs: vec![job(queue, b"x")], ..EnqueueRequest::default() };
        jobs(&broker, &producer).enqueue(jobs_of).await.unwrap();
    }
    let (mut seen, mut page_token) = (Vec::new(), String::new());
    for _ in 0..3 {
        let request = ListQueuesRequest { page_size: 1, page_token };
        let page = queues(&broker, &reader).list(request).await.unwrap().into_inner();
        seen.extend(page.queues.into_iter().map(|queue| queue.name));
        page_token = page.next_page_token;
    }
    assert_eq!((seen, page_token), (vec!["emails".to_owned(), "emails/eu".to_owned()], "".into()));

    let (mut client, queue) = (queues(&broker, &admin), || "other".to_owned());
    let configure = ConfigureQueueRequest { queue: queue(), settings: None };
    let refused = [
        client.get(GetQueueRequest { queue: queue() }).await.map(drop),
        client.stats(QueueStatsRequest { queue: queue() }).await.map(drop),
        client.configure(configure).await.map(drop),
        client.pause(PauseQueueRequest { queue: queue() }).await.map(drop),
        client.resume(ResumeQueueRequest { queue: queue() }).await.map(drop),
        client.drain(DrainQueueRequest { queue: queue(), wait: None }).await.map(drop),
    ];
    let expected = (Code::PermissionDenied, "QUEUE_FORBIDDEN".to_owned(), named("queue", "other"));
    for answer in refused {
        assert_eq!(refusal(&answer.unwrap_err()), expected);
    }
    let pause = PauseQueueRequest { queue: "emails".to_owned() };
    let status = queues(&broker, &reader).pause(pause.clone()).await.unwrap_err();
    assert_eq!(refusal(&status).2, named("scope", "admin"));
    client.pause(pause).await.unwrap();
    let records = database.connect().await;
    let sql = "SELECT name, action, object FROM currant.audit WHERE object IS NOT NULL";
    let rows = records.query(sql, &[]).await.unwrap();
    let row = |column: usize| rows[0].get::<_, &str>(column);
    assert_eq!((rows.len(), row(0), row(1), row(2)), (1, "admin", "pause_queue", "emails"));
}
