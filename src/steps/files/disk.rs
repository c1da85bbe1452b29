//! Files on the disk: what tells one from a later state of it, and its original kept.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{File, Metadata, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use sha2::{Digest, Sha256};

use super::beside::Driver;
use super::halt::Halt;

/// The directory, under the one that howdah is started in, where originals are kept.
pub const KEEP: &str = ".howdah";

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

/// Keeps a file, whose content has the hash `before`, at `place`: by another link to it, or a copy where there can be none or
/// others write to it. What is kept there already stays: it may be the only one, where another driver was faster.
///
/// # Errors
/// It cannot be kept, or something else lies there.
pub fn keep(
    driver: &Driver,
    (path, place): (&Path, &Path),
    before: &str,
    dirty: &mut BTreeSet<PathBuf>,
) -> Result<(), Halt> {
    let unwritable = |e: io::Error| Halt::unwritable("its original cannot be kept", &e);
    if let Some(parent) = place.parent() {
        std::fs::create_dir_all(parent).map_err(unwritable)?;
        // Every directory down to it may be new, up to the one that howdah was started in.
        let through = parent.ancestors().position(|above| above.file_name().is_some_and(|name| name == KEEP));
        dirty.extend(parent.ancestors().take(through.map_or(1, |at| at + 2)).map(Path::to_owned));
    }
    let occupied = || {
        if sha256(place).is_ok_and(|kept| kept == before) {
            return Ok(());
        }
        Err(Halt::Wrong(format!("its original cannot be kept: something else lies at {}", place.display())))
    };
    if place.symlink_metadata().is_ok() {
        return occupied();
    }
    let about = path.symlink_metadata().map_err(unwritable)?;
    if about.nlink() == 1 && std::fs::hard_link(path, place).is_ok() {
        return Ok(());
    }
    // A copy is there as a whole or not at all.
    driver.clear(place).map_err(unwritable)?;
    let (copied, file) = driver.create(place).map_err(unwritable)?;
    copy(path, file, &about).map_err(unwritable)?;
    match std::fs::hard_link(copied.path(), place) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => occupied(),
        // A file system without links.
        Err(_) => {
            std::fs::rename(copied.path(), place).map_err(unwritable)?;
            copied.placed();
            Ok(())
        }
    }
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
