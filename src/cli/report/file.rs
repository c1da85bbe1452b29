//! A report's file: written beside its place and moved there, so that nobody finds half of one.

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::run::Cause;

/// Who may read a report: its owner. It holds keys and texts of errors; whoever made it hands it on.
const MODE: u32 = 0o600;

fn taken(path: &Path) -> Cause {
    Cause::usage(format!("{} is there already", path.display())).hint("add --force to put the report in its place")
}

/// Whether the file may be written: asked before anything is read.
///
/// # Errors
/// It is there already, and `force` is not set.
pub(super) fn expect_free(path: &Path, force: bool) -> Result<(), Cause> {
    if path.is_dir() {
        return Err(Cause::usage(format!("{} is a directory", path.display())).hint("--out names a file"));
    }
    if !force && path.symlink_metadata().is_ok() { Err(taken(path)) } else { Ok(()) }
}

/// Writes the file.
///
/// # Errors
/// It cannot be written, or somebody has made it meanwhile.
pub(super) fn write(path: &Path, text: &str, force: bool) -> Result<(), Cause> {
    let failed = |e: &std::io::Error| Cause::new(format!("{} cannot be written: {e}", path.display()));
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".howdah-report-").tempfile_in(folder).map_err(|e| failed(&e))?;
    // Set and not asked for: the file that is replaced may have been open to more.
    file.as_file().set_permissions(Permissions::from_mode(MODE)).map_err(|e| failed(&e))?;
    file.write_all(text.as_bytes()).map_err(|e| failed(&e))?;
    file.as_file().sync_all().map_err(|e| failed(&e))?;
    let kept = if force { file.persist(path) } else { file.persist_noclobber(path) };
    match kept {
        Ok(_) => Ok(()),
        Err(e) if e.error.kind() == std::io::ErrorKind::AlreadyExists => Err(taken(path)),
        Err(e) => Err(failed(&e.error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_there_is_left_alone_unless_it_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.html");
        expect_free(&path, false).unwrap();
        write(&path, "one", false).unwrap();
        assert!(expect_free(&path, false).is_err());
        let refused = write(&path, "two", false).unwrap_err();
        assert!(refused.headline().contains("there already"), "{refused:?}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one");
        expect_free(&path, true).unwrap();
        write(&path, "three", true).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
        assert!(write(&folder.path().join("no/such"), "x", false).is_err());
        assert!(expect_free(folder.path(), true).is_err());
    }
}
