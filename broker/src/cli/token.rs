//! `currant-broker token`: who may call.

use std::str::FromStr;

use anyhow::Context;
use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use clap::{Args, Subcommand};

use super::{Settings, checked, runtime};
use crate::{
    app::tokens::{self, TokenRequest},
    telemetry,
};

#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Make a token and print its secret, which can't be had again
    Create(Create),
    /// Print all tokens, a line each, those too that were revoked or have expired
    List(Settings),
    /// End a token for good
    Revoke(Revoke),
}

#[derive(Debug, Args)]
pub(super) struct Create {
    #[command(flatten)]
    settings: Settings,
    /// For people, 1 to 128 characters
    #[arg(value_parser = name, required_unless_present = "option")]
    name: Option<String>,
    /// The name as an option, as it was given at first
    #[arg(long = "name", hide = true, value_parser = name, conflicts_with = "name")]
    option: Option<String>,
    /// What it is for: enqueue, work, view, read, admin
    #[arg(long = "scope", value_name = "SCOPE", value_delimiter = ',', required = true)]
    scopes: Vec<String>,
    /// Queues that it is for: a name, or a beginning and a *; can be given several times [default: *]
    #[arg(long = "queue", value_name = "PATTERN", default_value = "*", hide_default_value = true)]
    queues: Vec<String>,
    /// When it ends, as 2027-01-31 or 2027-01-31T12:00:00Z [default: never]
    #[arg(long = "expires", value_name = "TIME")]
    expires_at: Option<Time>,
    /// Grant it to a name in clients' certificates, a DNS name or a URI, and make no secret
    #[arg(long, value_name = "NAME")]
    certificate: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct Revoke {
    #[command(flatten)]
    settings: Settings,
    /// The token's number
    id: i64,
}

#[derive(Clone, Copy, Debug)]
struct Time(DateTime<Utc>);

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let day = || NaiveDate::from_str(text).map(|day| day.and_time(NaiveTime::MIN).and_utc());
        let time = DateTime::parse_from_rfc3339(text).map(|time| time.to_utc()).or_else(|_| day());
        time.map(Self).map_err(|_| "2027-01-31 or 2027-01-31T12:00:00Z is wanted".to_owned())
    }
}

fn name(text: &str) -> Result<String, String> {
    let good = (1..=128).contains(&text.chars().count()) && !text.contains('\0');
    good.then(|| text.to_owned()).ok_or_else(|| "1 to 128 characters".to_owned())
}

pub(super) fn run(command: &TokenCommand) -> anyhow::Result<()> {
    let settings = match command {
        TokenCommand::Create(Create { settings, .. })
        | TokenCommand::List(settings)
        | TokenCommand::Revoke(Revoke { settings, .. }) => settings,
    };
    let config = checked(settings.file.as_deref())?;
    telemetry::log(&config.log)?;
    runtime::build(1)?.block_on(async {
        match command {
            TokenCommand::Create(create) => {
                let name = create.name.clone().or_else(|| create.option.clone());
                let request = TokenRequest {
                    name: name.context("a name is wanted")?,
                    scopes: create.scopes.clone(),
                    queues: create.queues.clone(),
                    expires_at: create.expires_at.map(|time| time.0.timestamp_micros()),
                    certificate: create.certificate.clone(),
                };
                let (id, secret) = tokens::create(&config, request).await?;
                eprintln!("token {id} is stored; its secret can't be had again");
                if let Some(secret) = secret {
                    println!("{secret}");
                }
            }
            TokenCommand::List(_) => {
                println!("{}", tokens::COLUMNS);
                tokens::list(&config).await?.iter().for_each(|line| println!("{line}"));
            }
            TokenCommand::Revoke(revoke) => {
                tokens::revoke(&config, revoke.id).await?;
                println!("token {} is revoked", revoke.id);
            }
        }
        Ok(())
    })
}
