//! Where records end in the bytes of a file: as PostgreSQL's COPY sees it, at the speed of `memchr`. Pure.

use memchr::{memchr, memchr_iter, memchr2};

/// How records stand in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Ends of lines inside quotes are data.
    Csv {
        /// Around fields.
        quote: u8,
        /// Before a quote inside a field; often the quote itself.
        escape: u8,
        /// What ends a record: `\n`, also as the end of `\r\n`; or `\r` alone.
        end: u8,
    },
    /// The end of a line behind a backslash is data.
    Text {
        /// What ends a record.
        end: u8,
    },
    /// Each line is a record.
    Lines,
}

/// A run of whole records, from the beginning of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cut {
    /// Bytes.
    pub bytes: usize,
    /// Records.
    pub records: u64,
    /// Ends of lines in them, those inside fields counted.
    pub lines: u64,
}

impl Framing {
    /// The byte that ends a record.
    #[must_use]
    pub fn end(self) -> u8 {
        match self {
            Self::Csv { end, .. } | Self::Text { end } => end,
            Self::Lines => b'\n',
        }
    }

    /// A record without its end. What is escaped is no end; where `\r` ends records, a `\n` before one belongs to the end of the
    /// record before it.
    #[must_use]
    pub fn bare(self, record: &[u8]) -> &[u8] {
        let record = match self.end() {
            b'\r' => record.strip_prefix(b"\n").unwrap_or(record),
            _ => record,
        };
        let bare = without_end(record);
        let is_escaped = matches!(self, Self::Text { .. }) && bare.len() < record.len() && odd_backslashes(bare);
        // A backslash took the first byte of the end.
        if is_escaped && bare.len() + 1 < record.len() { &record[..=bare.len()] } else { bare }
    }

    /// Whether COPY, up to PostgreSQL 17, takes this record for the end of the data, and passes over all that comes behind it.
    #[must_use]
    pub fn ends_data(self, bare: &[u8]) -> bool {
        match self {
            Self::Csv { .. } | Self::Lines => bare == b"\\.",
            Self::Text { .. } => bare.strip_suffix(b".").is_some_and(odd_backslashes),
        }
    }

    /// Whether some record in `data`, which is whole records, may be one that [`Framing::ends_data`].
    #[must_use]
    pub fn may_end_data(self, data: &[u8]) -> bool {
        memchr::memmem::find_iter(data, b"\\.").any(|at| {
            let begins = match self {
                Self::Text { .. } => odd_backslashes(&data[..=at]),
                Self::Csv { .. } | Self::Lines => at == 0 || matches!(data[at - 1], b'\n' | b'\r'),
            };
            begins && data.get(at + 2).is_none_or(|next| matches!(next, b'\n' | b'\r'))
        })
    }

    /// The lines that COPY counts for a record: those in which it reports errors. `newline` is what COPY has found to end a line
    /// when it comes to the record; nothing yet at the first one. Only that is counted inside quotes, `\r` before it is known,
    /// and nothing at all in text.
    #[must_use]
    pub fn copy_lines(self, bare: &[u8], newline: Option<u8>) -> u64 {
        let inside = match self {
            Self::Csv { .. } => memchr_iter(newline.unwrap_or(b'\r'), bare).count(),
            Self::Text { .. } | Self::Lines => 0,
        };
        1 + u64::try_from(inside).unwrap_or(u64::MAX - 1)
    }

    /// Whole records from the beginning of `bytes`, which is the beginning of a record: at most `most` of them. At the end of
    /// the file (`is_last`) the rest is a record as well, if there is any.
    #[must_use]
    pub fn cut(self, bytes: &[u8], most: u64, is_last: bool) -> Cut {
        let mut cut = Cut::default();
        while cut.records < most {
            let Some((length, lines)) = self.record(&bytes[cut.bytes..]) else { break };
            cut = Cut { bytes: cut.bytes + length, records: cut.records + 1, lines: cut.lines + lines };
        }
        if is_last && cut.records < most && cut.bytes < bytes.len() {
            let rest = &bytes[cut.bytes..];
            let lines = memchr_iter(self.end(), rest).count();
            cut.lines += u64::try_from(lines).unwrap_or(u64::MAX).max(1);
            cut.records += 1;
            cut.bytes = bytes.len();
        }
        cut
    }

    /// The length of the first record, its end included, and the lines that it takes. `None`: its end is not there.
    fn record(self, bytes: &[u8]) -> Option<(usize, u64)> {
        match self {
            Self::Lines => Some((memchr(b'\n', bytes)? + 1, 1)),
            Self::Text { end } => {
                let (mut at, mut lines) = (0, 1);
                loop {
                    let found = at + memchr2(end, b'\\', bytes.get(at..)?)?;
                    if bytes[found] == end {
                        return Some((found + 1, lines));
                    }
                    // The byte behind it is data, whatever it is.
                    lines += u64::from(bytes.get(found + 1) == Some(&end));
                    at = found + 2;
                }
            }
            Self::Csv { quote, escape, end } => {
                let (mut at, mut lines) = (0, 1);
                loop {
                    let found = at + memchr2(end, quote, bytes.get(at..)?)?;
                    if bytes[found] == end {
                        return Some((found + 1, lines));
                    }
                    let (behind, inside) = quoted(bytes, found + 1, (quote, escape, end))?;
                    lines += inside;
                    at = behind;
                }
            }
        }
    }
}

/// The place behind the quote that closes what was opened before `from`, and the ends of lines up to there.
fn quoted(bytes: &[u8], from: usize, (quote, escape, end): (u8, u8, u8)) -> Option<(usize, u64)> {
    let mut at = from;
    let close = loop {
        let found = at + memchr2(quote, escape, bytes.get(at..)?)?;
        if bytes[found] == quote {
            // A doubled quote closes and opens again, which comes to the same.
            break found;
        }
        at = found + 2;
    };
    let lines = memchr_iter(end, &bytes[from..close]).count();
    Some((close + 1, u64::try_from(lines).unwrap_or(u64::MAX)))
}

/// What ends the first record: `\r` where no `\n` follows it, else `\n`. `quoting`: the quote, and what escapes one inside
/// quotes; ends of lines between quotes do not count.
#[must_use]
pub fn end_of_line(head: &[u8], quoting: Option<(u8, u8)>) -> u8 {
    let (mut inside, mut escaped) = (false, false);
    for (at, byte) in head.iter().enumerate() {
        if std::mem::take(&mut escaped) {
            continue;
        }
        match *byte {
            byte if inside && quoting.is_some_and(|(quote, escape)| byte == escape && escape != quote) => {
                escaped = true;
            }
            byte if quoting.is_some_and(|(quote, _)| byte == quote) => inside = !inside,
            b'\n' if !inside => return b'\n',
            b'\r' if !inside => return if head.get(at + 1).is_none_or(|next| *next == b'\n') { b'\n' } else { b'\r' },
            _ => {}
        }
    }
    b'\n'
}

/// Whether the last of the backslashes at the end is one that escapes what comes behind it.
fn odd_backslashes(bytes: &[u8]) -> bool {
    bytes.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

/// A record without its end, whatever the format.
#[must_use]
pub fn without_end(record: &[u8]) -> &[u8] {
    let record = record.strip_suffix(b"\n").unwrap_or(record);
    record.strip_suffix(b"\r").unwrap_or(record)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CSV: Framing = Framing::Csv { quote: b'"', escape: b'"', end: b'\n' };
    const BACKSLASH: Framing = Framing::Csv { quote: b'\'', escape: b'\\', end: b'\n' };
    const TEXT: Framing = Framing::Text { end: b'\n' };

    /// The records that a machine finds that looks at one byte after the other, as COPY does.
    fn naive(framing: Framing, bytes: &[u8]) -> Vec<usize> {
        let (mut ends, mut inside, mut escaped) = (Vec::new(), false, false);
        for (at, byte) in bytes.iter().enumerate() {
            match framing {
                Framing::Lines => {
                    if *byte == b'\n' {
                        ends.push(at + 1);
                    }
                }
                Framing::Text { end } => {
                    if escaped {
                        escaped = false;
                    } else if *byte == b'\\' {
                        escaped = true;
                    } else if *byte == end {
                        ends.push(at + 1);
                    }
                }
                Framing::Csv { quote, escape, end } => {
                    if inside && *byte == escape && escape != quote {
                        escaped = !escaped;
                        continue;
                    }
                    if *byte == quote && !escaped {
                        inside = !inside;
                    }
                    escaped = false;
                    if !inside && *byte == end {
                        ends.push(at + 1);
                    }
                }
            }
        }
        ends
    }

    #[test]
    fn records_end_where_copy_ends_them() {
        let table = [
            (CSV, "a,b\nc,d\n", false, (8, 2, 2)),
            (CSV, "a,\"b\nc\"\nd", false, (8, 1, 2)),
            (CSV, "a,\"b\nc\"\nd", true, (9, 2, 3)),
            (CSV, "a,\"b\"\"\n\"\n", false, (9, 1, 2)),
            (CSV, "a,\"b", true, (4, 1, 1)),
            (CSV, "", true, (0, 0, 0)),
            (BACKSLASH, "'a\\'\n'\nx", false, (7, 1, 2)),
            (TEXT, "a\\\nb\nc\n", false, (7, 2, 3)),
            (Framing::Csv { quote: b'"', escape: b'"', end: b'\r' }, "a\rb\r", false, (4, 2, 2)),
            (Framing::Lines, "{}\n{}", true, (5, 2, 2)),
        ];
        for (framing, text, is_last, (bytes, records, lines)) in table {
            let cut = framing.cut(text.as_bytes(), u64::MAX, is_last);
            assert_eq!(cut, Cut { bytes, records, lines }, "{text:?}");
        }
        assert_eq!(CSV.cut(b"a\nb\nc\n", 2, true), Cut { bytes: 4, records: 2, lines: 2 });
    }

    #[test]
    fn a_record_without_its_end_has_all_that_was_escaped() {
        let lone = Framing::Csv { quote: b'"', escape: b'"', end: b'\r' };
        let table = [
            (CSV, "a\r\n", "a"),
            (CSV, "a\\\r\n", "a\\"),
            (CSV, "a", "a"),
            (TEXT, "a\r\n", "a"),
            (TEXT, "a\\\r\n", "a\\\r"),
            (TEXT, "a\\\\\r\n", "a\\\\"),
            (TEXT, "a\\\r", "a\\"),
            (lone, "\na\r", "a"),
        ];
        for (framing, record, bare) in table {
            assert_eq!(framing.bare(record.as_bytes()), bare.as_bytes(), "{framing:?} {record:?}");
        }
    }

    #[test]
    fn the_marker_of_an_end_is_found_wherever_copy_finds_it() {
        let table = [
            (CSV, "a\n\\.\nb", true),
            (CSV, "\\.", true),
            (CSV, "a\\.\n", false),
            (CSV, "\\.a\n", false),
            (CSV, "1\r\n\\.\r\n", true),
            (Framing::Lines, "{}\n\\.\n", true),
            (TEXT, "a\tb\\.\n", true),
            (TEXT, "a\tb\\\\.\n", false),
            (TEXT, "a\tb\\\\\\.\n", true),
            (TEXT, "a\\.b\n", false),
        ];
        for (framing, data, found) in table {
            assert_eq!(framing.may_end_data(data.as_bytes()), found, "{framing:?} {data:?}");
            let any = data.split_inclusive('\n').any(|record| framing.ends_data(framing.bare(record.as_bytes())));
            assert_eq!(any, found, "{framing:?} {data:?}");
        }
    }

    #[test]
    fn lines_are_counted_as_copy_counts_them() {
        let table = [
            (CSV, "1,\"a\nb\"", None, 1),
            (CSV, "1,\"a\nb\"", Some(b'\n'), 2),
            (CSV, "1,\"a\nb\"", Some(b'\r'), 1),
            (CSV, "1,\"a\r\nb\"", Some(b'\r'), 2),
            (TEXT, "a\\\nb", Some(b'\n'), 1),
            (Framing::Lines, "{}", Some(b'\n'), 1),
        ];
        for (framing, bare, newline, lines) in table {
            assert_eq!(framing.copy_lines(bare.as_bytes(), newline), lines, "{bare:?}");
        }
    }

    #[test]
    fn the_first_end_of_a_line_tells_what_ends_a_line() {
        let table =
            [("a\nb", b'\n'), ("a\r\nb", b'\n'), ("a\rb\n", b'\r'), ("\"a\r\"\n", b'\n'), ("a", b'\n'), ("a\r", b'\n')];
        for (head, end) in table {
            assert_eq!(end_of_line(head.as_bytes(), Some((b'"', b'"'))), end, "{head:?}");
        }
        assert_eq!(end_of_line(b"'a\\'\r'\n", Some((b'\'', b'\\'))), b'\n');
    }

    proptest! {
        #[test]
        fn it_finds_what_a_machine_finds_that_looks_at_every_byte(
            bytes in prop::collection::vec(prop::sample::select(b"a,\"'\\\n\r".to_vec()), 0..60),
            which in 0_usize..4,
            most in 1_u64..5,
        ) {
            let framing = [CSV, BACKSLASH, TEXT, Framing::Lines][which];
            let ends = naive(framing, &bytes);
            let all = framing.cut(&bytes, u64::MAX, false);
            prop_assert_eq!(all.bytes, ends.last().copied().unwrap_or(0));
            prop_assert_eq!(all.records, ends.len() as u64);
            prop_assert_eq!(all.lines, memchr_iter(b'\n', &bytes[..all.bytes]).count() as u64);
            // Cut piece by piece it comes to the same.
            let mut at = 0;
            while at < all.bytes {
                let piece = framing.cut(&bytes[at..], most, false);
                prop_assert!(piece.records > 0);
                at += piece.bytes;
                prop_assert!(ends.contains(&at));
            }
        }
    }
}
