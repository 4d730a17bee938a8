//! Calls about who may call.

use std::time::SystemTime;

use currant_proto::v1;

use crate::{client::Client, error::Error, retry::with_retry, time::from_timestamp};

/// Tokens that a call asks for.
const PAGE: u32 = 1000;

/// Calls that a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scope {
    /// To store jobs.
    Enqueue,
    /// To work on them.
    Work,
    /// To look at jobs, queues and schedules, and at the metrics, but not at what jobs carry:
    /// [`StoredJob::hidden`](crate::StoredJob::hidden).
    View,
    /// To look at all of that.
    Read,
    /// To change them, and all that the others allow; for all queues, tokens too.
    Admin,
    /// One that this version of the SDK doesn't know.
    Unknown,
}

impl Scope {
    fn into_proto(self) -> v1::Scope {
        match self {
            Scope::Enqueue => v1::Scope::Enqueue,
            Scope::Work => v1::Scope::Work,
            Scope::View => v1::Scope::View,
            Scope::Read => v1::Scope::Read,
            Scope::Admin => v1::Scope::Admin,
            Scope::Unknown => v1::Scope::Unspecified,
        }
    }

    fn from_proto(scope: v1::Scope) -> Scope {
        match scope {
            v1::Scope::Unspecified => Scope::Unknown,
            v1::Scope::Enqueue => Scope::Enqueue,
            v1::Scope::Work => Scope::Work,
            v1::Scope::View => Scope::View,
            v1::Scope::Read => Scope::Read,
            v1::Scope::Admin => Scope::Admin,
        }
    }
}

/// A token to be made. The broker checks the limits.
#[derive(Clone, Debug, PartialEq)]
pub struct NewToken {
    request: v1::CreateTokenRequest,
}

impl NewToken {
    /// A token with a name for people, of 1 to 128 characters. It allows nothing until it has a scope.
    pub fn new(name: impl Into<String>) -> NewToken {
        let request = v1::CreateTokenRequest { name: name.into(), ..Default::default() };
        NewToken { request }
    }

    /// Adds a scope.
    pub fn scope(mut self, scope: Scope) -> NewToken {
        self.request.scopes.push(scope.into_proto().into());
        self
    }

    /// Adds queues that it is for: a name, a beginning before a `*`, or `*` alone. Default: all.
    pub fn queues(mut self, pattern: impl Into<String>) -> NewToken {
        self.request.queues.push(pattern.into());
        self
    }

    /// When it ends. Default: never.
    pub fn expires_at(mut self, time: SystemTime) -> NewToken {
        self.request.expires_at = Some(time.into());
        self
    }

    /// Grants it to a name in clients' certificates, a DNS name or a URI, and makes no secret.
    pub fn certificate(mut self, name: impl Into<String>) -> NewToken {
        self.request.certificate = name.into();
        self
    }
}

/// A token as stored, without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredToken {
    /// Its number.
    pub id: i64,
    /// For people.
    pub name: String,
    /// The calls that it allows.
    pub scopes: Vec<Scope>,
    /// The queues that it is for: names and beginnings before a `*`.
    pub queues: Vec<String>,
    /// The name in certificates to which it is granted; empty: it has a secret.
    pub certificate: String,
    /// When it was made.
    pub created_at: Option<SystemTime>,
    /// When it ends by itself; None: never.
    pub expires_at: Option<SystemTime>,
    /// Set if it was revoked.
    pub revoked_at: Option<SystemTime>,
    /// To a minute or so; None: not yet.
    pub last_used_at: Option<SystemTime>,
}

impl StoredToken {
    fn from_proto(token: v1::Token) -> Result<StoredToken, Error> {
        let scopes = token.scopes().map(Scope::from_proto).collect();
        let v1::Token {
            token_id,
            name,
            scopes: _,
            queues,
            certificate,
            created_at,
            expires_at,
            revoked_at,
            last_used_at,
        } = token;
        Ok(StoredToken {
            id: token_id,
            name,
            scopes,
            queues,
            certificate,
            created_at: from_timestamp(created_at)?,
            expires_at: from_timestamp(expires_at)?,
            revoked_at: from_timestamp(revoked_at)?,
            last_used_at: from_timestamp(last_used_at)?,
        })
    }
}

impl Client {
    /// Makes a token. Its secret comes once, and not for a certificate. The call is made once: were it
    /// repeated, there could be a token whose secret nobody knows.
    pub async fn create_token(
        &self,
        token: NewToken,
    ) -> Result<(StoredToken, Option<String>), Error> {
        let mut request = token.request;
        if request.queues.is_empty() {
            request.queues.push("*".to_owned());
        }
        let answer = self.tokens.clone().create_token(request).await?;
        let v1::CreateTokenResponse { token, secret } = answer.into_inner();
        let token = token.ok_or(Error::Protocol("no token in the answer"))?;
        Ok((StoredToken::from_proto(token)?, Some(secret).filter(|secret| !secret.is_empty())))
    }

    /// All tokens, in the order of their numbers, those too that were revoked or have expired.
    pub async fn tokens(&self) -> Result<Vec<StoredToken>, Error> {
        let mut all: Vec<StoredToken> = Vec::new();
        loop {
            let after_token_id = all.last().map_or(0, |token| token.id);
            let request = v1::ListTokensRequest { after_token_id, limit: PAGE };
            let answer = with_retry(self.deadline, || {
                let mut tokens = self.tokens.clone();
                async move { tokens.list_tokens(request).await }
            });
            let page = answer.await?.into_inner().tokens;
            let at_end = page.len() < PAGE as usize;
            for token in page {
                all.push(StoredToken::from_proto(token)?);
            }
            if at_end {
                return Ok(all);
            }
        }
    }

    /// Ends a token for good. It can be repeated. [`Error::NotFound`] if there is no such token.
    pub async fn revoke_token(&self, id: i64) -> Result<(), Error> {
        let request = v1::RevokeTokenRequest { token_id: id };
        let answer = with_retry(self.deadline, || {
            let mut tokens = self.tokens.clone();
            async move { tokens.revoke_token(request).await }
        });
        answer.await.map(drop)
    }
}
