//! Where this machine keeps the server's binaries.

use std::{
    env,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::Error;

/// Names the directory of the binaries, and wins over every other place.
const OVERRIDE: &str = "CURRANT_POSTGRES_BIN";

/// A directory with `initdb` and `postgres`.
#[derive(Clone, Debug)]
pub(super) struct Binaries {
    directory: PathBuf,
    /// 15, 16, ...
    pub(super) major: u32,
}

impl Binaries {
    pub(super) fn find() -> Result<Self, Error> {
        let directory = match env::var_os(OVERRIDE) {
            Some(named) => {
                let named = PathBuf::from(named);
                if !has_binaries(&named) {
                    return Err(Error::NoBinariesThere(named));
                }
                named
            }
            None => candidates().into_iter().find(|d| has_binaries(d)).ok_or(Error::NoBinaries)?,
        };
        let major = major(&directory.join("postgres"))?;
        Ok(Self { directory, major })
    }

    pub(super) fn path(&self, program: &str) -> PathBuf {
        self.directory.join(program)
    }
}

fn has_binaries(directory: &Path) -> bool {
    ["initdb", "postgres"].iter().all(|program| directory.join(program).is_file())
}

/// Best first.
fn candidates() -> Vec<PathBuf> {
    let mut found = Vec::new();
    // Without pg_config, or with one that fails, the other places remain.
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output() {
        found.push(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    }
    if let Some(path) = env::var_os("PATH") {
        found.extend(env::split_paths(&path));
    }
    found.extend(versions(Path::new("/usr/lib/postgresql"), "bin"));
    for homebrew in ["/opt/homebrew/opt", "/usr/local/opt"] {
        found.extend(versions(Path::new(homebrew), "bin"));
    }
    found.push("/Applications/Postgres.app/Contents/Versions/latest/bin".into());
    found
}

/// `<parent>/<version>/<sub>` for every entry named `15`, `postgresql@15` or `postgresql`, newest
/// first.
fn versions(parent: &Path, sub: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(parent) else { return Vec::new() };
    let mut found: Vec<(u32, PathBuf)> = entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            Some((version_of_directory(path.file_name()?)?, path.join(sub)))
        })
        .collect();
    found.sort_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, path)| path).collect()
}

fn version_of_directory(name: &OsStr) -> Option<u32> {
    match name.to_str()? {
        "postgresql" => Some(0),
        name => name.strip_prefix("postgresql@").unwrap_or(name).parse().ok(),
    }
}

fn major(postgres: &Path) -> Result<u32, Error> {
    let output = Command::new(postgres)
        .arg("--version")
        .output()
        .map_err(Error::io("starting", postgres))?;
    let answer = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    parse_major(&answer).ok_or_else(|| Error::UnknownVersion { path: postgres.into(), answer })
}

/// Of `postgres (PostgreSQL) 15.18 (Debian ...)`, `... 18beta1`.
fn parse_major(answer: &str) -> Option<u32> {
    let version = answer.split_once("(PostgreSQL) ")?.1;
    let digits = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
    version[..digits].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read_from_every_form_of_the_answer() {
        let debian = "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)";
        assert_eq!(parse_major(debian), Some(15));
        assert_eq!(parse_major("postgres (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(parse_major("postgres (PostgreSQL) 17"), Some(17));
        assert_eq!(parse_major("postgres 9"), None);
    }

    #[test]
    fn the_newest_version_comes_first_by_number_and_not_by_name() {
        let parent = tempfile::tempdir().expect("a temporary directory");
        for name in ["9", "15", "postgresql@16", "postgresql", "common"] {
            fs::create_dir(parent.path().join(name)).expect("a directory");
        }
        let names: Vec<PathBuf> = versions(parent.path(), "bin");
        let expected = ["postgresql@16/bin", "15/bin", "9/bin", "postgresql/bin"];
        assert_eq!(names, expected.map(|name| parent.path().join(name)));
    }
}
