//! Tokens: created, listed and revoked, by an admin's call or by the program at the command line.

use super::{Caller, Core, PipelineError, error::log};
use crate::{
    domain::{NewToken, Token, TokenId, TokenSecret},
    store::{self, Actor, Client, StoreError, Violation},
};

/// A token that was just stored. Its secret is known now and never again; none for a certificate.
pub struct Created {
    pub token: Token,
    pub secret: Option<TokenSecret>,
}

/// Stores a token under a new secret, or for a certificate without one.
pub async fn create_token(
    client: &Client,
    actor: Actor<'_>,
    new: &NewToken,
    max: usize,
) -> Result<Created, PipelineError> {
    let secret = match &new.certificate {
        Some(_) => None,
        None => {
            let mut random = [0; 32];
            getrandom::fill(&mut random).map_err(|error| {
                tracing::error!(%error, "the system gives no random numbers");
                PipelineError::Internal
            })?;
            Some(TokenSecret::digits(random))
        }
    };
    let hash = secret.as_ref().map(|(_, hash)| *hash);
    let token = store::create_token(client, actor, new, hash, max).await;
    let token = token.map_err(|error| match error {
        StoreError::Unique { violation: Violation::Other, .. } => PipelineError::Invalid {
            field: "certificate",
            problem: "something is granted to it already; revoke that before".to_owned(),
        },
        error => failed(&error),
    })?;
    let token = token.ok_or_else(|| PipelineError::Full {
        what: "the number of tokens",
        limit: format!("at most {max} valid tokens"),
        retry_after: std::time::Duration::from_secs(60),
    })?;
    let secret = secret.map(|(digits, _)| TokenSecret::new(token.id, digits));
    Ok(Created { token, secret })
}

fn failed(error: &StoreError) -> PipelineError {
    log(error, "a call for tokens failed");
    PipelineError::from(error)
}

impl Core {
    pub async fn create_token(
        &self,
        caller: &Caller,
        new: &NewToken,
    ) -> Result<Created, PipelineError> {
        let client = self.store.client().await.map_err(|error| failed(&error))?;
        let created = create_token(&client, by(caller), new, self.access.tokens_max()).await?;
        drop(client);
        // The answer means that it works here. It is stored, whatever comes of the look.
        if let Err(error) = self.look_for_tokens().await {
            log(&error, "a token was created that doesn't work here before the next look");
        }
        Ok(created)
    }

    /// Those after this number, in order.
    pub async fn list_tokens(
        &self,
        after: TokenId,
        limit: usize,
    ) -> Result<Vec<Token>, PipelineError> {
        let list = async {
            let client = self.store.client().await?;
            store::list_tokens(&client, after, limit).await
        };
        list.await.map_err(|error| failed(&error))
    }

    /// False: there is no such token.
    pub async fn revoke_token(&self, caller: &Caller, id: TokenId) -> Result<bool, PipelineError> {
        let revoke = async {
            let client = self.store.client().await?;
            let known = store::revoke_token(&client, by(caller), id).await?;
            drop(client);
            // The answer means that it doesn't work here any more.
            self.look_for_tokens().await?;
            Ok(known)
        };
        revoke.await.map_err(|error: StoreError| failed(&error))
    }
}

/// While no token is needed anybody may make some.
fn by(caller: &Caller) -> Actor<'_> {
    caller.actor().unwrap_or(Actor { token: None, name: "anybody" })
}
