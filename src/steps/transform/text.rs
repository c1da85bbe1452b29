//! COPY's text format: a row a line, tabs between fields, `\N` for NULL.

use std::borrow::Cow;

use memchr::{memchr, memchr2, memchr3};

/// The fields of one line, without its end. `None`: NULL.
pub(super) fn fields(line: &[u8]) -> impl Iterator<Item = Option<Cow<'_, str>>> {
    line.split(|byte| *byte == b'\t').map(field)
}

/// One field as it is written. What is not UTF-8 cannot come: the session's encoding is.
fn field(raw: &[u8]) -> Option<Cow<'_, str>> {
    if raw == b"\\N" {
        return None;
    }
    if memchr(b'\\', raw).is_none() {
        return Some(String::from_utf8_lossy(raw));
    }
    let mut plain = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = memchr(b'\\', rest) {
        plain.extend_from_slice(&rest[..at]);
        let escaped = rest.get(at + 1).copied().unwrap_or(b'\\');
        plain.push(match escaped {
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 11,
            other => other,
        });
        rest = rest.get(at + 2..).unwrap_or_default();
    }
    plain.extend_from_slice(rest);
    Some(Cow::Owned(String::from_utf8(plain).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())))
}

/// Where the first `n` fields of a line end, the tab behind them not included.
pub(super) fn head(line: &[u8], n: usize) -> usize {
    let mut tabs = memchr::memchr_iter(b'\t', line);
    n.checked_sub(1).map_or(0, |skip| tabs.nth(skip).unwrap_or(line.len()))
}

/// Writes one field. `None`: NULL.
pub(super) fn write(value: Option<&str>, to: &mut Vec<u8>) {
    let Some(value) = value else {
        to.extend_from_slice(b"\\N");
        return;
    };
    let mut rest = value.as_bytes();
    loop {
        let special = memchr3(b'\\', b'\t', b'\n', rest);
        let special = memchr2(b'\r', 11, &rest[..special.unwrap_or(rest.len())]).or(special);
        let Some(at) = special else { break };
        to.extend_from_slice(&rest[..at]);
        to.extend_from_slice(match rest[at] {
            b'\\' => b"\\\\",
            b'\t' => b"\\t",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            _ => b"\\v",
        });
        rest = &rest[at + 1..];
    }
    to.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_is_read_as_copy_writes_it() {
        let line = b"1\t\\N\t\ta\\tb\\\\N\t\\\\x00ff";
        let read: Vec<Option<String>> = fields(line).map(|f| f.map(Cow::into_owned)).collect();
        let text = |s: &str| Some(s.to_owned());
        assert_eq!(read, [text("1"), None, text(""), text("a\tb\\N"), text("\\x00ff")]);
        assert_eq!((&line[..head(line, 1)], &line[..head(line, 2)], head(line, 0)), (&b"1"[..], &b"1\t\\N"[..], 0));
        assert_eq!(head(b"1", 1), 1);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(values in prop::collection::vec(prop::option::of("[a-z\\\\\t\n\r\u{b}é\u{7f}N]{0,12}"), 1..6)) {
            let mut line = Vec::new();
            for (at, value) in values.iter().enumerate() {
                if at > 0 {
                    line.push(b'\t');
                }
                write(value.as_deref(), &mut line);
            }
            prop_assert!(!line.contains(&b'\n') && !line.contains(&b'\r'));
            let read: Vec<Option<String>> = fields(&line).map(|f| f.map(Cow::into_owned)).collect();
            prop_assert_eq!(read, values);
        }
    }
}
