//! Looks for a PostgreSQL server on this host.

use std::cmp::Reverse;
use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use nix::unistd::Uid;

use super::account::{self, Account};
use super::error::SandboxError;

/// The oldest major version that will do: `pg_stat_progress_create_index` came with 12.
const OLDEST: u32 = 12;

/// Where servers may lie: the environment, as values, so that a test can make up another.
#[derive(Debug, Clone, Default)]
pub struct Places {
    /// `HOWDAH_PG_BIN`: the directory of `initdb` and `postgres`. When given, nothing else is looked at.
    pub pg_bin: Option<PathBuf>,
    /// `HOWDAH_PG_ARCHIVE`: the base URL of a mirror to download from.
    pub archive: Option<String>,
    /// The directories of `PATH`.
    pub path: Vec<PathBuf>,
    /// What the fixed places are under: `/`.
    pub root: PathBuf,
    /// Where downloaded servers are kept, one directory a version; `None`: there is no home directory.
    pub cache: Option<PathBuf>,
}

impl Places {
    /// The places of this process.
    #[must_use]
    pub fn from_environment() -> Self {
        let given = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
        // Root's home is closed to the user that the server drops to.
        let caches = if Uid::effective().is_root() {
            Some(PathBuf::from("/var/cache"))
        } else {
            let absolute = |path: &PathBuf| path.is_absolute();
            given("XDG_CACHE_HOME")
                .map(PathBuf::from)
                .filter(absolute)
                .or_else(|| given("HOME").map(|home| Path::new(&home).join(".cache")))
        };
        Self {
            pg_bin: given("HOWDAH_PG_BIN").map(PathBuf::from),
            archive: given("HOWDAH_PG_ARCHIVE").map(|url| url.to_string_lossy().into_owned()),
            path: given("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default(),
            root: PathBuf::from("/"),
            cache: caches.map(|caches| caches.join("howdah/postgresql")),
        }
    }

    /// The directories that may hold a server, best first. They need not exist.
    fn candidates(&self) -> Vec<PathBuf> {
        let bins = |parent: &str, prefix: &str| newest_first(&self.root.join(parent), prefix, "bin");
        let mut found: Vec<PathBuf> = self.by_pg_config().into_iter().collect();
        found.extend(bins("usr/lib/postgresql", ""));
        found.extend(bins("usr", "pgsql-"));
        found.extend(self.path.iter().cloned());
        found.extend(bins("opt/homebrew/opt", "postgresql"));
        found.extend(bins("usr/local/opt", "postgresql"));
        found.extend(bins("Applications/Postgres.app/Contents/Versions", ""));
        found.extend(self.cache.iter().flat_map(|cache| newest_first(cache, "", "bin")));
        found
    }

    /// What the first `pg_config` on the path says.
    fn by_pg_config(&self) -> Option<PathBuf> {
        let program = self.path.iter().map(|directory| directory.join("pg_config")).find(|file| file.is_file())?;
        let mut command = Command::new(program);
        let output = run(command.arg("--bindir")).ok().filter(|output| output.status.success())?;
        let text = String::from_utf8(output.stdout).ok()?;
        Some(PathBuf::from(text.trim())).filter(|bin| bin.is_absolute())
    }
}

/// A server that was tried and runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    /// The directory of `initdb` and `postgres`.
    pub bin: PathBuf,
    /// What `postgres --version` says.
    pub version: ServerVersion,
}

/// A server's version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerVersion {
    /// The first number: 15.
    pub major: u32,
    /// The whole: `15.13`, `18beta1`.
    pub text: String,
}

impl ServerVersion {
    /// Reads `postgres (PostgreSQL) 15.13 (Debian 15.13-0+deb12u1)`.
    fn parse(line: &str) -> Option<Self> {
        let (_, rest) = line.split_once("(PostgreSQL)")?;
        let text = rest.split_whitespace().next()?;
        let major = text.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()?;
        Some(Self { major, text: text.to_owned() })
    }

    /// Why this version will not do, if so.
    fn refuse(&self, major: Option<u32>) -> Option<String> {
        match major {
            Some(major) if major != self.major => {
                Some(format!("it is PostgreSQL {}, and {major} is asked for", self.text))
            }
            _ if self.major < OLDEST => Some(format!("it is PostgreSQL {}, and {OLDEST} is the oldest", self.text)),
            _ => None,
        }
    }
}

/// The first server in `places` that runs (as `account`) and has the major version, if one is asked for.
///
/// Runs a few short processes and blocks meanwhile.
///
/// # Errors
/// `HOWDAH_PG_BIN` is given and will not do: a wrong setting is said, not worked around.
pub fn find(
    places: &Places,
    major: Option<u32>,
    account: Option<&Account>,
) -> Result<Option<Installation>, SandboxError> {
    if let Some(bin) = &places.pg_bin {
        let bad = |why| SandboxError::BadPgBin { path: bin.clone(), why };
        let found = probe(bin, account).map_err(bad)?;
        return match found.version.refuse(major) {
            Some(why) => Err(bad(why)),
            None => Ok(Some(found)),
        };
    }
    Ok(places.candidates().into_iter().find_map(|bin| {
        // Most candidates do not exist: no need to start a process to find that out.
        if !bin.join("initdb").is_file() {
            return None;
        }
        let refused = match probe(&bin, account) {
            Ok(found) => match found.version.refuse(major) {
                None => return Some(found),
                Some(why) => why,
            },
            Err(why) => why,
        };
        tracing::debug!(bin = %bin.display(), why = refused, "passed over a PostgreSQL server");
        None
    }))
}

/// Tries the server in `bin`: both programs must run, as the user that will run them.
///
/// # Errors
/// Why it will not do, as a clause.
pub fn probe(bin: &Path, account: Option<&Account>) -> Result<Installation, String> {
    let mut answer = String::new();
    for program in ["initdb", "postgres"] {
        let output = run(account::command(&bin.join(program), account).arg("--version"))
            .map_err(|error| format!("`{program} --version`: {error}"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("`{program} --version` failed ({}): {}", output.status, said.trim()));
        }
        String::from_utf8_lossy(&output.stdout).trim().clone_into(&mut answer);
    }
    let version = ServerVersion::parse(&answer).ok_or_else(|| format!("`postgres --version` says `{answer}`"))?;
    Ok(Installation { bin: bin.to_owned(), version })
}

fn run(command: &mut Command) -> io::Result<Output> {
    // Not here: the account may not enter the current directory.
    command.current_dir("/").stdin(Stdio::null());
    let mut tries = 20;
    loop {
        match command.output() {
            // A program that was written a moment ago: a child of another thread may still hold it open for writing.
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && tries > 0 => {
                tries -= 1;
                std::thread::sleep(Duration::from_millis(20));
            }
            result => return result,
        }
    }
}

/// `parent/NAME/tail` for each NAME that begins with `prefix`; the newest version first.
fn newest_first(parent: &Path, prefix: &str, tail: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let mut found: Vec<(Vec<u32>, PathBuf)> = entries
        .filter_map(|entry| {
            let name = entry.file_name();
            let rest = name.to_str()?.strip_prefix(prefix)?;
            // A dot begins the name of a download in progress.
            (!rest.starts_with('.')).then(|| (numbers(rest), entry.path().join(tail)))
        })
        .collect();
    found.sort_by_key(|(version, path)| (Reverse(version.clone()), path.clone()));
    found.into_iter().map(|(_, path)| path).collect()
}

/// The numbers in a name, for comparing versions as people do: 9.6 before 15.
fn numbers(name: &str) -> Vec<u32> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn program(file: &Path, script: &str) {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn server(bin: &Path, version: &str) {
        program(&bin.join("initdb"), &format!("echo 'initdb (PostgreSQL) {version}'"));
        program(&bin.join("postgres"), &format!("echo 'postgres (PostgreSQL) {version} (Test)'"));
    }

    fn found(places: &Places, major: Option<u32>) -> Option<String> {
        find(places, major, None).unwrap().map(|found| found.version.text)
    }

    #[test]
    fn versions_are_read() {
        let table = [
            ("postgres (PostgreSQL) 15.13 (Debian 15.13-0+deb12u1)", Some((15, "15.13"))),
            ("postgres (PostgreSQL) 18beta1", Some((18, "18beta1"))),
            ("postgres (PostgreSQL) 9.6.24", Some((9, "9.6.24"))),
            ("postgres (EnterpriseDB) 15", None),
            ("postgres (PostgreSQL) devel", None),
            ("", None),
        ];
        for (line, expected) in table {
            let version = ServerVersion::parse(line);
            assert_eq!(version.as_ref().map(|v| (v.major, v.text.as_str())), expected, "{line}");
        }
    }

    #[test]
    fn the_places_are_searched_in_order_and_the_newest_comes_first() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        let mut places = Places {
            root: root.path().to_owned(),
            cache: Some(at("cache")),
            path: vec![at("bin")],
            ..Places::default()
        };
        assert_eq!(found(&places, None), None);

        // From the last place to the first: each one found hides those before it.
        server(&at("cache/16.1.0/bin"), "16.1");
        server(&at("cache/.fetch-1/bin"), "99.9");
        assert_eq!(found(&places, None).as_deref(), Some("16.1"));
        server(&at("Applications/Postgres.app/Contents/Versions/17/bin"), "17.2");
        assert_eq!(found(&places, None).as_deref(), Some("17.2"));
        server(&at("opt/homebrew/opt/postgresql@14/bin"), "14.3");
        assert_eq!(found(&places, None).as_deref(), Some("14.3"));
        server(&at("bin"), "13.4");
        assert_eq!(found(&places, None).as_deref(), Some("13.4"));
        server(&at("usr/lib/postgresql/9.6/bin"), "9.6.24");
        server(&at("usr/lib/postgresql/15/bin"), "15.5");
        server(&at("usr/lib/postgresql/12/bin"), "12.6");
        assert_eq!(found(&places, None).as_deref(), Some("15.5"));
        server(&at("odd/bin"), "12.7");
        program(&at("bin/pg_config"), &format!("echo '{}'", at("odd/bin").display()));
        assert_eq!(found(&places, None).as_deref(), Some("12.7"));

        // A version that is asked for is found wherever it lies; one that is too old never is.
        assert_eq!(found(&places, Some(16)).as_deref(), Some("16.1"));
        assert_eq!(found(&places, Some(9)), None);
        assert_eq!(found(&places, Some(99)), None);
        places.pg_bin = Some(at("bin"));
        assert_eq!(found(&places, None).as_deref(), Some("13.4"));
    }

    #[test]
    fn half_a_server_and_a_broken_one_are_passed_over() {
        let root = tempfile::tempdir().unwrap();
        let bin = |version: &str| root.path().join("usr/lib/postgresql").join(version).join("bin");
        let places = Places { root: root.path().to_owned(), ..Places::default() };
        program(&bin("17").join("postgres"), "echo 'postgres (PostgreSQL) 17.1'");
        program(&bin("16").join("initdb"), "echo 'initdb (PostgreSQL) 16.1'");
        server(&bin("15"), "15.1");
        program(&bin("15").join("postgres"), "echo missing library >&2; exit 127");
        server(&bin("14"), "14.1");
        assert_eq!(found(&places, None).as_deref(), Some("14.1"));
    }

    #[test]
    fn a_wrong_howdah_pg_bin_is_an_error_and_nothing_else_is_tried() {
        let root = tempfile::tempdir().unwrap();
        server(&root.path().join("usr/lib/postgresql/15/bin"), "15.1");
        let empty = root.path().join("empty");
        let mut places = Places { root: root.path().to_owned(), pg_bin: Some(empty.clone()), ..Places::default() };
        let text = find(&places, None, None).unwrap_err().to_string();
        assert!(text.contains("HOWDAH_PG_BIN") && text.contains(&empty.display().to_string()), "{text}");
        assert!(text.contains("initdb"), "{text}");

        places.pg_bin = Some(root.path().join("usr/lib/postgresql/15/bin"));
        let text = find(&places, Some(17), None).unwrap_err().to_string();
        assert!(text.contains("15.1") && text.contains("17 is asked for"), "{text}");
    }
}
