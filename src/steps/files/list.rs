//! The files of a step: which there are, in which order, and how they are cut into segments. Their paths are the keys.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use sha2::{Digest, Sha256};

use super::beside;
use super::disk;
use super::walk::{Ended, Unreadable, Walk};
use crate::plan::model::PlanSource;
use crate::plan::movers::FileTransform;
use crate::postgres::error::io_words;
use crate::run::{Cause, Segment, SegmentNo, human};
use crate::steps::segments;

/// Files of one step at most: their paths are held in memory.
const MOST: usize = 1_000_000;
/// Segments that a list is cut into at most.
const SEGMENTS: u64 = 64;
/// Files that a segment holds at least.
const LEAST: u64 = 4;
/// What it costs to open a file, in bytes of reading.
const OPENING: u64 = 16 * 1024;
/// Files that are skipped and named; the others are counted.
const NAMED: usize = 5;

/// The files, sorted by the bytes of their paths.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FileList {
    names: Vec<String>,
    /// Bytes of each file and of all before it.
    ends: Vec<u64>,
}

impl FileList {
    /// The files with their sizes, each path once, in order.
    #[must_use]
    pub fn new(files: BTreeMap<String, u64>) -> Self {
        let mut list = Self { names: Vec::with_capacity(files.len()), ends: Vec::with_capacity(files.len()) };
        for (name, size) in files {
            list.ends.push(list.bytes().saturating_add(size));
            list.names.push(name);
        }
        list
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Bytes of all of them.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// The paths of some of them.
    #[must_use]
    pub fn names(&self, range: Range<usize>) -> &[String] {
        self.names.get(range).unwrap_or_default()
    }

    /// Whether a path is among them.
    #[must_use]
    pub fn holds(&self, name: &str) -> bool {
        self.names.binary_search_by(|known| known.as_str().cmp(name)).is_ok()
    }

    fn bytes_of(&self, range: &Range<usize>) -> u64 {
        let before = |at: usize| at.checked_sub(1).and_then(|at| self.ends.get(at)).copied().unwrap_or(0);
        before(range.end).saturating_sub(before(range.start))
    }

    /// What it takes to walk some of them, in bytes of reading.
    #[must_use]
    pub fn weight(&self, range: &Range<usize>) -> u64 {
        self.bytes_of(range).saturating_add((range.len() as u64).saturating_mul(OPENING))
    }

    /// Where the first file stands that lies behind `key`.
    fn behind(&self, key: Option<&Vec<String>>) -> usize {
        key.and_then(|key| key.first()).map_or(0, |key| self.names.partition_point(|name| name <= key))
    }

    /// The whole of a segment.
    #[must_use]
    pub fn whole(&self, segment: &Segment) -> Range<usize> {
        let end = segment.upper.as_ref().map_or(self.len(), |upper| self.behind(Some(upper)));
        self.behind(segment.lower.as_ref()).min(end)..end
    }

    /// What of a segment is not walked yet.
    #[must_use]
    pub fn rest(&self, segment: &Segment) -> Range<usize> {
        let Range { end, .. } = self.whole(segment);
        self.behind(segment.from()).min(end)..end
    }

    /// The next `files` files of a segment, or fewer where they come to `bytes` bytes before.
    #[must_use]
    pub fn next(&self, segment: &Segment, files: u64, bytes: u64) -> Range<usize> {
        let rest = self.rest(segment);
        let most = usize::try_from(files.max(1)).unwrap_or(usize::MAX).min(rest.len());
        let taken = (1..=most).find(|n| self.bytes_of(&(rest.start..rest.start + n)) >= bytes).unwrap_or(most);
        rest.start..rest.start + taken
    }

    /// The segments of a walk: about as much work in each.
    #[must_use]
    pub fn segments(&self) -> Vec<Segment> {
        let Some(last) = self.names.last() else { return Vec::new() };
        let wanted = (self.len() as u64 / LEAST).clamp(1, SEGMENTS);
        let all = self.weight(&(0..self.len()));
        let mut cuts: Vec<Vec<String>> = Vec::new();
        let (mut at, mut next) = (0, 1);
        while at + 1 < self.len() && next < wanted {
            let through = u128::from(self.weight(&(0..at + 1))) * u128::from(wanted);
            if through >= u128::from(all) * u128::from(next) {
                cuts.push(vec![self.names[at].clone()]);
                // One large file may be worth several segments.
                while next < wanted && through >= u128::from(all) * u128::from(next) {
                    next += 1;
                }
            }
            at += 1;
        }
        segments::cut(1, SegmentNo(0), None, None, Some(vec![last.clone()]), cuts)
    }

    /// What tells this list from another, for the ledger.
    #[must_use]
    pub fn identity(&self, directory: &Path) -> String {
        let mut hash = Sha256::new();
        for name in &self.names {
            hash.update(name.as_bytes());
            hash.update([0]);
        }
        let digest = disk::hex(&hash.finalize());
        serde_json::json!({ "files": self.len(), "sha256": digest, "directory": directory.to_string_lossy() })
            .to_string()
    }
}

/// The files that a step names.
#[derive(Debug, Default)]
pub struct Found {
    /// Those that are to be walked.
    pub list: FileList,
    /// What was left out, in words.
    pub skipped: Vec<String>,
}

/// Looks for the files that a step names.
///
/// # Errors
/// A path is not there, a pattern fits nothing or is none, there are too many.
pub fn find(what: &str, files: &FileTransform, source: &PlanSource) -> Result<Found, Cause> {
    let mut search = Search::default();
    for written in &files.files {
        let found = search.one(&written.text);
        if let Err((message, hint)) = found {
            let mut cause = Cause::usage(format!("{what}: {message}")).hint(hint);
            cause.details = source.excerpt_in_sql(written, 0);
            return Err(cause);
        }
    }
    let Search { found, left_out, .. } = search;
    let mut skipped: Vec<String> =
        left_out.iter().take(NAMED).map(|(path, why)| format!("{what}: {path} is left out: {why}")).collect();
    if left_out.len() > NAMED {
        skipped.push(format!("{what}: {} more are left out", human::count((left_out.len() - NAMED) as u64)));
    }
    if found.is_empty() {
        let mut cause = Cause::usage(format!("{what}: none of the files that are named can be walked"));
        cause.details.extend(skipped);
        return Err(cause.hint("only regular files are, and no symbolic links: name what they lead to"));
    }
    Ok(Found { list: FileList::new(found), skipped })
}

#[derive(Default)]
struct Search {
    found: BTreeMap<String, u64>,
    left_out: BTreeMap<String, &'static str>,
    /// Files by where they lie: one that is named in two ways is walked once.
    known: HashSet<(PathBuf, std::ffi::OsString)>,
    directories: HashMap<PathBuf, PathBuf>,
}

type Refusal = (String, &'static str);

impl Search {
    fn one(&mut self, written: &str) -> Result<(), Refusal> {
        let path = Path::new(written);
        if path.is_dir() {
            return Err((
                format!("{written} is a directory"),
                "name the files in it: `directory/*`, `directory/**/*.json`",
            ));
        }
        if path.symlink_metadata().is_ok() || !written.contains(['*', '?', '[']) {
            path.symlink_metadata().map_err(|e| {
                (format!("{written}: {}", io_words(&e)), "relative paths begin where howdah is started")
            })?;
            return self.take(path);
        }
        let walk = Walk::new(written)
            .map_err(|e| (format!("`{written}` is not a pattern: {}", e.msg), "as in `src/**/*.json`"))?;
        let before = self.found.len() + self.left_out.len() + self.known.len();
        let mut any = false;
        let walked = walk.each(|path| {
            any = true;
            self.take(path)
        });
        walked.map_err(|ended| match ended {
            Ended::Refused(refusal) => refusal,
            Ended::Unreadable(Unreadable { directory, error }) => (
                format!("{}: {}", directory.display(), io_words(&error)),
                "howdah must be able to read every directory that the pattern goes through",
            ),
        })?;
        let after = self.found.len() + self.left_out.len() + self.known.len();
        if !any && before == after {
            return Err((format!("no file fits `{written}`"), "relative paths begin where howdah is started"));
        }
        Ok(())
    }

    fn take(&mut self, path: &Path) -> Result<(), Refusal> {
        if beside::is_ours(path) {
            return Ok(());
        }
        let Some(name) = path.to_str() else {
            self.left_out.insert(path.to_string_lossy().into_owned(), "its path is not UTF-8");
            return Ok(());
        };
        // It may be gone since it was listed.
        let Ok(about) = path.symlink_metadata() else { return Ok(()) };
        if !about.is_file() {
            let why = match about.is_symlink() {
                true if path.is_dir() => {
                    "it is a symbolic link to a directory, which is gone through where it is named"
                }
                true => "it is a symbolic link",
                false => "it is no regular file",
            };
            self.left_out.insert(name.to_owned(), why);
            return Ok(());
        }
        let plain: PathBuf = path.components().filter(|part| *part != Component::CurDir).collect();
        let (Some(file), Some(name)) = (plain.file_name(), plain.to_str()) else { return Ok(()) };
        let parent = plain.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let directory = if let Some(known) = self.directories.get(parent) {
            known.clone()
        } else {
            let real = parent.canonicalize().map_err(|e| {
                (format!("{}: {}", parent.display(), io_words(&e)), "howdah must be able to enter the directory")
            })?;
            self.directories.insert(parent.to_owned(), real.clone());
            real
        };
        if self.known.insert((directory, file.to_owned())) {
            self.found.insert(name.to_owned(), about.len());
        }
        if self.found.len() > MOST {
            return Err((format!("more than {} files", human::count(MOST as u64)), "split them over several steps"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn list(sizes: &[u64]) -> FileList {
        FileList::new((0..).zip(sizes).map(|(n, size): (u32, _)| (format!("f{n:05}"), *size)).collect())
    }

    #[test]
    fn a_batch_ends_at_its_files_or_its_bytes() {
        let list = list(&[10, 10, 100, 10]);
        let segment = &list.segments()[0];
        let table = [(1, 1000, 0..1), (2, 1000, 0..2), (9, 1000, 0..4), (9, 20, 0..2), (9, 21, 0..3), (0, 0, 0..1)];
        for (files, bytes, expected) in table {
            assert_eq!(list.next(segment, files, bytes), expected, "{files} {bytes}");
        }
    }

    #[test]
    fn another_list_or_directory_is_told_apart() {
        let (here, there) = (Path::new("/a"), Path::new("/b"));
        assert_eq!(list(&[1, 2]).identity(here), list(&[3, 4]).identity(here));
        assert_ne!(list(&[1]).identity(here), list(&[1, 2]).identity(here));
        assert_ne!(list(&[1]).identity(here), list(&[1]).identity(there));
    }

    #[test]
    fn a_file_that_is_named_twice_is_walked_once_and_what_is_no_file_is_left_out() {
        let home = tempfile::tempdir().expect("a directory");
        let at = |name: &str| home.path().join(name);
        std::fs::create_dir(at("sub")).expect("a directory");
        for name in ["a.json", "b.json", ".hidden.json", ".a.json.howdah-0123abcd-1", "sub/c.json"] {
            std::fs::write(at(name), "{}").expect("a file");
        }
        std::os::unix::fs::symlink(at("a.json"), at("link.json")).expect("a link");
        std::fs::create_dir(at("dir.json")).expect("a directory");
        let root = home.path().display();
        let mut search = Search::default();
        for written in [format!("{root}/**/*.json"), format!("{root}/sub/../a.json"), format!("{root}/./b.json")] {
            search.one(&written).expect("files");
        }
        let names: Vec<&str> = search.found.keys().filter_map(|path| path.rsplit('/').next()).collect();
        assert_eq!(names, ["a.json", "b.json", "c.json"]);
        assert_eq!(search.left_out.len(), 1);
        let refused = |written: &str| Search::default().one(written).expect_err("a refusal").0;
        assert!(refused(&format!("{root}/*.xml")).contains("no file fits"));
        assert!(refused(&format!("{root}/x.json")).contains("no such file"));
        assert!(refused(&format!("{root}/sub")).contains("is a directory"));
    }

    proptest! {
        /// Whatever the sizes: the segments hold every file once, in order.
        #[test]
        fn segments_cover_the_list(sizes in prop::collection::vec(0_u64..1_000_000, 1..400)) {
            let list = list(&sizes);
            let segments = list.segments();
            prop_assert!(segments.len() as u64 <= SEGMENTS);
            let mut next = 0;
            for segment in &segments {
                let range = list.whole(segment);
                prop_assert_eq!(range.start, next);
                prop_assert!(!range.is_empty());
                next = range.end;
            }
            prop_assert_eq!(next, list.len());
        }
    }
}
