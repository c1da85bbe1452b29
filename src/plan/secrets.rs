//! Where passwords stand in a plan's text, so that they are neither shown nor stored.

use std::ops::Range;

/// What stands in the place of a password.
pub(super) const MASK: &str = "***";

/// The keys that hold the address of a database.
const ADDRESSES: [&str; 4] = ["url", "control", "from", "database"];

/// The places of all passwords in `text`: sorted, disjoint, never empty.
///
/// A password is what stands between `:` and `@` in a URL, and what follows `password=` in a URL's parameters. The
/// value of a key that holds an address is searched more widely, because a password that is written there may hold any
/// character. A mere reference such as `${PGPASSWORD}` is no secret.
pub(super) fn ranges(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    for (at, separator) in text.match_indices("://") {
        let start = at + separator.len();
        let end = start + text[start..].find(ends_url).unwrap_or(text.len() - start);
        let authority_end = start + text[start..end].find(['/', '?', '#']).unwrap_or(end - start);
        found.extend(in_userinfo(text, start..authority_end));
        found.extend(in_parameters(text, start..end));
    }
    for value in ADDRESSES.into_iter().flat_map(|key| values_of(key, text)) {
        match text[value.clone()].find("://") {
            Some(at) => {
                let rest = value.start + at + "://".len()..value.end;
                found.extend(in_userinfo(text, rest.clone()));
                found.extend(in_parameters(text, rest));
            }
            None => found.extend(in_conninfo(text, value)),
        }
    }
    for section in notify_sections(text) {
        found.extend(in_notify(text, section));
    }
    found.retain(|range| !range.is_empty() && !is_reference(&text[range.clone()]));
    found.sort_by_key(|range| range.start);
    found.dedup_by(|next, kept| {
        let overlaps = next.start <= kept.end;
        if overlaps {
            kept.end = kept.end.max(next.end);
        }
        overlaps
    });
    found
}

/// `text` with `***` in the place of each password.
pub(super) fn masked(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    for range in ranges(text) {
        out.push_str(&text[from..range.start]);
        out.push_str(MASK);
        from = range.end;
    }
    out.push_str(&text[from..]);
    out
}

/// Where `[[notify]]` is written, each up to the next header that is another's.
///
/// By lines, since a plan that is no TOML is shown as well. What is too much is masked rather than too little.
fn notify_sections(text: &str) -> Vec<Range<usize>> {
    let mut sections: Vec<Range<usize>> = Vec::new();
    let mut open = false;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let start = line.trim_start();
        let name = start.trim_start_matches('[').trim_start().trim_start_matches(['"', '\'']);
        let is_ours = name
            .strip_prefix("notify")
            .is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'));
        let begins = is_ours && (start.starts_with('[') || name.contains('='));
        if begins {
            open = true;
            sections.push(at..at);
        } else if start.starts_with('[') {
            open = false;
        }
        at += line.len();
        if open && let Some(last) = sections.last_mut() {
            last.end = at;
        }
    }
    sections
}

/// The keys of a recipient that are no secrets, wherever they stand.
const PLAIN: [&str; 8] = ["name", "shape", "level", "timeout", "on", "attempts", "url", "key"];

/// What is secret of a recipient: who writes to an address and all of it behind its host, the key, what headers and
/// programs are given.
fn in_notify(text: &str, section: Range<usize>) -> Vec<Range<usize>> {
    let inside = &text[section.clone()];
    let mut found = values_of("key", inside);
    for value in values_of("url", inside) {
        let authority = inside[value.clone()].find("://").map_or(value.start, |at| value.start + at + 3);
        // Behind the host; an address that is none is a secret as a whole.
        let path = inside[authority..value.end].find(['/', '?', '#']).map(|at| authority + at + 1);
        let from = match path {
            Some(path) => path,
            None if authority == value.start => value.start,
            None => value.end,
        };
        found.push(from..value.end);
        // Some take a token in the place of the user.
        let host = authority..path.map_or(value.end, |path| path - 1);
        if let Some(at) = inside[host.clone()].rfind('@') {
            let user = &inside[host.start..host.start + at];
            found.push(host.start..host.start + user.find(':').unwrap_or(at));
        }
    }
    found.extend(in_headers(inside));
    found.extend(inside.match_indices("command").flat_map(|(at, word)| arguments(inside, at + word.len())));
    found.into_iter().map(|range| section.start + range.start..section.start + range.end).collect()
}

/// What headers are given: every text behind a `=` from the first word of them on, since a value may hold what would end
/// their table. Only the recipient's other keys are known to be none.
fn in_headers(inside: &str) -> Vec<Range<usize>> {
    let Some(from) = inside.find("headers") else { return Vec::new() };
    let mut found = Vec::new();
    // Up to here it is a value: a `=` in it gives nothing.
    let mut read = from;
    for (at, _) in inside[from..].match_indices('=') {
        let at = from + at;
        if at < read {
            continue;
        }
        let before = inside[from..at].trim_end().trim_end_matches(['"', '\'']);
        let is_of_name = |c: char| c.is_alphanumeric() || "_-.".contains(c);
        let name = before.rsplit(|c| !is_of_name(c)).next().unwrap_or_default();
        if PLAIN.contains(&name) {
            continue;
        }
        let body = inside[at + 1..].trim_start();
        let Some(quote) = opening(body) else { continue };
        let start = inside.len() - body.len() + quote.len();
        let value = start..start + closing(&inside[start..], quote);
        read = value.end;
        if !is_scheme_and_reference(&inside[value.clone()]) {
            found.push(value);
        }
    }
    found
}

/// What a program is given: the texts of the list behind `command`, without the first.
fn arguments(inside: &str, at: usize) -> Vec<Range<usize>> {
    let rest = inside[at..].trim_start_matches(['"', '\'']).trim_start();
    let Some(rest) = rest.strip_prefix('=').and_then(|rest| rest.trim_start().strip_prefix('[')) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let mut at = inside.len() - rest.len();
    while let Some(c) = inside[at..].chars().next() {
        if let Some(quote) = opening(&inside[at..]) {
            let start = at + quote.len();
            let end = start + closing(&inside[start..], quote);
            found.push(start..end);
            at = (end + quote.len()).min(inside.len());
        } else if c == '#' {
            at += inside[at..].find('\n').unwrap_or(inside.len() - at);
        } else if c == ']' {
            break;
        } else {
            at += c.len_utf8();
        }
    }
    found.into_iter().skip(1).collect()
}

/// The quotes that a text begins with.
fn opening(text: &str) -> Option<&'static str> {
    ["\"\"\"", "'''", "\"", "'"].into_iter().find(|quote| text.starts_with(quote))
}

/// `Bearer ${TOKEN}`: it says nothing.
fn is_scheme_and_reference(value: &str) -> bool {
    let words = ["Bearer", "Basic", "Token", "GenieKey"];
    value.split_once(' ').is_some_and(|(word, rest)| words.contains(&word) && is_reference(rest.trim()))
}

fn ends_url(c: char) -> bool {
    c.is_whitespace() || matches!(c, '"' | '\'' | '\\' | '<' | '>')
}

fn in_userinfo(text: &str, range: Range<usize>) -> Option<Range<usize>> {
    let host = text[range.clone()].rfind('@')?;
    let colon = text[range.start..range.start + host].find(':')?;
    Some(range.start + colon + 1..range.start + host)
}

fn in_parameters(text: &str, range: Range<usize>) -> Vec<Range<usize>> {
    const NAME: &str = "password=";
    let end_of = |start: usize| start + text[start..range.end].find(['&', '#']).unwrap_or(range.end - start);
    let starts = text[range.clone()].match_indices(NAME).map(|(at, _)| range.start + at + NAME.len());
    starts.map(|start| start..end_of(start)).collect()
}

/// libpq's other form, `host=db password=secret`: all that follows the word is taken for the secret.
fn in_conninfo(text: &str, value: Range<usize>) -> Option<Range<usize>> {
    let name = value.start + text[value.clone()].find("password")?;
    let start = name + text[name..value.end].find('=')? + 1;
    Some(start..value.end)
}

/// The insides of the strings that `key` is given.
fn values_of(key: &str, text: &str) -> Vec<Range<usize>> {
    let value_after = |at: usize| {
        let rest = &text[at..];
        let rest = rest.strip_prefix(['"', '\'']).unwrap_or(rest);
        let rest = rest.trim_start().strip_prefix('=')?.trim_start();
        let quote = opening(rest)?;
        let body = &rest[quote.len()..];
        let start = text.len() - body.len();
        Some(start..start + closing(body, quote))
    };
    text.match_indices(key).filter_map(|(at, word)| value_after(at + word.len())).collect()
}

/// Where the string that `quote` opened ends: an escaped quote does not end it.
fn closing(body: &str, quote: &str) -> usize {
    let escapes = quote.starts_with('"');
    let closes = |at: usize| !escapes || body[..at].chars().rev().take_while(|c| *c == '\\').count().is_multiple_of(2);
    body.match_indices(quote).map(|(at, _)| at).find(|at| closes(*at)).unwrap_or(body.len())
}

fn is_reference(password: &str) -> bool {
    let name = password.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
    name.is_some_and(|name| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn passwords_are_masked_and_nothing_else() {
        let table = [
            ("url = \"postgres://u:secret@db/x\"", "url = \"postgres://u:***@db/x\""),
            ("url = 'postgres://u:p@ss/w#o?r\"d@db/x'", "url = 'postgres://u:***@db/x'"),
            ("control = 'postgres://u:p@ss/w#o?r\"d@db/x'", "control = 'postgres://u:***@db/x'"),
            ("control = \"host=db password = secret word\"", "control = \"host=db password =***\""),
            ("url = \"postgres://u:a\\\"b@db/x\"", "url = \"postgres://u:***@db/x\""),
            ("database = { url = \"postgres://u:it's@db\" }", "database = { url = \"postgres://u:***@db\" }"),
            ("url = \"postgres://db/x?user=u&password=s&a=b\"", "url = \"postgres://db/x?user=u&password=***&a=b\""),
            ("url = \"host=db password = secret word\"", "url = \"host=db password =***\""),
            ("set = { link = \"'https://a:b@c/d'\" }", "set = { link = \"'https://a:***@c/d'\" }"),
            ("url = \"postgres://u:${PGPASSWORD}@db\"", "url = \"postgres://u:${PGPASSWORD}@db\""),
            ("url = \"postgres://u:${PW:-secret}@db\"", "url = \"postgres://u:***@db\""),
            ("url = \"${DATABASE_URL}\"", "url = \"${DATABASE_URL}\""),
            ("url = \"postgres://u@db:5432/x\"", "url = \"postgres://u@db:5432/x\""),
            (
                "[[notify]]\nurl = \"https://hooks.example.com/T0/B0/xyz\"",
                "[[notify]]\nurl = \"https://hooks.example.com/***\"",
            ),
            ("[[notify]]\nurl = \"${HOOK}\"\nkey = \"${PD}\"", "[[notify]]\nurl = \"${HOOK}\"\nkey = \"${PD}\""),
            ("notify = [{ key = 'abc', url = \"hooks\" }]", "notify = [{ key = '***', url = \"***\" }]"),
            ("[[notify]]\nkey = \"abc\"\n[[step]]\nkey = \"id\"", "[[notify]]\nkey = \"***\"\n[[step]]\nkey = \"id\""),
            (
                "[[notify]]\nheaders = { Authorization = \"Bearer abc\", X = 'y' }",
                "[[notify]]\nheaders = { Authorization = \"***\", X = '***' }",
            ),
            (
                "[[notify]]\nheaders = { Authorization = \"Bearer ${TOKEN}\" }",
                "[[notify]]\nheaders = { Authorization = \"Bearer ${TOKEN}\" }",
            ),
            (
                "[[notify]]\nname = \"a\"\n[notify.headers]\nX = \"y\"",
                "[[notify]]\nname = \"a\"\n[notify.headers]\nX = \"***\"",
            ),
            (
                "[[notify]]\nheaders = { A = \"Bearer ${TOKEN}\", B = \"se}c[ret\", C = 's=\"3' }\nlevel = \"info\"",
                "[[notify]]\nheaders = { A = \"Bearer ${TOKEN}\", B = \"***\", C = '***' }\nlevel = \"info\"",
            ),
            (
                "[[notify]]\nheaders.name = \"y\"\nname = \"a\"\nurl = \"https://h/x\"\n[[step]]\nname = \"s\"",
                "[[notify]]\nheaders.name = \"***\"\nname = \"a\"\nurl = \"https://h/***\"\n[[step]]\nname = \"s\"",
            ),
            ("[[notify]]\nurl = \"https://TOKEN@host/\"", "[[notify]]\nurl = \"https://***@host/\""),
            ("[[notify]]\nurl = \"https://u:s@host/p\"", "[[notify]]\nurl = \"https://***:***@host/***\""),
            ("[[notify]]\nurl = \"https://${TOKEN}@host\"", "[[notify]]\nurl = \"https://${TOKEN}@host\""),
            (
                "[[notify]]\ncommand = [\"/bin/curl\", # it's\n 'a]b', \"${TOKEN}\", \"\"\"c\"\"\"]\nname = \"n\"",
                "[[notify]]\ncommand = [\"/bin/curl\", # it's\n '***', \"${TOKEN}\", \"\"\"***\"\"\"]\nname = \"n\"",
            ),
            ("[[notify]]\ncommand = \"/bin/logger\"", "[[notify]]\ncommand = \"/bin/logger\""),
            ("where = \"a = 'x://y' AND b = ':@'\"", "where = \"a = 'x://y' AND b = ':@'\""),
        ];
        for (text, expected) in table {
            assert_eq!(masked(text), expected);
        }
    }

    proptest! {
        #[test]
        fn ranges_are_sorted_disjoint_and_inside(text in "(url|control|key|headers|command|notify|#|\\[|\\{|\\}|=|\"|'|\\\\|://|:|@|/|password=|a|ü| |\n){0,30}") {
            let mut end = 0;
            for range in ranges(&text) {
                prop_assert!(range.start >= end && range.start < range.end);
                prop_assert!(text.get(range.clone()).is_some());
                end = range.end;
            }
        }
    }
}
