use std::time::SystemTime;

use clap::{Args, Subcommand, ValueEnum};
use currant_worker_sdk::{Client, NewToken, Scope};
use serde_json::json;

use crate::{
    end::{End, Failure},
    printer::Printer,
    shown::token as shown,
    values,
};

#[derive(Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token and print its secret, which can't be had again
    Create(Create),
    /// All tokens, those too that were revoked or have expired
    List,
    /// End a token for good
    Revoke(Revoke),
}

#[derive(Args)]
pub(crate) struct Create {
    /// For people
    name: String,
    /// What it is for
    #[arg(
        long = "scope",
        value_enum,
        value_name = "SCOPE",
        value_delimiter = ',',
        required = true
    )]
    scopes: Vec<ScopeArg>,
    /// Queues that it is for: a name, or a beginning and a *; can be given several times [default: *]
    #[arg(long = "queue", value_name = "PATTERN")]
    queues: Vec<String>,
    /// When it ends: a time, or how long until then, as 90d [default: never]
    #[arg(long = "expires", value_name = "TIME", value_parser = values::future)]
    expires_at: Option<SystemTime>,
    /// Grant it to a name in clients' certificates, a DNS name or a URI, and make no secret
    #[arg(long, value_name = "NAME")]
    certificate: Option<String>,
}

#[derive(Args)]
pub(crate) struct Revoke {
    /// The token's number
    id: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ScopeArg {
    /// To store jobs
    Enqueue,
    /// To work on them
    Work,
    /// To look, but not at what jobs carry
    View,
    /// To look
    Read,
    /// To change
    Admin,
}

impl ScopeArg {
    fn scope(self) -> Scope {
        match self {
            ScopeArg::Enqueue => Scope::Enqueue,
            ScopeArg::Work => Scope::Work,
            ScopeArg::View => Scope::View,
            ScopeArg::Read => Scope::Read,
            ScopeArg::Admin => Scope::Admin,
        }
    }
}

impl TokenCommand {
    pub(crate) async fn run(self, client: &Client, printer: &mut Printer) -> Result<End, Failure> {
        match self {
            TokenCommand::Create(create) => return create.run(client, printer).await,
            TokenCommand::List => {
                let tokens = client.tokens().await?;
                printer.things(&tokens, shown::HEAD, shown::row, shown::json)?;
            }
            TokenCommand::Revoke(Revoke { id }) => {
                client.revoke_token(id).await?;
                let json = json!({ "id": id.to_string(), "verdict": "revoked" });
                printer.done(&format!("token {id} is revoked"), &json)?;
            }
        }
        Ok(End::Done)
    }
}

impl Create {
    async fn run(self, client: &Client, printer: &mut Printer) -> Result<End, Failure> {
        let Create { name, scopes, queues, expires_at, certificate } = self;
        let token = scopes.into_iter().fold(NewToken::new(name), |it, one| it.scope(one.scope()));
        let mut token = queues.into_iter().fold(token, NewToken::queues);
        if let Some(time) = expires_at {
            token = token.expires_at(time);
        }
        if let Some(name) = certificate {
            token = token.certificate(name);
        }
        let (token, secret) = client.create_token(token).await?;
        let mut json = shown::json(&token);
        if let Some(secret) = &secret {
            json["secret"] = json!(secret);
        }
        if printer.is_json() {
            printer.line(&json.to_string())?;
        } else {
            eprintln!("token {} is stored; a secret can't be had again", token.id);
            secret.iter().try_for_each(|secret| printer.line(secret))?;
        }
        Ok(End::Done)
    }
}
