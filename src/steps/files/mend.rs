//! Files that were set aside, given to the program again.
//!
//! The record of a retry is in the transaction that resolves the row, so what is about to become of the file is written down
//! beside the kept originals instead, before it is replaced: a retry that was killed between the two finds it there.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sqlx::PgTransaction;
use sqlx::postgres::PgConnection;
use tokio::sync::Mutex;

use super::beside::Driver;
use super::stage::{self, Site, Staged, Target};
use super::tool::Desk;
use super::{absolute, disk};
use crate::cache::Caches;
use crate::engine::failpoint;
use crate::plan::model::PlanSource;
use crate::plan::movers::FileTransform;
use crate::postgres::error::io_words;
use crate::postgres::record::{AsideRow, FileRow, FileState, Recorder};
use crate::run::{Cause, RunId, StepIndex, Tally};
use crate::steps::batch::{BatchError, recorded};
use crate::steps::mending::{Applied, Mending};

/// The step whose files are tried again.
pub struct Mended<'a> {
    /// Of which run.
    pub run: RunId,
    /// Its place in the plan.
    pub step: StepIndex,
    /// Its name.
    pub name: &'a str,
    /// What it does.
    pub files: &'a FileTransform,
}

struct Mender {
    desk: Mutex<Desk>,
    site: Arc<Site>,
    step: StepIndex,
    recorder: Arc<dyn Recorder>,
    limit: Duration,
}

/// What tries the files of a step again.
///
/// # Errors
/// The run began in another directory; the ledger cannot be read.
pub async fn mending(
    connection: &mut PgConnection,
    of: Mended<'_>,
    (source, caches): (&PlanSource, Option<&Arc<Caches>>),
    recorder: Arc<dyn Recorder>,
    limit: Duration,
) -> Result<Box<dyn Mending>, Cause> {
    let what = crate::steps::what(of.name);
    let known = recorder.sweeps(connection, of.step).await.map_err(|e| e.cause(&what))?;
    let directory = std::env::current_dir().map_err(|e| Cause::new(format!("there is no working directory: {e}")))?;
    let walk: serde_json::Value = known.walk.and_then(|walk| serde_json::from_str(&walk).ok()).unwrap_or_default();
    let began = walk["directory"].as_str().unwrap_or_default();
    if began != directory.to_string_lossy() {
        return Err(Cause::usage(format!("{what}: the run began in another directory, {began}"))
            .hint(format!("go there and try again: cd {began}")));
    }
    let desk = Desk::begin(what, Arc::new(of.files.clone()), Arc::new(source.clone()), caches)?;
    let driver = Driver::new(of.run.short(), recorder.epoch());
    let site = Site { directory, driver, step: of.step.0, backup: of.files.backup };
    Ok(Box::new(Mender { desk: Mutex::new(desk), site: Arc::new(site), step: of.step, recorder, limit }))
}

/// What is about to become of a file, on the disk.
#[derive(Serialize, Deserialize)]
struct Note {
    path: String,
    before: String,
    after: String,
    backup: Option<String>,
}

impl Note {
    fn place(site: &Site, path: &str) -> PathBuf {
        let name = disk::hex(&Sha256::digest(path.as_bytes())[..16]);
        site.directory.join(disk::KEEP).join(site.driver.run()).join(format!("{}-retried", site.step)).join(name)
    }

    fn read(site: &Site, path: &str) -> Option<FileRow> {
        let text = std::fs::read_to_string(Self::place(site, path)).ok()?;
        let Self { path: of, before, after, backup } = serde_json::from_str(&text).ok()?;
        (of == path).then_some(FileRow { path: of, state: FileState::Intended, before, after, backup })
    }

    /// Puts it on the disk.
    fn write(site: &Site, row: &FileRow) -> io::Result<()> {
        let FileRow { path, before, after, backup, .. } = row.clone();
        let place = Self::place(site, &path);
        let text = serde_json::to_vec(&Self { path, before, after, backup })?;
        let parent = place.parent().unwrap_or(&place).to_owned();
        std::fs::create_dir_all(&parent)?;
        let new = place.with_extension("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&new)?;
        file.write_all(&text)?;
        file.sync_all()?;
        std::fs::rename(&new, &place)?;
        parent.ancestors().take(4).try_for_each(|above| File::open(above)?.sync_all())
    }
}

/// Tries one file again. `Ok(Err)`: it stays as it is, for this reason. `Ok(Ok(None))`: there is nothing to do in it.
fn again(tool: &mut super::tool::Tool, site: &Site, name: &str) -> Result<Result<Option<FileRow>, String>, Cause> {
    let path = absolute(&site.directory, name);
    let known = Note::read(site, &path);
    match stage::change(tool, site, &Target { name: name.to_owned(), path, known })? {
        Staged::Same { .. } => Ok(Ok(None)),
        Staged::Already { row, .. } => Ok(Ok(Some(row))),
        Staged::Wrong { told, .. } => Ok(Err(told)),
        Staged::Ready(ready) => {
            Note::write(site, &ready.row).map_err(|e| {
                Cause::new(format!("{name}: what is about to become of it cannot be written down: {}", io_words(&e)))
            })?;
            failpoint::hit("file.intended");
            let mut placed = stage::place(site, vec![*ready], FileState::Replaced)?;
            match (placed.done.pop(), placed.kept.pop()) {
                (Some(row), _) => Ok(Ok(Some(row))),
                (None, Some((_, _, told))) => Ok(Err(told)),
                (None, None) => Err(Cause::bug("a file was neither replaced nor kept")),
            }
        }
    }
}

fn name_of(row: &AsideRow) -> String {
    row.key.first().cloned().unwrap_or_default()
}

#[async_trait]
impl Mending for Mender {
    async fn apply(
        &self,
        tx: &mut PgTransaction<'_>,
        row: &AsideRow,
        _kept: Option<&str>,
    ) -> Result<Applied, BatchError> {
        let (site, name) = (Arc::clone(&self.site), name_of(row));
        let path = std::path::Path::new(&name).to_owned();
        if self.site.directory.join(&path).symlink_metadata().is_err_and(|e| e.kind() == io::ErrorKind::NotFound) {
            return Ok(Applied::Gone);
        }
        let tried = self.desk.lock().await.ask(move |tool| again(tool, &site, &name)).await.and_then(|tried| tried);
        match tried.map_err(BatchError::Plan)? {
            Err(told) => Ok(Applied::Refused(told)),
            Ok(None) => Ok(Applied::Untouched { matches: Some(false) }),
            Ok(Some(done)) => {
                let rows = [FileRow { state: FileState::Replaced, ..done }];
                let written = self.recorder.write_files(tx, self.step, &rows);
                recorded(tokio::time::timeout(self.limit, written).await)?;
                Ok(Applied::Changed(Tally { changed: 1, ..Tally::default() }))
            }
        }
    }

    async fn look(&self, _tx: &mut PgTransaction<'_>, row: &AsideRow) -> Result<Option<String>, BatchError> {
        let name = name_of(row);
        let about = self.site.directory.join(&name).symlink_metadata();
        let document = |about: std::fs::Metadata| serde_json::json!({ "path": name, "bytes": about.len() }).to_string();
        Ok(about.ok().map(document))
    }

    fn key_name(&self, _row: &AsideRow) -> String {
        "path".to_owned()
    }
}
