//! Names of things that must not be mixed up.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A run's identity: a UUIDv7, so that ids sort by the time they were made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(pub Uuid);

impl RunId {
    /// The last eight hex digits: what people read, say and type.
    #[must_use]
    pub fn short(&self) -> String {
        let hex = self.0.simple().to_string();
        hex[hex.len() - 8..].to_owned()
    }

    /// The key of the session advisory lock that the driver of this run holds.
    ///
    /// The random low half of the UUID, so that two runs collide with a chance of 2^-62.
    #[must_use]
    pub fn advisory_key(&self) -> i64 {
        self.0.as_u64_pair().1.cast_signed()
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A run by its last eight hex digits, as [`RunId::short`] writes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ShortId(u32);

impl std::str::FromStr for ShortId {
    type Err = BadRunRef;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.len() == 8 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let bad = || BadRunRef(text.to_owned());
        if digits { u32::from_str_radix(text, 16).map(Self).map_err(|_| bad()) } else { Err(bad()) }
    }
}

impl fmt::Display for ShortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl From<ShortId> for RunRef {
    fn from(short: ShortId) -> Self {
        Self::Suffix(short.to_string())
    }
}

/// How a person names a run: the whole id, or how it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunRef {
    /// A whole UUID.
    Full(RunId),
    /// The last digits of one, lower case, at least four.
    Suffix(String),
}

/// The text is neither a UUID nor the last digits of one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a run: give its id, or the last 4 to 32 hex digits of it")]
pub struct BadRunRef(pub String);

impl std::str::FromStr for RunRef {
    type Err = BadRunRef;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(uuid) = Uuid::parse_str(text) {
            return Ok(Self::Full(RunId(uuid)));
        }
        let suffix = text.to_ascii_lowercase();
        let fits = (4..=32).contains(&suffix.len()) && suffix.bytes().all(|b| b.is_ascii_hexdigit());
        if fits { Ok(Self::Suffix(suffix)) } else { Err(BadRunRef(text.to_owned())) }
    }
}

/// The position of a step in its plan, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StepIndex(pub u32);

impl StepIndex {
    /// The index as a position in a slice.
    #[must_use]
    pub fn as_usize(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for StepIndex {
    /// People count from 1.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0 + 1)
    }
}

/// The number of a segment within one sweep of a step, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SegmentNo(pub u32);

impl fmt::Display for SegmentNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(unix_ms: u64, random: [u8; 10]) -> RunId {
        RunId(uuid::Builder::from_unix_timestamp_millis(unix_ms, &random).into_uuid())
    }

    #[test]
    fn a_run_is_named_by_its_id_or_by_its_last_digits() {
        let id = made(1_700_000_000_000, *b"0123456789");
        assert_eq!(id.to_string().parse(), Ok(RunRef::Full(id)));
        assert_eq!(id.short().parse(), Ok(RunRef::Suffix(id.short())));
        assert_eq!(id.short().len(), 8);
        assert_eq!("7F3A09C2".parse(), Ok(RunRef::Suffix("7f3a09c2".to_owned())));
        for bad in ["", "abc", "newest", "7f3a09zz", "7f3a09c2'; --"] {
            assert_eq!(bad.parse::<RunRef>(), Err(BadRunRef(bad.to_owned())));
        }
    }

    #[test]
    fn a_short_id_is_eight_digits_and_finds_its_run() {
        let short: ShortId = "00Ab09c2".parse().expect("a short id");
        assert_eq!(RunRef::from(short), RunRef::Suffix("00ab09c2".to_owned()));
        for bad in ["", "7f3a09c", "7f3a09c2a", "+f3a09c2", "\u{1b}[2J1234"] {
            assert!(bad.parse::<ShortId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn ids_sort_by_the_time_they_were_made() {
        let older = made(1_700_000_000_000, [0xff; 10]);
        let newer = made(1_700_000_000_001, [0; 10]);
        assert!(older < newer);
        assert_eq!(newer.0.get_version_num(), 7);
    }
}
