//! Tokens at the command line: straight in the database, so that the first one needs no other.

use std::str::FromStr;

use anyhow::{Context, anyhow, bail};

use super::open;
use crate::{
    clock::time_of_micros,
    config::Config,
    domain::{Grant, NewToken, QueuePattern, Token, TokenId, TokenSecret},
    pipeline::{self, Created},
    store::{self, Actor, Client},
};

/// Of the audit record.
const ACTOR: Actor<'static> = Actor { token: None, name: "command line" };
const PAGE: usize = 1000;

/// A token as people write it.
#[derive(Clone, Debug)]
pub struct TokenRequest {
    pub name: String,
    pub scopes: Vec<String>,
    pub queues: Vec<String>,
    /// Microseconds since 1970.
    pub expires_at: Option<i64>,
    pub certificate: Option<String>,
}

/// Stores a token. Returns its number and its secret; a certificate has none.
///
/// # Errors
/// When the request can't be, and when the database can't be asked.
pub async fn create(
    config: &Config,
    request: TokenRequest,
) -> anyhow::Result<(i64, Option<String>)> {
    let TokenRequest { name, scopes, queues, expires_at, certificate } = request;
    let scopes = parsed("--scope", &scopes)?;
    let queues = parsed("--queue", &queues)?;
    let new = NewToken { name, grant: Grant { scopes, queues }, certificate, expires_at };
    let client = client(config).await?;
    let Created { token, secret } =
        pipeline::create_token(&client, ACTOR, &new, config.access.tokens_max).await?;
    Ok((token.id.0, secret.as_ref().map(TokenSecret::expose)))
}

/// Every token, a line each.
///
/// # Errors
/// When the database can't be asked.
pub async fn list(config: &Config) -> anyhow::Result<Vec<String>> {
    let client = client(config).await?;
    let (mut lines, mut after) = (Vec::new(), TokenId(0));
    loop {
        let page = store::list_tokens(&client, after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(lines) };
        after = last.id;
        lines.extend(page.iter().map(line));
    }
}

/// Ends a token for good.
///
/// # Errors
/// When there is none of this number, and when the database can't be asked.
pub async fn revoke(config: &Config, id: i64) -> anyhow::Result<()> {
    let client = client(config).await?;
    if !store::revoke_token(&client, ACTOR, TokenId(id)).await? {
        bail!("there is no token {id}");
    }
    Ok(())
}

fn parsed<T: FromStr<Err = String>>(what: &str, texts: &[String]) -> anyhow::Result<Vec<T>> {
    let parse =
        |text: &String| text.parse().map_err(|problem| anyhow!("{what} {text:?}: {problem}"));
    texts.iter().map(parse).collect()
}

async fn client(config: &Config) -> anyhow::Result<Client> {
    open(config, 1)?.client().await.context("database.url; has it the schema of this version?")
}

fn line(token: &Token) -> String {
    let time = |micros: Option<i64>| {
        micros.map_or_else(|| "-".to_owned(), |at| time_of_micros(at).to_rfc3339())
    };
    let scopes: Vec<_> = token.grant.scopes.iter().map(|scope| scope.name()).collect();
    let queues: Vec<_> = token.grant.queues.iter().map(QueuePattern::text).collect();
    [
        token.id.0.to_string(),
        token.name.clone(),
        scopes.join(","),
        queues.join(","),
        token.certificate.clone().unwrap_or_else(|| "-".to_owned()),
        time(Some(token.created_at)),
        time(token.expires_at),
        time(token.revoked_at),
        time(token.last_used_at),
    ]
    .join("\t")
}

/// What the columns of `list` are.
pub const COLUMNS: &str =
    "id\tname\tscopes\tqueues\tcertificate\tcreated\texpires\trevoked\tlast used";
