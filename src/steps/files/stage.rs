//! One file on its way: its new content made ready beside it, and put in its place.
//!
//! A file system and a database do not commit together, so the ledger has both hashes before a file is replaced: whoever
//! goes on after a crash sees by the file itself whether it was.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::disk::{self, Beside, Seen};
use super::halt::Halt;
use super::tool::{Made, Tool};
use crate::engine::failpoint;
use crate::postgres::error::io_words;
use crate::postgres::record::{FileRow, FileState};
use crate::run::Cause;

/// A file of a step.
#[derive(Debug, Clone)]
pub struct Target {
    /// As the list names it.
    pub name: String,
    /// Its absolute path, as the ledger has it.
    pub path: String,
    /// What the ledger has of it, under this run and step.
    pub known: Option<FileRow>,
}

impl Target {
    /// What was about to become of it.
    fn intended(&self) -> Option<&FileRow> {
        self.known.as_ref().filter(|row| row.state == FileState::Intended)
    }
}

/// Where things lie.
#[derive(Debug, Clone)]
pub struct Site {
    /// Where howdah was started.
    pub directory: PathBuf,
    /// The run's short id.
    pub run: String,
    /// The step's place in the plan.
    pub step: u32,
    /// Whether originals are kept.
    pub backup: bool,
}

/// What takes a file's place.
#[derive(Debug)]
enum Source {
    /// A new file beside it.
    Made(Beside),
    /// The original, as it was kept.
    Kept(PathBuf),
}

/// A file that is ready to be replaced.
#[derive(Debug)]
pub struct Ready {
    /// As the list names it.
    pub name: String,
    /// What is to be written down of it.
    pub row: FileRow,
    /// Its size.
    pub bytes: u64,
    source: Source,
    seen: Seen,
}

/// What has become of a file so far.
#[derive(Debug)]
pub enum Staged {
    /// There is nothing to do in it.
    Same {
        /// Its size.
        bytes: u64,
    },
    /// It is ready to be replaced.
    Ready(Box<Ready>),
    /// It was replaced, by a driver that could not write that down.
    Already {
        /// What is written down of it.
        row: FileRow,
        /// Its size.
        bytes: u64,
    },
    /// It stays as it is, for this reason.
    Wrong {
        /// Why.
        told: String,
        /// Its size, where it is there.
        bytes: u64,
    },
}

fn regular(path: &Path) -> Result<std::fs::Metadata, String> {
    let about = path.symlink_metadata().map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => "it is not there any more".to_owned(),
        _ => format!("it cannot be read: {}", io_words(&e)),
    })?;
    if about.is_file() { Ok(about) } else { Err("it is no regular file any more".to_owned()) }
}

const CHANGED: &str =
    "somebody has changed it while it was being replaced: it is neither what it was nor what it was to become";

/// Makes the new content of a file ready.
///
/// # Errors
/// The run cannot go on.
pub fn change(tool: &mut Tool, site: &Site, target: &Target) -> Result<Staged, Cause> {
    let path = Path::new(&target.path);
    let about = match regular(path) {
        Ok(about) => about,
        Err(told) => return Ok(Staged::Wrong { told, bytes: 0 }),
    };
    let bytes = about.size();
    match try_change(tool, site, target, &about) {
        Ok(staged) => Ok(staged),
        Err(Halt::Wrong(told)) => Ok(Staged::Wrong { told, bytes }),
        Err(Halt::Fatal(mut cause)) => {
            cause.message = format!("{}: {}", target.name, cause.message);
            Err(cause)
        }
    }
}

fn try_change(tool: &mut Tool, site: &Site, target: &Target, about: &std::fs::Metadata) -> Result<Staged, Halt> {
    let path = Path::new(&target.path);
    let bytes = about.size();
    Beside::clear(path, &site.run).map_err(|e| Halt::unwritable("what an earlier try left beside it stays", &e))?;
    if let Some(row) = target.intended() {
        let now = disk::sha256(path).map_err(|e| Halt::unreadable(&e))?;
        if now == row.after {
            return Ok(Staged::Already { row: FileRow { state: FileState::Replaced, ..row.clone() }, bytes });
        }
        if now != row.before {
            return Err(Halt::Wrong(CHANGED.to_owned()));
        }
    }
    let file = File::open(path).map_err(|e| Halt::unreadable(&e))?;
    // Of what is read, and not of what lies there by now.
    let seen = Seen::of(&file.metadata().map_err(|e| Halt::unreadable(&e))?);
    let (beside, mut new) =
        Beside::create(path, &site.run).map_err(|e| Halt::unwritable("no file can be made beside it", &e))?;
    let Made { before, after } = tool.make(&target.name, file, &mut new)?;
    if before == after {
        return Ok(Staged::Same { bytes });
    }
    disk::finish(&new, about).map_err(|e| Halt::unwritable("owner and permissions cannot be kept", &e))?;
    failpoint::hit("file.staged");
    let backup = site.backup.then(|| {
        let known = target.intended().and_then(|row| row.backup.clone()).map(PathBuf::from);
        known.unwrap_or_else(|| disk::keeping_place(&site.directory, &site.run, site.step, &target.name, path))
    });
    let backup = backup.map(|place| place.to_string_lossy().into_owned());
    let row = FileRow { path: target.path.clone(), state: FileState::Intended, before, after, backup };
    Ok(Staged::Ready(Box::new(Ready { name: target.name.clone(), row, bytes, source: Source::Made(beside), seen })))
}

/// Makes ready what takes a change back: `changed` is what the run that is taken back has written down of the file.
///
/// # Errors
/// The run cannot go on.
pub fn restore(site: &Site, target: &Target, changed: &FileRow) -> Result<Staged, Cause> {
    let path = Path::new(&target.path);
    let about = match regular(path) {
        Ok(about) => about,
        Err(told) => return Ok(Staged::Wrong { told, bytes: 0 }),
    };
    let bytes = about.size();
    match try_restore(site, target, changed, &about) {
        Ok(staged) => Ok(staged),
        Err(Halt::Wrong(told)) => Ok(Staged::Wrong { told, bytes }),
        Err(Halt::Fatal(mut cause)) => {
            cause.message = format!("{}: {}", target.name, cause.message);
            Err(cause)
        }
    }
}

fn try_restore(site: &Site, target: &Target, changed: &FileRow, about: &std::fs::Metadata) -> Result<Staged, Halt> {
    let path = Path::new(&target.path);
    let bytes = about.size();
    Beside::clear(path, &site.run).map_err(|e| Halt::unwritable("what an earlier try left beside it stays", &e))?;
    let seen = Seen::of(about);
    let now = disk::sha256(path).map_err(|e| Halt::unreadable(&e))?;
    if now == changed.before {
        return Ok(match target.intended() {
            Some(row) => Staged::Already { row: FileRow { state: FileState::Restored, ..row.clone() }, bytes },
            None => Staged::Same { bytes },
        });
    }
    if now != changed.after {
        return Err(Halt::Wrong("somebody has changed it since: it stays as it is".to_owned()));
    }
    let Some(kept) = changed.backup.as_deref().map(Path::new) else {
        return Err(Halt::Wrong("its original was not kept".to_owned()));
    };
    let lost =
        |e: &io::Error| Halt::Wrong(format!("its original, {}, cannot be read: {}", kept.display(), io_words(e)));
    let original = kept.symlink_metadata().map_err(|e| lost(&e))?;
    if disk::sha256(kept).map_err(|e| lost(&e))? != changed.before {
        return Err(Halt::Wrong(format!("its original, {}, is not what it was", kept.display())));
    }
    let source = if original.dev() == about.dev() && original.nlink() == 1 {
        Source::Kept(kept.to_owned())
    } else {
        let (beside, new) =
            Beside::create(path, &site.run).map_err(|e| Halt::unwritable("no file can be made beside it", &e))?;
        disk::copy(kept, new, &original).map_err(|e| Halt::unwritable("the original cannot be copied", &e))?;
        Source::Made(beside)
    };
    failpoint::hit("file.staged");
    let row = FileRow {
        path: target.path.clone(),
        state: FileState::Intended,
        before: changed.after.clone(),
        after: changed.before.clone(),
        backup: None,
    };
    Ok(Staged::Ready(Box::new(Ready { name: target.name.clone(), row, bytes, source, seen })))
}

/// What came of files that were to be replaced.
#[derive(Debug, Default)]
pub struct Placed {
    /// Those that were.
    pub done: Vec<FileRow>,
    /// Those that stay as they are, and why.
    pub kept: Vec<(String, FileRow, String)>,
}

/// Keeps the originals, where that is wanted, and puts each new file in its place. The ledger has the intents.
///
/// # Errors
/// The disk does not take it; what is done by then is found by whoever goes on.
pub fn place(ready: Vec<Ready>, becomes: FileState) -> Result<Placed, Cause> {
    let mut placed = Placed::default();
    let mut dirty = BTreeSet::new();
    let mut going = Vec::new();
    let stays = |placed: &mut Placed, one: Ready, told: String| {
        placed.kept.push((one.name, FileRow { state: FileState::Kept, ..one.row }, told));
    };
    for one in ready {
        if let Some(backup) = &one.row.backup {
            let kept = disk::keep(Path::new(&one.row.path), Path::new(backup), &mut dirty);
            match kept.map_err(|e| Halt::unwritable("its original cannot be kept", &e)) {
                Ok(()) => {}
                Err(Halt::Wrong(told)) => {
                    stays(&mut placed, one, told);
                    continue;
                }
                Err(Halt::Fatal(cause)) => return Err(cause),
            }
        }
        going.push(one);
    }
    // An original is safe before its name leads to something else.
    synced(&dirty)?;
    failpoint::hit("file.backed");
    dirty.clear();
    for one in going {
        let path = Path::new(&one.row.path);
        if !path.symlink_metadata().is_ok_and(|about| Seen::of(&about) == one.seen) {
            if let Some(backup) = &one.row.backup {
                // It is not what was read, and nothing is to be taken back.
                drop(std::fs::remove_file(backup));
            }
            stays(&mut placed, one, "somebody has changed it while its new content was being made".to_owned());
            continue;
        }
        let from = match &one.source {
            Source::Made(beside) => beside.path(),
            Source::Kept(path) => path,
        };
        if let Err(e) = std::fs::rename(from, path) {
            match Halt::unwritable("its new content cannot be put in its place", &e) {
                Halt::Wrong(told) => stays(&mut placed, one, told),
                Halt::Fatal(cause) => return Err(cause),
            }
            continue;
        }
        failpoint::hit("file.renamed");
        dirty.extend(path.parent().map(Path::to_owned));
        match one.source {
            Source::Made(beside) => beside.placed(),
            Source::Kept(kept) => disk::sweep_up(&kept),
        }
        placed.done.push(FileRow { state: becomes, ..one.row });
    }
    synced(&dirty)?;
    Ok(placed)
}

fn synced(directories: &BTreeSet<PathBuf>) -> Result<(), Cause> {
    disk::sync_directories(directories).map_err(|e| {
        Cause::new(format!("a directory cannot be put on the disk: {}", io_words(&e)))
            .hint("when the disk works, resume the run")
    })
}
