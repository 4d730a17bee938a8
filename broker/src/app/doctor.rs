//! Looks at what is between a broker and its database, and says how to mend what is wrong.

use anyhow::Context;

use super::{address, ms, open_bare};
use crate::{
    clock,
    config::Config,
    store::{self, Address, MigrateError, Rights, Server, Store},
};

/// The oldest Postgres that has what is used.
const VERSION_MIN: i32 = 140_000;
/// A difference that makes times in logs and in rows hard to compare.
const CLOCKS_APART_S: i64 = 5;
/// A transaction that is open for so long keeps vacuum from doing its work.
const TRANSACTION_MAX_S: f64 = 300.0;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sign {
    Good,
    /// It works, not as well as it could.
    Poor,
    /// It doesn't work.
    Wrong,
}

/// What was looked at, and what was found.
#[derive(Clone, Debug)]
pub struct Finding {
    pub what: &'static str,
    pub sign: Sign,
    pub found: String,
    /// Empty: there is nothing to mend.
    pub mend: String,
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn good(&mut self, what: &'static str, found: impl Into<String>) {
        self.0.push(Finding { what, sign: Sign::Good, found: found.into(), mend: String::new() });
    }

    fn add(
        &mut self,
        what: &'static str,
        sign: Sign,
        found: impl Into<String>,
        mend: impl Into<String>,
    ) {
        self.0.push(Finding { what, sign, found: found.into(), mend: mend.into() });
    }
}

/// Examines the database of these settings. Changes nothing in it.
///
/// # Errors
/// When settings make no sense, or the database ends in the middle of it.
pub async fn examine(config: &Config) -> anyhow::Result<Vec<Finding>> {
    let store = open_bare(config)?;
    let mut findings = Findings::default();
    let client = match store.client().await {
        Ok(client) => client,
        Err(error) => {
            let error = format!("{:#}", anyhow::Error::from(error));
            let mend = "is Postgres running there, do user and password in database.url hold, does \
                        pg_hba.conf let them in?";
            findings.add("database", Sign::Wrong, error, mend);
            return Ok(findings.0);
        }
    };
    let server = store::examine_server(&client).await.context("database.url")?;
    let rights = store::examine_rights(&client).await.context("database.url")?;
    drop(client);
    look_at_server(&server, config.database.pool_size, &mut findings);
    look_at_transport(config, &mut findings);
    look_at_rights(&rights, &server, &mut findings);
    look_at_schema(&store, &address(config), &rights, &mut findings).await?;
    if config.database.transaction_pooler {
        findings.good("sessions", "each transaction may have another connection, as is set");
    } else {
        look_at_sessions(&store, &mut findings).await?;
    }
    look_at_listening(&store, config, &mut findings).await?;
    Ok(findings.0)
}

fn look_at_server(server: &Server, pool_size: usize, findings: &mut Findings) {
    let Server { version, user, database, now, .. } = server;
    let found = format!("{database} as {user}, Postgres {}.{}", version / 10_000, version % 10_000);
    if *version < VERSION_MIN {
        findings.add("database", Sign::Wrong, found, "Postgres 14 or newer is wanted");
    } else if server.in_recovery {
        let mend = "it is a standby: let database.url lead to the primary (target_session_attrs)";
        findings.add("database", Sign::Wrong, found, mend);
    } else {
        findings.good("database", found);
    }

    let apart = (now.timestamp_millis() - clock::unix_ms()) / 1000;
    let found = format!("the database's and this machine's are {} s apart", apart.abs());
    if apart.abs() > CLOCKS_APART_S {
        let mend =
            "the broker goes by the database's; set both by NTP, or its log can't be compared";
        findings.add("clock", Sign::Poor, found, mend);
    } else {
        findings.good("clock", found);
    }

    let off = [("fsync", server.fsync), ("full_page_writes", server.full_page_writes)];
    match off.iter().find(|(_, on)| !on) {
        Some((name, _)) => {
            let mend =
                format!("set {name} = on: a crash may lose or spoil jobs that were acknowledged");
            findings.add("durability", Sign::Wrong, format!("{name} is off"), mend);
        }
        None => findings.good("durability", "fsync and full_page_writes are on"),
    }

    if server.autovacuum {
        findings.good("vacuum", "autovacuum is on");
    } else {
        let mend = "set autovacuum = on and track_counts = on: the tables grow without it";
        findings.add("vacuum", Sign::Wrong, "autovacuum is off", mend);
    }
    match server.oldest_transaction_s {
        Some(open) if open > TRANSACTION_MAX_S => {
            let found = format!("a transaction has been open for {open:.0} s");
            let mend = "end it: vacuum can't remove what it could still see; see \
                        idle_in_transaction_session_timeout";
            findings.add("snapshots", Sign::Poor, found, mend);
        }
        _ => findings.good("snapshots", "no transaction is open for long"),
    }

    let free = server.connections_max - server.connections;
    // One more is for LISTEN.
    let wanted = i64::try_from(pool_size).unwrap_or(i64::MAX).saturating_add(1);
    let found = format!("{free} of {} are free, a broker takes {wanted}", server.connections_max);
    if free < wanted {
        let mend = "raise max_connections, or lower database.pool_size";
        findings.add("connections", Sign::Wrong, found, mend);
    } else {
        findings.good("connections", found);
    }
}

fn look_at_transport(config: &Config, findings: &mut Findings) {
    if address(config).is_exposed() {
        let mend =
            "sslmode=require in database.url, with database.ca_file for an authority of your own";
        findings.add("transport", Sign::Poor, "what is sent can be read on its way", mend);
    } else {
        findings.good("transport", "by TLS, or within this machine");
    }
}

fn look_at_rights(rights: &Rights, server: &Server, findings: &mut Findings) {
    let Server { user, database, .. } = server;
    match &rights.schema_owner {
        None if rights.may_create_schema => {
            findings.good("permissions", "the schema may be created");
        }
        None => {
            let mend = format!("GRANT CREATE ON DATABASE {database} TO {user}");
            findings.add("permissions", Sign::Wrong, "the schema may not be created", mend);
        }
        Some(owner) if !rights.closed_tables.is_empty() => {
            let found = format!("no access to {}", rights.closed_tables.join(", "));
            let mend = format!("grant {user} what docs/security.md says, or connect as {owner}");
            findings.add("permissions", Sign::Wrong, found, mend);
        }
        Some(owner) if !rights.owns_schema => {
            findings.good("permissions", format!("all but to migrate, which {owner} does"));
        }
        Some(_) => findings.good("permissions", "the schema is its own"),
    }
}

async fn look_at_schema(
    store: &Store,
    at: &Address,
    rights: &Rights,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let known = store::newest_version();
    if !rights.has_history {
        let found = format!("not there yet; this program brings version {known}");
        findings.add("schema", Sign::Poor, found, "currant-broker migrate, or start a broker");
        return Ok(());
    }
    let client = store.client().await.context("database.url")?;
    let version = match store::examine_schema(&client).await {
        Ok(version) => version,
        // Said already.
        Err(_) if !rights.closed_tables.is_empty() => return Ok(()),
        Err(error) => return Err(error).context("database.url"),
    };
    let found = format!("version {version}, this program's is {known}");
    match version.cmp(&known) {
        std::cmp::Ordering::Equal => findings.good("schema", found),
        std::cmp::Ordering::Less => {
            findings.add("schema", Sign::Poor, found, "currant-broker migrate, or start a broker");
        }
        std::cmp::Ordering::Greater => match store::missing(at).await {
            Ok(_) => findings.good("schema", format!("{found}; it may run on it")),
            Err(MigrateError::Newer { .. }) => {
                let mend = "a newer broker has been here: run that version";
                findings.add("schema", Sign::Wrong, found, mend);
            }
            Err(error) => return Err(error).context("database.url"),
        },
    }
    Ok(())
}

async fn look_at_sessions(store: &Store, findings: &mut Findings) -> anyhow::Result<()> {
    let one = store.client().await.context("database.url")?;
    let mut other = store.client().await.context("database.url")?;
    let mend = "set database.transaction_pooler = true, or let database.url lead past the pooler, or \
                set pool_mode = session: the broker has few connections and keeps them";
    match store::keeps_sessions(&one, &mut other).await {
        Ok(true) => findings.good("sessions", "they stay as they are set"),
        Ok(false) => {
            let found = "a pooler changes connections between transactions";
            findings.add("sessions", Sign::Wrong, found, mend);
        }
        // Statements that were prepared on another connection, for example.
        Err(error) => {
            let error = format!("{:#}", anyhow::Error::from(error));
            findings.add("sessions", Sign::Wrong, error, mend);
        }
    }
    Ok(())
}

async fn look_at_listening(
    store: &Store,
    config: &Config,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let database = &config.database;
    let url = database.listen_url.as_ref().unwrap_or(&database.url).expose();
    let mend = "let database.listen_url lead to Postgres itself, past any pooler";
    if url.is_empty() {
        let found = format!(
            "off: the broker looks every {} ms (dispatch.poll_interval_ms)",
            config.dispatch.poll_interval_ms
        );
        findings.add("LISTEN", Sign::Poor, found, mend);
        return Ok(());
    }
    let client = store.client().await.context("database.url")?;
    let address = Address { url: url.to_owned(), ..address(config) };
    match store::hears(&client, &address, ms(database.connect_timeout_ms)).await {
        Ok(true) => findings.good("LISTEN", "what is said is heard"),
        Ok(false) => findings.add("LISTEN", Sign::Wrong, "nothing is heard", mend),
        Err(error) => {
            let error = format!("{:#}", anyhow::Error::from(error));
            findings.add("LISTEN", Sign::Wrong, error, mend);
        }
    }
    Ok(())
}
