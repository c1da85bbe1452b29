//! `transform` of files: files through a program, each replaced by what comes out, exactly once.
//!
//! The files, in the order of their paths, are what is walked; a batch is the next few. Each new content is written beside
//! its file, the ledger is told of both hashes, durably, and only then does the one take the other's place; that it has, and
//! that the files are walked, commits together. Whoever goes on after a crash sees by a file's hash what was done with it.

mod beside;
mod child;
mod disk;
mod halt;
mod list;
mod mend;
mod preview;
mod script;
mod stage;
mod tool;
mod walk;
mod worker;

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use sqlx::Connection;
use sqlx::postgres::PgConnection;
use tokio::sync::Semaphore;

use self::beside::Driver;
use self::list::{FileList, Found as Files};
pub use self::mend::{Mended, mending};
pub use self::preview::{Change, Preview, preview};
use self::stage::Site;
use self::tool::Tool;
use self::worker::Worker;
use super::backends::Backends;
use super::preflight::{Found, Looking};
use super::{Workbench, trouble};
use crate::engine::batch_size::Bounds;
use crate::engine::failpoint;
use crate::engine::ports::{BatchWorker, Batched, Conclusion, StepBody, StepContext, StepError, Sweep, Trouble};
use crate::plan::model::PlanSource;
use crate::plan::movers::{FileTransform, Program};
use crate::postgres::record::{FileState, RecordError, Sweeps};
use crate::postgres::{error, session};
use crate::run::{Cause, Level, RunId, Segment, StepIndex, Tally, human};

/// The most segments of a step that the ledger keeps.
const MOST_SEGMENTS: u32 = 4096;
/// Files in a batch at most: so many are made ready before the ledger is told.
const MOST_FILES: u64 = 64;

/// What a walk over files is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The step's own change.
    Change,
    /// Puts the originals back that a step of another run has replaced.
    Restore {
        /// Whose.
        run: RunId,
        /// Which.
        step: StepIndex,
    },
}

impl Purpose {
    /// What a file is once its new content is in its place.
    fn becomes(self) -> FileState {
        match self {
            Self::Change => FileState::Replaced,
            Self::Restore { .. } => FileState::Restored,
        }
    }
}

/// A step over files.
struct FilesStep {
    bench: Workbench,
    files: Arc<FileTransform>,
    purpose: Purpose,
    opened: OnceLock<Opened>,
    backends: Arc<Backends>,
    places: Arc<Semaphore>,
}

/// What is known once the step was opened.
#[derive(Clone)]
struct Opened {
    list: Arc<FileList>,
    site: Arc<Site>,
}

/// What a step's workers share.
#[derive(Clone)]
struct Shared {
    bench: Workbench,
    files: Arc<FileTransform>,
    purpose: Purpose,
    list: Arc<FileList>,
    site: Arc<Site>,
    backends: Arc<Backends>,
    /// Files that are open at once.
    places: Arc<Semaphore>,
}

impl Shared {
    /// The path under which the ledger has a file.
    fn absolute(&self, name: &str) -> String {
        absolute(&self.site.directory, name)
    }
}

fn absolute(directory: &Path, name: &str) -> String {
    directory.join(name).to_string_lossy().into_owned()
}

/// The step as the engine drives it.
#[must_use]
pub fn step(bench: &Workbench, files: &FileTransform) -> StepBody {
    body(bench, files, Purpose::Change)
}

/// What puts the originals back that a step of another run has replaced.
#[must_use]
pub fn restoring(bench: &Workbench, files: &FileTransform, run: RunId, step: StepIndex) -> StepBody {
    body(bench, files, Purpose::Restore { run, step })
}

fn body(bench: &Workbench, files: &FileTransform, purpose: Purpose) -> StepBody {
    StepBody::Batched(Arc::new(FilesStep {
        bench: bench.clone(),
        files: Arc::new(files.clone()),
        purpose,
        opened: OnceLock::new(),
        backends: Arc::default(),
        places: Arc::new(Semaphore::new(usize::try_from(files.concurrency).unwrap_or(1).max(1))),
    }))
}

/// Looks for the files on a thread for that: there may be many.
async fn find(what: String, files: Arc<FileTransform>, source: Arc<PlanSource>) -> Result<Files, Cause> {
    let found = tokio::task::spawn_blocking(move || list::find(&what, &files, &source)).await;
    found.unwrap_or_else(|e| Err(Cause::bug(format!("looking for files: {e}"))))
}

impl FilesStep {
    fn opened(&self) -> Result<Opened, StepError> {
        let opened = self.opened.get().cloned();
        opened.ok_or_else(|| StepError::Failed(Cause::bug("a step over files was driven before it was opened")))
    }

    async fn own_connection(&self) -> Result<PgConnection, StepError> {
        let failed = |e: sqlx::Error| trouble::step_error(&e, error::cause(&self.bench.what(), &e));
        Ok(self.bench.pool.acquire().await.map_err(failed)?.detach())
    }

    /// Waits for the ledger, but not for ever.
    async fn bounded<T>(&self, work: impl Future<Output = Result<T, RecordError>>) -> Result<T, StepError> {
        let limit = self.bench.limits.count_timeout + self.bench.deadline();
        let what = self.bench.what();
        if let Ok(done) = tokio::time::timeout(limit, work).await {
            return done.map_err(|e| trouble::of_record(&e, &what));
        }
        let cause = Cause::new(format!("{what}: no answer within {}", human::duration(limit)));
        Err(StepError::Passing(Trouble::Outage, cause))
    }

    /// The files, and what is to be said of those that are left out.
    async fn look(&self, connection: &mut PgConnection) -> Result<Files, StepError> {
        let bench = &self.bench;
        match self.purpose {
            Purpose::Change => {
                let found = find(bench.what(), Arc::clone(&self.files), Arc::clone(&bench.source)).await;
                found.map_err(StepError::Failed)
            }
            Purpose::Restore { run, step } => {
                let paths = self.bounded(bench.recorder.replaced_by(connection, run, step)).await?;
                let list = FileList::new(paths.into_iter().map(|path| (path, 0)).collect());
                Ok(Files { list, skipped: Vec::new() })
            }
        }
    }

    /// Whether the list is the one that the run began with.
    fn same_files(&self, now: &str, then: &str) -> Result<(), StepError> {
        if now == then || matches!(self.purpose, Purpose::Restore { .. }) {
            return Ok(());
        }
        let (now, then): (serde_json::Value, serde_json::Value) =
            (serde_json::from_str(now).unwrap_or_default(), serde_json::from_str(then).unwrap_or_default());
        let what = self.bench.what();
        if now["directory"] != then["directory"] {
            let was = then["directory"].as_str().unwrap_or_default();
            return Err(StepError::Failed(
                Cause::usage(format!("{what}: the run began in another directory, {was}"))
                    .hint(format!("go there and resume: cd {was}")),
            ));
        }
        let count = |of: &serde_json::Value| human::count(of["files"].as_u64().unwrap_or(0));
        Err(StepError::Failed(
            Cause::usage(format!(
                "{what}: the files are not those that the run began with: {} now, {} then",
                count(&now),
                count(&then)
            ))
            .hint("give back what was taken away, take away what was added, and resume")
            .hint("or begin a new run: howdah run PLAN --new; it gives every file to the program again"),
        ))
    }
}

#[async_trait]
impl Batched for FilesStep {
    async fn open(&self, context: &StepContext) -> Result<Sweep, StepError> {
        context.reporter.doing("looking for the files", None);
        let bench = &self.bench;
        let directory = std::env::current_dir().map_err(|e| {
            StepError::Failed(Cause::new(format!("{}: there is no working directory: {e}", bench.what())))
        })?;
        let mut connection = self.own_connection().await?;
        let Files { list, skipped } = self.look(&mut connection).await?;
        let identity = list.identity(&directory);
        let known: Sweeps = self.bounded(bench.recorder.sweeps(&mut connection, bench.index)).await?;
        if let Some(then) = &known.walk {
            self.same_files(&identity, then)?;
        } else {
            for text in skipped {
                context.reporter.notice(Level::Warning, text);
            }
            let planned = list.segments();
            let write = async {
                let mut tx = connection.begin_with(session::DURABLE).await?;
                let foretold = Some(list.len() as u64);
                bench.recorder.add_sweep(&mut tx, bench.index, &planned, foretold, &identity).await?;
                tx.commit().await?;
                Ok(())
            };
            self.bounded(write).await?;
            failpoint::hit("sweep.planned");
        }
        let segments = self.bounded(bench.recorder.sweeps(&mut connection, bench.index)).await?.segments;
        let site = Site {
            directory,
            driver: Driver::new(bench.run.clone(), bench.recorder.epoch()),
            step: bench.index.0,
            backup: self.files.backup && self.purpose == Purpose::Change,
        };
        let opened = Opened { list: Arc::new(list), site: Arc::new(site) };
        let list = Arc::clone(&opened.list);
        // A step that is opened again, after a passing failure, finds what it knows already.
        drop(self.opened.set(opened));
        let count = u32::try_from(segments.len()).unwrap_or(u32::MAX);
        Ok(Sweep {
            number: 1,
            table: None,
            room: MOST_SEGMENTS.saturating_sub(count),
            weights: segments.iter().map(|segment| list.weight(&list.whole(segment))).collect(),
            bytes: (self.purpose == Purpose::Change).then(|| list.bytes()),
            foretold: Some(list.len() as u64),
            before: Tally::default(),
            segments,
        })
    }

    fn worker(&self) -> Result<Box<dyn BatchWorker>, StepError> {
        let Opened { list, site } = self.opened()?;
        Ok(Box::new(Worker::new(Shared {
            bench: self.bench.clone(),
            files: Arc::clone(&self.files),
            purpose: self.purpose,
            list,
            site,
            backends: Arc::clone(&self.backends),
            places: Arc::clone(&self.places),
        })))
    }

    fn companions(&self, _context: &StepContext) -> Vec<BoxFuture<'static, ()>> {
        // No batch holds a lock that anybody waits for.
        Vec::new()
    }

    async fn conclude(&self, context: &StepContext) -> Result<Conclusion, StepError> {
        let bench = &self.bench;
        let mut connection = self.own_connection().await?;
        let segments: Vec<Segment> = self.bounded(bench.recorder.sweeps(&mut connection, bench.index)).await?.segments;
        if segments.iter().any(|segment| !segment.done) {
            return Ok(Conclusion::Unfinished);
        }
        let aside = self.bounded(bench.recorder.set_aside_of(&mut connection, bench.index)).await?;
        failpoint::hit("step.counted");
        let done: Tally = segments.iter().map(|segment| segment.tally).sum();
        let files = |n: u64| if n == 1 { "1 file".to_owned() } else { format!("{} files", human::count(n)) };
        let aside = |words: &str| if aside > 0 { format!(", {} {words}", human::count(aside)) } else { String::new() };
        let outcome = match self.purpose {
            Purpose::Change => {
                format!("{} of {} replaced{}", human::count(done.changed), files(done.walked), aside("set aside"))
            }
            Purpose::Restore { .. } => {
                format!("{} restored{}", files(done.changed), aside("kept: changed by somebody since"))
            }
        };
        if self.purpose == Purpose::Change {
            self.tell_of_new(context).await?;
        }
        let outcome = format!("{outcome}{}", bench.looked_up());
        bench.step_done(Some(&outcome)).await?;
        Ok(Conclusion::Done(Some(outcome)))
    }

    fn bounds(&self) -> Bounds {
        Bounds { start: 1, min: 1, max: MOST_FILES }
    }

    fn target(&self) -> Duration {
        self.bench.limits.batch.target
    }
}

impl FilesStep {
    /// Files that have come since the run began are not part of it.
    async fn tell_of_new(&self, context: &StepContext) -> Result<(), StepError> {
        let bench = &self.bench;
        // Whatever cannot be looked at any more is no part of the run either.
        let Ok(now) = find(bench.what(), Arc::clone(&self.files), Arc::clone(&bench.source)).await else {
            return Ok(());
        };
        let then = self.opened()?.list;
        let new = now.list.names(0..now.list.len()).iter().filter(|name| !then.holds(name)).count();
        if new > 0 {
            context.reporter.notice(
                Level::Warning,
                format!("{}: {} that came since the run began were not walked", bench.what(), human::count(new as u64)),
            );
        }
        Ok(())
    }
}

/// Checks the step against the files, before anything is changed.
///
/// # Errors
/// Why it cannot work, with the place in the plan.
pub async fn check(
    _connection: &mut PgConnection,
    looking: &Looking<'_>,
    files: &FileTransform,
    found: &mut Found,
) -> Result<(), Cause> {
    let (what, source) = (looking.what.to_owned(), Arc::new(looking.plan.source.clone()));
    let files = Arc::new(files.clone());
    let asked = tokio::task::spawn_blocking(move || look_at_all(&what, &files, &source)).await;
    found.notices.extend(asked.unwrap_or_else(|e| Err(Cause::bug(format!("looking at files: {e}"))))?);
    Ok(())
}

/// How many files a step names, and their bytes. Reads directories, and blocks as long as they do.
///
/// # Errors
/// As of the step itself: a path is not there, a pattern fits nothing.
pub fn count(what: &str, files: &FileTransform, source: &PlanSource) -> Result<(usize, u64), Cause> {
    let Files { list, .. } = list::find(what, files, source)?;
    Ok((list.len(), list.bytes()))
}

/// Returns what the operator should know.
fn look_at_all(what: &str, files: &FileTransform, source: &PlanSource) -> Result<Vec<String>, Cause> {
    let Files { list, skipped } = list::find(what, files, source)?;
    let tool = Tool::new(what, files, source, None)?;
    if let (Tool::Command { .. }, Program::Command { argv, .. }) = (tool, &files.program)
        && let Some(program) = argv.first()
        && !tool::is_there(&program.text)
    {
        let mut cause = Cause::usage(format!("{what}: there is no program `{}`", program.text));
        cause.details = source.excerpt_in_sql(program, 0);
        return Err(
            cause.hint("`command` names a program on the PATH, or its path, and its arguments; no shell reads them")
        );
    }
    let mut known = std::collections::BTreeSet::new();
    for name in list.names(0..list.len()) {
        let parent = Path::new(name).parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        if known.insert(parent.to_owned()) && !disk::is_writable(parent) {
            return Err(Cause::usage(format!("{what}: no file can be made in directory {}", parent.display()))
                .hint("a new file is written beside each one: give howdah the right to write there"));
        }
    }
    if files.backup && !disk::is_writable(Path::new(".")) {
        return Err(Cause::usage(format!(
            "{what}: originals are kept in `.howdah` under the working directory, and nothing can be made there"
        ))
        .hint("start howdah in another directory, or remove `backup`"));
    }
    Ok(skipped)
}
