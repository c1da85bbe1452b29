//! Cells to bytes, as few as possible.
//!
//! Colours and modifiers are remembered from frame to frame and never reset in between, and only what differs is sent:
//! an operator may sit behind a slow line and two bastion hosts.

use std::io::Write;

use ratatui::buffer::Cell;
use ratatui::style::{Color, Modifier, Style};

use super::measure::width;

/// Holds back what follows until the frame is whole (DEC private mode 2026).
const BEGIN: &[u8] = b"\x1b[?2026h";
/// Shows what was held back.
const END: &[u8] = b"\x1b[?2026l";

/// The bytes of one frame, and what the terminal will print with after them.
#[derive(Debug, Default)]
pub(crate) struct Painter {
    bytes: Vec<u8>,
    ink: Ink,
}

/// What the terminal prints with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Ink {
    fg: Color,
    bg: Color,
    modifier: Modifier,
}

impl Painter {
    /// Empties the screen.
    pub(crate) fn clear(&mut self) {
        self.begin();
        self.bytes.extend_from_slice(b"\x1b[m\x1b[2J");
        self.ink = Ink::default();
    }

    /// Adds cells that changed, in the order of lines.
    pub(crate) fn cells<'a>(&mut self, cells: impl Iterator<Item = (u16, u16, &'a Cell)>) {
        // Where the terminal's cursor is, and whether that is beyond doubt: terminals disagree about the width of some
        // characters, so after those a relative movement is not to be trusted.
        let mut cursor: Option<(u16, u16, bool)> = None;
        for (x, y, cell) in cells {
            self.begin();
            let certain = match cursor {
                Some((at, line, certain)) if (at, line) == (x, y) => certain,
                Some((at, line, true)) if line == y && at < x => {
                    self.push(format_args!("\x1b[{}C", x - at));
                    true
                }
                _ => {
                    self.push(format_args!("\x1b[{};{}H", y + 1, x + 1));
                    true
                }
            };
            self.ink(Ink { fg: cell.fg, bg: cell.bg, modifier: cell.modifier });
            let symbol = cell.symbol();
            self.bytes.extend_from_slice(symbol.as_bytes());
            let cells = u16::try_from(width(symbol)).unwrap_or(1);
            cursor = Some((x.saturating_add(cells), y, certain && symbol.is_ascii()));
        }
    }

    /// The bytes to write, in one piece; empty when nothing changed.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        if !self.bytes.is_empty() {
            self.bytes.extend_from_slice(END);
        }
        std::mem::take(&mut self.bytes)
    }

    fn begin(&mut self) {
        if self.bytes.is_empty() {
            self.bytes.extend_from_slice(BEGIN);
        }
    }

    fn push(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a vector cannot fail.
        let _ = self.bytes.write_fmt(text);
    }

    fn ink(&mut self, ink: Ink) {
        if ink == self.ink {
            return;
        }
        let codes = if ink == Ink::default() { String::new() } else { change(self.ink, ink) };
        self.push(format_args!("\x1b[{codes}m"));
        self.ink = ink;
    }
}

/// A text in a style, for a terminal that prints with nothing before and after it: outside of a frame.
pub(crate) fn styled(style: Style, text: &str) -> String {
    let ink = Ink {
        fg: style.fg.unwrap_or_default(),
        bg: style.bg.unwrap_or_default(),
        modifier: style.add_modifier - style.sub_modifier,
    };
    if ink == Ink::default() { text.to_owned() } else { format!("\x1b[{}m{text}\x1b[m", change(Ink::default(), ink)) }
}

/// The parameters of the SGR sequence from one ink to another.
fn change(from: Ink, to: Ink) -> String {
    let mut codes: Vec<String> = Vec::new();
    let removed = from.modifier - to.modifier;
    let mut added = to.modifier - from.modifier;
    if removed.intersects(Modifier::BOLD | Modifier::DIM) {
        // One code takes both away.
        codes.push("22".to_owned());
        added |= to.modifier & (Modifier::BOLD | Modifier::DIM);
    }
    let blinks = Modifier::SLOW_BLINK | Modifier::RAPID_BLINK;
    let off = [
        (Modifier::ITALIC, "23"),
        (Modifier::UNDERLINED, "24"),
        (blinks, "25"),
        (Modifier::REVERSED, "27"),
        (Modifier::HIDDEN, "28"),
        (Modifier::CROSSED_OUT, "29"),
    ];
    codes
        .extend(off.into_iter().filter(|(modifier, _)| removed.intersects(*modifier)).map(|(_, code)| code.to_owned()));
    let on = [
        (Modifier::BOLD, "1"),
        (Modifier::DIM, "2"),
        (Modifier::ITALIC, "3"),
        (Modifier::UNDERLINED, "4"),
        (blinks, "5"),
        (Modifier::REVERSED, "7"),
        (Modifier::HIDDEN, "8"),
        (Modifier::CROSSED_OUT, "9"),
    ];
    codes.extend(on.into_iter().filter(|(modifier, _)| added.intersects(*modifier)).map(|(_, code)| code.to_owned()));
    if from.fg != to.fg {
        codes.push(colour(to.fg, 30));
    }
    if from.bg != to.bg {
        codes.push(colour(to.bg, 40));
    }
    codes.join(";")
}

/// The code of a colour; `base` is 30 for the foreground and 40 for the background.
fn colour(colour: Color, base: u8) -> String {
    let code = match colour {
        Color::Reset => base + 9,
        Color::Black => base,
        Color::Red => base + 1,
        Color::Green => base + 2,
        Color::Yellow => base + 3,
        Color::Blue => base + 4,
        Color::Magenta => base + 5,
        Color::Cyan => base + 6,
        Color::Gray => base + 7,
        Color::DarkGray => base + 60,
        Color::LightRed => base + 61,
        Color::LightGreen => base + 62,
        Color::LightYellow => base + 63,
        Color::LightBlue => base + 64,
        Color::LightMagenta => base + 65,
        Color::LightCyan => base + 66,
        Color::White => base + 67,
        Color::Indexed(index) => return format!("{};5;{index}", base + 8),
        Color::Rgb(r, g, b) => return format!("{};2;{r};{g};{b}", base + 8),
    };
    code.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use ratatui::buffer::Buffer;
    use ratatui::layout::Rect;

    const AREA: Rect = Rect::new(0, 0, 24, 5);

    fn frame(painter: &mut Painter, from: &Buffer, to: &Buffer) -> Vec<u8> {
        painter.cells(from.diff(to).into_iter());
        painter.take()
    }

    /// Everything that a terminal shows of one cell.
    fn shown(cell: Option<&vt100::Cell>) -> (String, vt100::Color, vt100::Color, [bool; 5]) {
        let cell = cell.unwrap();
        let text = if cell.has_contents() { cell.contents().to_owned() } else { " ".to_owned() };
        let looks = [cell.bold(), cell.dim(), cell.italic(), cell.underline(), cell.inverse()];
        (text, cell.fgcolor(), cell.bgcolor(), looks)
    }

    #[test]
    fn a_frame_without_a_change_has_no_bytes() {
        let mut painter = Painter::default();
        let buffer = Buffer::with_lines(["rows 1,426,000"]);
        assert!(frame(&mut painter, &buffer, &buffer.clone()).is_empty());
    }

    #[test]
    fn a_text_outside_of_a_frame_leaves_the_terminal_as_it_was() {
        let bold = Style::new().fg(Color::LightCyan).add_modifier(Modifier::BOLD);
        assert_eq!(styled(bold, "users"), "\x1b[1;96musers\x1b[m");
        assert_eq!(styled(Style::new(), "users"), "users");
    }

    #[test]
    fn a_few_changed_digits_cost_a_few_bytes() {
        let mut painter = Painter::default();
        let from = Buffer::with_lines(["1,426,000 rows   48,210 rows/s"]);
        let to = Buffer::with_lines(["1,474,000 rows   48,100 rows/s"]);
        let bytes = frame(&mut painter, &from, &to);
        assert_eq!(bytes, b"\x1b[?2026h\x1b[1;4H74\x1b[15C10\x1b[?2026l", "{}", bytes.escape_ascii());
    }

    #[test]
    fn the_ink_is_kept_between_frames() {
        let mut painter = Painter::default();
        let empty = Buffer::empty(AREA);
        let red = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
        let mut first = empty.clone();
        first.set_string(0, 0, "a", red);
        let mut second = first.clone();
        second.set_string(0, 0, "b", red);
        assert!(frame(&mut painter, &empty, &first).ends_with(b"\x1b[1;31ma\x1b[?2026l"));
        assert!(frame(&mut painter, &first, &second).ends_with(b"\x1b[1;1Hb\x1b[?2026l"));
    }

    fn arbitrary_style() -> impl Strategy<Value = Style> {
        let colours = [Color::Reset, Color::Red, Color::LightBlue, Color::Indexed(208), Color::Rgb(1, 2, 3)];
        // Bold and dim together mean something else to each terminal; vt100 keeps the later one.
        let weights = [Modifier::empty(), Modifier::BOLD, Modifier::DIM];
        let marks = [Modifier::empty(), Modifier::REVERSED, Modifier::UNDERLINED];
        (0..colours.len(), 0..colours.len(), 0..weights.len(), 0..marks.len()).prop_map(move |(fg, bg, a, b)| {
            Style::new().fg(colours[fg]).bg(colours[bg]).add_modifier(weights[a] | marks[b])
        })
    }

    /// A text a line: ratatui itself leaves half of a wide character behind where texts overlap.
    fn arbitrary_frame(letters: &'static str, style: impl Strategy<Value = Style>) -> impl Strategy<Value = Buffer> {
        proptest::collection::vec((0_u16..24, letters, style), 5).prop_map(|texts| {
            let mut buffer = Buffer::empty(AREA);
            for (y, (x, text, style)) in (0..).zip(texts) {
                buffer.set_string(x, y, text, style);
            }
            buffer
        })
    }

    /// Any text, wide characters among it. ratatui's diff passes over the second half of a wide character that a narrow
    /// one replaces, so it has no look of its own here.
    fn wide_frame() -> impl Strategy<Value = Buffer> {
        arbitrary_frame("[a-z表é█ ]{0,24}", Just(Style::new()))
    }

    fn narrow_frame() -> impl Strategy<Value = Buffer> {
        arbitrary_frame("[a-zé█ ]{0,24}", arbitrary_style())
    }

    fn two_frames() -> impl Strategy<Value = (Buffer, Buffer)> {
        prop_oneof![(wide_frame(), wide_frame()), (narrow_frame(), narrow_frame())]
    }

    proptest! {
        #[test]
        fn a_terminal_shows_the_second_frame_as_if_there_had_been_no_first((a, b) in two_frames()) {
            let empty = Buffer::empty(AREA);
            let [mut twice, mut once] = [(); 2].map(|()| vt100::Parser::new(AREA.height, AREA.width, 0));
            let mut painter = Painter::default();
            twice.process(&frame(&mut painter, &empty, &a));
            twice.process(&frame(&mut painter, &a, &b));
            once.process(&frame(&mut Painter::default(), &empty, &b));
            for y in 0..AREA.height {
                for x in 0..AREA.width {
                    let [twice, once] = [&twice, &once].map(|parser| shown(parser.screen().cell(y, x)));
                    // The second half of a wide character has no look of its own.
                    if x == 0 || width(b[(x - 1, y)].symbol()) < 2 {
                        prop_assert_eq!(twice, once, "at {}, {}", x, y);
                    }
                }
            }
        }
    }
}
