use std::{
    fs,
    net::TcpListener,
    os::unix::{
        fs::{MetadataExt, chown},
        process::CommandExt,
    },
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;
use tokio_postgres::NoTls;

use super::{Database, eventually};

/// Fewer than what comes through it: everybody's transactions meet on each of them.
const CONNECTIONS: usize = 3;

/// PgBouncer before a database, in transaction mode; killed when dropped.
pub(crate) struct Pooler {
    child: Child,
    /// Leads to the database through it.
    pub(crate) url: String,
    _directory: TempDir,
}

impl Pooler {
    pub(crate) async fn start(database: &Database) -> Self {
        let field = |name: &str| {
            let (_, rest) = database.url.split_once(&format!("{name}=")).unwrap();
            rest.split(' ').next().unwrap().to_owned()
        };
        let (host, user, name) = (field("host"), field("user"), &database.name);
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pgbouncer.ini");
        let settings = format!(
            "[databases]\n{name} = host={host} port={} user={user}\n\
             [pgbouncer]\npool_mode = transaction\ndefault_pool_size = {CONNECTIONS}\n\
             listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n",
            field("port")
        );
        fs::write(&file, settings).unwrap();
        // As the server's user: it refuses to run as root, and the socket isn't for everybody.
        let owner = fs::metadata(&host).unwrap();
        let own = fs::metadata(&file).unwrap().uid();
        let mut command = Command::new("pgbouncer");
        if owner.uid() != own {
            let (uid, gid) = (owner.uid(), owner.gid());
            chown(directory.path(), Some(uid), Some(gid)).unwrap();
            command.uid(uid).gid(gid);
        }
        let path = std::env::var("PATH").unwrap_or_default();
        command.arg("-q").arg(&file).current_dir("/").env("PATH", format!("{path}:/usr/sbin"));
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.expect("pgbouncer: apt-get install pgbouncer");
        let url = format!("host=127.0.0.1 port={port} user={user} dbname={name}");
        let pooler = Self { child, url, _directory: directory };
        eventually("the pooler answers", async || {
            tokio_postgres::connect(&pooler.url, NoTls).await.is_ok()
        })
        .await;
        pooler
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
