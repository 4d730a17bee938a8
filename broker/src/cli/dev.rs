//! `currant-broker dev`: a broker with a Postgres of its own.

use std::{
    env,
    io::{self, Read},
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process, thread,
};

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
    if options.for_tests {
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        (config.grpc.listen, config.http.listen) = (free, free);
        end_with_standard_input();
    }
    telemetry::log(&config.log)?;

    let data_dir = match options.for_tests {
        true => None,
        false => Some(options.data_dir.map_or_else(default_data_dir, Ok)?),
    };
    let postgres = PrivatePostgres::start(Options { data_dir, ..Options::default() })
        .context("starting the private Postgres")?;
    config.database.url = postgres.dsn().into();
    config.database.listen_url = None;
    config.check_to_serve()?;

    let greeting = if options.for_tests { line } else { greeting };
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

/// Whoever started us is gone, or done: there is nothing to drain, and the Postgres ends with us.
fn end_with_standard_input() {
    thread::spawn(|| {
        let mut nothing = [0; 64];
        while io::stdin().read(&mut nothing).is_ok_and(|bytes| bytes > 0) {}
        process::exit(0);
    });
}

/// For a program to read.
fn line(Addresses { grpc, http }: Addresses, postgres: &PrivatePostgres) -> String {
    serde_json::json!({ "grpc": grpc, "http": http, "database": postgres.dsn() }).to_string()
}

fn greeting(addresses: Addresses, postgres: &PrivatePostgres) -> String {
    let Addresses { grpc, http } = addresses;
    let (data, dsn) = (postgres.data_dir().display(), postgres.dsn());
    format!(
        "\
Currant with a Postgres of its own; the data stays in {data}

  producers and workers   http://{grpc}
  dashboard               http://{http}/ui/
  metrics and health      http://{http}/metrics, http://{http}/health/ready
  database                psql \"{dsn}\"

Next:
  store a job             psql \"{dsn}\" -c \"SELECT currant.enqueue('emails', 'send_email', jsonb_build_object('to', 'ada@example.com', 'body', 'hello'))\"
  write a worker          worker-sdk/examples
  all settings            currant-broker config reference

Ctrl-C stops both."
    )
}
