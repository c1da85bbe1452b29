//! Numbers as people read them. One place, so that the console, the progress line and the report agree.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::progress::{Eta, Total};
use super::snapshot::{BatchActivity, Bytes, Unit};

/// A number of bytes. Reads and prints binary units: `512MiB`, `1GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ByteSize(pub u64);

const UNITS: [(&str, u64); 5] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

/// The text is not a number of bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a size: write it like 512MiB or 1.5GiB (B, KiB, MiB, GiB, TiB; kB, MB, GB, TB are powers of 1000)"
)]
pub struct BadByteSize(pub String);

impl FromStr for ByteSize {
    type Err = BadByteSize;

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be in range just before")]
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || BadByteSize(text.to_owned());
        let trimmed = text.trim();
        let split = trimmed.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(split);
        let number: f64 = number.parse().map_err(|_| bad())?;
        let unit = unit.trim().to_ascii_lowercase();
        let factor = match unit.as_str() {
            "b" => 1.0,
            "kb" => 1e3,
            "mb" => 1e6,
            "gb" => 1e9,
            "tb" => 1e12,
            "kib" => 1024.0,
            "mib" => 1_048_576.0,
            "gib" => 1_073_741_824.0,
            "tib" => 1_099_511_627_776.0,
            _ => return Err(bad()),
        };
        let bytes = number * factor;
        if (0.0..9.0e18).contains(&bytes) { Ok(Self(bytes.round() as u64)) } else { Err(bad()) }
    }
}

impl fmt::Display for ByteSize {
    #[expect(clippy::cast_precision_loss, reason = "two or three digits are shown")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, factor) = UNITS.into_iter().rev().find(|(_, factor)| self.0 >= *factor).unwrap_or(UNITS[0]);
        let value = self.0 as f64 / factor as f64;
        let text = if self.0.is_multiple_of(factor) || value >= 100.0 {
            format!("{value:.0} {unit}")
        } else {
            format!("{value:.1} {unit}")
        };
        f.pad(&text)
    }
}

/// A count with a comma between thousands: `1,426,000`.
#[must_use]
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count with its noun: `1 row`, `37 rows`.
#[must_use]
pub fn rows(n: u64) -> String {
    format!("{} {}", count(n), if n == 1 { "row" } else { "rows" })
}

/// A rate, rounded to whole rows: `48,210`.
#[must_use]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to what fits")]
pub fn rate(rows_per_second: f64) -> String {
    count(rows_per_second.clamp(0.0, 1e18).round() as u64)
}

/// A duration as short as it can be read: `431ms`, `12.4s`, `1m27.8s`, `2h05m`, `3d04h`.
#[must_use]
pub fn duration(d: Duration) -> String {
    let tenths = (d.as_millis() + 50) / 100;
    let seconds = (d.as_millis() + 500) / 1000;
    if d < Duration::from_millis(1) {
        format!("{}µs", d.as_micros())
    } else if d < Duration::from_secs(1) {
        format!("{}ms", d.as_millis())
    } else if tenths < 600 {
        format!("{}.{}s", tenths / 10, tenths % 10)
    } else if tenths < 36_000 {
        format!("{}m{:02}.{}s", tenths / 600, tenths % 600 / 10, tenths % 10)
    } else if seconds < 86_400 {
        format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60)
    } else {
        format!("{}d{:02}h", seconds / 86_400, seconds % 86_400 / 3600)
    }
}

/// A duration without tenths, for what is only estimated: `11s`, `4m10s`, `2h05m`.
#[must_use]
pub fn rough_duration(d: Duration) -> String {
    let seconds = (d.as_millis() + 500) / 1000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => duration(d),
    }
}

/// An ETA as a range: `11–13s`, `4m10s–5m02s`, `unknown`.
#[must_use]
pub fn eta(eta: Eta) -> String {
    match eta {
        Eta::Unknown => "unknown".to_owned(),
        Eta::Within { least, most } => {
            let (least, most) = (rough_duration(least), rough_duration(most));
            if least == most {
                least
            } else if let (Some(a), Some(b)) = (only_seconds(&least), only_seconds(&most)) {
                format!("{a}–{b}s")
            } else {
                format!("{least}–{most}")
            }
        }
    }
}

fn only_seconds(text: &str) -> Option<&str> {
    text.strip_suffix('s').filter(|number| number.bytes().all(|b| b.is_ascii_digit()))
}

/// What was walked of what there is, and its bytes where they are counted: `1,426,000 / ~2,000,000 rows`;
/// `1,426,000 / ~2,000,000 rows, 107 of 150 MiB`.
#[must_use]
pub fn walked(batches: &BatchActivity) -> String {
    let (walked, unit) = (count(batches.estimate.walked), batches.unit.word());
    let rows = match batches.estimate.total {
        Total::Unknown => format!("{walked} / unknown {unit}"),
        Total::About(total) if batches.unit == Unit::Rows => format!("{walked} / ~{} {unit}", count(total)),
        // Files were counted when they were listed.
        Total::About(total) | Total::Exactly(total) => format!("{walked} / {} {unit}", count(total)),
    };
    match batches.bytes {
        Some(bytes) => format!("{rows}, {}", bytes_of(bytes)),
        None => rows,
    }
}

/// Bytes done of all, in the unit of all: `107 of 150 MiB`.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub fn bytes_of(bytes: Bytes) -> String {
    let (unit, factor) = UNITS.into_iter().rev().find(|(_, factor)| bytes.all >= *factor).unwrap_or(UNITS[0]);
    let told = |bytes: u64| {
        let value = bytes as f64 / factor as f64;
        if value >= 100.0 || bytes.is_multiple_of(factor) { format!("{value:.0}") } else { format!("{value:.1}") }
    };
    format!("{} of {} {unit}", told(bytes.done.min(bytes.all)), told(bytes.all))
}

/// A share in percent with one decimal, cut and never rounded up: 99.96 % is `99.9%`.
#[must_use]
pub fn percent(fraction: f64) -> String {
    format!("{:.1}%", (fraction.clamp(0.0, 1.0) * 1000.0).floor() / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bytes_are_told_in_the_unit_of_all_of_them() {
        let table =
            [(112_100_000, 157_286_400, "107 of 150 MiB"), (5, 999, "5 of 999 B"), (2048, 1536, "1.5 of 1.5 KiB")];
        for (done, all, told) in table {
            assert_eq!(bytes_of(Bytes { done, all }), told);
        }
    }

    #[test]
    fn sizes_are_read_and_printed() {
        for (text, bytes) in [("1GiB", 1 << 30), ("512 MiB", 512 << 20), ("1.5KiB", 1536), ("10kB", 10_000), ("0B", 0)]
        {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
        for bad in ["", "12", "GiB", "1 parsec", "-1MiB", "1e99TiB", "NaNGiB"] {
            assert!(bad.parse::<ByteSize>().is_err(), "{bad}");
        }
        assert_eq!(ByteSize(1 << 30).to_string(), "1 GiB");
        assert_eq!(ByteSize(39_845_888).to_string(), "38 MiB");
        assert_eq!(ByteSize(7_945_689_498).to_string(), "7.4 GiB");
    }

    #[test]
    fn durations_are_short() {
        let table = [
            (431, "431ms"),
            (12_400, "12.4s"),
            (59_960, "1m00.0s"),
            (87_800, "1m27.8s"),
            (7_500_000, "2h05m"),
            (273_600_000, "3d04h"),
        ];
        for (ms, text) in table {
            assert_eq!(duration(Duration::from_millis(ms)), text);
        }
        assert_eq!(duration(Duration::from_micros(250)), "250µs");
    }

    #[test]
    fn only_rows_are_estimated_and_files_were_counted() {
        use crate::run::progress::Estimate;
        let batches = |unit, total| BatchActivity {
            estimate: Estimate { walked: 713, total },
            sweep: 1,
            eta: Eta::Unknown,
            rate: None,
            mean_rate: None,
            last: None,
            next_size: 1,
            target: Duration::ZERO,
            at_floor: false,
            segments: crate::run::snapshot::Parts::default(),
            bytes: None,
            unit,
        };
        assert_eq!(walked(&batches(Unit::Rows, Total::About(1000))), "713 / ~1,000 rows");
        assert_eq!(walked(&batches(Unit::Files, Total::About(1000))), "713 / 1,000 files");
        assert_eq!(walked(&batches(Unit::Files, Total::Unknown)), "713 / unknown files");
    }

    #[test]
    fn an_eta_names_its_unit_once_where_it_can() {
        let within = |a, b| eta(Eta::Within { least: Duration::from_secs(a), most: Duration::from_secs(b) });
        assert_eq!(within(11, 13), "11–13s");
        assert_eq!(within(11, 11), "11s");
        assert_eq!(within(50, 70), "50s–1m10s");
        assert_eq!(within(7500, 9000), "2h05m–2h30m");
        assert_eq!(eta(Eta::Unknown), "unknown");
    }

    #[test]
    fn a_percentage_is_never_rounded_up_to_done() {
        assert_eq!(percent(0.9999), "99.9%");
        assert_eq!(percent(1.0), "100.0%");
        assert_eq!(percent(0.713), "71.3%");
    }

    proptest! {
        #[test]
        fn a_count_keeps_its_digits(n in any::<u64>()) {
            prop_assert_eq!(count(n).replace(',', ""), n.to_string());
        }
    }
}
