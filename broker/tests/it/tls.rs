//! TLS on both ports, clients' certificates, and TLS to Postgres.

use std::{
    fs,
    net::Ipv4Addr,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Command,
};

use currant_broker::private_postgres::PrivatePostgres;
use currant_worker_sdk::{Client, HandlerError, Job, NewJob, Tls, Worker, WorkerError};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{
    Broker, Database, connect, eventually, http_get, http_get_as, token::program,
};

/// An authority for tests.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// A certificate for this name and its key.
    fn sign(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

/// The files of a broker.
struct Files(tempfile::TempDir);

impl Files {
    fn new(authority: &Authority) -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        files.renew(authority);
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn renew(&self, authority: &Authority) {
        let (certificate, key) = authority.sign("localhost");
        fs::write(self.path("certificate.pem"), certificate).unwrap();
        fs::write(self.path("key.pem"), key).unwrap();
        fs::write(self.path("ca.pem"), &authority.pem).unwrap();
    }

    /// A broker with these, with settings beside.
    async fn broker(&self, database: &Database, settings: &[(&str, &str)]) -> Broker {
        let text = |name| self.path(name).to_str().unwrap().to_owned();
        let (certificate, key) = (text("certificate.pem"), text("key.pem"));
        let mut all = vec![
            ("TLS__CERTIFICATE_FILE", certificate.as_str()),
            ("TLS__KEY_FILE", key.as_str()),
            ("TLS__LOOK_INTERVAL_MS", "100"),
        ];
        all.extend(settings);
        Broker::start_with(database, &all).await
    }
}

fn url(address: &str) -> String {
    format!("https://localhost:{}", address.rsplit_once(':').unwrap().1)
}

fn tls(authority: &Authority) -> Tls {
    Tls::new().ca_certificate(&authority.pem)
}

fn a_job() -> NewJob {
    NewJob::raw("emails", "send", "x")
}

#[tokio::test]
async fn the_port_is_by_tls_and_its_certificate_is_renewed_without_a_restart() {
    let database = Database::fresh().await;
    let (old, new) = (Authority::new(), Authority::new());
    let files = Files::new(&old);
    let broker = files.broker(&database, &[]).await;
    let client = Client::connect_tls(url(&broker.grpc), tls(&old)).await.unwrap();
    client.enqueue(a_job()).await.unwrap();
    assert!(Client::connect_tls(url(&broker.grpc), tls(&new)).await.is_err(), "not trusted");
    assert!(Client::connect(url(&broker.grpc)).await.is_err(), "not one of the system's");
    let without = Client::connect_tls(broker.endpoint(), tls(&old)).await;
    assert!(without.unwrap_err().to_string().contains("without TLS"));

    // Neither a half-open handshake nor noise holds up others.
    let mut silent = Vec::new();
    for n in 0..300 {
        for address in [&broker.grpc, &broker.http] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            if n % 2 == 0 {
                stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
            }
            if n < 100 {
                silent.push(stream);
            }
        }
    }
    Client::connect_tls(url(&broker.grpc), tls(&old)).await.unwrap();
    assert!(!broker.log().contains("WARN"), "{}", broker.log());

    // What can't be read changes nothing.
    fs::write(files.path("certificate.pem"), "no certificate").unwrap();
    eventually("it is told", async || {
        broker.logged("the certificates can't be read; those from before stay in use")
    })
    .await;
    Client::connect_tls(url(&broker.grpc), tls(&old)).await.unwrap();
    files.renew(&new);
    eventually("the new one is shown", async || {
        Client::connect_tls(url(&broker.grpc), tls(&new)).await.is_ok()
    })
    .await;
    assert!(Client::connect_tls(url(&broker.grpc), tls(&old)).await.is_err());
    client.enqueue(a_job()).await.unwrap();
    assert_eq!(database.number("SELECT count(*) FROM currant.job").await, 2);
    let health = Command::new(env!("CARGO_BIN_EXE_currant-broker"))
        .arg("health")
        .env("CURRANT_HTTP__LISTEN", &broker.http)
        .env("CURRANT_TLS__CERTIFICATE_FILE", files.path("certificate.pem"))
        .output()
        .unwrap();
    assert!(health.status.success(), "{health:?}");
    let mut without = TcpStream::connect(&broker.http).await.unwrap();
    without.write_all(b"GET /health/live HTTP/1.1\r\nHost: test\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // It may be reset: what was sent isn't read.
    let _ = without.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/"), "HTTP without TLS was answered");
    assert_eq!(broker.terminate().await.code(), Some(0));
}

#[tokio::test]
async fn a_certificate_is_as_good_as_a_token_if_something_is_granted_to_its_name() {
    let database = Database::fresh().await;
    let (authority, other) = (Authority::new(), Authority::new());
    let files = Files::new(&authority);
    let worker_name = "worker.example.com";
    let create = ["create", "--name", "w", "--scope", "work", "--certificate", worker_name];
    program(&database, &create);
    let producer = program(&database, &["create", "--name", "p", "--scope", "enqueue"]);
    let ca = files.path("ca.pem");
    let settings = [("TLS__CLIENT_CA_FILE", ca.to_str().unwrap()), ("ACCESS__REQUIRED", "true")];
    let broker = files.broker(&database, &settings).await;

    let worker = |tls: Tls| {
        let handler =
            |job: Job<currant_worker_sdk::Bytes>| async move { Ok::<_, HandlerError>(job.payload) };
        let worker = Worker::builder(url(&broker.grpc)).tls(tls).queue("emails");
        worker.raw_handler("send", handler).build().unwrap()
    };
    let by_name = |authority: &Authority, name: &str, trusted: &Authority| {
        let (certificate, key) = authority.sign(name);
        tls(trusted).client_certificate(certificate, key)
    };
    let mut running = worker(by_name(&authority, worker_name, &authority)).start();
    running.ready().await.unwrap();
    let client = Client::connect_tls(url(&broker.grpc), tls(&authority)).await.unwrap();
    assert!(client.enqueue(a_job()).await.is_err(), "without a token");
    client.token(&producer).unwrap().enqueue(a_job()).await.unwrap();
    let succeeded = "SELECT count(*) FROM currant.jobs WHERE state = 'succeeded'";
    eventually("the job is done", async || database.number(succeeded).await == 1).await;
    running.shutdown().await.unwrap();

    // Nothing is granted to this name.
    let mut stranger = worker(by_name(&authority, "other.example.com", &authority)).start();
    assert!(matches!(stranger.closed().await, Err(WorkerError::Refused(_))));
    // The certificate shows the name, but isn't one that the broker trusts.
    let mut forged = worker(by_name(&other, worker_name, &authority)).start();
    let ready = tokio::time::timeout(std::time::Duration::from_secs(1), forged.ready()).await;
    assert!(!matches!(ready, Ok(Ok(()))), "a forged certificate was taken");
}

#[tokio::test]
async fn metrics_are_for_those_who_may_read() {
    let database = Database::fresh().await;
    let [reader, worker] = ["read", "work"]
        .map(|scope| program(&database, &["create", "--name", scope, "--scope", scope]));
    let broker = Broker::start_with(&database, &[("ACCESS__REQUIRED", "true")]).await;
    for (token, status) in
        [("", 401), ("currant_1_00", 401), (worker.as_str(), 403), (reader.as_str(), 200)]
    {
        assert_eq!(http_get_as(&broker.http, "/metrics", token).await.0, status, "{token}");
    }
    for path in ["/health/live", "/health/ready"] {
        assert_eq!(http_get(&broker.http, path).await.0, 200, "{path}");
    }
    assert_eq!(http_get(&broker.http, "/nowhere").await.0, 404);
}

#[tokio::test]
async fn others_are_let_in_only_by_tls_and_tokens_or_when_told() {
    let database = Database::fresh().await;
    let open = [("GRPC__LISTEN", "0.0.0.0:0")];
    let said = Broker::refused_with(&database.url, &open).await;
    assert!(said.contains("grpc.listen") && said.contains("access.insecure = true"), "{said}");
    let settings = [open[0], ("ACCESS__INSECURE", "true")];
    let broker = Broker::start_with(&database, &settings).await;
    assert_eq!(broker.terminate().await.code(), Some(0));
    let files = Files::new(&Authority::new());
    let broker = files.broker(&database, &[open[0], ("ACCESS__REQUIRED", "true")]).await;
    assert_eq!(broker.terminate().await.code(), Some(0));
}

/// Gives the server of this directory a certificate for this name.
async fn certify(postgres: &PrivatePostgres, authority: &Authority, name: &str) {
    let data = Path::new(postgres.data_dir()).join("pgdata");
    let owner = fs::metadata(&data).unwrap();
    let (certificate, key) = authority.sign(name);
    for (file, text) in [("server.crt", certificate), ("server.key", key)] {
        let path = data.join(file);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
    }
    let client = connect(&postgres.dsn()).await;
    client.batch_execute("ALTER SYSTEM SET ssl = on").await.unwrap();
    // Its own rules refuse everything that comes over the network.
    let rules = data.join("pg_hba.conf");
    let own = fs::read_to_string(&rules).unwrap();
    fs::write(&rules, format!("hostssl all all 127.0.0.0/8 trust\n{own}")).unwrap();
    let loaded = "SELECT extract(epoch FROM pg_conf_load_time())::float8";
    let before: f64 = client.query_one(loaded, &[]).await.unwrap().get(0);
    client.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    eventually("it is shown", async || {
        let client = connect(&postgres.dsn()).await;
        client.query_one(loaded, &[]).await.unwrap().get::<_, f64>(0) > before
    })
    .await;
}

#[tokio::test]
async fn the_database_is_reached_by_tls_only_if_its_certificate_is_right() {
    // An address of its own, so that the port is free.
    let [a, b] = [fastrand::u8(1..), fastrand::u8(1..)];
    let host = Ipv4Addr::new(127, 83, a, b).to_string();
    let (postgres, _) = Database::own_server(&[("listen_addresses", &host)]).await;
    let (authority, other) = (Authority::new(), Authority::new());
    let files = Files::new(&authority);
    let ca = files.path("ca.pem");
    let with_ca = [("DATABASE__CA_FILE", ca.to_str().unwrap())];
    let dsn = postgres.dsn();
    let (_, rest) = dsn.split_once(' ').unwrap();
    let url = format!("host={host} {rest} sslmode=require");

    let said = Broker::refused_with(&url, &with_ca).await;
    assert!(said.contains("database.url"), "a server without TLS: {said}");
    for (signer, name) in [(&other, host.as_str()), (&authority, "127.83.0.0")] {
        certify(&postgres, signer, name).await;
        let said = Broker::refused_with(&url, &with_ca).await;
        assert!(said.contains("certificate"), "{said}");
    }
    certify(&postgres, &authority, &host).await;
    let database = Database { name: "postgres".to_owned(), url };
    let broker = Broker::start_with(&database, &with_ca).await;
    let client = connect(&postgres.dsn()).await;
    let sql = "SELECT count(*) FILTER (WHERE NOT ssl), count(*)
               FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
               WHERE application_name LIKE 'currant-broker%'";
    eventually("all its connections are by TLS", async || {
        let row = client.query_one(sql, &[]).await.unwrap();
        let (without, all): (i64, i64) = (row.get(0), row.get(1));
        // The pool's six, and the listener.
        (without, all) == (0, 7)
    })
    .await;
    assert_eq!(broker.terminate().await.code(), Some(0));
}
