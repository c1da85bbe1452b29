//! Files on the disk: what tells one from a later state of it, a new one beside it, the original kept, one put in the
//! place of another.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use sha2::{Digest, Sha256};

/// The directory, under the one that howdah is started in, where originals are kept.
pub const KEEP: &str = ".howdah";
/// What stands in the name of a file that is not in its place yet.
const MARK: &str = ".howdah-";
/// The longest name that is used as it is, in bytes: file systems take 255.
const LONGEST: usize = 200;

/// Bytes in hex.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// SHA-256 of a file's content, in hex.
///
/// # Errors
/// It cannot be read.
pub fn sha256(path: &Path) -> io::Result<String> {
    let mut hashing = Hashing::new(io::sink());
    io::copy(&mut File::open(path)?, &mut hashing)?;
    Ok(hashing.digest().0)
}

/// Counts and hashes what is written through it.
pub struct Hashing<W> {
    inner: W,
    hash: Sha256,
    bytes: u64,
}

impl<W> Hashing<W> {
    /// Nothing written yet.
    #[must_use]
    pub fn new(inner: W) -> Self {
        Self { inner, hash: Sha256::new(), bytes: 0 }
    }

    /// SHA-256 in hex, and how many bytes.
    #[must_use]
    pub fn digest(self) -> (String, u64) {
        (hex(&self.hash.finalize()), self.bytes)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.hash.update(&bytes[..n]);
        self.bytes += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// What tells a file from a later state of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Seen {
    /// The state that these facts are of.
    #[must_use]
    pub fn of(about: &Metadata) -> Self {
        let changed = (about.mtime(), about.mtime_nsec());
        Self { device: about.dev(), inode: about.ino(), size: about.size(), changed }
    }
}

/// Whether a file is one of howdah's own: not in its place yet, or kept.
#[must_use]
pub fn is_ours(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let marked = name.starts_with('.')
        && name.rsplit_once(MARK).is_some_and(|(_, run)| run.len() == 8 && run.bytes().all(|b| b.is_ascii_hexdigit()));
    marked || path.components().any(|part| part.as_os_str() == KEEP)
}

/// A file that is written beside another, to take its place. Removed when it is dropped before that.
#[derive(Debug)]
pub struct Beside {
    path: PathBuf,
    is_placed: bool,
}

impl Beside {
    /// Where the new content of `target` is written.
    fn path_for(target: &Path, run: &str) -> PathBuf {
        let name = target.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        // A name that is too long to be made longer is told by its hash.
        let name = if name.len() > LONGEST { hex(&Sha256::digest(name.as_bytes())[..16]) } else { name };
        target.with_file_name(format!(".{name}{MARK}{run}"))
    }

    /// Removes what an earlier driver, that was killed, has left beside `target`.
    ///
    /// # Errors
    /// It is there and cannot be removed.
    pub fn clear(target: &Path, run: &str) -> io::Result<()> {
        match std::fs::remove_file(Self::path_for(target, run)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    /// Makes an empty one, that nobody else can read yet.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn create(target: &Path, run: &str) -> io::Result<(Self, File)> {
        let path = Self::path_for(target, run);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok((Self { path, is_placed: false }, file))
    }

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

/// Gives a file the owner and the permissions of another, and puts it on the disk.
///
/// # Errors
/// They cannot be given, or the disk does not take it.
pub fn finish(file: &File, like: &Metadata) -> io::Result<()> {
    let about = file.metadata()?;
    if (about.uid(), about.gid()) != (like.uid(), like.gid()) {
        // Before the permissions: a change of owner takes some of them away.
        std::os::unix::fs::fchown(file, Some(like.uid()), Some(like.gid()))?;
    }
    file.set_permissions(Permissions::from_mode(like.mode() & 0o7777))?;
    file.sync_all()
}

/// Where the original of `name`, which lies at `path`, is kept: nothing lies there yet.
#[must_use]
pub fn keeping_place(directory: &Path, run: &str, step: u32, name: &str, path: &Path) -> PathBuf {
    let plain = |part: &Component<'_>| matches!(part, Component::Normal(_));
    let root = directory.join(KEEP).join(run);
    let relative = Path::new(name);
    let place = if relative.components().all(|part| plain(&part)) {
        root.join(step.to_string()).join(relative)
    } else {
        let parts = path.components().map(|part| match part {
            Component::ParentDir => Component::Normal("dotdot".as_ref()),
            other => other,
        });
        root.join(format!("{step}-root")).join(parts.filter(plain).collect::<PathBuf>())
    };
    // Two paths may come to one place here, by names that are made to.
    let mut free = place.clone();
    let mut n = 1_u32;
    while free.symlink_metadata().is_ok() {
        let mut name = place.file_name().unwrap_or_default().to_owned();
        name.push(format!("~{n}"));
        free = place.with_file_name(name);
        n += 1;
    }
    free
}

/// Keeps a file at `place`: by another link to it, or a copy where there can be none or others write to it.
///
/// # Errors
/// It cannot be kept.
pub fn keep(path: &Path, place: &Path, dirty: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    if let Some(parent) = place.parent() {
        std::fs::create_dir_all(parent)?;
        // Every directory down to it may be new, up to the one that howdah was started in.
        let through = parent.ancestors().position(|above| above.file_name().is_some_and(|name| name == KEEP));
        dirty.extend(parent.ancestors().take(through.map_or(1, |at| at + 2)).map(Path::to_owned));
    }
    // Of an earlier attempt, that did not come to its end: the file is what it was.
    match std::fs::remove_file(place) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let about = path.symlink_metadata()?;
    if about.nlink() == 1 && std::fs::hard_link(path, place).is_ok() {
        return Ok(());
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(place)?;
    copy(path, file, &about)
}

/// Copies a file's content, owner, permissions and times.
///
/// # Errors
/// As [`finish`].
pub fn copy(from: &Path, mut to: File, about: &Metadata) -> io::Result<()> {
    io::copy(&mut File::open(from)?, &mut to)?;
    let times = std::fs::FileTimes::new().set_modified(about.modified()?).set_accessed(about.accessed()?);
    to.set_times(times)?;
    finish(&to, about)
}

/// Puts what was done in these directories on the disk.
///
/// # Errors
/// The disk does not take it.
pub fn sync_directories(directories: &BTreeSet<PathBuf>) -> io::Result<()> {
    directories.iter().try_for_each(|directory| File::open(directory)?.sync_all())
}

/// Removes the directories in which nothing is kept any more, up to and with the one that holds them all.
pub fn sweep_up(place: &Path) {
    for above in place.ancestors().skip(1) {
        // The first that is not empty ends it, and those above are not either.
        if std::fs::remove_dir(above).is_err() || above.file_name().is_some_and(|name| name == KEEP) {
            return;
        }
    }
}

/// Whether this process may make files in a directory.
#[must_use]
pub fn is_writable(directory: &Path) -> bool {
    nix::unistd::access(directory, nix::unistd::AccessFlags::W_OK | nix::unistd::AccessFlags::X_OK).is_ok()
}

/// All of a file, where it has no more than `most` bytes.
///
/// # Errors
/// It cannot be read.
pub fn whole(file: impl Read, most: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(Some(bytes).filter(|bytes| bytes.len() as u64 <= most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn howdahs_own_files_are_known_by_their_names() {
        for (path, ours) in [
            (".a.json.howdah-0123abcd", true),
            ("dir/.a.howdah-0123abcd", true),
            (".howdah/0123abcd/0/a.json", true),
            ("a.json.howdah-0123abcd", false),
            (".a.json.howdah-0123", false),
            ("howdah/a.json", false),
        ] {
            assert_eq!(is_ours(Path::new(path)), ours, "{path}");
        }
        let beside = Beside::path_for(Path::new("/x/a.json"), "0123abcd");
        assert_eq!(beside, Path::new("/x/.a.json.howdah-0123abcd"));
        assert!(is_ours(&beside));
        let long = Beside::path_for(&Path::new("/x").join("n".repeat(255)), "0123abcd");
        assert!(is_ours(&long) && long.file_name().is_some_and(|name| name.len() < 255));
    }

    #[test]
    fn originals_are_kept_apart_by_step_and_by_path() {
        let home = tempfile::tempdir().expect("a directory");
        let place = |step, name: &str, path: &str| {
            let place = keeping_place(home.path(), "0123abcd", step, name, Path::new(path));
            place.strip_prefix(home.path()).expect("under it").to_string_lossy().into_owned()
        };
        assert_eq!(place(0, "src/a.json", "/w/src/a.json"), ".howdah/0123abcd/0/src/a.json");
        assert_eq!(place(1, "/etc/a.json", "/etc/a.json"), ".howdah/0123abcd/1-root/etc/a.json");
        assert_eq!(place(1, "../a.json", "/w/../a.json"), ".howdah/0123abcd/1-root/w/dotdot/a.json");
        let taken = home.path().join(".howdah/0123abcd/0/a");
        std::fs::create_dir_all(taken.parent().expect("a parent")).expect("directories");
        std::fs::write(&taken, "x").expect("a file");
        assert_eq!(place(0, "a", "/w/a"), ".howdah/0123abcd/0/a~1");
    }
}
