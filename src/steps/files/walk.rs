//! The paths that a pattern fits. A symbolic link is followed where the pattern names it, and nowhere else: what lies behind
//! one is often not what was meant, and links that lead back up would never end.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use glob::{MatchOptions, Pattern, PatternError};

/// One part of a pattern, between two slashes.
#[derive(Debug)]
enum Part {
    /// A name as it is.
    Plain(String),
    /// A name that is like this.
    Like(Pattern),
    /// `**`: any number of directories.
    Any,
}

/// A pattern.
#[derive(Debug)]
pub struct Walk {
    /// What stands before the first wildcard.
    root: PathBuf,
    parts: Vec<Part>,
}

/// A directory that cannot be read.
#[derive(Debug)]
pub struct Unreadable {
    /// Which.
    pub directory: PathBuf,
    /// Why.
    pub error: io::Error,
}

/// Why a walk ended early.
#[derive(Debug)]
pub enum Ended<E> {
    /// A directory cannot be read.
    Unreadable(Unreadable),
    /// Whoever was told of a path wants no more.
    Refused(E),
}

/// A hidden name is meant where the pattern begins with a dot itself.
fn options() -> MatchOptions {
    MatchOptions { require_literal_leading_dot: true, ..MatchOptions::new() }
}

fn is_plain(part: &str) -> bool {
    !part.contains(['*', '?', '['])
}

impl Walk {
    /// Reads a pattern.
    ///
    /// # Errors
    /// It is none.
    pub fn new(written: &str) -> Result<Self, PatternError> {
        Pattern::new(written)?;
        let mut root = PathBuf::from(if written.starts_with('/') { "/" } else { "" });
        let mut parts = Vec::new();
        for part in written.split('/').filter(|part| !part.is_empty() && *part != ".") {
            match part {
                "**" if matches!(parts.last(), Some(Part::Any)) => {}
                "**" => parts.push(Part::Any),
                plain if is_plain(plain) && parts.is_empty() => root.push(plain),
                plain if is_plain(plain) => parts.push(Part::Plain(plain.to_owned())),
                like => parts.push(Part::Like(Pattern::new(like)?)),
            }
        }
        Ok(Self { root, parts })
    }

    /// Tells of every path that fits and is no directory, and of each symbolic link to a directory that is not gone through.
    /// In no particular order; one path may be told of more than once.
    ///
    /// # Errors
    /// A directory cannot be read; `tell` refuses.
    pub fn each<E>(&self, mut tell: impl FnMut(&Path) -> Result<(), E>) -> Result<(), Ended<E>> {
        let mut ahead = vec![(self.root.clone(), 0)];
        while let Some((directory, at)) = ahead.pop() {
            let Some(part) = self.parts.get(at) else { continue };
            let is_last = at + 1 == self.parts.len();
            let mut fits = |path: PathBuf, next: usize, ahead: &mut Vec<(PathBuf, usize)>| {
                let Ok(about) = path.symlink_metadata() else { return Ok(()) };
                if about.is_dir() {
                    ahead.push((path, next));
                    Ok(())
                } else if is_last && next > at || about.is_symlink() && path.is_dir() {
                    tell(&path).map_err(Ended::Refused)
                } else {
                    Ok(())
                }
            };
            match part {
                Part::Plain(name) => fits(directory.join(name), at + 1, &mut ahead)?,
                Part::Like(pattern) => {
                    for name in names(&directory).map_err(Ended::Unreadable)? {
                        if pattern.matches_with(&name.to_string_lossy(), options()) {
                            fits(directory.join(name), at + 1, &mut ahead)?;
                        }
                    }
                }
                // At the end of a pattern it is for directories alone, and none is walked.
                Part::Any if is_last => {}
                Part::Any => {
                    for name in names(&directory).map_err(Ended::Unreadable)? {
                        if !name.as_encoded_bytes().starts_with(b".") {
                            fits(directory.join(name), at, &mut ahead)?;
                        }
                    }
                    ahead.push((directory, at + 1));
                }
            }
        }
        Ok(())
    }
}

fn names(directory: &Path) -> Result<Vec<std::ffi::OsString>, Unreadable> {
    let at = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let read = || -> io::Result<Vec<_>> { std::fs::read_dir(at)?.map(|entry| Ok(entry?.file_name())).collect() };
    match read() {
        // It may be gone since it was listed; where the pattern itself names none, nothing fits.
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(Vec::new()),
        names => names.map_err(|error| Unreadable { directory: at.to_owned(), error }),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::os::unix::fs::symlink;

    use super::*;

    fn found(pattern: &str) -> BTreeSet<PathBuf> {
        let mut found = BTreeSet::new();
        let walked = Walk::new(pattern).expect("a pattern").each(|path| {
            found.insert(path.to_owned());
            Ok::<(), ()>(())
        });
        walked.expect("walked");
        found
    }

    fn tree() -> tempfile::TempDir {
        let home = tempfile::tempdir().expect("a directory");
        let files =
            ["a.json", "x/a.json", "x/b.txt", "x/y/a.json", "x/y/z/c.json", "x/.h/a.json", "w/.d.json", "w/[q].json"];
        for name in files {
            let path = home.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
            std::fs::write(path, name).expect("a file");
        }
        home
    }

    #[test]
    fn a_pattern_fits_what_the_crate_finds_where_there_are_no_links() {
        let home = tree();
        let root = home.path().display();
        let patterns = "*.json */*.json **/*.json x/**/*.json **/y/*.json **/y/**/*.json **/**/a.json x/*/a.json \
                        x/*/../b.txt ?/a.json [wx]/* w/[[]q].json **/a.json ** x/** no/**/* x/b.txt/* .//x//*.txt */y \
                        x/.h/*";
        for pattern in patterns.split_whitespace() {
            let pattern = format!("{root}/{pattern}");
            let theirs: BTreeSet<PathBuf> = glob::glob_with(&pattern, options())
                .expect("a pattern")
                .map(|path| path.expect("a path"))
                .filter(|path| !path.is_dir())
                .collect();
            assert_eq!(found(&pattern), theirs, "{pattern}");
        }
        assert!(Walk::new("a**/b").is_err() && Walk::new("a/[b").is_err());
    }

    #[test]
    fn a_hidden_name_fits_where_the_pattern_begins_with_a_dot() {
        let home = tree();
        let root = home.path().display();
        for (pattern, name) in [("w/.*.json", "w/.d.json"), ("x/.*/*", "x/.h/a.json")] {
            // The crate's own walk leaves these out.
            assert_eq!(found(&format!("{root}/{pattern}")), BTreeSet::from([home.path().join(name)]), "{pattern}");
        }
    }

    #[test]
    fn a_link_is_followed_where_it_is_named_and_told_of_elsewhere() {
        let home = tree();
        let at = |name: &str| home.path().join(name);
        symlink("../x/y", at("w/link")).expect("a link");
        symlink(".", at("w/loop")).expect("a link");
        symlink("..", at("w/up")).expect("a link");
        let root = home.path().display();
        let links = ["w/link", "w/loop", "w/up"].map(at);
        let told =
            |more: &[&str]| links.iter().cloned().chain(more.iter().map(|name| at(name))).collect::<BTreeSet<_>>();
        assert_eq!(found(&format!("{root}/w/**/*.json")), told(&["w/[q].json"]));
        assert_eq!(found(&format!("{root}/w/*/*.json")), told(&[]));
        assert_eq!(found(&format!("{root}/w/link/*.json")), BTreeSet::from([at("w/link/a.json")]));
    }

    #[test]
    fn one_that_is_told_may_end_the_walk() {
        let home = tree();
        let ended = Walk::new(&format!("{}/**/*", home.path().display())).expect("a pattern").each(|_| Err("enough"));
        assert!(matches!(ended, Err(Ended::Refused("enough"))));
    }
}
