//! The server's processes.
//!
//! The postmaster's parent is a shell that stands guard: its standard input is a pipe of which only
//! we hold the other end, so the end of input tells it that we are gone, however that came. It then
//! ends the server at once and removes the directory if that was temporary. The guard has a process
//! group of its own: a Ctrl-C in the terminal reaches us, and we stop the server in our own time.

use std::{
    io::{BufRead, BufReader},
    os::unix::{net::UnixStream, process::CommandExt},
    process::{Child, ChildStdin, Command, Stdio},
    thread,
    time::Duration,
};

use super::{Error, PORT, binaries::Binaries, directory::Directory};
use crate::clock::now;

const START_SECONDS_MAX: u64 = 30;
const STOP_SECONDS_MAX: u64 = 60;
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// `$0` is the temporary directory or empty, `$@` the server's command line. A background command
/// begins with SIGQUIT ignored and accepts it only from when Postgres has set its handlers up:
/// hence the repetition.
const GUARD: &str = r#"
exec 3<&0
"$@" </dev/null >&2 3<&- &
server=$!
echo "$server"
exec >&2
{
    read -r _ <&3
    if [ -n "$0" ]; then : >"$0/orphaned"; fi
    while kill -QUIT "$server"; do sleep 1; done
} 2>/dev/null &
watch=$!
wait "$server"
status=$?
kill "$watch" 2>/dev/null
if [ -n "$0" ] && [ -e "$0/orphaned" ]; then rm -rf "$0"; fi
exit "$status"
"#;

#[derive(Debug)]
pub(super) struct Server {
    guard: Child,
    /// Never written; closing it ends the server.
    _alive: ChildStdin,
    pid: u32,
}

impl Server {
    pub(super) fn start(
        binaries: &Binaries,
        directory: &Directory,
        settings: &[(String, String)],
    ) -> Result<Self, Error> {
        let mut server = Self::spawn(binaries, directory, settings)?;
        // Dropping it on an error closes the pipe and so ends what was begun.
        server.await_ready(directory)?;
        Ok(server)
    }

    fn spawn(
        binaries: &Binaries,
        directory: &Directory,
        settings: &[(String, String)],
    ) -> Result<Self, Error> {
        let mut command = Command::new("sh");
        directory.user.apply(&mut command);
        command.args(["-c", GUARD]).arg(directory.temporary().unwrap_or("".as_ref()));
        command.arg(binaries.path("postgres")).arg("-D").arg(directory.pgdata());
        let own = [
            ("listen_addresses", String::new()),
            ("unix_socket_directories", directory.socket_dir().display().to_string()),
            ("unix_socket_permissions", "0700".into()),
            ("port", PORT.to_string()),
        ];
        let all = own.iter().map(|(name, value)| (*name, value));
        for (name, value) in all.chain(settings.iter().map(|(name, value)| (&**name, value))) {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        let mut guard = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(directory.log()?)
            .process_group(0)
            .spawn()
            .map_err(Error::io("starting a shell to run", binaries.path("postgres")))?;
        let alive = guard.stdin.take().expect("standard input is piped");
        let mut line = String::new();
        let stdout = guard.stdout.take().expect("standard output is piped");
        BufReader::new(stdout)
            .read_line(&mut line)
            .map_err(Error::io("reading the process id of", binaries.path("postgres")))?;
        let pid = line.trim().parse().map_err(|_| failed(&mut guard, directory))?;
        Ok(Self { guard, _alive: alive, pid })
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    fn await_ready(&mut self, directory: &Directory) -> Result<(), Error> {
        let socket = directory.socket_dir().join(format!(".s.PGSQL.{PORT}"));
        let deadline = now() + Duration::from_secs(START_SECONDS_MAX);
        while now() < deadline {
            if self.exited()? {
                return Err(failed(&mut self.guard, directory));
            }
            // The file of a server that was killed may be old and even name our process id, but
            // then nobody answers at the socket.
            if self.says_ready(directory) && UnixStream::connect(&socket).is_ok() {
                return Ok(());
            }
            pause();
        }
        Err(Error::NotReady {
            path: directory.root().into(),
            seconds: START_SECONDS_MAX,
            log: directory.log_tail(),
        })
    }

    /// By postmaster.pid: line 1 is the process id, line 8 the state.
    fn says_ready(&self, directory: &Directory) -> bool {
        let path = directory.pgdata().join("postmaster.pid");
        // Absent or half written: not yet.
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let mut lines = text.lines();
        lines.next() == Some(&self.pid.to_string())
            && lines.nth(6).is_some_and(|state| state.trim() == "ready")
    }

    pub(super) fn stop(mut self) -> Result<(), Error> {
        self.signal("INT")?;
        if self.await_exit()? {
            return Ok(());
        }
        let pid = self.pid;
        self.crash()?;
        Err(Error::CutOff { pid, seconds: STOP_SECONDS_MAX })
    }

    pub(super) fn crash(mut self) -> Result<(), Error> {
        self.signal("QUIT")?;
        if self.await_exit()? { Ok(()) } else { Err(Error::NotStopped { pid: self.pid }) }
    }

    /// By the shell's own `kill`: std has no signals, and `libc` would be unsafe.
    fn signal(&mut self, name: &str) -> Result<(), Error> {
        if self.exited()? {
            return Ok(());
        }
        // The guard hasn't reaped it yet or exits right after: the id is nobody else's. If it ended
        // meanwhile, that is what we want, so the status doesn't matter.
        let mut kill = Command::new("sh");
        kill.args(["-c", "kill -s \"$1\" \"$2\"", "sh", name, &self.pid.to_string()]);
        kill.stderr(Stdio::null()).status().map(drop).map_err(Error::io("starting", "sh"))
    }

    fn await_exit(&mut self) -> Result<bool, Error> {
        let deadline = now() + Duration::from_secs(STOP_SECONDS_MAX);
        while now() < deadline {
            if self.exited()? {
                return Ok(true);
            }
            pause();
        }
        Ok(false)
    }

    fn exited(&mut self) -> Result<bool, Error> {
        let status = self.guard.try_wait().map_err(Error::io("waiting for", "postgres"))?;
        Ok(status.is_some())
    }
}

/// The guard isn't reaped by a drop otherwise; it ends shortly after its input has.
impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.exited(), Ok(true)) {
            return;
        }
        tracing::warn!(pid = self.pid, "leaving Postgres to its guard, which ends it");
    }
}

fn failed(guard: &mut Child, directory: &Directory) -> Error {
    let status = match guard.wait() {
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    };
    Error::Failed { program: "postgres", status, output: directory.log_tail() }
}

/// Processes give no event to wait for without unsafe code.
#[expect(clippy::disallowed_methods, reason = "everything in the launcher blocks, bounded")]
fn pause() {
    thread::sleep(POLL_INTERVAL);
}

/// On a thread and runtime of its own, since the caller may be inside one.
pub(super) fn create_database(dsn: &str, database: &str) -> Result<(), Error> {
    let created = thread::scope(|scope| scope.spawn(|| run_create(dsn, database)).join());
    created.expect("creating a database doesn't panic")
}

fn run_create(dsn: &str, database: &str) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(Error::io("starting a runtime for", "tokio-postgres"))?;
    let failed = |source| Error::CreateDatabase { database: database.into(), source };
    runtime.block_on(async {
        let (client, connection) =
            tokio_postgres::connect(dsn, tokio_postgres::NoTls).await.map_err(failed)?;
        // Its error is also the client's.
        let driver = tokio::spawn(connection);
        let there = "SELECT FROM pg_database WHERE datname = $1";
        if client.query_opt(there, &[&database]).await.map_err(failed)?.is_none() {
            let name = database.replace('"', "\"\"");
            let create = format!("CREATE DATABASE \"{name}\"");
            client.batch_execute(&create).await.map_err(failed)?;
        }
        drop(client);
        drop(driver.await);
        Ok(())
    })
}
