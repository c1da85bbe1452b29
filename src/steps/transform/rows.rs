//! Rows as COPY brings them: the bytes, and where each row lies in them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::text;
use crate::run::KeyText;

/// Rows that were read. A line begins with the key's columns and the row's version; then come the columns that are read.
#[derive(Debug, Default)]
pub(super) struct Rows {
    data: Vec<u8>,
    lines: Vec<Range<usize>>,
    /// Columns of the key.
    key: usize,
}

impl Rows {
    /// None yet, of a key of so many columns.
    pub(super) fn new(key: usize) -> Self {
        Self { data: Vec::new(), lines: Vec::new(), key }
    }

    /// Takes a line, or several, as COPY sends them.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let begin = self.data.len();
        self.data.extend_from_slice(bytes);
        let mut at = begin;
        for end in memchr::memchr_iter(b'\n', bytes) {
            self.lines.push(at..begin + end);
            at = begin + end + 1;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    /// Bytes that they take.
    pub(super) fn bytes(&self) -> usize {
        self.data.len()
    }

    fn line(&self, at: usize) -> &[u8] {
        &self.data[self.lines[at].clone()]
    }

    /// Key and version of a row, as COPY reads them.
    pub(super) fn head(&self, at: usize) -> &[u8] {
        let line = self.line(at);
        &line[..text::head(line, self.key + 1)]
    }

    /// The key of a row.
    pub(super) fn key(&self, at: usize) -> KeyText {
        text::fields(self.line(at)).take(self.key).map(|field| field.unwrap_or_default().into_owned()).collect()
    }

    /// The columns of a row that a program is given.
    pub(super) fn fields(&self, at: usize) -> impl Iterator<Item = Option<Cow<'_, str>>> {
        let line = self.line(at);
        let begin = (text::head(line, self.key + 1) + 1).min(line.len());
        let none = text::head(line, self.key + 1) == line.len();
        text::fields(&line[begin..]).take(if none { 0 } else { usize::MAX })
    }

    /// Where each row of that key and version lies.
    pub(super) fn by_head(&self) -> HashMap<&[u8], usize> {
        (0..self.len()).map(|at| (self.head(at), at)).collect()
    }
}

/// Which of some rows a program is to answer.
pub(super) struct Asked {
    pub(super) rows: Arc<Rows>,
    pub(super) which: Vec<usize>,
}

/// A value of a row that comes out of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// The program does not name the column.
    Absent,
    /// NULL.
    Null,
    /// As text, as the server reads it.
    Text(String),
}

impl Value {
    /// As COPY takes it.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Absent | Self::Null => None,
            Self::Text(text) => Some(text),
        }
    }
}

/// A row that goes to the sink: a value for each of its columns, in their order.
pub(super) type NewRow = Vec<Value>;

/// What a program says of one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// It becomes these.
    Rows(Vec<NewRow>),
    /// It becomes this one.
    Row(NewRow),
    /// The row is to be set aside, for this reason.
    Wrong(String),
}

impl Answer {
    /// The rows that it becomes.
    pub(super) fn rows(&self) -> &[NewRow] {
        match self {
            Self::Rows(rows) => rows,
            Self::Row(row) => std::slice::from_ref(row),
            Self::Wrong(_) => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_know_their_keys_and_their_columns() {
        let mut rows = Rows::new(2);
        rows.push(b"1\ta\\tb\t777\tx\t\\N\n");
        rows.push(b"2\tc\t778\n");
        assert_eq!(
            (rows.len(), rows.key(0), rows.head(0)),
            (2, vec!["1".into(), "a\tb".into()], &b"1\ta\\tb\t777"[..])
        );
        let fields: Vec<Option<String>> = rows.fields(0).map(|f| f.map(Cow::into_owned)).collect();
        assert_eq!(fields, [Some("x".to_owned()), None]);
        assert_eq!(rows.fields(1).count(), 0);
        assert_eq!(rows.by_head().get(&b"2\tc\t778"[..]), Some(&1));
    }
}
