//! SQL that is put together from our words and the plan's, and still knows which is which.

use std::ops::Range;

use crate::plan::model::Sql;

/// A statement with a memory of where its parts came from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SqlText {
    text: String,
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Piece {
    /// In bytes of the whole text.
    range: Range<usize>,
    /// How messages name the part: `set.email`, `where`, `statement`.
    label: String,
    from: Sql,
    /// Bytes of `from.text` before this piece begins (a `{batch}` cuts a text in two).
    skipped: usize,
}

/// A place in the plan that the server pointed at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanPlace<'a> {
    /// How messages name the part: `set.email`, `where`, `statement`.
    pub label: &'a str,
    /// The value in the plan.
    pub sql: &'a Sql,
    /// The place in it, in characters from 0.
    pub offset: usize,
}

impl SqlText {
    /// Adds our own words.
    #[must_use]
    pub fn ours(mut self, words: &str) -> Self {
        self.text.push_str(words);
        self
    }

    /// Adds words from the plan.
    #[must_use]
    pub fn plans(self, label: &str, from: &Sql) -> Self {
        let all = 0..from.text.len();
        self.plans_part(label, from, all)
    }

    /// Adds a part, in bytes, of words from the plan.
    #[must_use]
    pub fn plans_part(mut self, label: &str, from: &Sql, part: Range<usize>) -> Self {
        let begin = self.text.len();
        let skipped = part.start;
        self.text.push_str(&from.text[part]);
        let range = begin..self.text.len();
        self.pieces.push(Piece { range, label: label.to_owned(), from: from.clone(), skipped });
        self
    }

    /// Adds a whole other text.
    #[must_use]
    pub fn text(mut self, other: &SqlText) -> Self {
        let begin = self.text.len();
        self.text.push_str(&other.text);
        self.pieces.extend(other.pieces.iter().cloned().map(|mut piece| {
            piece.range = piece.range.start + begin..piece.range.end + begin;
            piece
        }));
        self
    }

    /// The statement.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The place in the plan behind a position that the server named, in characters from 1.
    ///
    /// `None` where the words there are ours.
    #[must_use]
    pub fn place(&self, position: usize) -> Option<PlanPlace<'_>> {
        let at = self.text.char_indices().nth(position.checked_sub(1)?).map_or(self.text.len(), |(byte, _)| byte);
        // An error at the end of the input points just behind the last piece.
        let piece = self.pieces.iter().find(|piece| piece.range.contains(&at) || piece.range.end == at)?;
        let before = piece.skipped + (at - piece.range.start).min(piece.range.len());
        let offset = piece.from.text[..before].chars().count();
        Some(PlanPlace { label: &piece.label, sql: &piece.from, offset })
    }
}

impl SqlText {
    /// Where the plan's first words stand, for a failure that names no position.
    #[must_use]
    pub fn first(&self) -> Option<PlanPlace<'_>> {
        self.pieces.first().map(|piece| PlanPlace { label: &piece.label, sql: &piece.from, offset: 0 })
    }

    /// The end of the plan's words that stand last before a position of the server's, in characters from 1: words that do
    /// not close a parenthesis or a quote are noticed only behind them.
    #[must_use]
    pub fn before(&self, position: usize) -> Option<PlanPlace<'_>> {
        let at = self.text.char_indices().nth(position.checked_sub(1)?).map_or(self.text.len(), |(byte, _)| byte);
        let piece = self.pieces.iter().rev().find(|piece| piece.range.end <= at)?;
        let offset = piece.from.text[..piece.skipped + piece.range.len()].chars().count();
        Some(PlanPlace { label: &piece.label, sql: &piece.from, offset })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sql(text: &str) -> Sql {
        Sql { text: text.to_owned(), span: 0..0 }
    }

    #[test]
    fn a_position_of_the_server_leads_back_into_the_plan() {
        let text = SqlText::default()
            .ours("UPDATE \"ü\" SET a = (")
            .plans("set.a", &sql("löwer(emial)"))
            .ours(") WHERE (")
            .plans("where", &sql("x IS NULL"))
            .ours(")");
        let position = |needle: &str| {
            text.as_str().char_indices().position(|(i, _)| text.as_str()[i..].starts_with(needle)).map(|p| p + 1)
        };
        let place = position("emial").and_then(|p| text.place(p)).expect("a place");
        assert_eq!((place.label, place.offset), ("set.a", 6));
        let place = position("IS NULL").and_then(|p| text.place(p)).expect("a place");
        assert_eq!((place.label, place.offset), ("where", 2));
        assert_eq!(text.place(1), None);
        assert_eq!(text.place(0), None);
    }

    #[test]
    fn a_text_cut_in_two_keeps_its_places() {
        let raw = sql("UPDATE t SET x = 1 WHERE {batch} AND oops");
        let text = SqlText::default().plans_part("sql", &raw, 0..25).ours("(id > $1)").plans_part(
            "sql",
            &raw,
            32..raw.text.len(),
        );
        let at = text.as_str().find("oops").expect("there") + 1;
        let place = text.place(at).expect("a place");
        assert_eq!(&raw.text[place.offset..], "oops");
        let whole = SqlText::default().ours("WITH c AS (").text(&text).ours(")");
        let at = whole.as_str().find("oops").expect("there") + 1;
        assert_eq!(whole.place(at).map(|p| p.offset), Some(place.offset));
    }
}
