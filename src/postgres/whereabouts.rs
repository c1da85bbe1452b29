//! Whether the server is on this host, and how full its disk is.

use std::path::{Path, PathBuf};

use nix::sys::statvfs::statvfs;
use sqlx::Row;
use sqlx::postgres::PgConnection;
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

use super::signals::SignalError;

/// Two clocks tell when a process began, one of them by the time since boot: they may differ by a little.
const SAME_START_SECONDS: f64 = 5.0;

/// What the server says of itself, by which it can be looked for on this host.
#[derive(Debug, Clone, PartialEq)]
pub struct Whereabouts {
    /// The process that serves the connection.
    pub backend: i32,
    /// When that process began, in seconds since 1970; `None` where it is hidden, from a role that acts as another.
    pub backend_began: Option<f64>,
    /// `data_directory`; `None` where it is hidden from the role.
    pub data_directory: Option<PathBuf>,
}

impl Whereabouts {
    /// Asks the server: `pg_stat_activity`, `pg_settings`.
    ///
    /// # Errors
    /// The server's.
    pub async fn ask(connection: &mut PgConnection) -> Result<Self, SignalError> {
        let row = sqlx::query(
            "SELECT a.pid AS backend, extract(epoch FROM a.backend_start)::float8 AS began, \
                    (SELECT setting FROM pg_settings WHERE name = 'data_directory') AS data \
             FROM pg_stat_activity a WHERE a.pid = pg_backend_pid()",
        )
        .persistent(false)
        .fetch_one(connection)
        .await?;
        Ok(Self {
            backend: row.try_get("backend")?,
            backend_began: row.try_get("began")?,
            data_directory: row.try_get::<Option<String>, _>("data")?.map(PathBuf::from),
        })
    }

    /// Whether the server is on this host, which is to say: whether the process that serves our connection is one that
    /// we can see. Reads the process table.
    ///
    /// An address proves nothing: 127.0.0.1 may be a tunnel's end. Nor does a file: another server's data may lie under
    /// the same path here, and this server's data may come over the network. A process of the same number, of the same
    /// name, that began in the same second, is the one. In doubt it is elsewhere: behind a pooler's or a container's
    /// walls, where processes have other numbers.
    #[must_use]
    pub fn is_here(&self) -> bool {
        let (Ok(number), Some(began)) = (u32::try_from(self.backend), self.backend_began) else { return false };
        let Ok(mut system) = System::new() else { return false };
        let pid = Pid::from_u32(number);
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, ProcessRefreshKind::nothing());
        system.process(pid).is_some_and(|process| {
            let name = process.name().to_string_lossy();
            (name.starts_with("postgres") || name.starts_with("postmaster"))
                && is_same_start(process.start_time(), began)
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "seconds since 1970")]
fn is_same_start(seen: u64, told: f64) -> bool {
    (seen as f64 - told).abs() <= SAME_START_SECONDS
}

/// Free space in percent, as `df` counts it, of the file system that holds `data`, or of the one that holds its `pg_wal`,
/// where that is another one and less is free there. Blocks, as long as the file system does.
///
/// # Errors
/// The system's.
pub fn free_disk_percent(data: &Path) -> std::io::Result<f64> {
    let own = free_percent(data)?;
    // Closed to others than the server's own user: then it is not known whether it is elsewhere.
    Ok(free_percent(&data.join("pg_wal")).map_or(own, |wal| wal.min(own)))
}

/// Free space in bytes of the file system that holds `data`, and of the one that holds its `pg_wal`, which may be the
/// same. Blocks, as long as the file systems do.
///
/// # Errors
/// The system's.
pub fn free_disk_bytes(data: &Path) -> std::io::Result<u64> {
    let free = |path: &Path| statvfs(path).map(|found| found.blocks_available().saturating_mul(found.fragment_size()));
    let own = free(data)?;
    Ok(free(&data.join("pg_wal")).map_or(own, |wal| wal.min(own)))
}

#[expect(clippy::cast_precision_loss, reason = "a percentage")]
fn free_percent(path: &Path) -> std::io::Result<f64> {
    let found = statvfs(path)?;
    let used = found.blocks().saturating_sub(found.blocks_free());
    let free = found.blocks_available();
    if used + free == 0 {
        return Err(std::io::Error::other("the file system does not tell its size"));
    }
    Ok(free as f64 * 100.0 / (used + free) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_is_no_server_is_not_one() {
        let own = i32::try_from(std::process::id()).expect("a pid");
        for backend in [own, 0, -1, i32::MAX] {
            let here = Whereabouts { backend, backend_began: Some(0.0), data_directory: None };
            assert!(!here.is_here(), "{backend}");
        }
    }

    #[test]
    fn a_disk_has_between_nothing_and_all_free() {
        let free = free_disk_percent(Path::new("/")).expect("a root directory");
        assert!((0.0..=100.0).contains(&free), "{free}");
        assert!(free_disk_percent(Path::new("/no/such/place")).is_err());
        assert!(free_disk_bytes(Path::new("/")).is_ok() && free_disk_bytes(Path::new("/no/such/place")).is_err());
    }
}
