//! The files of an import: which there are, how each is recognised again, and how it is read.

use std::collections::HashSet;
use std::fs::{File, Metadata};
use std::io::{self, IsTerminal, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::UNIX_EPOCH;

use flate2::read::MultiGzDecoder;
use sha2::{Digest, Sha256};

use crate::plan::model::PlanSource;
use crate::plan::movers::{Compression, FileFormat, Import};
use crate::plan::{STDIN, by_name};
use crate::run::Cause;

/// Files of one step at most: each is a segment at least.
pub const MOST: usize = 4096;
/// Bytes at the beginning of a file that tell it from another.
const HEAD: u64 = 64 * 1024;
/// Bytes that are looked at for a header, or for the keys of documents.
const SAMPLE: u64 = 1 << 20;

/// One file, as it lay there when it was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// Its path as the ledger has it; `-` is the standard input.
    pub path: String,
    /// What it holds.
    pub format: FileFormat,
    /// How it is compressed.
    pub compression: Compression,
    /// Bytes, as it lies there. 0 for the standard input.
    pub size: u64,
    /// When it was changed, in milliseconds since 1970.
    changed: u128,
    /// SHA-256 of its head.
    head: String,
}

impl Input {
    /// Whether it is the standard input.
    #[must_use]
    pub fn is_stdin(&self) -> bool {
        self.path == STDIN
    }

    /// Whether a place in it can be gone to, and it can be shared by several workers.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.compression == Compression::None && !self.is_stdin() && self.format != FileFormat::Parquet
    }

    /// One line that tells it from any other state of it, for the ledger.
    #[must_use]
    pub fn identity(&self) -> String {
        let Self { path, size, changed, head, .. } = self;
        serde_json::json!({ "path": path, "size": size, "changed": changed.to_string(), "head": head }).to_string()
    }

    /// Looks whether it is what it was when `line` was written. `Err`: what has changed.
    ///
    /// # Errors
    /// In words: `its size (1,234 then, 1,300 now)`.
    pub fn is_still(&self, line: &str) -> Result<(), String> {
        let then: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
        if then["head"] != self.head.as_str() {
            return Err("its beginning".to_owned());
        }
        if then["size"] != self.size {
            return Err(format!("its size ({} bytes then, {} now)", then["size"], self.size));
        }
        if !self.is_stdin() && then["changed"] != self.changed.to_string() {
            return Err("its time of change".to_owned());
        }
        Ok(())
    }

    /// Looks whether size and time of change are still what they were when it was looked at. `Err`: what has changed.
    ///
    /// # Errors
    /// In words: `its size (1,234 bytes then, 1,300 now)`.
    pub fn is_untouched(&self) -> Result<(), String> {
        if self.is_stdin() {
            return Ok(());
        }
        let about = std::fs::metadata(&self.path).map_err(|e| words(&e))?;
        if about.len() != self.size {
            return Err(format!("its size ({} bytes then, {} now)", self.size, about.len()));
        }
        if changed(&about) == self.changed { Ok(()) } else { Err("its time of change".to_owned()) }
    }

    /// Its beginning, after decompression: at most a megabyte.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn beginning(&self) -> io::Result<Vec<u8>> {
        if self.is_stdin() {
            return peek().map(<[u8]>::to_vec);
        }
        let mut head = Vec::new();
        let read = self.open(0)?.bytes.take(SAMPLE).read_to_end(&mut head);
        // What ends in the middle of its compression shows that when it is loaded.
        if head.is_empty() { read.map(|_| head) } else { Ok(head) }
    }

    /// Opens it at `offset`, in bytes after decompression.
    ///
    /// # Errors
    /// It cannot be opened, or ends before.
    pub fn open(&self, offset: u64) -> io::Result<Opened> {
        let read = Arc::new(AtomicU64::new(0));
        if self.is_stdin() {
            if TAKEN.swap(true, Ordering::Relaxed) {
                return Err(io::Error::other("the standard input was read already, and cannot be read again"));
            }
            let stream = peek()?.chain(io::stdin());
            return skipped(Box::new(Counting { inner: stream, read: Arc::clone(&read) }), offset, read);
        }
        let mut file = File::open(&self.path)?;
        #[cfg(feature = "parquet")]
        if self.format == FileFormat::Parquet {
            let lines = super::parquet::ParquetLines::open(file)?;
            return skipped(Box::new(super::parquet::Placed { lines, read: Arc::clone(&read) }), offset, read);
        }
        if self.compression == Compression::None {
            file.seek(SeekFrom::Start(offset))?;
            read.store(offset, Ordering::Relaxed);
            return Ok(Opened { bytes: Box::new(Counting { inner: file, read: Arc::clone(&read) }), read });
        }
        let counting = Counting { inner: file, read: Arc::clone(&read) };
        let bytes: Box<dyn Read + Send> = match self.compression {
            Compression::Zstd => Box::new(zstd::Decoder::new(counting)?),
            Compression::Gzip | Compression::None => Box::new(MultiGzDecoder::new(counting)),
        };
        skipped(bytes, offset, read)
    }
}

/// Whether somebody has the standard input.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The beginning of the standard input. It is read once, and kept for whoever reads it as a whole.
fn peek() -> io::Result<&'static [u8]> {
    static PEEKED: OnceLock<Vec<u8>> = OnceLock::new();
    if let Some(head) = PEEKED.get() {
        return Ok(head);
    }
    let mut head = Vec::new();
    io::stdin().take(HEAD).read_to_end(&mut head)?;
    Ok(PEEKED.get_or_init(|| head))
}

/// A file that is being read.
pub struct Opened {
    /// What is in it, after decompression.
    pub bytes: Box<dyn Read + Send>,
    /// Bytes of the file, as it lies there, that are read.
    pub read: Arc<AtomicU64>,
}

/// Passes over `offset` bytes.
fn skipped(mut bytes: Box<dyn Read + Send>, offset: u64, read: Arc<AtomicU64>) -> io::Result<Opened> {
    let passed = io::copy(&mut bytes.by_ref().take(offset), &mut io::sink())?;
    if passed < offset {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("it ends after {passed} bytes")));
    }
    Ok(Opened { bytes, read })
}

/// Counts what is read.
struct Counting<R> {
    inner: R,
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(into)?;
        self.read.fetch_add(u64::try_from(n).unwrap_or(0), Ordering::Relaxed);
        Ok(n)
    }
}

/// The files that a step names, sorted, each once.
///
/// # Errors
/// One is not there, or cannot be read; a pattern fits none; too many; what it holds cannot be told.
pub fn find(what: &str, import: &Import, source: &PlanSource) -> Result<Vec<Input>, Cause> {
    let mut inputs: Vec<Input> = Vec::new();
    let mut known: HashSet<PathBuf> = HashSet::new();
    for written in &import.files {
        let refuse = |message: String| {
            let mut cause = Cause::usage(format!("{what}: {message}"));
            cause.details = source.excerpt_in_sql(written, 0);
            cause
        };
        if written.text == STDIN {
            let Some(format) = import.format else {
                return Err(refuse("what the standard input holds cannot be told".to_owned())
                    .hint("add `format = \"csv\"`, \"text\" or \"jsonl\""));
            };
            let compression = import.compression.unwrap_or(Compression::None);
            if format == FileFormat::Parquet || compression != Compression::None {
                return Err(refuse("the standard input is read as it is".to_owned())
                    .hint("decompress it before: zcat file | howdah run ..."));
            }
            if io::stdin().is_terminal() {
                return Err(refuse("the standard input is a terminal, and no file".to_owned())
                    .hint("give it one: howdah run PLAN < file"));
            }
            let head = peek().map_err(|e| refuse(format!("the standard input cannot be read: {}", words(&e))))?;
            let (path, head) = (STDIN.to_owned(), sha256(head));
            return Ok(vec![Input { path, format, compression, size: 0, changed: 0, head }]);
        }
        let found = paths(&written.text)
            .map_err(|message| refuse(message).hint("relative paths begin where howdah is started"))?;
        for path in found {
            // By another way to it, it is the same file.
            if let Ok(canonical) = path.canonicalize()
                && !known.insert(canonical)
            {
                continue;
            }
            let input = look(&path, import).map_err(|message| {
                refuse(format!("{}: {message}", path.display()))
                    .hint("name another file, or give `format` and `compression`")
            })?;
            inputs.push(input);
        }
        if inputs.len() > MOST {
            return Err(refuse(format!("{} files; a step takes at most {MOST}", inputs.len()))
                .hint("split them over several steps, or join small files"));
        }
    }
    inputs.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(inputs)
}

/// What a path, a directory or a pattern stands for. An error is in words.
fn paths(written: &str) -> Result<Vec<PathBuf>, String> {
    let path = Path::new(written);
    if path.is_dir() {
        let entries = std::fs::read_dir(path).map_err(|e| format!("{written}: {}", words(&e)))?;
        let mut found: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.is_file() && by_name(&path.to_string_lossy()).0.is_some())
            .collect();
        found.sort();
        return if found.is_empty() {
            Err(format!("directory {written} holds no file of a known kind"))
        } else {
            Ok(found)
        };
    }
    if path.exists() || !written.contains(['*', '?', '[']) {
        return Ok(vec![path.to_owned()]);
    }
    let entries = glob::glob(written).map_err(|e| format!("`{written}` is not a pattern: {}", e.msg))?;
    // What an import writes beside its files is none of them.
    let is_input = |path: &PathBuf| path.is_file() && path.extension().is_none_or(|end| end != "rejects");
    let found: Vec<PathBuf> = entries.filter_map(Result::ok).filter(is_input).collect();
    if found.is_empty() { Err(format!("no file fits `{written}`")) } else { Ok(found) }
}

/// What a file cannot be read for, in words: [`crate::postgres::error::io_words`] speaks of servers.
#[must_use]
pub fn words(e: &io::Error) -> String {
    match (e.kind(), e.get_ref()) {
        (io::ErrorKind::UnexpectedEof, None) => "it breaks off: its end is missing".to_owned(),
        (io::ErrorKind::UnexpectedEof, Some(told)) => format!("it breaks off: {told}"),
        _ => crate::postgres::error::io_words(e),
    }
}

/// When it was changed, in milliseconds since 1970.
fn changed(about: &Metadata) -> u128 {
    let changed = about.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    changed.map_or(0, |since| since.as_millis())
}

fn look(path: &Path, import: &Import) -> Result<Input, String> {
    let (by_name, compressed) = by_name(&path.to_string_lossy());
    let format = import.format.or(by_name).ok_or_else(|| "what it holds cannot be told by its name".to_owned())?;
    let compression = import.compression.unwrap_or(compressed);
    if format == FileFormat::Parquet && !cfg!(feature = "parquet") {
        return Err("this howdah was built without Parquet: cargo install --path . --features parquet".to_owned());
    }
    let mut file = File::open(path).map_err(|e| words(&e))?;
    let about = file.metadata().map_err(|e| words(&e))?;
    if !about.is_file() {
        return Err("it is not a file".to_owned());
    }
    let mut head = Vec::new();
    file.by_ref().take(HEAD).read_to_end(&mut head).map_err(|e| words(&e))?;
    let path = path.to_str().ok_or_else(|| "its name is not UTF-8".to_owned())?.to_owned();
    let changed = changed(&about);
    Ok(Input { path, format, compression, size: about.len(), changed, head: sha256(&head) })
}

/// SHA-256 in hex.
fn sha256(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    digest.iter().fold(String::new(), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::model::StepKind;

    fn import(files: &str) -> Import {
        let text = format!("[[step]]\nname = 'x'\nimport = {files}\ninto = 't'\n");
        let plan = crate::plan::load::from_text("p", None, &text, &|_: &str| None).expect("a plan");
        let StepKind::Import(import) = plan.steps[0].kind.clone() else { panic!("an import") };
        *import
    }

    fn source() -> PlanSource {
        PlanSource { path: None, label: "p".into(), text: String::new() }
    }

    #[test]
    fn files_are_found_by_name_by_directory_and_by_pattern_each_once() {
        let home = tempfile::tempdir().expect("a directory");
        let at = |name: &str| home.path().join(name).to_string_lossy().into_owned();
        for name in ["b.csv", "a.csv.gz", "c.jsonl", "readme.md"] {
            std::fs::write(at(name), name).expect("written");
        }
        let found = |files: String| find("s", &import(&files), &source());
        let names =
            |inputs: Vec<Input>| inputs.into_iter().map(|input| input.path.replace(&at(""), "")).collect::<Vec<_>>();
        assert_eq!(names(found(format!("'{}'", at(""))).expect("files")), ["a.csv.gz", "b.csv", "c.jsonl"]);
        assert_eq!(
            names(found(format!("['{}', '{}']", at("*.csv*"), at("b.csv"))).expect("files")),
            ["a.csv.gz", "b.csv"]
        );
        for (files, words) in
            [(at("*.tsv"), "no file fits"), (at("no.csv"), "no such file"), (at("readme.md"), "by its name")]
        {
            let cause = found(format!("'{files}'")).expect_err(&files);
            assert!(cause.message.contains(words), "{}", cause.message);
        }
    }

    #[test]
    fn a_file_that_changed_is_another() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("a.csv");
        let input = || look(&path, &import("'x'")).expect("a file");
        std::fs::write(&path, "id\n1\n").expect("written");
        let then = input().identity();
        let looked = input();
        assert_eq!((looked.is_still(&then), looked.is_untouched()), (Ok(()), Ok(())));
        std::fs::write(&path, "id\n1\n2\n").expect("written");
        assert_eq!(looked.is_untouched(), Err("its size (5 bytes then, 7 now)".to_owned()));
        assert!(input().is_still(&then).is_err());
    }
}
