//! Tokens: made, listed, revoked, by a call and at the command line.

use currant_proto::v1::{
    CreateTokenRequest, GetRequest, ListTokensRequest, RevokeTokenRequest, Scope,
    token_service_client::TokenServiceClient,
};
use tonic::Code;

use crate::support::{
    Broker, Database, assert_invalid, eventually,
    token::{REQUIRED, jobs, named, number, program, refusal, token, tokens},
};

#[tokio::test]
async fn without_listen_a_revoked_token_ends_at_the_next_look() {
    let database = Database::fresh().await;
    let secret = token(&database, "read", "*");
    let settings = [REQUIRED, ("ACCESS__LOOK_INTERVAL_MS", "100"), ("DATABASE__LISTEN_URL", "")];
    let broker = Broker::start_with(&database, &settings).await;
    let get = || GetRequest { job_id: 1, ..GetRequest::default() };
    let answer = async || jobs(&broker, &secret).get(get()).await.unwrap_err().code();
    assert_eq!(answer().await, Code::NotFound);
    program(&database, &["revoke", &number(&secret).to_string()]);
    eventually("it is refused", async || answer().await == Code::Unauthenticated).await;
    let lines = program(&database, &["list"]);
    assert_eq!(lines.lines().count(), 2, "{lines}");
    assert!(!lines.contains(&secret[12..]), "{lines}");
}

#[tokio::test]
async fn admins_manage_tokens_and_leave_a_record() {
    let database = Database::fresh().await;
    let admin = token(&database, "admin", "*");
    let limited = token(&database, "admin", "emails*");
    let broker = Broker::start_with(&database, &[REQUIRED]).await;
    let request = |name: &str| CreateTokenRequest {
        name: name.to_owned(),
        scopes: vec![Scope::Read.into()],
        queues: vec!["emails*".to_owned()],
        ..CreateTokenRequest::default()
    };
    // Whose queues are limited could give itself more.
    let status = tokens(&broker, &limited).create_token(request("x")).await.unwrap_err();
    assert_eq!(refusal(&status).2, named("queue", "*"));

    let get = || GetRequest { job_id: 1, ..GetRequest::default() };
    let mut tokens = tokens(&broker, &admin);
    let created = tokens.create_token(request("reader")).await.unwrap().into_inner();
    let (secret, id) = (created.secret, created.token.unwrap().token_id);
    assert_eq!(number(&secret), id);
    // Answered: it works here.
    let status = jobs(&broker, &secret).get(get()).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    tokens.revoke_token(RevokeTokenRequest { token_id: id }).await.unwrap();
    // Answered: it doesn't work here any more.
    let status = jobs(&broker, &secret).get(get()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    tokens.revoke_token(RevokeTokenRequest { token_id: id }).await.unwrap();
    let status = tokens.revoke_token(RevokeTokenRequest { token_id: 99 }).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);

    let page = ListTokensRequest { after_token_id: number(&limited), limit: 10 };
    let listed = tokens.list_tokens(page).await.unwrap().into_inner().tokens;
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].token_id, &*listed[0].name), (id, "reader"));
    assert!(listed[0].revoked_at.is_some() && listed[0].expires_at.is_none());
    let client = database.connect().await;
    let sql = "SELECT coalesce(token_id, 0), name, action, subject FROM currant.audit ORDER BY id";
    let rows = client.query(sql, &[]).await.unwrap();
    let rows: Vec<(i64, String, String, i64)> =
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3))).collect();
    let (admin, limited) = (number(&admin), number(&limited));
    let record =
        |by, name: &str, action: &str, subject| (by, name.to_owned(), action.to_owned(), subject);
    let expected = [
        record(0, "command line", "create_token", admin),
        record(0, "command line", "create_token", limited),
        record(admin, "admin", "create_token", id),
        record(admin, "admin", "revoke_token", id),
    ];
    assert_eq!(rows, expected);
    let hashes = "SELECT count(*) FROM currant.token WHERE octet_length(hash) = 32";
    assert_eq!(database.number(hashes).await, 3);
}

#[tokio::test]
async fn bad_tokens_are_refused_by_field_and_their_number_is_bounded() {
    let database = Database::fresh().await;
    let broker = Broker::start_with(&database, &[("ACCESS__TOKENS_MAX", "1")]).await;
    let mut tokens = TokenServiceClient::new(broker.channel());
    let good = || CreateTokenRequest {
        name: "n".to_owned(),
        scopes: vec![Scope::Read.into()],
        queues: vec!["*".to_owned()],
        ..CreateTokenRequest::default()
    };
    let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
    let now = database.now().await;
    for (bad, field, limit) in [
        (CreateTokenRequest { name: String::new(), ..good() }, "name", "1 to 128"),
        (CreateTokenRequest { name: "x".repeat(129), ..good() }, "name", "at most 128"),
        (CreateTokenRequest { scopes: vec![], ..good() }, "scopes", "1 to 5; this has 0"),
        (CreateTokenRequest { scopes: vec![0], ..good() }, "scopes[0]", "a scope"),
        (CreateTokenRequest { scopes: vec![9], ..good() }, "scopes[0]", "a scope"),
        (CreateTokenRequest { queues: vec![], ..good() }, "queues", "1 to 100; this has 0"),
        (
            CreateTokenRequest { queues: vec!["a b".into()], ..good() },
            "queues[0]",
            "a queue's name",
        ),
        (CreateTokenRequest { expires_at: at(now - 5), ..good() }, "expires_at", "has passed"),
        (CreateTokenRequest { expires_at: at(i64::MAX), ..good() }, "expires_at", "10 years"),
        (CreateTokenRequest { certificate: "x".repeat(256), ..good() }, "certificate", "255"),
    ] {
        let status = tokens.create_token(bad).await.unwrap_err();
        assert_invalid(&status, field, limit);
    }
    let status = tokens.list_tokens(ListTokensRequest { after_token_id: 0, limit: 1001 }).await;
    assert_invalid(&status.unwrap_err(), "limit", "0 to 1000");
    tokens.create_token(CreateTokenRequest { expires_at: at(now + 1), ..good() }).await.unwrap();
    let status = tokens.create_token(good()).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    // One that has expired leaves its place.
    eventually("there is room", async || tokens.create_token(good()).await.is_ok()).await;
}
