//! One file on its way: its new content made ready beside it, and put in its place.
//!
//! A file system and a database do not commit together, so the ledger has both hashes before a file is replaced: whoever
//! goes on after a crash sees by the file itself whether it was.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::beside::{Beside, Driver};
use super::disk::{self, Seen};
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
    /// Who works here.
    pub driver: Driver,
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

/// Makes sure that no earlier driver replaces a file from now on, and looks at it.
fn ready(site: &Site, path: &Path) -> Result<std::fs::Metadata, Halt> {
    let gone = || Halt::Wrong("it is not there any more".to_owned());
    site.driver.clear(path).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => gone(),
        _ => Halt::unwritable("what an earlier try left beside it stays", &e),
    })?;
    let about = path.symlink_metadata().map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => gone(),
        _ => Halt::unreadable(&e),
    })?;
    if about.is_file() { Ok(about) } else { Err(Halt::Wrong("it is no regular file any more".to_owned())) }
}

fn of_file(target: &Target, mut cause: Cause) -> Cause {
    cause.message = format!("{}: {}", target.name, cause.message);
    cause
}

const CHANGED: &str =
    "somebody has changed it while it was being replaced: it is neither what it was nor what it was to become";

/// Makes the new content of a file ready.
///
/// # Errors
/// The run cannot go on.
pub fn change(tool: &mut Tool, site: &Site, target: &Target) -> Result<Staged, Cause> {
    let path = Path::new(&target.path);
    let about = match ready(site, path) {
        Ok(about) => about,
        Err(Halt::Wrong(told)) => return Ok(Staged::Wrong { told, bytes: 0 }),
        Err(Halt::Fatal(cause)) => return Err(of_file(target, cause)),
    };
    let bytes = about.size();
    match try_change(tool, site, target, &about) {
        Ok(staged) => Ok(staged),
        Err(Halt::Wrong(told)) => Ok(Staged::Wrong { told, bytes }),
        Err(Halt::Fatal(cause)) => Err(of_file(target, cause)),
    }
}

fn try_change(tool: &mut Tool, site: &Site, target: &Target, about: &std::fs::Metadata) -> Result<Staged, Halt> {
    let path = Path::new(&target.path);
    let bytes = about.size();
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
        site.driver.create(path).map_err(|e| Halt::unwritable("no file can be made beside it", &e))?;
    let Made { before, after } = tool.make(&target.name, file, &mut new)?;
    if before == after {
        return Ok(Staged::Same { bytes });
    }
    disk::finish(&new, about).map_err(|e| Halt::unwritable("owner and permissions cannot be kept", &e))?;
    failpoint::hit("file.staged");
    let backup = site.backup.then(|| {
        let known = target.intended().and_then(|row| row.backup.clone()).map(PathBuf::from);
        known.unwrap_or_else(|| disk::keeping_place(&site.directory, site.driver.run(), site.step, &target.name, path))
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
    let about = match ready(site, path) {
        Ok(about) => about,
        Err(Halt::Wrong(told)) => return Ok(Staged::Wrong { told, bytes: 0 }),
        Err(Halt::Fatal(cause)) => return Err(of_file(target, cause)),
    };
    let bytes = about.size();
    match try_restore(site, target, changed, &about) {
        Ok(staged) => Ok(staged),
        Err(Halt::Wrong(told)) => Ok(Staged::Wrong { told, bytes }),
        Err(Halt::Fatal(cause)) => Err(of_file(target, cause)),
    }
}

fn try_restore(site: &Site, target: &Target, changed: &FileRow, about: &std::fs::Metadata) -> Result<Staged, Halt> {
    let path = Path::new(&target.path);
    let bytes = about.size();
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
            site.driver.create(path).map_err(|e| Halt::unwritable("no file can be made beside it", &e))?;
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
pub fn place(site: &Site, ready: Vec<Ready>, becomes: FileState) -> Result<Placed, Cause> {
    let mut placed = Placed::default();
    let mut dirty = BTreeSet::new();
    let mut going = Vec::new();
    for one in ready {
        match keep(site, &one, &mut dirty) {
            Ok(()) => going.push(one),
            Err(Halt::Wrong(told)) => placed.stays(one, told),
            Err(Halt::Fatal(cause)) => return Err(cause),
        }
    }
    // An original is safe before its name leads to something else.
    synced(&dirty)?;
    failpoint::hit("file.backed");
    dirty.clear();
    for one in going {
        let path = Path::new(&one.row.path);
        match rename(&one, path) {
            Ok(()) => {}
            Err(Halt::Wrong(told)) => {
                // An earlier driver that lives may have put the same original back just now.
                if becomes != FileState::Restored || !disk::sha256(path).is_ok_and(|now| now == one.row.after) {
                    forget(&one.row);
                    placed.stays(one, told);
                    continue;
                }
            }
            Err(Halt::Fatal(cause)) => return Err(cause),
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

impl Placed {
    fn stays(&mut self, one: Ready, told: String) {
        self.kept.push((one.name, FileRow { state: FileState::Kept, ..one.row }, told));
    }
}

/// Keeps the original of a file that is about to be replaced, where that is wanted.
fn keep(site: &Site, one: &Ready, dirty: &mut BTreeSet<PathBuf>) -> Result<(), Halt> {
    let Some(place) = &one.row.backup else { return Ok(()) };
    let path = Path::new(&one.row.path);
    same(one, path)?;
    disk::keep(&site.driver, (path, Path::new(place)), &one.row.before, dirty)
}

fn same(one: &Ready, path: &Path) -> Result<(), Halt> {
    if path.symlink_metadata().is_ok_and(|about| Seen::of(&about) == one.seen) {
        return Ok(());
    }
    Err(Halt::Wrong("somebody has changed it while its new content was being made".to_owned()))
}

fn rename(one: &Ready, path: &Path) -> Result<(), Halt> {
    same(one, path)?;
    let from = match &one.source {
        Source::Made(beside) => beside.path(),
        Source::Kept(kept) => kept,
    };
    std::fs::rename(from, path).map_err(|e| Halt::unwritable("its new content cannot be put in its place", &e))
}

/// Removes what was kept of a file that stays as it is, unless it is the original: another driver may have replaced the file.
fn forget(row: &FileRow) {
    let Some(place) = &row.backup else { return };
    if disk::sha256(Path::new(place)).is_ok_and(|kept| kept != row.before) {
        drop(std::fs::remove_file(place));
    }
}

fn synced(directories: &BTreeSet<PathBuf>) -> Result<(), Cause> {
    disk::sync_directories(directories).map_err(|e| {
        Cause::new(format!("a directory cannot be put on the disk: {}", io_words(&e)))
            .hint("when the disk works, resume the run")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::model::StepKind;

    /// What a driver, alive or cut off, works with.
    struct Hand {
        site: Site,
        tool: Tool,
        target: Target,
    }

    fn hand(directory: &Path, epoch: i64, known: Option<FileRow>) -> Hand {
        let plan = "[[step]]\nname = 'f'\nfiles = 'a'\nbackup = true\nrhai = 'text + \"more\"'";
        let plan = crate::plan::load::from_text("p", None, plan, &|_: &str| None).expect("a plan");
        let StepKind::Files(files) = &plan.steps[0].kind else { panic!("files") };
        let tool = Tool::new("step", files, &plan.source, None).expect("a script");
        let driver = Driver::new("0123abcd".to_owned(), epoch);
        let site = Site { directory: directory.to_owned(), driver, step: 0, backup: true };
        let path = directory.join("a").to_string_lossy().into_owned();
        Hand { site, tool, target: Target { name: "a".to_owned(), path, known } }
    }

    fn staged(hand: &mut Hand) -> Ready {
        match change(&mut hand.tool, &hand.site, &hand.target).expect("staged") {
            Staged::Ready(ready) => *ready,
            other => panic!("{other:?}"),
        }
    }

    fn put(hand: &Hand, ready: Ready) -> Placed {
        place(&hand.site, vec![ready], FileState::Replaced).expect("placed")
    }

    fn expect_done(directory: &Path, backup: &str) {
        assert_eq!(std::fs::read_to_string(directory.join("a")).expect("a file"), "text more");
        assert_eq!(std::fs::read_to_string(backup).expect("the original"), "text ");
        let left = std::fs::read_dir(directory).expect("a directory").count();
        assert_eq!(left, 2, "the file and .howdah");
    }

    /// A driver that was cut off behind its intent, and wakes while another goes on with the file, or once that is done.
    #[test]
    fn a_driver_that_was_replaced_neither_tears_a_file_nor_loses_its_original() {
        for wakes in ["before", "amid", "kept", "after"] {
            let home = tempfile::tempdir().expect("a directory");
            let directory = home.path();
            std::fs::write(directory.join("a"), "text ").expect("a file");
            let mut old = hand(directory, 1, None);
            let ready = staged(&mut old);
            let (row, backup) = (ready.row.clone(), ready.row.backup.clone().expect("a backup"));
            let mut new = hand(directory, 2, Some(row));
            if wakes == "before" {
                assert_eq!(put(&old, ready).done.len(), 1);
                let already = change(&mut new.tool, &new.site, &new.target).expect("staged");
                assert!(matches!(already, Staged::Already { .. }), "{already:?}");
                expect_done(directory, &backup);
                continue;
            }
            let of_new = staged(&mut new);
            assert_eq!(of_new.row.backup.as_ref(), Some(&backup));
            if wakes == "kept" {
                keep(&new.site, &of_new, &mut BTreeSet::new()).expect("kept");
            }
            if wakes == "after" {
                assert_eq!(put(&new, of_new).done.len(), 1, "{wakes}");
                assert_eq!(put(&old, ready).kept.len(), 1, "{wakes}");
            } else {
                // Its own new content is gone, and that of the other is not its own.
                assert_eq!(put(&old, ready).kept.len(), 1, "{wakes}");
                assert_eq!(std::fs::read_to_string(directory.join("a")).expect("a file"), "text ", "{wakes}");
                assert_eq!(put(&new, of_new).done.len(), 1, "{wakes}");
            }
            expect_done(directory, &backup);
        }
    }

    #[test]
    fn a_file_that_somebody_changes_meanwhile_stays_and_what_was_kept_of_it_is_no_original() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("a");
        std::fs::write(&path, "text ").expect("a file");
        let mut hand = hand(home.path(), 1, None);
        let ready = staged(&mut hand);
        keep(&hand.site, &ready, &mut BTreeSet::new()).expect("kept");
        let backup = ready.row.backup.clone().expect("a backup");
        forget(&ready.row);
        assert!(Path::new(&backup).exists(), "the original is never removed");
        std::fs::write(&path, "somebody's own").expect("changed in its place");
        assert!(matches!(rename(&ready, &path), Err(Halt::Wrong(_))));
        assert_eq!(std::fs::read_to_string(&path).expect("a file"), "somebody's own");
        // Another link to what somebody has changed.
        forget(&ready.row);
        assert!(!Path::new(&backup).exists());
    }

    #[test]
    fn what_lies_where_an_original_is_to_be_kept_is_never_overwritten() {
        let home = tempfile::tempdir().expect("a directory");
        std::fs::write(home.path().join("a"), "text ").expect("a file");
        let mut hand = hand(home.path(), 1, None);
        let ready = staged(&mut hand);
        let backup = ready.row.backup.clone().expect("a backup");
        std::fs::create_dir_all(Path::new(&backup).parent().expect("a parent")).expect("directories");
        std::fs::write(&backup, "another's").expect("a file");
        let placed = put(&hand, ready);
        assert!(placed.kept[0].2.contains("something else lies at"), "{:?}", placed.kept);
        assert_eq!(std::fs::read_to_string(&backup).expect("a file"), "another's");
        assert_eq!(std::fs::read_to_string(home.path().join("a")).expect("a file"), "text ");
    }
}
