//! `currant-broker dev`: a broker with a Postgres of its own.

use std::{env, path::PathBuf};

use anyhow::Context;

use super::{Dev, environment, runtime};
use crate::{
    app::Addresses,
    config::Config,
    private_postgres::{self, Options, PrivatePostgres},
    telemetry,
};

pub(super) fn run(options: Dev) -> anyhow::Result<()> {
    let mut config = Config::load(None, environment()?)?;
    config.grpc.listen = options.grpc_listen.unwrap_or(config.grpc.listen);
    config.http.listen = options.http_listen.unwrap_or(config.http.listen);
    telemetry::log(&config.log)?;

    let data_dir = Some(options.data_dir.map_or_else(default_data_dir, Ok)?);
    let postgres = PrivatePostgres::start(Options { data_dir, ..Options::default() })
        .context("starting the private Postgres")?;
    config.database.url = postgres.dsn().into();
    config.database.listen_url = None;
    config.check_to_serve()?;

    let served = runtime::serve(config, |addresses| println!("{}", greeting(addresses, &postgres)));
    let stopped = postgres.stop().context("stopping the private Postgres");
    served.and(stopped)
}

fn default_data_dir() -> anyhow::Result<PathBuf> {
    if private_postgres::is_root()? {
        return Ok("/var/lib/currant-dev".into());
    }
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("XDG_DATA_HOME")
        .or_else(|| Some(set("HOME")?.join(".local/share")))
        .map(|parent| parent.join("currant-dev"))
        .context("neither XDG_DATA_HOME nor HOME is set; name a directory with --data-dir")
}

fn greeting(addresses: Addresses, postgres: &PrivatePostgres) -> String {
    let Addresses { grpc, http } = addresses;
    let (data, dsn) = (postgres.data_dir().display(), postgres.dsn());
    format!(
        "\
Currant with a Postgres of its own; the data stays in {data}

  producers and workers   http://{grpc}
  metrics and health      http://{http}/metrics, http://{http}/health/ready
  database                psql \"{dsn}\"

Next:
  store a job             psql \"{dsn}\" -c \"SELECT currant.enqueue('emails', 'send_email', jsonb_build_object('to', 'ada@example.com'))\"
  write a worker          worker-sdk/examples
  all settings            currant-broker config reference

Ctrl-C stops both."
    )
}
