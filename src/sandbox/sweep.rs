//! Clears away the sandboxes of owners that are dead, and whose guards died with them.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::Uid;

use super::directory::{self, Owner};
use super::guard;
use super::process::{self, Life};

/// A directory without an owner's note may be one that is being made; after this, it is not.
const NEWBORN: Duration = Duration::from_mins(10);

/// What a sweep did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// Sandboxes that are gone now, with their servers.
    pub removed: Vec<PathBuf>,
    /// Sandboxes that should be gone, and are not.
    pub failed: Vec<PathBuf>,
}

/// Removes the sandboxes that dead owners have left, and stops their servers. [`Server::start`](super::Server::start)
/// calls it. Never touches one whose owner lives, one that was kept, or (unless root) another user's.
///
/// Blocks; a left-over server takes up to some 10 s to stop.
#[must_use = "it says what could not be removed"]
pub fn sweep() -> Swept {
    sweep_in(&directory::parents())
}

/// [`sweep`] below other directories than /tmp.
pub fn sweep_in(parents: &[PathBuf]) -> Swept {
    let mut swept = Swept::default();
    let here = process::pid_namespace();
    for path in parents.iter().flat_map(|parent| sandboxes(parent)) {
        // `symlink_metadata`: a link with the name of a sandbox is none.
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        if !metadata.is_dir() || !is_ours(&metadata) {
            continue;
        }
        let owner = Owner::read(&path);
        if judge(owner.as_ref(), here.as_deref(), age(&metadata), process::life) == Verdict::Leave {
            continue;
        }
        tracing::info!(directory = %path.display(), "removing a sandbox whose owner is dead");
        if guard::clear(&path, owner.and_then(|owner| owner.postmaster)) {
            swept.removed.push(path);
        } else {
            tracing::warn!(directory = %path.display(), "a left-over sandbox could not be removed");
            swept.failed.push(path);
        }
    }
    swept
}

fn sandboxes(parent: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(directory::PREFIX))
        .map(|entry| entry.path())
        .collect()
}

fn is_ours(metadata: &Metadata) -> bool {
    let user = Uid::effective();
    user.is_root() || metadata.uid() == user.as_raw()
}

fn age(metadata: &Metadata) -> Duration {
    // A time in the future, or none at all: treated as new.
    metadata.modified().ok().and_then(|time| time.elapsed().ok()).unwrap_or_default()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Leave,
    Remove,
}

/// What becomes of a sandbox: a pure function of its owner's note, its age, and what is known of the owner's process.
fn judge(owner: Option<&Owner>, here: Option<&str>, age: Duration, life: impl Fn(i32) -> Life) -> Verdict {
    let Some(owner) = owner else {
        return if age > NEWBORN { Verdict::Remove } else { Verdict::Leave };
    };
    let elsewhere = owner.namespace.as_deref().is_some_and(|there| here.is_some_and(|here| here != there));
    if owner.kept || elsewhere {
        return Verdict::Leave;
    }
    match life(owner.pid) {
        Life::Gone => Verdict::Remove,
        Life::Alive { started } => {
            let another = owner.started.is_some_and(|then| started.is_some_and(|now| now != then));
            if another { Verdict::Remove } else { Verdict::Leave }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: Duration = Duration::from_secs(1);
    const OLD: Duration = Duration::from_hours(24);

    fn owner() -> Owner {
        Owner { pid: 77, started: Some(5), namespace: Some("pid:[1]".to_owned()), postmaster: None, kept: false }
    }

    #[test]
    fn only_what_a_dead_owner_left_is_removed() {
        let alive = |started| Life::Alive { started };
        let kept = Owner { kept: true, ..owner() };
        let unknown = Owner { started: None, namespace: None, ..owner() };
        let table = [
            ("alive", Some(owner()), OLD, alive(Some(5)), Verdict::Leave),
            ("alive, start time unreadable", Some(owner()), OLD, alive(None), Verdict::Leave),
            ("alive, start time not noted", Some(unknown.clone()), OLD, alive(Some(6)), Verdict::Leave),
            ("the pid passed on", Some(owner()), NEW, alive(Some(6)), Verdict::Remove),
            ("dead", Some(owner()), NEW, Life::Gone, Verdict::Remove),
            ("dead, little known", Some(unknown), NEW, Life::Gone, Verdict::Remove),
            ("kept", Some(kept), OLD, Life::Gone, Verdict::Leave),
            ("being made", None, NEW, Life::Gone, Verdict::Leave),
            ("half made, long ago", None, OLD, Life::Gone, Verdict::Remove),
        ];
        for (case, owner, age, life, verdict) in table {
            assert_eq!(judge(owner.as_ref(), Some("pid:[1]"), age, |_| life), verdict, "{case}");
        }
        assert_eq!(judge(Some(&owner()), Some("pid:[2]"), OLD, |_| Life::Gone), Verdict::Leave, "another container");
        assert_eq!(judge(Some(&owner()), None, OLD, |_| Life::Gone), Verdict::Remove);
    }

    #[test]
    fn a_sweep_removes_the_left_over_and_nothing_else() {
        let parent = tempfile::tempdir().unwrap();
        let make = |name: &str, owner: Option<Owner>| {
            let path = parent.path().join(name);
            fs::create_dir_all(path.join("data/base")).unwrap();
            if let Some(owner) = owner {
                owner.write(&path).unwrap();
            }
            path
        };
        let mut ended = std::process::Command::new("true").spawn().unwrap();
        ended.wait().unwrap();
        let dead = Owner { pid: i32::try_from(ended.id()).unwrap(), ..Owner::this() };

        let left = make("howdah-sandbox-left", Some(dead.clone()));
        let others = [
            make("howdah-sandbox-live", Some(Owner::this())),
            make("howdah-sandbox-kept", Some(Owner { kept: true, ..dead.clone() })),
            make("howdah-sandbox-newborn", None),
            make("precious", Some(dead)),
        ];
        let link = parent.path().join("howdah-sandbox-link");
        std::os::unix::fs::symlink(&left, &link).unwrap();

        assert_eq!(sweep_in(&[parent.path().to_owned()]), Swept { removed: vec![left.clone()], failed: Vec::new() });
        assert!(!left.exists());
        for other in others {
            assert!(other.join("data/base").exists(), "{}", other.display());
        }
        assert!(fs::symlink_metadata(link).is_ok(), "a link is neither followed nor removed");
    }
}
