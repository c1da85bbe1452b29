//! Reads a file ahead of its batches, on a thread of its own, as blocks of whole records.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;

use super::files::Input;
use super::records::Framing;

/// Bytes of a block, where records are shorter.
const BLOCK: usize = 1 << 20;
/// Blocks that are read ahead.
const AHEAD: usize = 6;
/// The longest record that is taken, in bytes: longer ones are a quote that nobody closed.
pub const LONGEST: usize = 64 << 20;

/// A place in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Bytes before it, after decompression.
    pub offset: u64,
    /// The line that begins there, from 1.
    pub line: u64,
}

/// Whole records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Where they begin.
    pub from: Place,
    /// Their bytes.
    pub data: Vec<u8>,
    /// How many they are.
    pub records: u64,
    /// Where they end.
    pub to: Place,
    /// Bytes of the file, as it lies there, that were read for it.
    pub read: u64,
    /// Whether nothing comes after it.
    pub is_last: bool,
}

impl Block {
    /// Cuts the first `most` records off; `None`: there are no more.
    #[must_use]
    pub fn split_off(&mut self, framing: Framing, most: u64) -> Option<Self> {
        if self.records <= most {
            return None;
        }
        let cut = framing.cut(&self.data, most, self.is_last);
        Some(self.split_at(cut.bytes, cut.records, cut.lines))
    }

    /// Cuts off what lies before `offset`, which is the beginning of one of its records.
    #[must_use]
    pub fn split_before(&mut self, framing: Framing, offset: u64) -> Option<Self> {
        let bytes = usize::try_from(offset.checked_sub(self.from.offset)?).ok()?;
        if bytes == 0 || bytes >= self.data.len() {
            return None;
        }
        let cut = framing.cut(&self.data[..bytes], u64::MAX, true);
        Some(self.split_at(bytes, cut.records, cut.lines))
    }

    fn split_at(&mut self, bytes: usize, records: u64, lines: u64) -> Self {
        let rest = self.data.split_off(bytes);
        let data = std::mem::replace(&mut self.data, rest);
        let middle = Place { offset: self.from.offset + bytes as u64, line: self.from.line + lines };
        let from = std::mem::replace(&mut self.from, middle);
        self.records -= records;
        Self { from, data, records, to: middle, read: self.read, is_last: false }
    }
}

/// Why a file cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// The file system, or the decompression.
    #[error("{0}")]
    Read(#[from] io::Error),
    /// It is not what it was when it was looked at.
    #[error("it has changed: {0}")]
    Changed(String),
    /// A record without an end.
    #[error("the record that begins in line {line} is longer than {LONGEST} bytes")]
    Endless {
        /// Where it begins.
        line: u64,
    },
}

/// What comes from a file, in order. Ends with a block that says so, or with an error.
pub struct Feed {
    blocks: mpsc::Receiver<Result<Block, (Place, FeedError)>>,
    /// Where the next block begins.
    pub next: Place,
}

impl Feed {
    /// Begins to read at `from`. The thread ends with the file, or once nobody takes its blocks any more.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn begin(input: &Input, framing: Framing, from: Place) -> io::Result<Self> {
        let (send, blocks) = mpsc::channel(AHEAD);
        let input = input.clone();
        std::thread::Builder::new().name("howdah import".to_owned()).spawn(move || {
            if let Err((place, error)) = read(&input, framing, from, &send) {
                drop(send.blocking_send(Err((place, error))));
            }
        })?;
        Ok(Self { blocks, next: from })
    }

    /// The next block. `None`: the thread is gone.
    pub async fn block(&mut self) -> Option<Result<Block, (Place, FeedError)>> {
        let block = self.blocks.recv().await;
        if let Some(Ok(block)) = &block {
            self.next = block.to;
        }
        block
    }
}

fn read(
    input: &Input,
    framing: Framing,
    from: Place,
    send: &mpsc::Sender<Result<Block, (Place, FeedError)>>,
) -> Result<(), (Place, FeedError)> {
    let mut opened = input.open(from.offset).map_err(|e| (from, FeedError::Read(e)))?;
    let counter = Arc::clone(&opened.read);
    let mut blocks = Blocks { framing, at: from, rest: Vec::new(), counter };
    loop {
        let (block, failure) = blocks.next(&mut *opened.bytes).map_err(|e| (blocks.at, e))?;
        let is_last = block.is_last;
        // What somebody still writes to ends in the middle of a record, perhaps.
        if is_last && let Err(changed) = input.is_untouched() {
            return Err((block.from, FeedError::Changed(changed)));
        }
        if send.blocking_send(Ok(block)).is_err() {
            return Ok(());
        }
        if let Some(failure) = failure {
            return Err((blocks.at, FeedError::Read(failure)));
        }
        if is_last {
            return Ok(());
        }
    }
}

/// Cuts a stream into blocks.
struct Blocks {
    framing: Framing,
    at: Place,
    /// The beginning of a record whose end was not read yet.
    rest: Vec<u8>,
    counter: Arc<AtomicU64>,
}

impl Blocks {
    /// The next block; and why the one behind it cannot be read, where that is known already.
    fn next(&mut self, bytes: &mut dyn Read) -> Result<(Block, Option<io::Error>), FeedError> {
        let mut data = std::mem::take(&mut self.rest);
        data.reserve(BLOCK);
        loop {
            let wanted = BLOCK.max(data.len() / 2) as u64;
            let before = data.len();
            let result = Read::take(&mut *bytes, wanted).read_to_end(&mut data);
            let (ended, failure) = match result {
                Ok(_) => ((data.len() - before) as u64 != wanted, None),
                Err(e) => (false, Some(e)),
            };
            let cut = self.framing.cut(&data, u64::MAX, ended);
            if cut.records == 0 && !ended && failure.is_none() {
                if data.len() > LONGEST {
                    return Err(FeedError::Endless { line: self.at.line });
                }
                continue;
            }
            if let Some(failure) = failure {
                if cut.records == 0 {
                    return Err(FeedError::Read(failure));
                }
                return Ok((self.block(data, cut, false), Some(failure)));
            }
            return Ok((self.block(data, cut, ended), None));
        }
    }

    fn block(&mut self, mut data: Vec<u8>, cut: super::records::Cut, is_last: bool) -> Block {
        self.rest = data.split_off(cut.bytes);
        let from = self.at;
        self.at = Place { offset: from.offset + cut.bytes as u64, line: from.line + cut.lines };
        let read = self.counter.load(Ordering::Relaxed);
        Block { from, data, records: cut.records, to: self.at, read, is_last }
    }
}

/// The place `records` records behind `from`. `None`: the file, or what lies before `upper`, ends before.
///
/// # Errors
/// The file cannot be read.
pub fn ahead(
    input: &Input,
    framing: Framing,
    from: Place,
    upper: u64,
    records: u64,
) -> Result<Option<Place>, FeedError> {
    let mut opened = input.open(from.offset)?;
    let counter = Arc::clone(&opened.read);
    let mut blocks = Blocks { framing, at: from, rest: Vec::new(), counter };
    let mut left = records;
    while left > 0 {
        let (mut block, failure) = blocks.next(&mut *opened.bytes)?;
        if block.records > left {
            let first = block.split_off(framing, left);
            return Ok(first.map(|first| first.to).filter(|place| place.offset < upper));
        }
        if let Some(failure) = failure {
            return Err(FeedError::Read(failure));
        }
        left -= block.records;
        if block.is_last || block.to.offset >= upper {
            return Ok(None);
        }
    }
    Ok(Some(blocks.at).filter(|place| place.offset < upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CSV: Framing = Framing::Csv { quote: b'"', escape: b'"', end: b'\n' };

    /// Gives a few bytes at a time, and fails at its end.
    struct Slow {
        bytes: Vec<u8>,
        at: usize,
        broken: bool,
    }

    impl Read for Slow {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let n = into.len().min(7).min(self.bytes.len() - self.at);
            if n == 0 && self.broken {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "cut off"));
            }
            into[..n].copy_from_slice(&self.bytes[self.at..self.at + n]);
            self.at += n;
            Ok(n)
        }
    }

    fn blocks() -> Blocks {
        Blocks { framing: CSV, at: Place { offset: 10, line: 2 }, rest: Vec::new(), counter: Arc::default() }
    }

    #[test]
    fn a_stream_comes_as_whole_records_and_nothing_is_lost() {
        let text: Vec<u8> = (0..200_000).flat_map(|n| format!("{n},\"a\nb\"\n").into_bytes()).collect();
        let (mut stream, mut blocks) = (Slow { bytes: text.clone(), at: 0, broken: false }, blocks());
        let (mut joined, mut records): (Vec<u8>, u64) = (Vec::new(), 0);
        loop {
            let (block, failure) = blocks.next(&mut stream).expect("a block");
            assert!(failure.is_none());
            assert!(block.from.offset == 10 + joined.len() as u64 && block.from.line == 2 + records * 2);
            joined.extend(&block.data);
            records += block.records;
            if block.is_last {
                break;
            }
            assert!(block.data.ends_with(b"b\"\n"));
        }
        assert!(joined == text && records == 200_000);
    }

    #[test]
    fn what_can_be_read_of_a_broken_stream_comes_before_its_error() {
        let mut stream = Slow { bytes: b"1\n2\n\"3".to_vec(), at: 0, broken: true };
        let mut blocks = blocks();
        let (block, failure) = blocks.next(&mut stream).expect("a block");
        assert_eq!((block.data.as_slice(), block.records, block.is_last), (&b"1\n2\n"[..], 2, false));
        assert!(failure.is_some());
    }

    #[test]
    fn a_block_is_cut_by_records_and_by_places() {
        let mut block = Block {
            from: Place { offset: 100, line: 7 },
            data: b"1\n\"2\n\"\n3".to_vec(),
            records: 3,
            to: Place { offset: 108, line: 11 },
            read: 9,
            is_last: true,
        };
        let whole = block.clone();
        let first = block.split_off(CSV, 2).expect("more than two");
        assert_eq!(
            (first.data.as_slice(), first.records, first.to),
            (&b"1\n\"2\n\"\n"[..], 2, Place { offset: 107, line: 10 })
        );
        assert_eq!((block.from, block.records, block.is_last), (first.to, 1, true));
        assert_eq!(block.split_off(CSV, 1), None);
        let mut again = whole;
        let before = again.split_before(CSV, 102).expect("in the middle");
        assert_eq!((before.records, before.to.line, again.records), (1, 8, 2));
        assert_eq!(again.split_before(CSV, 102), None);
    }
}
