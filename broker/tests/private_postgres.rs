//! The launcher of a private Postgres, against the binaries of this machine.

#![allow(clippy::unwrap_used)]

use std::{
    env,
    io::{BufRead, BufReader, Read, Write},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use currant_broker::private_postgres::{Error, Options, PrivatePostgres};
use tokio_postgres::{Client, NoTls};

/// Set for the process that [`a_killed_parent_leaves_no_server_behind`] starts.
const CHILD: &str = "CURRANT_TEST_CHILD_OF";

async fn connect(dsn: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(dsn, NoTls).await.unwrap();
    // Its error is the client's too.
    tokio::spawn(async { drop(connection.await) });
    client
}

fn runs(pid: u32) -> bool {
    // A zombie counts as gone: containers may have nobody who reaps it.
    let state = Command::new("ps").args(["-o", "stat=", "-p", &pid.to_string()]).output().unwrap();
    !matches!(String::from_utf8_lossy(&state.stdout).trim(), "" | "Z" | "Zs" | "Z+")
}

fn await_end(pid: u32) {
    for _ in 0..1000 {
        if !runs(pid) {
            return;
        }
        #[expect(clippy::disallowed_methods, reason = "a stranger's process gives no event")]
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("process {pid} still runs after 10 s");
}

#[tokio::test]
async fn it_starts_answers_and_leaves_nothing() {
    let settings = vec![("work_mem".to_owned(), "5MB".to_owned())];
    let database = "it's \"odd\"".to_owned();
    let postgres =
        PrivatePostgres::start(Options { settings, database: database.clone(), data_dir: None })
            .unwrap();
    let (pid, directory) = (postgres.postmaster_pid(), postgres.data_dir().to_owned());
    let client = connect(&postgres.dsn()).await;
    let row = client
        .query_one(
            "SELECT current_database()::text, current_setting('fsync'), \
             current_setting('listen_addresses'), current_setting('work_mem')",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(row.get::<_, String>(0), database);
    let settings: Vec<String> = (1..4).map(|column| row.get(column)).collect();
    assert_eq!(settings, ["on", "", "5MB"]);

    postgres.stop().unwrap();
    assert!(!runs(pid));
    assert!(!directory.exists());
}

#[tokio::test]
async fn committed_rows_survive_a_crash_and_a_restart() {
    let parent = tempfile::Builder::new().tempdir_in("/tmp").unwrap();
    open_to_all(parent.path());
    let data_dir = Some(parent.path().join("data"));
    let options = Options { data_dir, ..Options::default() };
    let mut postgres = PrivatePostgres::start(options.clone()).unwrap();
    let client = connect(&postgres.dsn()).await;
    client.batch_execute("CREATE TABLE kept (); INSERT INTO kept DEFAULT VALUES").await.unwrap();

    let first = postgres.postmaster_pid();
    postgres.crash().unwrap();
    assert!(!runs(first));
    postgres.restart().unwrap();
    assert_ne!(postgres.postmaster_pid(), first);
    assert_eq!(count_kept(&postgres).await, 1);

    // A second server on the same directory is refused, in Postgres' own words.
    let error = PrivatePostgres::start(options.clone()).unwrap_err();
    assert!(error.to_string().contains("postmaster.pid"), "{error}");
    assert_eq!(count_kept(&postgres).await, 1);

    postgres.stop().unwrap();
    let again = PrivatePostgres::start(options).unwrap();
    assert_eq!(count_kept(&again).await, 1);
    let pid = again.postmaster_pid();
    drop(again);
    assert!(!runs(pid));
}

async fn count_kept(postgres: &PrivatePostgres) -> i64 {
    let client = connect(&postgres.dsn()).await;
    client.query_one("SELECT count(*) FROM kept", &[]).await.unwrap().get(0)
}

#[test]
fn a_deep_directory_gets_a_socket_elsewhere() {
    let parent = tempfile::Builder::new().tempdir_in("/tmp").unwrap();
    open_to_all(parent.path());
    let data_dir = parent.path().join("a b").join("x".repeat(100)).join("data");
    let options = Options { data_dir: Some(data_dir.clone()), ..Options::default() };
    let postgres = PrivatePostgres::start(options).unwrap();
    assert_eq!(postgres.data_dir(), data_dir);
    assert!(!postgres.dsn().contains("xxx"), "{}", postgres.dsn());
    postgres.stop().unwrap();
    assert!(data_dir.join("pgdata").exists());
}

#[test]
fn a_setting_that_postgres_refuses_is_told_with_the_end_of_the_log() {
    let settings = vec![("no_such_setting".to_owned(), "1".to_owned())];
    let error = PrivatePostgres::start(Options { settings, ..Options::default() }).unwrap_err();
    assert!(matches!(error, Error::Failed { program: "postgres", .. }), "{error:?}");
    assert!(error.to_string().contains("no_such_setting"), "{error}");
}

#[test]
fn a_killed_parent_leaves_no_server_behind() {
    if env::var_os(CHILD).is_some() {
        return be_the_parent();
    }
    let mut parent = Command::new(env::current_exe().unwrap())
        .args(["--exact", "a_killed_parent_leaves_no_server_behind", "--nocapture"])
        .env(CHILD, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(parent.stdout.take().unwrap()).lines().map(Result::unwrap);
    let told: Vec<String> =
        lines.filter_map(|line| Some(line.split_once("CHILD ")?.1.to_owned())).take(2).collect();
    let (pid, directory) = (told[0].parse().unwrap(), Path::new(&told[1]));
    assert!(runs(pid) && directory.exists());
    parent.kill().unwrap();
    parent.wait().unwrap();
    await_end(pid);
    for _ in 0..1000 {
        if !directory.exists() {
            return;
        }
        #[expect(clippy::disallowed_methods, reason = "a stranger's file gives no event")]
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{} is still there after 10 s", directory.display());
}

fn be_the_parent() {
    let postgres = PrivatePostgres::start(Options::default()).unwrap();
    println!("CHILD {}", postgres.postmaster_pid());
    println!("CHILD {}", postgres.data_dir().display());
    std::io::stdout().flush().unwrap();
    // Until killed.
    drop(std::io::stdin().read(&mut [0]));
    panic!("the test ended first: {}", postgres.dsn());
}

/// As root the server's user must be able to pass.
fn open_to_all(directory: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755)).unwrap();
}
