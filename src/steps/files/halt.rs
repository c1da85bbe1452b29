//! Why a file does not get its new content.

use std::io::{self, ErrorKind};

use crate::postgres::error::io_words;
use crate::run::Cause;

/// Why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Halt {
    /// It is this file's own: it is set aside.
    Wrong(String),
    /// It would be so with every file: the run stops.
    Fatal(Cause),
}

impl Halt {
    /// The file cannot be read.
    #[must_use]
    pub fn unreadable(e: &io::Error) -> Self {
        Self::Wrong(format!("it cannot be read: {}", io_words(e)))
    }

    /// Nothing can be written: `doing` says what was tried.
    #[must_use]
    pub fn unwritable(doing: &str, e: &io::Error) -> Self {
        let told = format!("{doing}: {}", io_words(e));
        match e.kind() {
            ErrorKind::PermissionDenied | ErrorKind::NotFound | ErrorKind::NotADirectory => Self::Wrong(told),
            _ => Self::Fatal(
                Cause::new(told)
                    .hint("every file is what it was, or has its new content; make room, then resume the run"),
            ),
        }
    }
}
