//! Records that are wrong: how they are told at sight, and how the quarantine keeps them.

use std::fmt::Write;

use memchr::memchr;
use serde_json::{Value, json};

use super::feed::Place;
use super::look::Planned;
use crate::postgres::record::SetAside;

/// The longest record that is kept whole, in bytes.
const LONGEST: usize = 64 << 10;

/// Why a record is set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BadRecord {
    pub(super) sqlstate: Option<String>,
    pub(super) message: String,
}

/// Whether a record is to be loaded, by its bytes alone: `Ok(false)` for an empty line, and for the marker at the end of the data
/// where it is the last of its file.
pub(super) fn at_sight(bytes: &[u8], file: &Planned, is_end: bool) -> Result<bool, BadRecord> {
    let bad = |sqlstate: &str, message: String| BadRecord { sqlstate: Some(sqlstate.to_owned()), message };
    if bytes.is_empty() && file.sql.fields > 1 {
        return Ok(false);
    }
    if file.framing.ends_data(bytes) {
        if is_end && bytes == b"\\." {
            return Ok(false);
        }
        return Err(bad("22P04", "a line that COPY takes for the end of the data".to_owned()));
    }
    if let Some(at) = memchr(0, bytes) {
        return Err(bad("22021", format!("a NUL byte, {at} bytes into the record")));
    }
    if file.is_utf8
        && let Err(e) = std::str::from_utf8(bytes)
    {
        let at = e.valid_up_to();
        return Err(bad("22021", format!("invalid UTF-8: byte 0x{:02x}, {at} bytes into the record", bytes[at])));
    }
    Ok(true)
}

/// The record as the quarantine keeps it.
pub(super) fn row(path: &str, place: Place, bytes: &[u8], bad: &BadRecord) -> SetAside {
    SetAside {
        part: Some(path.to_owned()),
        key: vec![place.line.to_string()],
        row: Some(document(place, bytes).to_string()),
        sqlstate: bad.sqlstate.clone(),
        message: bad.message.clone(),
    }
}

fn document(place: Place, bytes: &[u8]) -> Value {
    let kept = &bytes[..bytes.len().min(LONGEST)];
    let mut document = json!({ "line": place.line, "text": readable(kept) });
    if kept.len() < bytes.len() {
        document["bytes"] = json!(bytes.len());
        document["offset"] = json!(place.offset);
    } else if std::str::from_utf8(bytes).is_err() || memchr(0, bytes).is_some() {
        document["hex"] = json!(hex(bytes));
    }
    document
}

/// The bytes of a record that is kept, as they were. `None`: it was too long to be kept whole.
pub(super) fn kept(document: &str) -> Option<Vec<u8>> {
    let document: Value = serde_json::from_str(document).ok()?;
    if !document["bytes"].is_null() {
        return None;
    }
    match document["hex"].as_str() {
        Some(hex) => (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok()).collect(),
        None => Some(document["text"].as_str()?.as_bytes().to_vec()),
    }
}

/// Where a record that was too long to be kept whole lies in its file: its first byte, after decompression, and its length.
pub(super) fn lies(document: &str) -> Option<(u64, u64)> {
    let document: Value = serde_json::from_str(document).ok()?;
    Some((document["offset"].as_u64()?, document["bytes"].as_u64()?))
}

/// As text: what is none is shown as `\xNN`.
fn readable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.extend(chunk.valid().chars().map(|c| if c == '\0' { "\\x00".to_owned() } else { c.to_string() }));
        for byte in chunk.invalid() {
            // Writing to a String cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_text_can_be_read_and_a_long_record_is_cut() {
        assert_eq!(readable(b"a\x00\xffb"), "a\\x00\\xffb");
        let long = document(Place { offset: 70, line: 7 }, &vec![b'x'; LONGEST + 1]);
        assert_eq!((long["bytes"].as_u64(), long["text"].as_str().map(str::len)), (Some(65_537), Some(LONGEST)));
        assert_eq!((kept(&long.to_string()), lies(&long.to_string())), (None, Some((70, 65_537))));
    }

    proptest! {
        #[test]
        fn what_is_kept_comes_back_as_it_was(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(kept(&document(Place { offset: 0, line: 1 }, &bytes).to_string()), Some(bytes));
        }
    }
}
