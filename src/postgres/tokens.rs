//! Just enough of SQL's lexical rules to recognise a statement: words, names, strings and comments apart.
//!
//! Source: PostgreSQL documentation, section 4.1, Lexical Structure.

/// A piece of SQL that matters for recognising a statement. Strings, numbers and comments are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    /// A bare word, folded to lower case: a keyword or a name.
    Word(String),
    /// A quoted name, unescaped.
    Quoted(String),
    /// A single other character.
    Symbol(char),
    /// A string constant of any kind; its text does not matter.
    Text,
}

/// Cuts SQL into tokens. Never fails: what does not close ends with the text.
#[must_use]
pub fn tokens(sql: &str) -> Vec<Token> {
    let chars: Vec<char> = sql.chars().collect();
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        let next = chars.get(at + 1).copied();
        match c {
            '-' if next == Some('-') => at = skip_until(&chars, at, |c| c == '\n'),
            '/' if next == Some('*') => at = skip_comment(&chars, at),
            '\'' => {
                let escapes = matches!(out.last(), Some(Token::Word(word)) if word == "e")
                    && at > 0
                    && matches!(chars[at - 1], 'e' | 'E');
                if escapes {
                    out.pop();
                }
                at = skip_string(&chars, at, escapes);
                out.push(Token::Text);
            }
            '"' => {
                let end = skip_string_by(&chars, at, '"', false);
                let name: String = chars[at + 1..end.saturating_sub(1).max(at + 1)].iter().collect();
                out.push(Token::Quoted(name.replace("\"\"", "\"")));
                at = end;
            }
            '$' => {
                if let Some(tag) = dollar_tag(&chars, at) {
                    at = skip_dollar(&chars, at, &tag);
                    out.push(Token::Text);
                } else {
                    out.push(Token::Symbol('$'));
                    at += 1;
                }
            }
            c if c.is_alphabetic() || c == '_' => {
                let end = skip_until(&chars, at, |c| !(c.is_alphanumeric() || c == '_' || c == '$'));
                out.push(Token::Word(chars[at..end].iter().collect::<String>().to_ascii_lowercase()));
                at = end;
            }
            c if c.is_ascii_digit() => at = skip_until(&chars, at, |c| !(c.is_alphanumeric() || c == '.')),
            c if c.is_whitespace() => at += 1,
            c => {
                out.push(Token::Symbol(c));
                at += 1;
            }
        }
    }
    out
}

pub(super) fn skip_until(chars: &[char], from: usize, end: impl Fn(char) -> bool) -> usize {
    chars[from..].iter().position(|c| end(*c)).map_or(chars.len(), |n| from + n)
}

/// Comments nest.
pub(super) fn skip_comment(chars: &[char], from: usize) -> usize {
    let (mut depth, mut at) = (0_u32, from);
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => {
                depth += 1;
                at += 2;
            }
            ('*', Some('/')) => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    at
}

fn skip_string(chars: &[char], from: usize, escapes: bool) -> usize {
    skip_string_by(chars, from, '\'', escapes)
}

pub(super) fn skip_string_by(chars: &[char], from: usize, quote: char, escapes: bool) -> usize {
    let mut at = from + 1;
    while at < chars.len() {
        match chars[at] {
            '\\' if escapes => at += 2,
            c if c == quote && chars.get(at + 1) == Some(&quote) => at += 2,
            c if c == quote => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

pub(super) fn dollar_tag(chars: &[char], from: usize) -> Option<Vec<char>> {
    let end = skip_until(chars, from + 1, |c| !(c.is_alphanumeric() || c == '_'));
    let starts_with_digit = chars.get(from + 1).is_some_and(char::is_ascii_digit);
    (chars.get(end) == Some(&'$') && !starts_with_digit).then(|| chars[from..=end].to_vec())
}

pub(super) fn skip_dollar(chars: &[char], from: usize, tag: &[char]) -> usize {
    let body = from + tag.len();
    (body..chars.len()).find(|at| chars[*at..].starts_with(tag)).map_or(chars.len(), |at| at + tag.len())
}

/// A `CREATE INDEX CONCURRENTLY` that names its index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConcurrentIndex {
    /// The bare name; it lives in its table's schema.
    pub index: String,
    /// The table, quoted: `"app"."users"`.
    pub table: String,
}

/// Recognises `CREATE [UNIQUE] INDEX CONCURRENTLY [IF NOT EXISTS] name ON [ONLY] table ...`.
#[must_use]
pub fn concurrent_index(sql: &str) -> Option<ConcurrentIndex> {
    let tokens = tokens(sql);
    let mut rest = tokens.as_slice();
    eat(&mut rest, "create").then_some(())?;
    eat(&mut rest, "unique");
    (eat(&mut rest, "index") && eat(&mut rest, "concurrently")).then_some(())?;
    if eat(&mut rest, "if") {
        (eat(&mut rest, "not") && eat(&mut rest, "exists")).then_some(())?;
    }
    if matches!(rest.first(), Some(Token::Word(word)) if word == "on") {
        return None;
    }
    let index = name(&mut rest)?;
    eat(&mut rest, "on").then_some(())?;
    eat(&mut rest, "only");
    let mut table = super::ident::quote(&name(&mut rest)?);
    while rest.first() == Some(&Token::Symbol('.')) {
        rest = &rest[1..];
        table = format!("{table}.{}", super::ident::quote(&name(&mut rest)?));
    }
    Some(ConcurrentIndex { index, table })
}

/// Whether PostgreSQL refuses to run the statement inside a transaction block, as far as its words tell.
#[must_use]
pub fn refuses_transaction(sql: &str) -> bool {
    let tokens = tokens(sql);
    let first = |word: &str| tokens.first() == Some(&Token::Word(word.to_owned()));
    let has = |word: &str| tokens.contains(&Token::Word(word.to_owned()));
    let second = |words: &[&str]| matches!(tokens.get(1), Some(Token::Word(word)) if words.contains(&word.as_str()));
    has("concurrently") && (has("index") || has("reindex"))
        || first("vacuum")
        || (first("create") || first("drop")) && second(&["database", "tablespace"])
        || first("alter") && second(&["system"])
}

fn eat(rest: &mut &[Token], word: &str) -> bool {
    let found = matches!(rest.first(), Some(Token::Word(found)) if found == word);
    if found {
        *rest = &rest[1..];
    }
    found
}

fn name(rest: &mut &[Token]) -> Option<String> {
    let found = match rest.first()? {
        Token::Word(word) => word.clone(),
        Token::Quoted(name) => name.clone(),
        Token::Symbol(_) | Token::Text => return None,
    };
    *rest = &rest[1..];
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn an_index(index: &str, table: &str) -> ConcurrentIndex {
        ConcurrentIndex { index: index.to_owned(), table: table.to_owned() }
    }

    #[test]
    fn an_index_built_concurrently_is_recognised() {
        let table = [
            (
                "CREATE INDEX CONCURRENTLY IF NOT EXISTS users_todo ON users (id)",
                Some(an_index("users_todo", "\"users\"")),
            ),
            ("create unique index concurrently \"A b\" on only app.\"T\" (x)", Some(an_index("A b", "\"app\".\"T\""))),
            ("-- why\nCREATE /* a /* nested */ one */ INDEX CONCURRENTLY i ON t(x)", Some(an_index("i", "\"t\""))),
            ("CREATE INDEX CONCURRENTLY ON t (x)", None),
            ("CREATE INDEX i ON t (x)", None),
            ("SELECT 'CREATE INDEX CONCURRENTLY i ON t'", None),
        ];
        for (sql, expected) in table {
            assert_eq!(concurrent_index(sql), expected, "{sql}");
        }
    }

    #[test]
    fn statements_that_refuse_a_transaction_are_recognised_by_words_not_by_strings() {
        for sql in [
            "VACUUM users",
            "drop index concurrently if exists i",
            "REINDEX INDEX CONCURRENTLY i",
            "CREATE DATABASE x",
            "alter system set a = 1",
        ] {
            assert!(refuses_transaction(sql), "{sql}");
        }
        for sql in [
            "UPDATE t SET a = 'index concurrently'",
            "SELECT $$ vacuum index concurrently $$",
            "ALTER TABLE vacuum ADD x int",
            "COMMENT ON INDEX i IS 'concurrently'",
            "-- index concurrently\nSELECT 1",
            r"SELECT E'\' index concurrently '",
        ] {
            assert!(!refuses_transaction(sql), "{sql}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_cut_without_panic(text in any::<String>()) {
            let _ = tokens(&text);
            let _ = concurrent_index(&text);
        }

        #[test]
        fn hostile_sql_is_cut_without_panic(text in r#"[-/*'"$ae\\ .\n1]{0,40}"#) {
            let _ = tokens(&text);
        }
    }
}
