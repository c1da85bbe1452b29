//! `file`: rows as files, exactly once.
//!
//! Each segment writes files of its own, as `NAME.part`. A batch is appended and on disk before it commits, and how long
//! the file is stands in the ledger, with the cursor: what a crash has left behind that is cut off by the next batch. A file
//! gets its name when the batch that completes it has committed.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};

use super::rows::{Answer, Value};
use super::shape::ToColumn;
use crate::plan::movers::{Compression, FileFormat};
use crate::run::{Cause, Segment, SegmentNo};

/// Of zstd; gzip's is its own default.
const LEVEL: i32 = 3;

/// How files are written.
#[derive(Debug, Clone)]
pub(super) struct FileSpec {
    /// With `{n}` in it.
    pub(super) path: String,
    pub(super) format: FileFormat,
    pub(super) compression: Compression,
    /// Bytes at which a file is followed by another.
    pub(super) rotate: Option<u64>,
    pub(super) columns: Vec<ToColumn>,
}

/// Where the files of a segment stand, as the ledger keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// The number of the file that is being written, from 1. Those before it are complete.
    file: u32,
    /// Its length.
    bytes: u64,
    /// Whether it is complete as well.
    done: bool,
}

impl Place {
    /// Where a segment's files stand.
    pub(super) fn of(segment: &Segment) -> Result<Self, Cause> {
        let Some(text) = &segment.output else { return Ok(Self { file: 1, bytes: 0, done: false }) };
        serde_json::from_str(text).map_err(|e| Cause::bug(format!("where the files of a segment stand: {e}")))
    }

    pub(super) fn text(self) -> String {
        serde_json::json!(self).to_string()
    }
}

impl FileSpec {
    fn name(&self, segment: SegmentNo, file: u32) -> PathBuf {
        PathBuf::from(self.path.replace("{n}", &format!("{:04}-{file:03}", segment.0)))
    }

    /// Files of that name which are there already. A pattern that finds them.
    pub(super) fn existing(&self) -> Option<PathBuf> {
        let (before, behind) = self.path.split_once("{n}")?;
        let behind = behind.replace("{n}", "????-???");
        let pattern = format!(
            "{}[0-9][0-9][0-9][0-9]-[0-9][0-9][0-9]{}",
            glob::Pattern::escape(before),
            glob::Pattern::escape(&behind)
        );
        glob::glob(&pattern).ok()?.find_map(Result::ok)
    }

    /// Rows as they stand in a file.
    pub(super) fn text(&self, answers: &[Answer]) -> Vec<u8> {
        let mut text = Vec::new();
        for row in answers.iter().flat_map(Answer::rows) {
            for (at, value) in row.iter().enumerate() {
                if at > 0 {
                    text.push(b',');
                }
                match self.format {
                    FileFormat::JsonLines => text.extend_from_slice(value.text().unwrap_or("null").as_bytes()),
                    FileFormat::Csv | FileFormat::Text | FileFormat::Parquet => field(value, &mut text),
                }
            }
            text.push(b'\n');
        }
        text
    }

    fn header(&self) -> Vec<u8> {
        let mut text = Vec::new();
        if self.format == FileFormat::Csv {
            for (at, column) in self.columns.iter().enumerate() {
                if at > 0 {
                    text.push(b',');
                }
                field(&Value::Text(column.name.clone()), &mut text);
            }
            text.push(b'\n');
        }
        text
    }

    /// Appends text to a segment's file, and waits for the disk. Returns where its files stand then; `done`: nothing more
    /// comes.
    ///
    /// # Errors
    /// It cannot be written; or there is a file of that name that is not ours.
    pub(super) fn append(&self, segment: SegmentNo, mut place: Place, text: &[u8], done: bool) -> io::Result<Place> {
        if !text.is_empty() {
            let name = self.name(segment, place.file);
            let part = part(&name);
            if place.bytes == 0 {
                if name.exists() {
                    let words = format!("{} is there already", name.display());
                    return Err(io::Error::new(io::ErrorKind::AlreadyExists, words));
                }
                if let Some(directory) = name.parent() {
                    std::fs::create_dir_all(directory)?;
                }
            }
            let mut file = OpenOptions::new().create(place.bytes == 0).write(true).truncate(false).open(&part)?;
            if file.metadata()?.len() < place.bytes {
                let words = format!("{} is shorter than the {} bytes that were written", part.display(), place.bytes);
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, words));
            }
            // What was written and not committed.
            file.set_len(place.bytes)?;
            io::Seek::seek(&mut file, io::SeekFrom::Start(place.bytes))?;
            let header = if place.bytes == 0 { self.header() } else { Vec::new() };
            self.write(&mut file, &[&header, text])?;
            file.sync_data()?;
            if place.bytes == 0 {
                sync_directory(&part)?;
            }
            place.bytes = file.metadata()?.len();
            if !done && self.rotate.is_some_and(|rotate| place.bytes >= rotate) {
                place = Place { file: place.file + 1, bytes: 0, done: false };
            }
        }
        place.done = done;
        Ok(place)
    }

    fn write(&self, file: &mut File, parts: &[&[u8]]) -> io::Result<()> {
        match self.compression {
            Compression::None => parts.iter().try_for_each(|part| file.write_all(part)),
            Compression::Gzip => {
                let mut to = GzEncoder::new(file, flate2::Compression::default());
                parts.iter().try_for_each(|part| to.write_all(part))?;
                to.finish().map(drop)
            }
            Compression::Zstd => {
                let mut to = zstd::Encoder::new(file, LEVEL)?;
                parts.iter().try_for_each(|part| to.write_all(part))?;
                to.finish().map(drop)
            }
        }
    }

    /// Gives files that are complete their names. May be done any number of times.
    ///
    /// # Errors
    /// They cannot be renamed.
    pub(super) fn name_complete(&self, segment: SegmentNo, place: Place) -> io::Result<()> {
        let last = if place.done { place.file } else { place.file.saturating_sub(1) };
        // Nearly always the others have their names already.
        for file in (1..=last).rev() {
            let name = self.name(segment, file);
            let part = part(&name);
            if part.exists() {
                std::fs::rename(&part, &name)?;
                sync_directory(&name)?;
            } else if file < place.file {
                break;
            }
        }
        Ok(())
    }
}

/// `NAME.part`.
fn part(name: &Path) -> PathBuf {
    let mut part = name.as_os_str().to_owned();
    part.push(".part");
    PathBuf::from(part)
}

fn sync_directory(of: &Path) -> io::Result<()> {
    let directory = of.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

/// A field of CSV as PostgreSQL writes it: NULL is nothing at all, an empty text is `""`.
fn field(value: &Value, to: &mut Vec<u8>) {
    let Some(text) = value.text() else { return };
    if !text.is_empty() && text != "\\." && !text.contains([',', '"', '\n', '\r']) {
        to.extend_from_slice(text.as_bytes());
        return;
    }
    to.push(b'"');
    for byte in text.bytes() {
        if byte == b'"' {
            to.push(byte);
        }
        to.push(byte);
    }
    to.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(directory: &Path, rotate: Option<u64>) -> FileSpec {
        let path = directory.join("o-{n}.csv").to_str().expect("a path").to_owned();
        let columns = vec![ToColumn { name: "a".into(), type_name: "text".into() }];
        FileSpec { path, format: FileFormat::Csv, compression: Compression::None, rotate, columns }
    }

    #[test]
    fn what_was_not_committed_is_cut_off_and_files_get_their_names_once_they_are_complete() {
        let directory = tempfile::tempdir().expect("a directory");
        let spec = spec(directory.path(), Some(8));
        let (no, begin) = (SegmentNo(3), Place { file: 1, bytes: 0, done: false });
        let lost = spec.append(no, begin, b"never committed\n", false).expect("written");
        assert_eq!(lost.file, 2, "it had grown past `rotate`");
        let first = spec.append(no, begin, b"1\n", false).expect("written");
        assert_eq!(first, Place { file: 1, bytes: 4, done: false });
        let second = spec.append(no, first, b"22222\n", false).expect("written");
        assert_eq!(second, Place { file: 2, bytes: 0, done: false });
        let last = spec.append(no, second, b"3\n", true).expect("written");
        for _ in 0..2 {
            spec.name_complete(no, last).expect("named");
        }
        let read = |name: &str| std::fs::read_to_string(directory.path().join(name)).expect(name);
        assert_eq!((read("o-0003-001.csv"), read("o-0003-002.csv")), ("a\n1\n22222\n".into(), "a\n3\n".into()));
        let e = spec.append(no, begin, b"4\n", true).expect_err("it is there");
        assert_eq!(e.kind(), io::ErrorKind::AlreadyExists);
        assert!(spec.existing().is_some());
    }

    #[test]
    fn fields_are_written_as_copy_reads_them() {
        let mut text = Vec::new();
        for value in [Value::Null, Value::Text(String::new()), Value::Text("a,\"b\"".into()), Value::Text("c".into())] {
            field(&value, &mut text);
            text.push(b';');
        }
        assert_eq!(String::from_utf8(text).expect("text"), ";\"\";\"a,\"\"b\"\"\";c;");
    }
}
