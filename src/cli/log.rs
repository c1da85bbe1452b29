//! The log file: one a run, in the XDG state directory, rolled by the day, readable by its owner alone.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tracing_appender::non_blocking::{NonBlocking, WorkerGuard};
use tracing_appender::rolling;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use super::environment;
use crate::run::{Cause, RunId};

/// Most that is held back until the run is known, in bytes.
const HELD: usize = 256 * 1024;
/// Days of a run's log that are kept.
const DAYS: usize = 14;

/// The log of this process. Keep it until the end of `main`: dropping it writes out what is still on its way.
pub struct Log {
    shared: Arc<Shared>,
    guards: Mutex<Vec<WorkerGuard>>,
    directory: PathBuf,
}

/// Where the process logs to, also when it drives one run after another.
static SHARED: OnceLock<Arc<Shared>> = OnceLock::new();

#[derive(Default)]
struct Shared {
    file: Mutex<Option<NonBlocking>>,
    held: Mutex<Vec<u8>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Log {
    /// Begins to log: into memory until [`Log::of_run`] names the file. `level` is `--log-level`, else `HOWDAH_LOG`, else
    /// `info`.
    ///
    /// # Errors
    /// The level is not a filter. There is no directory to log in.
    pub fn begin(level: Option<&str>) -> Result<Self, Cause> {
        let wanted = level.map(str::to_owned).or_else(|| environment::variable("HOWDAH_LOG"));
        let filter = filter(wanted.as_deref().unwrap_or("info"))?;
        let directory = environment::log_directory()?;
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(&directory).map_err(|e| unwritable(&directory, &e))?;
        let shared = Arc::clone(SHARED.get_or_init(Arc::default));
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(false)
            .with_target(true)
            .with_writer(Sink(Arc::clone(&shared)))
            .finish();
        // Set once a process: a second log of it goes on with the first one's.
        drop(tracing::subscriber::set_global_default(subscriber));
        Ok(Self { shared, guards: Mutex::default(), directory })
    }

    /// Names the file after the run, and writes what was held back.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn of_run(&self, run: RunId) -> Result<(), Cause> {
        self.named(&run.short())
    }

    /// Names the file after what is not one run, and writes what was held back.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn named(&self, name: &str) -> Result<(), Cause> {
        let file = rolling::Builder::new()
            .rotation(rolling::Rotation::DAILY)
            .filename_prefix(format!("howdah-{name}"))
            .filename_suffix("log")
            .max_log_files(DAYS)
            .build(&self.directory)
            .map_err(|e| unwritable(&self.directory, &io::Error::other(e.to_string())))?;
        let (mut file, guard) = tracing_appender::non_blocking(file);
        let mut held = lock(&self.shared.held);
        drop(file.write_all(&std::mem::take(&mut *held)));
        *lock(&self.shared.file) = Some(file);
        lock(&self.guards).push(guard);
        drop(held);
        restrict(&self.directory);
        Ok(())
    }
}

/// `sqlx`'s and `hyper`'s own chatter is not asked for by a plain level.
fn filter(level: &str) -> Result<EnvFilter, Cause> {
    let plain = matches!(level.to_ascii_lowercase().as_str(), "error" | "warn" | "info" | "debug" | "trace" | "off");
    let directives = if plain { format!("warn,howdah={level}") } else { level.to_owned() };
    EnvFilter::builder().parse(&directives).map_err(|e| {
        Cause::usage(format!("the log level `{level}` is not understood: {e}"))
            .hint("write error, warn, info, debug or trace, or a filter like howdah=debug,sqlx=info")
    })
}

fn unwritable(directory: &Path, e: &io::Error) -> Cause {
    Cause::usage(format!(
        "the log cannot be written in {}: {}",
        directory.display(),
        crate::postgres::error::io_words(e)
    ))
    .hint("set XDG_STATE_HOME to a directory that can be written")
}

/// Files that are rolled later get their mode from the process's umask, which `main` has set to 077.
fn restrict(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        if entry.path().extension().is_some_and(|suffix| suffix == "log") {
            drop(fs::set_permissions(entry.path(), fs::Permissions::from_mode(0o600)));
        }
    }
}

#[derive(Clone)]
struct Sink(Arc<Shared>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(file) = lock(&self.0.file).as_mut() {
            return file.write(bytes);
        }
        let mut held = lock(&self.0.held);
        if held.len() + bytes.len() <= HELD {
            held.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Sink {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::filter;

    #[test]
    fn levels_and_filters_are_understood_and_nonsense_is_refused() {
        for level in ["info", "DEBUG", "howdah=debug,sqlx=info"] {
            assert!(filter(level).is_ok(), "{level}");
        }
        assert!(filter("howdah=loud").is_err());
    }
}
