//! A new file that lies beside another and is about to take its place.
//!
//! Its name is its driver's own. A driver that was cut off from the database behind its last commit, and lives, may still
//! rename what it had made by then: it finds nothing under that name any more, and never what another is writing.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};

use super::disk::{KEEP, hex};

/// What stands in the name of a file that is not in its place yet.
const MARK: &str = ".howdah-";
/// The longest name that is used as it is, in bytes: file systems take 255.
const LONGEST: usize = 200;

/// Whether a file is one of howdah's own: not in its place yet, or kept.
#[must_use]
pub fn is_ours(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    marked(&name).is_some() || path.components().any(|part| part.as_os_str() == KEEP)
}

/// The run and the epoch that a name tells of.
fn marked(name: &str) -> Option<(&str, i64)> {
    let (_, mark) = name.strip_prefix('.')?.rsplit_once(MARK)?;
    let (run, epoch) = mark.split_once('-')?;
    let is_run = run.len() == 8 && run.bytes().all(|b| b.is_ascii_hexdigit());
    let is_epoch = !epoch.is_empty() && epoch.bytes().all(|b| b.is_ascii_digit());
    Some((run, epoch.parse().ok()?)).filter(|_| is_run && is_epoch)
}

/// Who writes beside files.
#[derive(Debug, Clone)]
pub struct Driver {
    run: String,
    epoch: i64,
    /// Directories without a file of an earlier driver.
    swept: Arc<Mutex<BTreeSet<PathBuf>>>,
}

impl Driver {
    /// The driver that took the run, by its short id, under `epoch`.
    #[must_use]
    pub fn new(run: String, epoch: i64) -> Self {
        Self { run, epoch, swept: Arc::default() }
    }

    /// The run's short id.
    #[must_use]
    pub fn run(&self) -> &str {
        &self.run
    }

    /// Where the new content of `target` is written.
    fn path_for(&self, target: &Path) -> PathBuf {
        let name = target.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        // A name that is too long to be made longer is told by its hash.
        let name = if name.len() > LONGEST { hex(&Sha256::digest(name.as_bytes())[..16]) } else { name };
        target.with_file_name(format!(".{name}{MARK}{}-{}", self.run, self.epoch))
    }

    /// Removes what earlier drivers of the run have left in the directory of `target`, the first time that it is looked at,
    /// and what this one has beside `target` itself. After it no earlier driver renames anything to `target`: whatever it
    /// may rename, it has made before this one took the run.
    ///
    /// # Errors
    /// It is there and cannot be removed; the directory cannot be read.
    pub fn clear(&self, target: &Path) -> io::Result<()> {
        if let Some(directory) = target.parent() {
            self.sweep(directory)?;
        }
        removed(&self.path_for(target))
    }

    fn sweep(&self, directory: &Path) -> io::Result<()> {
        // Held meanwhile: nobody may go on in a directory that another is still sweeping.
        let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        if swept.contains(directory) {
            return Ok(());
        }
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            let name = entry.file_name();
            let is_earlier = |(run, epoch)| run == self.run && epoch < self.epoch;
            if marked(&name.to_string_lossy()).is_some_and(is_earlier) {
                removed(&entry.path())?;
            }
        }
        swept.insert(directory.to_owned());
        Ok(())
    }

    /// Makes an empty file beside `target`, that nobody else can read yet.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn create(&self, target: &Path) -> io::Result<(Beside, File)> {
        let path = self.path_for(target);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok((Beside { path, is_placed: false }, file))
    }
}

fn removed(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// A file that is written beside another, to take its place. Removed when it is dropped before that.
#[derive(Debug)]
pub struct Beside {
    path: PathBuf,
    is_placed: bool,
}

impl Beside {
    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// It is not beside the other any more: it has taken its place.
    pub fn placed(mut self) {
        self.is_placed = true;
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if !self.is_placed {
            // One that cannot be removed now is removed by whoever goes on with the run.
            drop(std::fs::remove_file(&self.path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn driver(epoch: i64) -> Driver {
        Driver::new("0123abcd".to_owned(), epoch)
    }

    #[test]
    fn howdahs_own_files_are_known_by_their_names() {
        for (path, ours) in [
            (".a.json.howdah-0123abcd-1", true),
            ("dir/.a.howdah-0123abcd-42", true),
            (".howdah/0123abcd/0/a.json", true),
            ("a.json.howdah-0123abcd-1", false),
            (".a.json.howdah-0123abcd", false),
            (".a.json.howdah-0123-1", false),
            (".a.json.howdah-0123abcd-+1", false),
            (".a.json.howdah-0123abcd-", false),
            ("howdah/a.json", false),
        ] {
            assert_eq!(is_ours(Path::new(path)), ours, "{path}");
        }
        let beside = driver(3).path_for(Path::new("/x/a.json"));
        assert_eq!(beside, Path::new("/x/.a.json.howdah-0123abcd-3"));
        assert!(is_ours(&beside));
        let long = driver(i64::MAX).path_for(&Path::new("/x").join("n".repeat(255)));
        assert!(is_ours(&long) && long.file_name().is_some_and(|name| name.len() < 255));
    }

    #[test]
    fn a_driver_removes_what_those_before_it_have_left_and_nothing_of_a_later_one_or_of_another_run() {
        let home = tempfile::tempdir().expect("a directory");
        let at = |name: &str| home.path().join(name);
        let names =
            ["a", ".a.howdah-0123abcd-1", ".b.howdah-0123abcd-2", ".a.howdah-0123abcd-3", ".a.howdah-89abcdef-1"];
        for name in names {
            std::fs::write(at(name), "x").expect("a file");
        }
        driver(2).clear(&at("a")).expect("cleared");
        let left: Vec<&str> = names.into_iter().filter(|name| at(name).exists()).collect();
        assert_eq!(left, ["a", ".b.howdah-0123abcd-2", ".a.howdah-0123abcd-3", ".a.howdah-89abcdef-1"]);
        driver(2).clear(&at("b")).expect("cleared");
        assert!(!at(".b.howdah-0123abcd-2").exists());
    }
}
