//! The cells of a frame, and how panes put text, frames and bars on them.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Widget};

use super::glyphs::to_ascii;
use super::measure::fit;
use super::theme::{Role, Theme};

/// A pane that is lower than this has no frame: its one or two lines say more.
const MIN_FRAMED_HEIGHT: u16 = 3;
const MIN_FRAMED_WIDTH: u16 = 12;

/// What panes draw on, and with.
pub(crate) struct Canvas<'a> {
    buffer: &'a mut Buffer,
    theme: &'a Theme,
    seen: Seen,
}

/// What a drawn frame tells of itself: what only the view knows, and the console's state must.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Seen {
    /// The places of the rows of lists, with their keys.
    pub rows: Vec<(Rect, String)>,
    /// How far the box over the view can be scrolled: further on it would show its end still.
    pub last_scroll: Option<usize>,
}

impl<'a> Canvas<'a> {
    pub(crate) fn new(buffer: &'a mut Buffer, theme: &'a Theme) -> Self {
        buffer.set_style(buffer.area, theme.style(Role::Text));
        Self { buffer, theme, seen: Seen::default() }
    }

    pub(crate) fn theme(&self) -> &'a Theme {
        self.theme
    }

    /// Text in a role.
    pub(crate) fn span<'t>(&self, role: Role, text: impl Into<std::borrow::Cow<'t, str>>) -> Span<'t> {
        Span::styled(text, self.theme.style(role))
    }

    /// Draws a pane's frame with its title, where there is room for one, and returns the place inside.
    pub(crate) fn pane(&mut self, area: Rect, title: &str) -> Rect {
        if !is_framed(area) {
            return area;
        }
        let room = usize::from(area.width) - 6;
        let title = Line::from(vec![Span::styled(
            format!(" {} ", fit(title, room)),
            self.theme.style(Role::Text).patch(self.theme.style(Role::Title)),
        )]);
        let block = Block::bordered()
            .border_set(self.theme.glyphs.border)
            .border_style(self.theme.style(Role::Border))
            .title_top(title);
        let inside = block.inner(area);
        block.render(area, self.buffer);
        Rect { x: inside.x + 1, width: inside.width.saturating_sub(2), ..inside }
    }

    /// Writes into the lower edge of a pane's frame, where it has one: what is worth knowing, and not worth a line.
    pub(crate) fn footer(&mut self, area: Rect, role: Role, text: &str) {
        if is_framed(area) {
            let text = format!(" {} ", fit(text, Self::footer_room(area)));
            let inside = Rect { x: area.x + 1, y: area.bottom() - 1, width: area.width - 2, height: 1 };
            self.line(inside, 0, &Line::from(self.span(role, text)));
        }
    }

    /// The cells that a [`Canvas::footer`] of `area` has.
    pub(crate) fn footer_room(area: Rect) -> usize {
        usize::from(area.width).saturating_sub(6)
    }

    /// A box over what is already drawn.
    pub(crate) fn popup(&mut self, area: Rect, title: &str) -> Rect {
        Clear.render(area, self.buffer);
        self.buffer.set_style(area, self.theme.style(Role::Text));
        self.pane(area, title)
    }

    /// One line of `area`, counted from 0; cut at its right edge.
    pub(crate) fn line(&mut self, area: Rect, row: usize, line: &Line<'_>) {
        let Some(y) = u16::try_from(row).ok().filter(|row| *row < area.height) else { return };
        if area.width > 0 {
            self.buffer.set_line(area.x, area.y + y, line, area.width);
        }
    }

    /// One line with a part at the left and a part at the right; the left part is cut where they would meet.
    pub(crate) fn sides(&mut self, area: Rect, row: usize, left: &Line<'_>, right: &Line<'_>) {
        let width = usize::from(area.width);
        let taken = right.width().min(width);
        let [left_room, right_room] = [width.saturating_sub(taken + usize::from(taken > 0)), taken].map(cells);
        self.line(Rect { width: left_room, ..area }, row, left);
        self.line(Rect { x: area.x + (area.width - right_room), width: right_room, ..area }, row, right);
    }

    /// The cells of a bar that is full to `fraction`, 0 to 1.
    pub(crate) fn bar(&self, fraction: f64, width: usize) -> Vec<Span<'static>> {
        let glyphs = &self.theme.glyphs;
        let steps = glyphs.eighths.len() + 1;
        let filled = share(fraction, width * steps);
        let (full, part) = (filled / steps, filled % steps);
        let part = part.checked_sub(1).and_then(|part| glyphs.eighths.get(part)).copied().unwrap_or_default();
        let empty = width - full - usize::from(!part.is_empty());
        vec![
            self.span(Role::Gauge, format!("{}{part}", glyphs.full.repeat(full))),
            self.span(Role::GaugeEmpty, glyphs.empty.repeat(empty)),
        ]
    }

    /// Line `row`, counted from the bottom, of a chart of `rows` lines: a bar a value, each from 0 to `most`, one cell wide.
    /// Of one line it is a sparkline.
    pub(crate) fn chart_row(
        &self,
        values: impl Iterator<Item = f64>,
        most: f64,
        rows: usize,
        row: usize,
    ) -> Span<'static> {
        let levels = self.theme.glyphs.levels;
        let text: String = values
            .map(|value| {
                let height = share(value / most, levels.len() * rows);
                match height.saturating_sub(row * levels.len()).min(levels.len()) {
                    // Nothing is still a line at the foot: a second without rows is not a second without a value.
                    0 if row > 0 => " ",
                    level => levels[level.saturating_sub(1)],
                }
            })
            .collect();
        self.span(Role::Spark, text)
    }

    /// Notes where a row of a list stands.
    pub(crate) fn row(&mut self, area: Rect, row: usize, key: &str) {
        if let Some(y) = u16::try_from(row).ok().filter(|row| *row < area.height) {
            self.seen.rows.push((Rect { y: area.y + y, height: 1, ..area }, key.to_owned()));
        }
    }

    /// The first of `lines` that is shown in so much room when `scroll` are scrolled away: a scroll past the end shows the
    /// end. Notes how far it goes.
    pub(crate) fn scrolled(&mut self, scroll: usize, lines: usize, height: u16) -> usize {
        let last = lines.saturating_sub(usize::from(height));
        self.seen.last_scroll = Some(last);
        scroll.min(last)
    }

    /// The frame is drawn: replaces what the terminal has no sign for.
    pub(crate) fn flatten(self) -> Seen {
        for cell in &mut self.buffer.content {
            if !self.theme.glyphs.shows(cell.symbol()) {
                cell.set_symbol(to_ascii(cell.symbol()));
            }
        }
        self.seen
    }

    /// Lays a style over one line of `area`.
    pub(crate) fn tint(&mut self, area: Rect, row: usize, style: Style) {
        if let Some(y) = u16::try_from(row).ok().filter(|row| *row < area.height) {
            self.buffer.set_style(Rect { y: area.y + y, height: 1, ..area }, style);
        }
    }
}

fn is_framed(area: Rect) -> bool {
    area.height >= MIN_FRAMED_HEIGHT && area.width >= MIN_FRAMED_WIDTH
}

/// A number of cells as a coordinate.
pub(crate) fn cells(n: usize) -> u16 {
    u16::try_from(n).unwrap_or(u16::MAX)
}

/// `fraction` of `whole`, rounded down; what is not a share counts as none or all.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and `whole`")]
#[expect(clippy::cast_precision_loss, reason = "`whole` is a number of cells")]
pub(crate) fn share(fraction: f64, whole: usize) -> usize {
    if fraction.is_nan() { 0 } else { (fraction.clamp(0.0, 1.0) * whole as f64).floor() as usize }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::colour::Environment;
    use crate::console::theme::Source;
    use proptest::prelude::*;

    fn theme(lang: &str) -> Theme {
        let environment = Environment { lang: Some(lang.to_owned()), ..Environment::default() };
        Theme::load(Source::Named("dark"), &environment).unwrap()
    }

    fn text(spans: &[Span<'_>]) -> String {
        spans.iter().map(|span| span.content.as_ref()).collect()
    }

    #[test]
    fn a_bar_fills_by_eighths_where_there_are_signs_for_them() {
        let table = [("C.UTF-8", 0.0, "░░░░"), ("C.UTF-8", 0.45, "█▊░░"), ("C.UTF-8", 1.0, "████"), ("C", 0.6, "##..")];
        for (lang, fraction, expected) in table {
            let theme = theme(lang);
            let mut buffer = Buffer::empty(Rect::ZERO);
            let canvas = Canvas::new(&mut buffer, &theme);
            assert_eq!(text(&canvas.bar(fraction, 4)), expected, "{fraction} {lang}");
        }
    }

    #[test]
    fn what_is_not_ascii_is_replaced_for_terminals_that_take_nothing_else() {
        let theme = theme("C");
        let mut buffer = Buffer::with_lines(["11–13s → é表!"]);
        Canvas::new(&mut buffer, &theme).flatten();
        let shown: String = buffer.content.iter().map(ratatui::buffer::Cell::symbol).collect();
        assert_eq!(shown, "11-13s > ?? !");
    }

    proptest! {
        #[test]
        fn a_bar_is_exactly_as_wide_as_asked(fraction in any::<f64>(), width in 0_usize..300) {
            let theme = theme("C.UTF-8");
            let mut buffer = Buffer::empty(Rect::ZERO);
            let canvas = Canvas::new(&mut buffer, &theme);
            prop_assert_eq!(text(&canvas.bar(fraction, width)).chars().count(), width);
        }

        #[test]
        fn nothing_is_drawn_outside_of_its_place(width in 0_u16..30, height in 0_u16..6, row in 0_usize..8, left in "\\PC{0,40}", right in "\\PC{0,40}") {
            let theme = theme("C.UTF-8");
            let mut buffer = Buffer::empty(Rect::new(0, 0, 30, 6));
            let mut canvas = Canvas::new(&mut buffer, &theme);
            canvas.sides(Rect::new(0, 0, width, height), row, &Line::raw(left), &Line::raw(right));
            for (index, cell) in buffer.content.iter().enumerate() {
                let (x, y) = buffer.pos_of(index);
                prop_assert!((x < width && y < height) || cell.symbol() == " ");
            }
        }
    }
}
