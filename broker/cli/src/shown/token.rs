use currant_worker_sdk::{Scope, StoredToken};
use serde_json::{Value, json};

use super::time;
use crate::values::show_time;

pub(crate) const HEAD: &[&str] =
    &["ID", "NAME", "SCOPES", "QUEUES", "CERTIFICATE", "CREATED", "EXPIRES", "REVOKED", "USED"];

pub(crate) fn row(token: &StoredToken) -> Vec<String> {
    let scopes: Vec<&str> = token.scopes.iter().map(|scope| name(*scope)).collect();
    vec![
        token.id.to_string(),
        token.name.clone(),
        scopes.join(","),
        token.queues.join(","),
        token.certificate.clone(),
        show_time(token.created_at),
        show_time(token.expires_at),
        show_time(token.revoked_at),
        show_time(token.last_used_at),
    ]
}

fn name(scope: Scope) -> &'static str {
    match scope {
        Scope::Enqueue => "enqueue",
        Scope::Work => "work",
        Scope::View => "view",
        Scope::Read => "read",
        Scope::Admin => "admin",
        _ => "unknown",
    }
}

pub(crate) fn json(token: &StoredToken) -> Value {
    json!({
        "id": token.id.to_string(),
        "name": token.name,
        "scopes": token.scopes.iter().map(|scope| name(*scope)).collect::<Vec<&str>>(),
        "queues": token.queues,
        "certificate": token.certificate,
        "created_at": time(token.created_at),
        "expires_at": time(token.expires_at),
        "revoked_at": time(token.revoked_at),
        "last_used_at": time(token.last_used_at),
    })
}
