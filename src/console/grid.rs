//! A list in columns: heading with the order's sign, a page of rows, the selected one marked. Columns go by worth where
//! room is short.

use ratatui::layout::Rect;
use ratatui::text::Line;

use super::canvas::Canvas;
use super::glyphs::Glyphs;
use super::listing::{Row, window};
use super::measure::{fit, left, right};
use super::theme::Role;
use super::ui::List;
use crate::run::Snapshot;
use crate::run::text::clean;

/// The mark of the selected row, and what is before it in every other one.
const MARK: &str = ">";
/// The mark, the sign, and a gap.
const MARGIN: usize = 3;

/// What a cell may look at beside its row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ink<'a> {
    pub snapshot: &'a Snapshot,
    pub glyphs: &'a Glyphs,
    /// The cells that there are, without the gap.
    pub width: usize,
}

/// Where the text of a column stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Left,
    Right,
}

/// How wide a column is, with the gap before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wide {
    Cells(usize),
    /// What the others leave.
    Rest {
        least: usize,
        most: usize,
    },
}

impl Wide {
    fn least(self) -> usize {
        match self {
            Self::Cells(cells) => cells,
            Self::Rest { least, .. } => least,
        }
    }
}

/// What stands in a cell, in a role of its own or in the row's. `None`: nothing is known.
pub(crate) type Cell = Option<(Option<Role>, String)>;

/// A column of the rows `R`.
pub(crate) struct Column<R> {
    pub title: &'static str,
    /// Its index in [`super::listing::columns`], where it can be sorted by.
    pub sort: Option<usize>,
    pub wide: Wide,
    /// The least is left out first.
    pub worth: u8,
    pub side: Side,
    pub cell: fn(&R, &Ink<'_>) -> Cell,
}

impl<R> Column<R> {
    /// Text of so many cells, with the gap before it.
    pub(crate) fn left(
        title: &'static str,
        sort: usize,
        cells: usize,
        worth: u8,
        cell: fn(&R, &Ink<'_>) -> Cell,
    ) -> Self {
        Self { title, sort: Some(sort), wide: Wide::Cells(cells), worth, side: Side::Left, cell }
    }

    /// Numbers of so many cells, with the gap before them.
    pub(crate) fn right(
        title: &'static str,
        sort: usize,
        cells: usize,
        worth: u8,
        cell: fn(&R, &Ink<'_>) -> Cell,
    ) -> Self {
        Self { side: Side::Right, ..Self::left(title, sort, cells, worth, cell) }
    }

    /// Text in all that the others leave, of at least so many cells.
    pub(crate) fn rest(
        title: &'static str,
        sort: usize,
        least: usize,
        worth: u8,
        cell: fn(&R, &Ink<'_>) -> Cell,
    ) -> Self {
        Self { wide: Wide::Rest { least, most: usize::MAX }, ..Self::left(title, sort, least, worth, cell) }
    }
}

/// Text in the row's own role.
#[expect(clippy::unnecessary_wraps, reason = "what a cell is")]
pub(crate) fn plain(text: impl Into<String>) -> Cell {
    Some((None, text.into()))
}

/// Text from outside, where there is any.
pub(crate) fn outside(text: &str) -> Cell {
    (!text.is_empty()).then(|| (None, clean(text).into_owned()))
}

/// How a list looks.
pub(crate) struct Grid<'g, R> {
    pub columns: Vec<Column<R>>,
    /// A row's sign before its first column, and its role.
    pub sign: fn(&R, &Ink<'_>) -> (&'static str, Role),
    pub list: &'g List,
    /// What is said where there are no rows.
    pub empty: &'g str,
}

/// Which rows were drawn, of how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shown {
    pub first: usize,
    pub rows: usize,
    pub all: usize,
}

impl Shown {
    /// `21–40 of 61`, for the foot of a pane. `None` where all are shown.
    pub(crate) fn words(self) -> Option<String> {
        (self.rows < self.all).then(|| format!("{}–{} of {}", self.first + 1, self.first + self.rows, self.all))
    }
}

impl<R> Grid<'_, R> {
    /// Draws the heading and the page with the selected row into `inside`.
    pub(crate) fn draw(&self, canvas: &mut Canvas<'_>, inside: Rect, snapshot: &Snapshot, rows: &[Row<R>]) -> Shown {
        let glyphs = &canvas.theme().glyphs;
        let height = usize::from(inside.height);
        // In a single line a row says more than a heading.
        let head = usize::from(height > 1);
        let columns = self.fitting(usize::from(inside.width));
        if head > 0 {
            canvas.line(inside, 0, &self.heading(canvas, &columns));
        }
        if rows.is_empty() {
            let nothing = if self.list.filter.is_empty() && self.list.level == 0 {
                self.empty.to_owned()
            } else {
                "nothing passes the filter".to_owned()
            };
            canvas.line(inside, head, &Line::from(canvas.span(Role::Dim, format!("   {nothing}"))));
            return Shown { first: 0, rows: 0, all: 0 };
        }
        let keys: Vec<String> = rows.iter().map(|row| row.key.clone()).collect();
        let room = height - head;
        let (first, selected) = window(&keys, self.list.selected.as_deref(), room);
        let page = &rows[first..rows.len().min(first + room)];
        for (at, row) in page.iter().enumerate() {
            let ink = Ink { snapshot, glyphs, width: 0 };
            let marked = selected == Some(first + at);
            canvas.row(inside, head + at, &row.key);
            canvas.line(inside, head + at, &self.row(canvas, &columns, &row.of, ink, marked));
            if marked {
                canvas.tint(inside, head + at, canvas.theme().style(Role::Selected));
            }
        }
        Shown { first, rows: page.len(), all: rows.len() }
    }

    fn heading(&self, canvas: &Canvas<'_>, columns: &[(&Column<R>, usize)]) -> Line<'static> {
        let mut text = " ".repeat(MARGIN);
        for (index, (column, wide)) in columns.iter().enumerate() {
            let gap = usize::from(index > 0);
            let sorted = self.list.sort.filter(|(sort, _)| column.sort == Some(*sort));
            let title = match sorted {
                // Of a title that is too long the sign stays.
                Some((_, down)) => {
                    let room = wide.saturating_sub(gap + 1);
                    format!("{}{}", fit(column.title, room), canvas.theme().glyphs.sorted[usize::from(down)])
                }
                None => column.title.to_owned(),
            };
            text.push_str(&placed(&title, column.side, *wide, gap));
        }
        Line::from(canvas.span(Role::Title, text))
    }

    fn row(
        &self,
        canvas: &Canvas<'_>,
        columns: &[(&Column<R>, usize)],
        row: &R,
        ink: Ink<'_>,
        marked: bool,
    ) -> Line<'static> {
        let (sign, role) = (self.sign)(row, &ink);
        let mark = if marked { MARK } else { " " };
        let mut line = Line::from(canvas.span(role, format!("{mark}{} ", left(sign, 1))));
        for (index, (column, wide)) in columns.iter().enumerate() {
            let gap = usize::from(index > 0);
            let ink = Ink { width: wide.saturating_sub(gap), ..ink };
            let none = || (Some(Role::Dim), ink.glyphs.none.to_owned());
            let (own, text) = (column.cell)(row, &ink).unwrap_or_else(none);
            line.push_span(canvas.span(own.unwrap_or(role), placed(&text, column.side, *wide, gap)));
        }
        line
    }

    /// The columns that there is room for, those worth most, with their widths.
    fn fitting(&self, width: usize) -> Vec<(&Column<R>, usize)> {
        let width = width.saturating_sub(MARGIN);
        let mut columns: Vec<&Column<R>> = self.columns.iter().collect();
        let least = |columns: &[&Column<R>]| columns.iter().map(|column| column.wide.least()).sum::<usize>();
        while columns.len() > 1 && least(&columns) > width {
            let Some(worth) = columns.iter().map(|column| column.worth).min() else { break };
            columns.retain(|column| column.worth != worth);
        }
        let spare = width.saturating_sub(least(&columns));
        let wide = |column: &Column<R>| match column.wide {
            Wide::Cells(cells) => cells,
            Wide::Rest { least, most } => (least + spare).min(most),
        };
        columns.into_iter().map(|column| (column, wide(column).min(width))).collect()
    }
}

/// A text in its column, behind the gap.
fn placed(text: &str, side: Side, wide: usize, gap: usize) -> String {
    let cells = wide.saturating_sub(gap);
    let text = match side {
        Side::Left => left(text, cells),
        Side::Right => right(text, cells),
    };
    format!("{}{text}", " ".repeat(gap.min(wide)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::listing::columns;
    use crate::console::panes::{event_list, job_list, quarantine, segment_list, session_list, slowest, table_list};
    use crate::console::ui::ListId;

    #[test]
    fn the_order_can_be_seen_in_the_heading_of_every_column() {
        use crate::console::colour::Environment;
        use crate::console::theme::{Source, Theme};
        use ratatui::buffer::Buffer;

        let environment = Environment { lang: Some("C.UTF-8".to_owned()), ..Environment::default() };
        let theme = Theme::load(Source::Named("dark"), &environment).unwrap();
        let mut buffer = Buffer::empty(Rect::ZERO);
        let canvas = Canvas::new(&mut buffer, &theme);
        for column in 0..columns(ListId::Segments).len() {
            for (down, sign) in [(false, "▴"), (true, "▾")] {
                let list = List { sort: Some((column, down)), ..List::default() };
                let grid = Grid {
                    columns: segment_list::columns().into(),
                    sign: |_, _| ("", Role::Text),
                    list: &list,
                    empty: "",
                };
                let heading = grid.heading(&canvas, &grid.fitting(300)).to_string();
                assert!(heading.contains(sign), "{column}: {heading}");
            }
        }
    }

    fn sortable<R>(columns: &[Column<R>]) -> Vec<(usize, &'static str)> {
        let mut sortable: Vec<_> =
            columns.iter().filter_map(|column| column.sort.map(|sort| (sort, column.title))).collect();
        sortable.sort_unstable();
        sortable
    }

    #[test]
    fn every_column_that_can_be_sorted_by_stands_under_its_own_heading() {
        let table = [
            (ListId::Tables, sortable(&table_list::columns())),
            (ListId::Sessions, sortable(&session_list::columns())),
            (ListId::Segments, sortable(&segment_list::columns())),
            (ListId::Slowest, sortable(&slowest::columns())),
            (ListId::Quarantine, sortable(&quarantine::columns())),
            (ListId::Events, sortable(&event_list::columns())),
            (ListId::Queue, sortable(&job_list::columns(true))),
        ];
        for (list, sortable) in table {
            let expected: Vec<_> = columns(list).iter().copied().enumerate().collect();
            assert_eq!(sortable, expected, "{list:?}");
        }
    }
}
