//! A file of metrics for the node exporter's textfile collector: replaced as a whole, so that nobody reads half of it.
//!
//! Source: node_exporter, Textfile Collector: files end with `.prom`, and are moved into place.

use std::fs::Permissions;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::{Exposition, Format};

/// How often it is replaced.
pub const EVERY: Duration = Duration::from_secs(15);

/// Replaces the file every [`EVERY`], and once more on `stop`: how the run ended stays.
pub async fn keep(path: PathBuf, told: Arc<Exposition>, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut said = None;
    loop {
        let is_last = tokio::select! {
            biased;
            () = stop.cancelled() => true,
            _ = ticks.tick() => false,
        };
        let (path, told) = (path.clone(), Arc::clone(&told));
        let written = tokio::task::spawn_blocking(move || write(&path, &told).map_err(|e| e.to_string()));
        let failed = written.await.unwrap_or_else(|e| Err(e.to_string())).err();
        // A disk that is full says so once, not every time.
        if let Some(error) = failed.as_ref().filter(|_| failed != said) {
            tracing::warn!("the metrics file cannot be written, and is tried again: {error}");
        }
        said = failed;
        if is_last {
            return;
        }
    }
}

/// Puts a new file in the place of the old one, readable for everyone: the collector is another user.
///
/// # Errors
/// The directory is not there, or cannot be written to.
pub fn write(path: &Path, told: &Exposition) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".howdah-metrics-").tempfile_in(directory)?;
    file.write_all(told.text(Format::Prometheus).as_bytes())?;
    file.as_file().set_permissions(Permissions::from_mode(0o644))?;
    file.persist(path).map_err(|e| e.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_replaced_as_a_whole_and_nothing_else_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("howdah.prom");
        std::fs::write(&path, "x".repeat(100_000)).unwrap();
        let told = Exposition::default();
        write(&path, &told).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), told.text(Format::Prometheus));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
        assert!(write(&directory.path().join("absent/howdah.prom"), &told).is_err());
    }
}
