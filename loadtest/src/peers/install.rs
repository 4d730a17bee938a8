//! What the other systems need on this machine: npm's packages, and Redis.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

/// Where the programs and their packages are.
const PEERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers");
/// What npm writes when it is done.
const INSTALLED: &str = "node_modules/.package-lock.json";
const LOCK: &str = "package-lock.json";

/// The Node that npm's package `node` brings, and our programs.
#[derive(Clone, Debug)]
pub(super) struct Node {
    folder: PathBuf,
}

impl Node {
    /// Installs the packages where they are missing or older than the list of them. Blocks.
    pub(super) fn install() -> Result<Node> {
        let folder = PathBuf::from(PEERS);
        ensure!(folder.join(LOCK).exists(), "{PEERS} isn't there: run this from its sources");
        if !is_newer(&folder.join(INSTALLED), &folder.join(LOCK)) {
            eprintln!("installing graphile-worker and BullMQ: npm ci in {PEERS}");
            npm_ci(&folder)?;
        }
        let node = Node { folder };
        ensure!(node.binary().exists(), "npm ci has brought no {}", node.binary().display());
        Ok(node)
    }

    pub(super) fn binary(&self) -> PathBuf {
        self.folder.join("node_modules/node/bin/node")
    }

    pub(super) fn program(&self) -> PathBuf {
        self.folder.join("main.mjs")
    }
}

fn npm_ci(folder: &Path) -> Result<()> {
    // Its messages are no part of the figures on standard output.
    let npm = Command::new("npm")
        .args(["ci", "--no-audit", "--no-fund", "--loglevel=error"])
        .current_dir(folder)
        .stdout(io::stderr())
        .status();
    match npm {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            bail!("npm isn't installed (Debian: apt-get install npm; macOS: brew install node)")
        }
        other => {
            let status = other.context("can't start npm")?;
            ensure!(status.success(), "npm ci ended with {status}");
            Ok(())
        }
    }
}

fn is_newer(one: &Path, two: &Path) -> bool {
    let modified = |path| fs::metadata(path).and_then(|file| file.modified());
    matches!((modified(one), modified(two)), (Ok(one), Ok(two)) if one >= two)
}

/// The first `redis-server` on PATH.
pub(super) fn redis_server() -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let found =
        env::split_paths(&path).map(|folder| folder.join("redis-server")).find(|p| p.exists());
    found.context(
        "redis-server isn't installed (Debian: apt-get install redis-server; \
         macOS: brew install redis)",
    )
}

/// Such as 7.0.15.
pub(super) fn redis_version(server: &Path) -> Result<String> {
    let output = Command::new(server).arg("--version").stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("can't start {}", server.display()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.split_whitespace().find_map(|word| word.strip_prefix("v="));
    version.map(str::to_owned).with_context(|| format!("no version in {text:?}"))
}
