//! Secrets in statements of other sessions, made unreadable before anybody is shown them.
//!
//! A statement may be anything, and may have been cut by the server in the middle of a word. So this errs on the side of
//! masking: behind a word that speaks of a password, every string of the statement goes.

use super::tokens::{dollar_tag, skip_comment, skip_dollar, skip_string_by, skip_until};

/// What stands in the place of a secret.
const MASK: &str = "***";

/// Words that a secret stands behind, as parts of words, in lower case. `crypt`: the keys of pgcrypto's functions.
const TELLTALE: [&str; 14] = [
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "secret",
    "crypt",
    "credential",
    "api_key",
    "apikey",
    "access_key",
    "private_key",
    "token",
    "bearer",
    "pwd",
];

/// `sql` with its secrets masked: strings behind `PASSWORD` and its like, `password=` inside of strings (connection strings of
/// subscriptions, foreign servers and dblink; JSON), the password in a URL.
#[must_use]
pub fn secrets(sql: &str) -> String {
    let chars: Vec<char> = sql.chars().collect();
    let mut out = String::with_capacity(sql.len());
    let mut at = 0;
    let mut behind = false;
    let mut escapes = false;
    let mut setting = Setting::Begins;
    while let Some(&c) = chars.get(at) {
        let next = chars.get(at + 1).copied();
        let tag = if c == '$' { dollar_tag(&chars, at) } else { None };
        let end = match c {
            '-' if next == Some('-') => skip_until(&chars, at, |c| c == '\n'),
            '/' if next == Some('*') => skip_comment(&chars, at),
            '\'' => skip_string_by(&chars, at, '\'', escapes),
            '"' => skip_string_by(&chars, at, '"', false),
            '$' => tag.as_ref().map_or(at + 1, |tag| skip_dollar(&chars, at, tag)),
            c if is_word(c) => skip_until(&chars, at, |c| !is_word(c)),
            _ => at + 1,
        };
        let end = end.min(chars.len());
        let piece = &chars[at..end];
        match (c, &tag) {
            ('\'', _) | ('$', Some(_)) if behind => out.push_str("'***'"),
            ('\'', _) => {
                out.push_str(&inside(piece));
                behind = names_a_secret(piece);
            }
            ('$', Some(tag)) => {
                // The body of a function or of a DO block is SQL itself.
                let closes = piece.len() >= 2 * tag.len() && piece.ends_with(tag);
                let body = &piece[tag.len()..piece.len() - if closes { tag.len() } else { 0 }];
                let masked = secrets(&body.iter().collect::<String>());
                out.extend(tag);
                out.push_str(&inside(&masked.chars().collect::<Vec<_>>()));
                out.extend(tag.iter().filter(|_| closes));
            }
            ('-' | '/', _) if piece.len() > 1 => out.push_str(&inside(piece)),
            _ if is_word(c) && behind && setting == Setting::Assigned => out.push_str(MASK),
            _ => {
                setting = setting.after(c, piece, behind);
                behind = c != ';' && (behind || (c == '"' || is_word(c)) && tells(piece));
                out.extend(piece);
            }
        }
        escapes = matches!(piece, ['e' | 'E']);
        at = end;
    }
    out
}

/// Where a `SET name = value` stands, whose value may be a bare word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Setting {
    /// No word of the statement has come.
    Begins,
    /// It sets something.
    Sets,
    /// What comes is the value.
    Assigned,
    /// It is another statement.
    Other,
}

impl Setting {
    fn after(self, c: char, piece: &[char], behind: bool) -> Self {
        let is = |word: &str| piece.iter().collect::<String>().eq_ignore_ascii_case(word);
        match self {
            _ if c == ';' => Self::Begins,
            Self::Begins if is_word(c) => {
                if is("set") {
                    Self::Sets
                } else {
                    Self::Other
                }
            }
            Self::Sets if behind && (c == '=' || is("to")) => Self::Assigned,
            Self::Begins | Self::Sets | Self::Assigned | Self::Other => self,
        }
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn tells(word: &[char]) -> bool {
    let word: String = word.iter().flat_map(|c| c.to_lowercase()).collect();
    TELLTALE.iter().any(|part| word.contains(part))
}

/// Whether a string is but the name of a secret, as in `set_config('app.password', ...)`.
fn names_a_secret(literal: &[char]) -> bool {
    literal.iter().all(|c| is_word(*c) || matches!(c, '\'' | '.' | '-')) && tells(literal)
}

/// The inside of a string or a comment: `password=...`, `"password": "..."`, `PASSWORD ''...''`, `scheme://user:...@`.
fn inside(chars: &[char]) -> String {
    let mut out: Vec<char> = Vec::with_capacity(chars.len());
    let mut at = 0;
    while at < chars.len() {
        if let Some((from, to)) = is_word(chars[at]).then(|| value_behind(chars, at)).flatten() {
            out.extend(&chars[at..from]);
            out.extend(MASK.chars());
            at = to;
        } else if let Some((from, to)) = chars[at..].starts_with(&[':', '/', '/']).then(|| in_url(chars, at)).flatten()
        {
            out.extend(&chars[at..from]);
            out.extend(MASK.chars());
            at = to;
        } else {
            let end = if is_word(chars[at]) { skip_until(chars, at, |c| !is_word(c)) } else { at + 1 };
            out.extend(&chars[at..end]);
            at = end;
        }
    }
    out.into_iter().collect()
}

/// From where to where the secret reaches that stands behind the word at `at`, if that word tells of one.
fn value_behind(chars: &[char], at: usize) -> Option<(usize, usize)> {
    let word = skip_until(chars, at, |c| !is_word(c));
    tells(&chars[at..word]).then_some(())?;
    let name = skip_until(chars, word, |c| !matches!(c, '"' | '\\'));
    let mut from = skip_until(chars, name, |c| !c.is_whitespace());
    let assigned = matches!(chars.get(from), Some('=' | ':'));
    if assigned {
        from = skip_until(chars, from, |c| !(c.is_whitespace() || matches!(c, '=' | ':' | '>')));
    }
    let open = skip_until(chars, from, |c| !matches!(c, '\'' | '"' | '\\'));
    let opening = &chars[from..open];
    let end = match opening {
        [] if !assigned => return None,
        [] => skip_until(chars, from, |c| c.is_whitespace() || matches!(c, '\'' | '"' | '&' | ';' | ',' | ')' | '}')),
        // The end of the string around it, or an empty value: one quote alone, and nothing behind it.
        _ if open == chars.len() => return None,
        _ => closing(chars, open, opening),
    };
    (end > open).then_some((open, end))
}

/// Where what was opened by `opening` is closed by the same; behind a backslash it is not. What does not close goes to the
/// end.
fn closing(chars: &[char], from: usize, opening: &[char]) -> usize {
    let mut at = from;
    while at < chars.len() {
        if chars[at..].starts_with(opening) {
            return at;
        }
        at += if chars[at] == '\\' { 1 + opening.len() } else { 1 };
    }
    chars.len()
}

/// From where to where the password of the URL reaches whose `://` stands at `at`. A password should have its `/` and `@`
/// encoded; where it has not, more is masked rather than less.
fn in_url(chars: &[char], at: usize) -> Option<(usize, usize)> {
    let end = skip_until(chars, at + 3, |c| c.is_whitespace() || matches!(c, '\'' | '"'));
    let from = at + 3 + chars[at + 3..end].iter().position(|c| *c == ':')? + 1;
    let to = match chars[from..end].iter().rposition(|c| *c == '@') {
        Some(found) => from + found,
        // Cut by the server before the host came, unless what follows is a port.
        None if end == chars.len() && !chars[from..end].iter().all(|c| c.is_ascii_digit() || *c == '/') => end,
        None => return None,
    };
    (to > from).then_some((from, to))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn secrets_are_masked_and_the_rest_is_left_as_it_was() {
        let table = [
            ("ALTER ROLE ann PASSWORD 'hunter2'", "ALTER ROLE ann PASSWORD '***'"),
            (
                "create user x encrypted password E'a\\'b' valid until 'now'",
                "create user x encrypted password E'***' valid until '***'",
            ),
            ("ALTER ROLE a PASSWORD 'x'; SELECT 'y'", "ALTER ROLE a PASSWORD '***'; SELECT 'y'"),
            ("SET app.jwt_token = 'eyJ'", "SET app.jwt_token = '***'"),
            ("set local app.password TO hunter2", "set local app.password TO ***"),
            ("SET app.password=123; SET app.x = y", "SET app.password=***; SET app.x = y"),
            ("SELECT password FROM users WHERE id = 4", "SELECT password FROM users WHERE id = 4"),
            ("ALTER ROLE a PASSWORD $q$x$q$", "ALTER ROLE a PASSWORD '***'"),
            ("ALTER ROLE a PASSWORD 'cut by the serv", "ALTER ROLE a PASSWORD '***'"),
            (
                "CREATE USER MAPPING FOR a SERVER s OPTIONS (user 'u', password 'p')",
                "CREATE USER MAPPING FOR a SERVER s OPTIONS (user 'u', password '***')",
            ),
            (
                "CREATE SUBSCRIPTION s CONNECTION 'host=h user=u password=p dbname=d' PUBLICATION p",
                "CREATE SUBSCRIPTION s CONNECTION 'host=h user=u password=*** dbname=d' PUBLICATION p",
            ),
            (
                "CREATE SUBSCRIPTION s CONNECTION 'password=''a b'' host=h' PUBLICATION p",
                "CREATE SUBSCRIPTION s CONNECTION 'password=''***'' host=h' PUBLICATION p",
            ),
            (
                "SELECT dblink_connect('c', 'host=h password = p')",
                "SELECT dblink_connect('c', 'host=h password = ***')",
            ),
            (
                "SELECT dblink('postgres://u:p@h:5432/d', 'SELECT 1')",
                "SELECT dblink('postgres://u:***@h:5432/d', 'SELECT 1')",
            ),
            (
                "SELECT dblink('postgresql://u:p%40/q@h/d?sslpassword=k&x=1', '')",
                "SELECT dblink('postgresql://u:***@h/d?sslpassword=***&x=1', '')",
            ),
            ("SELECT 'postgres://u:hunt", "SELECT 'postgres://u:***"),
            ("SELECT 'http://h:8080/x', 'http://h:80'", "SELECT 'http://h:8080/x', 'http://h:80'"),
            (
                "DO $$ BEGIN EXECUTE 'ALTER ROLE a PASSWORD ''p'''; END $$",
                "DO $$ BEGIN EXECUTE 'ALTER ROLE a PASSWORD ''***'''; END $$",
            ),
            (
                "DO $$ BEGIN ALTER ROLE a PASSWORD 'p'; PERFORM 'x'; END $$",
                "DO $$ BEGIN ALTER ROLE a PASSWORD '***'; PERFORM 'x'; END $$",
            ),
            (
                "INSERT INTO t VALUES ('{\"password\": \"p\", \"n\": 1}')",
                "INSERT INTO t VALUES ('{\"password\": \"***\", \"n\": 1}')",
            ),
            ("SELECT set_config('app.password', 'p', false)", "SELECT set_config('app.password', '***', false)"),
            ("SELECT pgp_sym_decrypt(c, 'key') FROM t", "SELECT pgp_sym_decrypt(c, '***') FROM t"),
            ("/* password=p */ SELECT 1 -- it's password: p", "/* password=*** */ SELECT 1 -- it's password: ***"),
            ("UPDATE users SET password = $1 WHERE id = $2", "UPDATE users SET password = $1 WHERE id = $2"),
            (
                "UPDATE users SET email = lower('A''s') WHERE \"Id\" = 7",
                "UPDATE users SET email = lower('A''s') WHERE \"Id\" = 7",
            ),
            ("SELECT password FROM users", "SELECT password FROM users"),
            ("", ""),
        ];
        for (sql, masked) in table {
            assert_eq!(secrets(sql), masked);
        }
    }

    #[test]
    fn a_statement_that_was_cut_anywhere_shows_nothing_of_its_secret() {
        for sql in [
            "ALTER ROLE ann PASSWORD 'ZQXJ'",
            "CREATE SUBSCRIPTION s CONNECTION 'host=h password=ZQXJ'",
            "CREATE SUBSCRIPTION s CONNECTION 'host=h password=''ZQXJ'''",
            "SELECT dblink('postgres://u:ZQXJ@h/d')",
            "DO $$ BEGIN EXECUTE 'ALTER ROLE a PASSWORD ''ZQXJ'''; END $$",
        ] {
            for cut in 0..=sql.len() {
                let masked = secrets(&sql[..cut]);
                assert!(!masked.contains('Z'), "{masked}");
            }
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic_and_plain_statements_stay(text in any::<String>(), plain in "[a-oA-O0-9 ,.()=*<>\n]{0,80}") {
            let _ = secrets(&text);
            prop_assert_eq!(secrets(&plain), plain);
        }

        #[test]
        fn no_password_is_ever_shown(secret in "Z[a-zA-Z0-9 !#%&*+,./:;<=>?@^_`|~-]{3,20}Z") {
            for sql in [
                format!("ALTER ROLE ann PASSWORD '{secret}'"),
                format!("CREATE USER MAPPING FOR a SERVER s OPTIONS (user 'u', password '{secret}')"),
                format!("CREATE SUBSCRIPTION s CONNECTION 'password=''{secret}'' host=h' PUBLICATION p"),
            ] {
                prop_assert!(!secrets(&sql).contains(&secret), "{}", secrets(&sql));
            }
        }
    }
}
