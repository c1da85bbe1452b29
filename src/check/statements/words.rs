//! A statement as words that can be eaten from its front. sqlparser cuts it; what a form is, is told by its words, as there
//! are more forms in PostgreSQL than sqlparser reads.

use std::fmt::Write as _;

use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::tokenizer::{Token, Tokenizer, Word};

/// A token, and whether something blank stood before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    token: Token,
    apart: bool,
}

/// Cuts SQL into its statements; comments are gone. `None`: it cannot be cut.
pub(super) fn statements(sql: &str) -> Option<Vec<Vec<Piece>>> {
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, sql).tokenize().ok()?;
    let (mut all, mut one, mut apart) = (Vec::new(), Vec::new(), false);
    for token in tokens {
        match token {
            Token::Whitespace(_) => apart = true,
            Token::SemiColon => all.push(std::mem::take(&mut one)),
            Token::EOF => break,
            token => one.push(Piece { token, apart: std::mem::take(&mut apart) }),
        }
    }
    all.push(one);
    all.retain(|statement| !statement.is_empty());
    Some(all)
}

/// The name of a table, an index, a column's path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    /// As it stands in the statement.
    pub(super) written: String,
    /// Its parts as PostgreSQL folds them.
    parts: Vec<String>,
}

impl Name {
    /// Whether the words mean one table, where a name without a schema means `public`.
    pub(super) fn is(&self, other: &Self) -> bool {
        let path = |name: &Self| -> (String, String) {
            let mut parts = name.parts.iter().rev().cloned();
            (parts.next().unwrap_or_default(), parts.next().unwrap_or_else(|| "public".to_owned()))
        };
        path(self) == path(other)
    }

    /// Its last part, folded.
    pub(super) fn last(&self) -> &str {
        self.parts.last().map_or("", String::as_str)
    }
}

/// Words that are still to be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Words<'a>(pub(super) &'a [Piece]);

impl<'a> Words<'a> {
    /// Eats these words where all of them come next.
    pub(super) fn eat(&mut self, words: &[&str]) -> bool {
        let come = self.0.len() >= words.len() && words.iter().zip(self.0).all(|(word, piece)| piece.is(word));
        if come {
            self.0 = &self.0[words.len()..];
        }
        come
    }

    /// Eats one of these words where it comes next.
    pub(super) fn eat_any(&mut self, words: &[&str]) -> bool {
        words.iter().any(|word| self.eat(&[word]))
    }

    /// Whether this word comes next.
    pub(super) fn comes(&self, word: &str) -> bool {
        self.0.first().is_some_and(|piece| piece.is(word))
    }

    /// Whether nothing is left.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Eats a symbol.
    pub(super) fn symbol(&mut self, token: &Token) -> bool {
        let comes = self.0.first().is_some_and(|piece| piece.token == *token);
        if comes {
            self.0 = &self.0[1..];
        }
        comes
    }

    /// Eats a name, with its schema where it has one.
    pub(super) fn name(&mut self) -> Option<Name> {
        let mut name = Name { written: String::new(), parts: Vec::new() };
        loop {
            let Piece { token: Token::Word(word), .. } = self.0.first()? else { return None };
            name.parts.push(folded(word));
            // Writing to a String cannot fail.
            let _ = write!(name.written, "{word}");
            self.0 = &self.0[1..];
            if !self.symbol(&Token::Period) {
                return Some(name);
            }
            name.written.push('.');
        }
    }

    /// Eats what stands in brackets, and returns what is inside.
    pub(super) fn bracketed(&mut self) -> Option<Words<'a>> {
        (self.0.first()?.token == Token::LParen).then_some(())?;
        let mut depth = 0_usize;
        for (at, piece) in self.0.iter().enumerate() {
            depth = deeper(depth, &piece.token);
            if depth == 0 {
                let inside = Words(&self.0[1..at]);
                self.0 = &self.0[at + 1..];
                return Some(inside);
            }
        }
        None
    }

    /// Its parts between commas outside of brackets.
    pub(super) fn split(self) -> Vec<Words<'a>> {
        let (mut parts, mut from, mut depth) = (Vec::new(), 0, 0);
        for (at, piece) in self.0.iter().enumerate() {
            depth = deeper(depth, &piece.token);
            if depth == 0 && piece.token == Token::Comma {
                parts.push(Words(&self.0[from..at]));
                from = at + 1;
            }
        }
        parts.push(Words(&self.0[from..]));
        parts
    }

    /// What stands behind these words, wherever they first come outside of brackets.
    pub(super) fn behind(self, words: &[&str]) -> Option<Words<'a>> {
        let mut depth = 0;
        for (at, piece) in self.0.iter().enumerate() {
            let mut rest = Words(&self.0[at..]);
            if depth == 0 && rest.eat(words) {
                return Some(rest);
            }
            depth = deeper(depth, &piece.token);
        }
        None
    }

    /// Whether these words come anywhere outside of brackets.
    pub(super) fn has(self, words: &[&str]) -> bool {
        self.behind(words).is_some()
    }

    /// What stands before any of these words outside of brackets: all of it where none comes.
    pub(super) fn until(self, words: &[&str]) -> Words<'a> {
        let mut depth = 0;
        for (at, piece) in self.0.iter().enumerate() {
            if depth == 0 && words.iter().any(|word| piece.is(word)) {
                return Words(&self.0[..at]);
            }
            depth = deeper(depth, &piece.token);
        }
        self
    }

    /// The functions that are called, by the last part of their names, folded. A type with a modifier, as in
    /// `x::numeric(8, 2)`, is none.
    pub(super) fn calls(self) -> impl Iterator<Item = String> {
        let token = |at: usize| self.0.get(at).map(|piece| &piece.token);
        (0..self.0.len()).filter_map(move |at| match (token(at)?, token(at + 1)) {
            (Token::Word(word), Some(Token::LParen)) if at == 0 || token(at - 1) != Some(&Token::DoubleColon) => {
                Some(folded(word))
            }
            _ => None,
        })
    }

    /// As text.
    pub(super) fn text(self) -> String {
        let mut text = String::new();
        for (at, piece) in self.0.iter().enumerate() {
            let space = if piece.apart && at > 0 { " " } else { "" };
            // Writing to a String cannot fail.
            let _ = write!(text, "{space}{}", piece.token);
        }
        text
    }

    /// As text, with `word` put in before what `rest` still holds.
    pub(super) fn with(self, word: &str, rest: Words<'_>) -> String {
        let (front, back) = self.0.split_at(self.0.len().saturating_sub(rest.0.len()));
        format!("{} {word} {}", Words(front).text(), Words(back).text()).trim().to_owned()
    }
}

impl Piece {
    /// Whether it is this bare word.
    fn is(&self, word: &str) -> bool {
        matches!(&self.token, Token::Word(Word { value, quote_style: None, .. }) if value.eq_ignore_ascii_case(word))
    }
}

fn folded(word: &Word) -> String {
    if word.quote_style.is_some() { word.value.clone() } else { word.value.to_lowercase() }
}

fn deeper(depth: usize, token: &Token) -> usize {
    match token {
        Token::LParen | Token::LBracket => depth + 1,
        Token::RParen | Token::RBracket => depth.saturating_sub(1),
        _ => depth,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn statements_are_cut_at_semicolons_outside_of_strings() {
        let all = statements("SELECT ';'; -- ;\n DO $$ a; b $$ ;; /* x /* y */ ; */").unwrap();
        let texts: Vec<String> = all.iter().map(|one| Words(one).text()).collect();
        assert_eq!(texts, ["SELECT ';'", "DO $$ a; b $$"]);
    }

    #[test]
    fn words_are_eaten_from_the_front_and_names_as_postgresql_folds_them() {
        let all = statements("ALTER TABLE App.\"Odd n\" ADD x numeric(8, 2) DEFAULT f(1, 2), DROP y").unwrap();
        let mut words = Words(&all[0]);
        assert!(!words.eat(&["alter", "index"]) && words.eat(&["alter", "table"]));
        let name = words.name().unwrap();
        assert_eq!((name.written.as_str(), name.parts.join("|").as_str()), ("App.\"Odd n\"", "app|Odd n"));
        let actions = words.split();
        assert_eq!(
            actions.iter().map(|action| action.text()).collect::<Vec<_>>(),
            ["ADD x numeric(8, 2) DEFAULT f(1, 2)", "DROP y"]
        );
        assert!(actions[0].has(&["default"]) && !actions[0].has(&["drop"]));
        assert_eq!(actions[0].until(&["default"]).text(), "ADD x numeric(8, 2)");
    }

    #[test]
    fn a_name_without_a_schema_means_public() {
        let name = |text: &str| Words(&statements(text).unwrap()[0]).name().unwrap();
        assert!(name("Users").is(&name("public.users")) && name("a.b.c").is(&name("b.c")));
        assert!(!name("users").is(&name("app.users")) && !name("\"Users\"").is(&name("users")));
    }

    proptest! {
        #[test]
        fn any_text_is_cut_without_panic(text in any::<String>()) {
            for statement in statements(&text).unwrap_or_default() {
                let mut words = Words(&statement);
                let _ = (words.split(), words.text(), words.calls().count(), words.bracketed().is_some(), words.name());
            }
        }

        #[test]
        fn hostile_sql_is_cut_without_panic(text in r#"([-/*'"$aeU&\\ .\n1():;,]|add|alter){0,30}"#) {
            let _ = statements(&text);
        }
    }
}
