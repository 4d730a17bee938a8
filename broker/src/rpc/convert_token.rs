//! Tokens as messages. Every field is named, as in `convert`.

use currant_proto::v1 as pb;
use tonic::Status;

use super::{check, status::Violations, stored};
use crate::domain::{Grant, NewToken, QueuePattern, Scope, Token};

const NAME_CHARS_MAX: usize = 128;
const CERTIFICATE_CHARS_MAX: usize = 255;
const QUEUES_MAX: usize = 100;

/// Checked, with the time of the database in microseconds since 1970.
pub(super) fn new_token(request: pb::CreateTokenRequest, now: i64) -> Result<NewToken, Status> {
    let pb::CreateTokenRequest { name, scopes, queues, expires_at, certificate } = request;
    let mut violations = Violations::default();
    if name.is_empty() {
        violations.add("name", format!("1 to {NAME_CHARS_MAX} characters; this is empty"));
    }
    for (field, text, max) in
        [("name", &name, NAME_CHARS_MAX), ("certificate", &certificate, CERTIFICATE_CHARS_MAX)]
    {
        if let Err(problem) = check::text(text, max) {
            violations.add(field, problem);
        }
    }
    if let Err(problem) = check::count(scopes.len(), 1, Scope::ALL.len()) {
        violations.add("scopes", problem);
    }
    let mut granted = Vec::new();
    for (index, value) in scopes.into_iter().take(Scope::ALL.len()).enumerate() {
        match pb::Scope::try_from(value).ok().and_then(scope) {
            Some(scope) => granted.push(scope),
            None => violations.add(format!("scopes[{index}]"), "a scope of the contract"),
        }
    }
    if let Err(problem) = check::count(queues.len(), 1, QUEUES_MAX) {
        violations.add("queues", problem);
    }
    let mut patterns = Vec::new();
    for (index, pattern) in queues.iter().take(QUEUES_MAX).enumerate() {
        match pattern.parse::<QueuePattern>() {
            Ok(pattern) => patterns.push(pattern),
            Err(problem) => violations.add(format!("queues[{index}]"), problem),
        }
    }
    let expires_at = expires_at.and_then(|time| match check::time_micros(&time, now) {
        Ok(at) if at > now => Some(at),
        Ok(_) => {
            violations.add("expires_at", "a time to come; this has passed");
            None
        }
        Err(problem) => {
            violations.add("expires_at", problem);
            None
        }
    });
    violations.into_result()?;
    let certificate = Some(certificate).filter(|name| !name.is_empty());
    let grant = Grant { scopes: granted, queues: patterns };
    Ok(NewToken { name, grant, certificate, expires_at })
}

pub(super) fn token(token: Token) -> pb::Token {
    let Token { id, name, grant, certificate, created_at, expires_at, revoked_at, last_used_at } =
        token;
    let Grant { scopes, queues } = grant;
    pb::Token {
        token_id: id.0,
        name,
        scopes: scopes.into_iter().map(|scope| pb_scope(scope).into()).collect(),
        queues: queues.iter().map(QueuePattern::text).collect(),
        certificate: certificate.unwrap_or_default(),
        created_at: Some(stored::timestamp(created_at)),
        expires_at: expires_at.map(stored::timestamp),
        revoked_at: revoked_at.map(stored::timestamp),
        last_used_at: last_used_at.map(stored::timestamp),
    }
}

fn scope(scope: pb::Scope) -> Option<Scope> {
    match scope {
        pb::Scope::Unspecified => None,
        pb::Scope::Enqueue => Some(Scope::Enqueue),
        pb::Scope::Work => Some(Scope::Work),
        pb::Scope::View => Some(Scope::View),
        pb::Scope::Read => Some(Scope::Read),
        pb::Scope::Admin => Some(Scope::Admin),
    }
}

fn pb_scope(scope: Scope) -> pb::Scope {
    match scope {
        Scope::Enqueue => pb::Scope::Enqueue,
        Scope::Work => pb::Scope::Work,
        Scope::View => pb::Scope::View,
        Scope::Read => pb::Scope::Read,
        Scope::Admin => pb::Scope::Admin,
    }
}
