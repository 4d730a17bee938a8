//! What must hold before anything starts: ranges as at the fields, and relations between values.

use std::str::FromStr;

use serde_json::Value;
use tokio_postgres::config::SslMode;

use super::{Config, Secret, load::ConfigError, schema};

impl Config {
    /// Checks every range and relation.
    ///
    /// # Errors
    /// One, with a line for each thing that is wrong, each naming key, value and limit.
    pub fn check(&self) -> Result<(), ConfigError> {
        all_well(self.problems())
    }

    /// The same, and that the ports don't let in everybody who reaches them over a network: for who is
    /// about to open them.
    ///
    /// # Errors
    /// As `check`.
    pub fn check_to_serve(&self) -> Result<(), ConfigError> {
        let mut problems = self.problems();
        self.check_exposure(&mut problems);
        all_well(problems)
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = out_of_range(&schema::values(self));
        self.check_database(&mut problems);
        self.check_relations(&mut problems);
        self.check_tls(&mut problems);
        self.check_log(&mut problems);
        self.check_telemetry(&mut problems);
        problems
    }

    /// The name of this broker: the one set, else the host's name and the gRPC port that it has got.
    pub fn broker_name(&self, port: u16) -> String {
        if !self.broker.name.is_empty() {
            return self.broker.name.clone();
        }
        let host = gethostname::gethostname();
        format!("{}:{port}", host.to_string_lossy())
    }

    fn check_database(&self, problems: &mut Vec<String>) {
        if self.database.url.is_empty() {
            problems.push("database.url is not set (environment: CURRANT_DATABASE__URL)".into());
        } else {
            check_url("database.url", &self.database.url, problems);
            let by_tls = tokio_postgres::Config::from_str(self.database.url.expose())
                .is_ok_and(|config| config.get_ssl_mode() == SslMode::Require);
            if !self.database.ca_file.is_empty() && !by_tls {
                problems.push(
                    "database.ca_file is set, but database.url isn't by TLS: add sslmode=require"
                        .into(),
                );
            }
        }
        if let Some(url) = self.database.listen_url.as_ref().filter(|url| !url.is_empty()) {
            check_url("database.listen_url", url, problems);
        }
        if self.database.transaction_pooler && self.database.listen_url.is_none() {
            problems.push(
                "database.listen_url is not set; with database.transaction_pooler it must be: to a URL \
                 that leads to Postgres itself, or empty"
                    .into(),
            );
        }
    }

    fn check_tls(&self, problems: &mut Vec<String>) {
        let tls = &self.tls;
        if tls.certificate_file.is_empty() != tls.key_file.is_empty() {
            problems.push("tls.certificate_file and tls.key_file: one needs the other".into());
        }
        if !tls.is_on() && !tls.client_ca_file.is_empty() {
            problems.push("tls.client_ca_file is set, but there is no tls.certificate_file".into());
        }
    }

    /// What is not for this machine alone is by TLS and for those with tokens.
    fn check_exposure(&self, problems: &mut Vec<String>) {
        let Self { grpc, http, tls, access, .. } = self;
        let secure = access.required && tls.is_on();
        for (key, listen) in [("grpc.listen", grpc.listen), ("http.listen", http.listen)] {
            if !(listen.ip().is_loopback() || secure || access.insecure) {
                problems.push(format!(
                    "{key} is {listen}, which others can reach; set tls.certificate_file, \
                     tls.key_file and access.required = true, or access.insecure = true to let \
                     everybody in"
                ));
            }
        }
    }

    fn check_log(&self, problems: &mut Vec<String>) {
        if let Err(error) = tracing_subscriber::EnvFilter::from_str(&self.log.filter) {
            problems.push(format!("log.filter is {:?}: {error}", self.log.filter));
        }
    }

    fn check_telemetry(&self, problems: &mut Vec<String>) {
        let endpoint = &self.telemetry.otlp_endpoint;
        let is_address = |uri: http::Uri| {
            matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some()
        };
        if !endpoint.is_empty() && !http::Uri::from_str(endpoint).is_ok_and(is_address) {
            let what = "it must be like http://127.0.0.1:4317";
            problems.push(format!("telemetry.otlp_endpoint is {endpoint:?}; {what}"));
        }
        if !self.telemetry.otlp_ca_file.is_empty() && !endpoint.starts_with("https://") {
            let what = "telemetry.otlp_endpoint isn't by TLS";
            problems.push(format!("telemetry.otlp_ca_file is set, but {what}"));
        }
    }

    fn check_relations(&self, problems: &mut Vec<String>) {
        let Self { database, grpc, http, broker, enqueue, complete, session, .. } = self;
        let mut at_least = |key: &str, value: u64, limit: u64, why: &str| {
            if value < limit {
                problems.push(format!("{key} is {value}; it must be at least {limit}: {why}"));
            }
        };
        let message = grpc.message_bytes_max as u64;
        let heartbeats = 2 * session.heartbeat_interval_ms + 1;
        let why = "more than twice session.heartbeat_interval_ms";
        at_least("session.timeout_ms", session.timeout_ms, heartbeats, why);
        at_least("session.acknowledge_timeout_ms", session.acknowledge_timeout_ms, heartbeats, why);
        let heartbeats = 2 * broker.heartbeat_interval_ms + 1;
        let why = "more than twice broker.heartbeat_interval_ms";
        at_least("broker.dead_after_ms", broker.dead_after_ms, heartbeats, why);
        let why = "at least queue_defaults.retry_base_ms";
        let defaults = &self.queue_defaults;
        at_least("queue_defaults.retry_max_ms", defaults.retry_max_ms, defaults.retry_base_ms, why);

        // Long enough for a worker to repeat its report and a caller its call.
        let why = "a minute; 0 keeps them for ever";
        let retention = &self.retention;
        for (key, value) in [
            ("retention.succeeded_ms", retention.succeeded_ms),
            ("retention.cancelled_ms", retention.cancelled_ms),
            ("retention.dead_ms", retention.dead_ms),
        ] {
            if value > 0 {
                at_least(key, value, RETENTION_MS_MIN, why);
            }
        }

        let payload = 2 * enqueue.payload_bytes_max as u64;
        let why = "a message must hold twice enqueue.payload_bytes_max";
        at_least("grpc.message_bytes_max", message, payload, why);
        let result = 2 * complete.result_bytes_max as u64;
        let why = "a message must hold twice complete.result_bytes_max";
        at_least("grpc.message_bytes_max", message, result, why);
        let checkpoint = 2 * session.checkpoint_bytes_max as u64;
        let why = "a message must hold twice session.checkpoint_bytes_max";
        at_least("grpc.message_bytes_max", message, checkpoint, why);
        let why = "half of it must hold one message (grpc.message_bytes_max)";
        at_least("grpc.reading_bytes_max", grpc.reading_bytes_max as u64, 2 * message, why);
        let why = "one message (grpc.message_bytes_max) must fit";
        at_least("enqueue.pending_bytes_max", enqueue.pending_bytes_max as u64, message, why);
        at_least("complete.pending_bytes_max", complete.pending_bytes_max as u64, message, why);
        let (pending, one) = (enqueue.pending_jobs_max, enqueue.jobs_per_request_max);
        let why = "one request (enqueue.jobs_per_request_max) must fit";
        at_least("enqueue.pending_jobs_max", pending as u64, one as u64, why);
        let (pending, one) = (complete.pending_items_max, complete.completions_per_request_max);
        let why = "one request (complete.completions_per_request_max) must fit";
        at_least("complete.pending_items_max", pending as u64, one as u64, why);
        let payload = enqueue.payload_bytes_max as u64;
        let why = "one payload (enqueue.payload_bytes_max) must fit";
        let bytes = session.unacknowledged_bytes_max as u64;
        at_least("session.unacknowledged_bytes_max", bytes, payload, why);
        let bytes = self.dispatch.buffered_bytes_max as u64;
        at_least("dispatch.buffered_bytes_max", bytes, payload, why);

        let flushes = enqueue.flushes_in_flight_max + complete.flushes_in_flight_max;
        let why = "enqueue.flushes_in_flight_max + complete.flushes_in_flight_max, and one for \
                   everything else";
        at_least("database.pool_size", database.pool_size as u64, flushes as u64 + 1, why);
        if grpc.listen == http.listen && grpc.listen.port() != 0 {
            problems.push(format!("grpc.listen and http.listen are both {}", grpc.listen));
        }
    }
}

fn all_well(problems: Vec<String>) -> Result<(), ConfigError> {
    if problems.is_empty() { Ok(()) } else { Err(ConfigError::Invalid(problems)) }
}

/// Of a retention that isn't for ever.
const RETENTION_MS_MIN: u64 = 60_000;

/// Every number against the range at its field, every string against its length.
fn out_of_range(values: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    for section in schema::sections() {
        for key in section.keys {
            let value = &values[&section.name][&key.name];
            let name = format!("{}.{}", section.name, key.name);
            // NaN is outside of every range.
            let inside = |number: f64| {
                key.minimum.is_none_or(|minimum| number >= minimum)
                    && key.maximum.is_none_or(|maximum| number <= maximum)
            };
            let number = if value.is_null() { Some(f64::NAN) } else { value.as_f64() };
            let ranged = key.minimum.is_some() || key.maximum.is_some();
            if ranged && number.is_some_and(|number| !inside(number)) {
                let (minimum, maximum) = (limit(key.minimum), limit(key.maximum));
                problems.push(format!("{name} is {value}; it must be {minimum} to {maximum}"));
            }
            let too_long = |length| value.as_str().is_some_and(|text| text.len() > length);
            if let Some(length) = key.length_max.filter(|length| too_long(*length)) {
                problems.push(format!("{name} is {value}; it may have {length} bytes"));
            }
        }
    }
    problems
}

/// A bound as people write it.
pub(super) fn limit(bound: Option<f64>) -> String {
    bound.map_or_else(|| "any".into(), |bound| bound.to_string())
}

/// Never shows the value: it has a password in it.
fn check_url(key: &str, url: &Secret, problems: &mut Vec<String>) {
    if url.expose().contains("sslmode=verify") {
        problems.push(format!("{key}: sslmode=require verifies everything; use that"));
    } else if tokio_postgres::Config::from_str(url.expose()).is_err() {
        problems.push(format!(
            "{key} is no connection string; it must be \
             postgres://user:password@host/database or host=… user=… dbname=…"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn valid() -> Config {
        let mut config = Config::default();
        config.database.url = "host=/tmp user=postgres".to_owned().into();
        config
    }

    /// The lines that the change causes.
    fn problems(change: impl FnOnce(&mut Config)) -> Vec<String> {
        let mut config = valid();
        change(&mut config);
        match config.check_to_serve() {
            Ok(()) => Vec::new(),
            Err(ConfigError::Invalid(problems)) => problems,
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn the_defaults_hold_but_for_the_url() {
        assert_eq!(problems(|_| {}), Vec::<String>::new());
        let told = problems(|config| config.database.url = Secret::default());
        assert_eq!(told, ["database.url is not set (environment: CURRANT_DATABASE__URL)"]);
    }

    #[test]
    fn a_value_out_of_its_range_is_named_with_key_value_and_limit() {
        let told = problems(|config| config.complete.rows_per_flush_max = 1025);
        assert_eq!(told, ["complete.rows_per_flush_max is 1025; it must be 1 to 1024"]);
        let told = problems(|config| config.queue_defaults.retry_jitter = 1.5);
        assert_eq!(told, ["queue_defaults.retry_jitter is 1.5; it must be 0 to 1"]);
        let told = problems(|config| config.queue_defaults.retry_factor = f64::NAN);
        assert_eq!(told.len(), 1, "{told:?}");
        let told = problems(|config| config.broker.name = "x".repeat(201));
        assert!(told[0].ends_with("it may have 200 bytes"), "{told:?}");
    }

    #[test]
    fn a_collector_has_an_address_and_authorities_only_with_tls() {
        let told = |endpoint: &str| problems(|c| c.telemetry.otlp_endpoint = endpoint.to_owned());
        for right in ["http://collector:4317", "https://collector:4317"] {
            assert_eq!(told(right), Vec::<String>::new());
        }
        for wrong in ["collector:4317", "ftp://collector:4317", "http://", "no address"] {
            assert!(told(wrong)[0].starts_with("telemetry.otlp_endpoint"), "{wrong}");
        }
        let told = |endpoint: &str| {
            problems(|c| {
                c.telemetry.otlp_endpoint = endpoint.to_owned();
                c.telemetry.otlp_ca_file = "ca.pem".to_owned();
            })
        };
        assert_eq!(told("https://collector:4317"), Vec::<String>::new());
        assert!(told("http://collector:4317")[0].starts_with("telemetry.otlp_ca_file is set"));
    }

    #[test]
    fn every_relation_is_checked() {
        type Change = fn(&mut Config);
        let broken: [(&str, Change); 12] = [
            ("session.timeout_ms", |c| c.session.timeout_ms = 10_000),
            ("session.acknowledge_timeout_ms", |c| c.session.acknowledge_timeout_ms = 10_000),
            ("broker.dead_after_ms", |c| c.broker.dead_after_ms = 6000),
            ("queue_defaults.retry_max_ms", |c| c.queue_defaults.retry_max_ms = 999),
            ("retention.succeeded_ms", |c| c.retention.succeeded_ms = 59_999),
            ("retention.cancelled_ms", |c| c.retention.cancelled_ms = 1),
            ("retention.dead_ms", |c| c.retention.dead_ms = 1000),
            ("grpc.message_bytes_max", |c| c.enqueue.payload_bytes_max = 3 << 20),
            ("enqueue.pending_bytes_max", |c| c.enqueue.pending_bytes_max = 2 << 20),
            ("complete.pending_items_max", |c| c.complete.pending_items_max = 9999),
            ("database.pool_size", |c| c.database.pool_size = 4),
            ("grpc.listen and http.listen", |c| c.http.listen = c.grpc.listen),
        ];
        for (key, change) in broken {
            let told = problems(change);
            assert_eq!(told.len(), 1, "{key}: {told:?}");
            assert!(told[0].starts_with(key), "{told:?}");
        }
    }

    #[test]
    fn others_are_let_in_by_tls_and_tokens_or_in_so_many_words() {
        let open = |tls: bool, tokens: bool, insecure: bool| {
            problems(|config| {
                config.grpc.listen = ([0, 0, 0, 0], 7070).into();
                if tls {
                    config.tls.certificate_file = "c.pem".into();
                    config.tls.key_file = "k.pem".into();
                }
                config.access.required = tokens;
                config.access.insecure = insecure;
            })
        };
        for (tls, tokens) in [(false, false), (true, false), (false, true)] {
            let told = open(tls, tokens, false);
            assert_eq!(told.len(), 1, "{told:?}");
            assert!(told[0].starts_with("grpc.listen is 0.0.0.0:7070"), "{told:?}");
            assert!(told[0].contains("access.insecure = true"), "{told:?}");
            assert!(open(tls, tokens, true).is_empty());
        }
        assert!(open(true, true, false).is_empty());
        let told = problems(|c| c.http.listen = ([192, 0, 2, 1], 7071).into());
        assert!(told[0].starts_with("http.listen"), "{told:?}");
        assert!(problems(|c| c.grpc.listen = "[::1]:7070".parse().expect("loopback")).is_empty());
        assert_eq!(problems(|c| c.tls.key_file = "k.pem".into()).len(), 1);
        assert_eq!(problems(|c| c.tls.client_ca_file = "ca.pem".into()).len(), 1);
    }

    #[test]
    fn a_mode_of_tls_that_is_not_supported_is_named() {
        let url = |url: &str| Secret::from(url.to_owned());
        for mode in ["verify-full", "verify-ca"] {
            let told = problems(|c| c.database.url = url(&format!("host=h sslmode={mode}")));
            assert_eq!(told, ["database.url: sslmode=require verifies everything; use that"]);
        }
        for bad in ["host=h sslmode=allow", "host=h sslrootcert=ca.pem", "postgres://h/d?sslcert=c"]
        {
            assert_eq!(problems(|c| c.database.url = url(bad)).len(), 1, "{bad}");
        }
        let told = problems(|c| c.database.ca_file = "ca.pem".into());
        assert!(told[0].contains("sslmode=require"), "{told:?}");
        let by_tls = problems(|c| {
            c.database.url = url("host=h sslmode=require");
            c.database.ca_file = "ca.pem".into();
        });
        assert!(by_tls.is_empty(), "{by_tls:?}");
    }

    #[test]
    fn behind_a_pooler_of_transactions_it_has_to_be_said_where_to_listen() {
        let told = problems(|config| config.database.transaction_pooler = true);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("database.listen_url is not set"), "{told:?}");
        let told = problems(|config| {
            config.database.transaction_pooler = true;
            config.database.listen_url = Some(Secret::default());
        });
        assert_eq!(told, Vec::<String>::new());
    }

    #[test]
    fn a_bad_url_is_refused_without_being_shown() {
        let url = Secret::from("postgres://u:hunter2@h:port/d".to_owned());
        let told = problems(|config| config.database.url = url);
        assert!(told[0].starts_with("database.url") && !told[0].contains("hunter2"), "{told:?}");
    }

    #[test]
    fn a_broker_without_a_name_has_the_hosts_and_its_port() {
        assert!(valid().broker_name(valid().grpc.listen.port()).ends_with(":7070"));
    }
}
