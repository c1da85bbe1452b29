//! Showing a place in the plan: the line, and a caret under what is meant.

use std::ops::Range;

use unicode_width::UnicodeWidthStr;

use super::model::{PlanSource, Sql};
use super::secrets;
use crate::run::text::clean;

/// The most columns of a line that are shown; of a longer one, the part around the caret.
const WIDEST: usize = 110;

impl PlanSource {
    /// The line and the column of a byte offset, both from 1, the column in characters. Past the end: the end.
    #[must_use]
    pub fn place(&self, offset: usize) -> (usize, usize) {
        let before = &self.text[..self.text.floor_char_boundary(offset)];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    /// Four lines: where it is, a rule, the line at the beginning of `span` (bytes), and carets under `span` on that
    /// line.
    ///
    /// Passwords are masked, control characters are replaced, tabs become four spaces.
    #[must_use]
    pub fn excerpt(&self, span: Range<usize>) -> Vec<String> {
        let (line, column) = self.place(span.start);
        self.framed(line, column, "", &draw(&self.text, span))
    }

    /// An excerpt with the caret under one character of an SQL text, counted from 0 in characters of `sql.text`.
    ///
    /// Where the line of the SQL stands in the file just so, the file's line is shown. Where `${ENV}` or escapes were
    /// filled in, the line is shown as it was sent, under the place of the whole value.
    #[must_use]
    pub fn excerpt_in_sql(&self, sql: &Sql, char_offset: usize) -> Vec<String> {
        let at = sql.text.char_indices().nth(char_offset).map_or(sql.text.len(), |(at, _)| at);
        let length = sql.text[at..].chars().next().map_or(0, char::len_utf8);
        if let Some(place) = self.offset_in_file(sql, at) {
            return self.excerpt(place..place + length);
        }
        let (line, column) = self.place(sql.span.start);
        self.framed(line, column, " (this SQL, as it was sent)", &draw(&sql.text, at..at + length))
    }

    /// The text with `***` in the place of each password: of `database.url` and `database.control`, and of any
    /// other URL.
    #[must_use]
    pub fn redacted(&self) -> String {
        secrets::masked(&self.text)
    }

    fn framed(&self, line: usize, column: usize, note: &str, drawing: &Drawing) -> Vec<String> {
        let gutter = line.to_string().len();
        let (shown, indent) = (&drawing.shown, drawing.indent);
        vec![
            format!("{:gutter$}--> {}:{line}:{column}{note}", "", clean(&self.label)),
            format!("{:gutter$} |", ""),
            format!("{line} | {shown}").trim_end().to_owned(),
            format!("{:gutter$} | {:indent$}{}", "", "", "^".repeat(drawing.width)),
        ]
    }

    /// The byte of the file that holds byte `at` of the SQL, if that line of the SQL stands in the file as it is.
    fn offset_in_file(&self, sql: &Sql, at: usize) -> Option<usize> {
        let body_range = self.body(&sql.span)?;
        let body = &self.text[body_range.clone()];
        let number = sql.text[..at].matches('\n').count();
        let line_start = sql.text[..at].rfind('\n').map_or(0, |at| at + 1);
        let line = sql.text[line_start..].split('\n').next()?;
        let same = body.split('\n').nth(number)? == line;
        let as_many_lines = body.matches('\n').count() == sql.text.matches('\n').count();
        let start: usize = body.split('\n').take(number).map(|line| line.len() + 1).sum();
        (same && as_many_lines).then(|| body_range.start + start + (at - line_start))
    }

    /// The inside of a TOML string: a line break just after three quotes is not part of it.
    fn body(&self, span: &Range<usize>) -> Option<Range<usize>> {
        let raw = self.text.get(span.clone())?;
        let quote = ["\"\"\"", "'''", "\"", "'"].into_iter().find(|quote| raw.starts_with(quote))?;
        let opened = raw.strip_prefix(quote)?;
        let body = opened.strip_suffix(quote)?;
        let break_after_quotes = if quote.len() == 1 || !body.starts_with(['\n', '\r']) {
            0
        } else {
            body.find('\n').map_or(0, |at| at + 1)
        };
        let start = span.start + quote.len();
        Some(start + break_after_quotes..start + body.len())
    }
}

/// One line, ready to be shown, with the place of its carets in columns.
struct Drawing {
    shown: String,
    indent: usize,
    width: usize,
}

/// What one character of the text became on the screen.
struct Cell {
    at: usize,
    shown: String,
    width: usize,
}

fn draw(text: &str, mark: Range<usize>) -> Drawing {
    let cells = cells(text, line_at(text, mark.start));
    let first = cells.iter().take_while(|cell| cell.at < mark.start).count();
    let last = cells.iter().take_while(|cell| cell.at < mark.end).count().max(first);
    let (mut from, mut before) = (0, width(&cells[..first]));
    if width(&cells) > WIDEST {
        while before > WIDEST / 3 {
            before -= cells[from].width;
            from += 1;
        }
    }
    let (mut to, mut used) = (from, 0);
    while to < cells.len() && used + cells[to].width <= WIDEST {
        used += cells[to].width;
        to += 1;
    }
    let mut shown = String::from(if from > 0 { "…" } else { "" });
    let indent = shown.width() + before;
    shown.extend(cells[from..to].iter().map(|cell| cell.shown.as_str()));
    shown.push_str(if to < cells.len() { "…" } else { "" });
    let marked = width(&cells[first..last.min(to).max(first)]);
    Drawing { shown, indent, width: marked.max(1) }
}

fn width(cells: &[Cell]) -> usize {
    cells.iter().map(|cell| cell.width).sum()
}

/// The range of the line that holds `offset`, without its line break.
fn line_at(text: &str, offset: usize) -> Range<usize> {
    let offset = text.floor_char_boundary(offset);
    let start = text[..offset].rfind('\n').map_or(0, |at| at + 1);
    let end = text[offset..].find('\n').map_or(text.len(), |at| offset + at);
    let line = &text[start..end];
    start..start + line.strip_suffix('\r').unwrap_or(line).len()
}

fn cells(text: &str, line: Range<usize>) -> Vec<Cell> {
    let secrets = secrets::ranges(text);
    let mut cells = Vec::new();
    for (index, c) in text[line.clone()].char_indices() {
        let at = line.start + index;
        let shown = match secrets.iter().find(|secret| secret.contains(&at)) {
            Some(secret) if at == secret.start || index == 0 => secrets::MASK.to_owned(),
            Some(_) => continue,
            None if c == '\t' => "    ".to_owned(),
            None => clean(c.encode_utf8(&mut [0; 4])).into_owned(),
        };
        let width = shown.width();
        cells.push(Cell { at, shown, width });
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn source(text: &str) -> PlanSource {
        PlanSource { path: None, label: "plan.toml".to_owned(), text: text.to_owned() }
    }

    fn span_of(text: &str, part: &str) -> Range<usize> {
        let start = text.find(part).expect("the part is in the text");
        start..start + part.len()
    }

    #[test]
    fn a_place_is_counted_from_one_in_characters() {
        let source = source("aü\nb");
        for (offset, place) in [(0, (1, 1)), (1, (1, 2)), (3, (1, 3)), (4, (2, 1)), (5, (2, 2)), (99, (2, 2))] {
            assert_eq!(source.place(offset), place, "{offset}");
        }
    }

    #[test]
    fn carets_stand_under_wide_characters_and_tabs() {
        let text = "a = 1\n\t表 = \"x\"\r\n";
        let expected = [" --> plan.toml:2:4", "  |", "2 |     表 = \"x\"", "  |        ^"];
        assert_eq!(source(text).excerpt(span_of(text, "= \"x\"").start..span_of(text, "= \"x\"").start + 1), expected);
        let expected = [" --> plan.toml:2:6", "  |", "2 |     表 = \"x\"", "  |          ^^^"];
        assert_eq!(source(text).excerpt(span_of(text, "\"x\"")), expected);
    }

    #[test]
    fn a_password_is_not_shown_and_the_caret_still_fits() {
        let text = "url = \"postgres://me:very-long-secret@db/x\" # here";
        let expected = [
            " --> plan.toml:1:47",
            "  |",
            "1 | url = \"postgres://me:***@db/x\" # here",
            "  |                                  ^^^^",
        ];
        let at = text.find("here").expect("it is there");
        assert_eq!(source(text).excerpt(at..text.len()), expected);
    }

    #[test]
    fn of_a_long_line_the_part_around_the_caret_is_shown() {
        let text = format!("{} here {}", "a".repeat(500), "b".repeat(500));
        let got = source(&text).excerpt(span_of(&text, "here"));
        assert!(got[2].starts_with("1 | …aaa") && got[2].ends_with("bbb…"), "{}", got[2]);
        let caret = got[3].find("^^^^").expect("a caret");
        let shown: String = got[2].chars().skip(caret).take(4).collect();
        assert_eq!(shown, "here");
    }

    #[test]
    fn a_caret_in_sql_stands_in_the_files_own_line() {
        let text = "where = \"emial IS NULL\"\nsql = \"\"\"\nUPDATE t\n  SET x = \"Ü\" y\"\"\"\n";
        let of = |raw: &str, value: &str| Sql { text: value.to_owned(), span: span_of(text, raw) };
        let simple = of("\"emial IS NULL\"", "emial IS NULL");
        let expected = [" --> plan.toml:1:10", "  |", "1 | where = \"emial IS NULL\"", "  |          ^"];
        assert_eq!(source(text).excerpt_in_sql(&simple, 0), expected);
        let long = of("\"\"\"\nUPDATE t\n  SET x = \"Ü\" y\"\"\"", "UPDATE t\n  SET x = \"Ü\" y");
        let expected = [" --> plan.toml:4:15", "  |", "4 |   SET x = \"Ü\" y\"\"\"", "  |               ^"];
        assert_eq!(source(text).excerpt_in_sql(&long, 23), expected);
    }

    #[test]
    fn sql_that_was_filled_in_is_shown_as_it_was_sent() {
        let text = "where = \"${COLUMN} IS NULL\"\n";
        let sql = Sql { text: "emial IS NULL".to_owned(), span: span_of(text, "\"${COLUMN} IS NULL\"") };
        let expected = [" --> plan.toml:1:9 (this SQL, as it was sent)", "  |", "1 | emial IS NULL", "  |       ^"];
        assert_eq!(source(text).excerpt_in_sql(&sql, 6), expected);
    }

    proptest! {
        #[test]
        fn a_place_is_inside_the_text_and_an_excerpt_never_panics(text in "\\PC{0,40}(\n|\t|\r\n)\\PC{0,200}", a in 0_usize..300, b in 0_usize..300) {
            let source = source(&text);
            let (line, column) = source.place(a);
            let lines: Vec<&str> = text.split('\n').collect();
            prop_assert!(line >= 1 && line <= lines.len());
            prop_assert!(column >= 1 && column <= lines[line - 1].chars().count() + 1);
            prop_assert_eq!(source.excerpt(a..b).len(), 4);
            let sql = Sql { text: text.clone(), span: a.min(b)..a.max(b) };
            prop_assert_eq!(source.excerpt_in_sql(&sql, b).len(), 4);
        }
    }
}
