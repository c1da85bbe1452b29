//! Colours: how they are written, and what a terminal can show of them.

use ratatui::style::Color;

use super::glyphs::{self, Glyphs};

/// What the environment says about the terminal. The command line fills it in; the console never reads it itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Environment {
    /// `NO_COLOR`: any text but the empty one means no colour (<https://no-color.org>).
    pub no_color: Option<String>,
    /// `COLORTERM`: `truecolor` or `24bit` means true colour.
    pub colorterm: Option<String>,
    /// `TERM`.
    pub term: Option<String>,
    /// `LC_ALL`, which wins over `LC_CTYPE`.
    pub lc_all: Option<String>,
    /// `LC_CTYPE`, which wins over `LANG`.
    pub lc_ctype: Option<String>,
    /// `LANG`.
    pub lang: Option<String>,
}

/// Terminals without colours.
const MONOCHROME: [&str; 7] = ["dumb", "vt100", "vt102", "vt220", "vt320", "vt420", "ansi-mono"];

/// Terminals that show any colour and say so by their name alone: `COLORTERM` does not come along over SSH.
const TRUE: [&str; 6] = ["xterm-kitty", "xterm-ghostty", "alacritty", "foot", "wezterm", "contour"];

/// How many colours a terminal can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// None: only bold, dim, underline and reverse.
    None,
    /// The sixteen that the terminal's own palette names.
    Sixteen,
    /// The cube and the grey ramp of xterm.
    TwoHundredFiftySix,
    /// Any.
    True,
}

impl Environment {
    /// How many colours the terminal can show.
    pub(crate) fn depth(&self) -> Depth {
        let set = |value: &Option<String>| value.as_deref().unwrap_or_default().to_ascii_lowercase();
        let (term, colorterm) = (set(&self.term), set(&self.colorterm));
        let name = term.split('-').next().unwrap_or_default();
        if !set(&self.no_color).is_empty()
            || MONOCHROME.contains(&term.as_str())
            || term.ends_with("-m")
            || term.ends_with("-mono")
        {
            Depth::None
        } else if name == "linux" {
            // The kernel makes the nearest of sixteen out of any other colour, whatever a variable from elsewhere promises.
            Depth::Sixteen
        } else if matches!(colorterm.as_str(), "truecolor" | "24bit")
            || term.contains("-direct")
            || TRUE.contains(&term.as_str())
        {
            Depth::True
        } else if term.contains("256color") {
            Depth::TwoHundredFiftySix
        } else {
            Depth::Sixteen
        }
    }

    /// The signs to draw with.
    pub(crate) fn glyphs(&self) -> Glyphs {
        let is_console = self.term.as_deref().is_some_and(|term| term == "linux" || term.starts_with("linux-"));
        match (self.is_utf8(), is_console) {
            (false, _) => glyphs::ASCII,
            (true, true) => glyphs::CONSOLE,
            (true, false) => glyphs::UNICODE,
        }
    }

    /// Whether the terminal takes UTF-8, as the first locale variable says that is set and not empty.
    pub(crate) fn is_utf8(&self) -> bool {
        [&self.lc_all, &self.lc_ctype, &self.lang]
            .into_iter()
            .filter_map(|value| value.as_deref())
            .find(|value| !value.is_empty())
            .is_some_and(|locale| {
                let locale = locale.to_ascii_uppercase();
                locale.contains("UTF-8") || locale.contains("UTF8")
            })
    }
}

/// The names of the terminal's own sixteen colours, in the order of their numbers, and their usual values.
const SIXTEEN: [(&str, Color, (u8, u8, u8)); 16] = [
    ("black", Color::Black, (0, 0, 0)),
    ("red", Color::Red, (205, 0, 0)),
    ("green", Color::Green, (0, 205, 0)),
    ("yellow", Color::Yellow, (205, 205, 0)),
    ("blue", Color::Blue, (0, 0, 238)),
    ("magenta", Color::Magenta, (205, 0, 205)),
    ("cyan", Color::Cyan, (0, 205, 205)),
    ("gray", Color::Gray, (229, 229, 229)),
    ("dark-gray", Color::DarkGray, (127, 127, 127)),
    ("light-red", Color::LightRed, (255, 0, 0)),
    ("light-green", Color::LightGreen, (0, 255, 0)),
    ("light-yellow", Color::LightYellow, (255, 255, 0)),
    ("light-blue", Color::LightBlue, (92, 92, 255)),
    ("light-magenta", Color::LightMagenta, (255, 0, 255)),
    ("light-cyan", Color::LightCyan, (0, 255, 255)),
    ("white", Color::White, (255, 255, 255)),
];

/// What a colour may be called, for hints.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    SIXTEEN.iter().map(|(name, ..)| *name).chain(["default"])
}

/// Reads a colour: a name, `#rrggbb`, or a number from 0 to 255.
pub(crate) fn parse(text: &str) -> Option<Color> {
    if let Some((_, colour, _)) = SIXTEEN.iter().find(|(name, ..)| *name == text) {
        return Some(*colour);
    }
    if text == "default" {
        return Some(Color::Reset);
    }
    if let Some(hex) = text.strip_prefix('#') {
        if hex.len() != 6 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let channel = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).ok();
        return Some(Color::Rgb(channel(0)?, channel(2)?, channel(4)?));
    }
    text.parse().ok().map(Color::Indexed)
}

/// The nearest colour that a terminal of this depth can show.
pub(crate) fn reduce(colour: Color, depth: Depth) -> Color {
    match (depth, colour) {
        (Depth::None, _) => Color::Reset,
        (Depth::TwoHundredFiftySix, Color::Rgb(r, g, b)) => Color::Indexed(nearest_of_256((r, g, b))),
        (Depth::Sixteen, Color::Rgb(r, g, b)) => nearest_of_16((r, g, b)),
        (Depth::Sixteen, Color::Indexed(index)) => match SIXTEEN.get(usize::from(index)) {
            Some((_, named, _)) => *named,
            None => nearest_of_16(value_of(index)),
        },
        (Depth::True | Depth::TwoHundredFiftySix | Depth::Sixteen, _) => colour,
    }
}

/// Red, green and blue of a colour, those of xterm where the terminal has a palette of its own. `None`: its own default.
pub(crate) fn value(colour: Color) -> Option<(u8, u8, u8)> {
    match colour {
        Color::Rgb(r, g, b) => Some((r, g, b)),
        Color::Indexed(index) => Some(value_of(index)),
        _ => SIXTEEN.iter().find(|(_, named, _)| *named == colour).map(|(.., value)| *value),
    }
}

/// A colour as a theme file says it.
pub(crate) fn name(colour: Color) -> String {
    match colour {
        Color::Rgb(r, g, b) => format!("#{r:02x}{g:02x}{b:02x}"),
        Color::Indexed(index) => index.to_string(),
        _ => SIXTEEN.iter().find(|(_, named, _)| *named == colour).map_or("default", |(name, ..)| name).to_owned(),
    }
}

const CUBE: [u8; 6] = [0, 95, 135, 175, 215, 255];

/// The value of a colour of xterm's palette, from 16 on: a cube of six steps a side, then 24 greys.
fn value_of(index: u8) -> (u8, u8, u8) {
    match index {
        0..=15 => SIXTEEN[usize::from(index)].2,
        16..=231 => {
            let n = usize::from(index - 16);
            (CUBE[n / 36], CUBE[n / 6 % 6], CUBE[n % 6])
        }
        232..=255 => {
            let grey = 8 + 10 * (index - 232);
            (grey, grey, grey)
        }
    }
}

fn nearest_of_256(rgb: (u8, u8, u8)) -> u8 {
    (16..=255).min_by_key(|index| distance(rgb, value_of(*index))).unwrap_or(15)
}

fn nearest_of_16(rgb: (u8, u8, u8)) -> Color {
    SIXTEEN.iter().min_by_key(|(.., value)| distance(rgb, *value)).map_or(Color::Reset, |(_, named, _)| *named)
}

/// The squared distance, weighted by how much the eye makes of each channel.
fn distance(a: (u8, u8, u8), b: (u8, u8, u8)) -> u32 {
    let square = |x: u8, y: u8| u32::from(x.abs_diff(y)).pow(2);
    3 * square(a.0, b.0) + 4 * square(a.1, b.1) + 2 * square(a.2, b.2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn environment(no_color: &str, colorterm: &str, term: &str) -> Environment {
        let set = |text: &str| Some(text.to_owned());
        Environment { no_color: set(no_color), colorterm: set(colorterm), term: set(term), ..Environment::default() }
    }

    #[test]
    fn the_depth_is_what_the_environment_says() {
        let table = [
            ("", "truecolor", "xterm-256color", Depth::True),
            ("", "24bit", "xterm", Depth::True),
            ("", "", "xterm-256color", Depth::TwoHundredFiftySix),
            ("", "", "xterm", Depth::Sixteen),
            ("", "", "screen", Depth::Sixteen),
            ("", "", "screen-256color", Depth::TwoHundredFiftySix),
            ("", "", "tmux-256color", Depth::TwoHundredFiftySix),
            ("", "truecolor", "tmux-256color", Depth::True),
            ("", "", "tmux", Depth::Sixteen),
            ("", "", "xterm-kitty", Depth::True),
            ("", "", "alacritty", Depth::True),
            ("", "", "xterm-direct", Depth::True),
            ("", "", "linux", Depth::Sixteen),
            ("", "truecolor", "linux", Depth::Sixteen),
            ("1", "", "linux", Depth::None),
            ("", "", "vt100", Depth::None),
            ("", "", "xterm-mono", Depth::None),
            ("", "truecolor", "dumb", Depth::None),
            ("1", "truecolor", "xterm-256color", Depth::None),
        ];
        for (no_color, colorterm, term, depth) in table {
            assert_eq!(environment(no_color, colorterm, term).depth(), depth, "{no_color} {colorterm} {term}");
        }
        assert_eq!(Environment::default().depth(), Depth::Sixteen);
    }

    #[test]
    fn the_first_locale_variable_that_is_set_decides_about_utf_8() {
        let locale = |all: &str, ctype: &str, lang: &str| Environment {
            lc_all: Some(all.to_owned()),
            lc_ctype: Some(ctype.to_owned()),
            lang: Some(lang.to_owned()),
            ..Environment::default()
        };
        assert!(locale("", "", "en_GB.UTF-8").is_utf8());
        assert!(locale("", "C.utf8", "C").is_utf8());
        assert!(!locale("C", "en_GB.UTF-8", "en_GB.UTF-8").is_utf8());
        assert!(!Environment::default().is_utf8());
    }

    #[test]
    fn signs_are_those_that_the_terminals_font_has() {
        let table = [
            ("xterm-256color", "C.UTF-8", glyphs::UNICODE),
            ("tmux-256color", "en_GB.UTF-8", glyphs::UNICODE),
            ("screen", "C.UTF-8", glyphs::UNICODE),
            ("linux", "C.UTF-8", glyphs::CONSOLE),
            ("linux-16color", "C.UTF-8", glyphs::CONSOLE),
            ("linux", "C", glyphs::ASCII),
            ("xterm-256color", "C", glyphs::ASCII),
            ("xterm-256color", "", glyphs::ASCII),
            ("xterm", "en_GB.ISO-8859-1", glyphs::ASCII),
        ];
        for (term, lang, expected) in table {
            let environment =
                Environment { term: Some(term.to_owned()), lang: Some(lang.to_owned()), ..Environment::default() };
            assert_eq!(environment.glyphs(), expected, "{term} {lang}");
        }
    }

    #[test]
    fn colours_are_read_in_three_forms() {
        let table = [
            ("light-blue", Some(Color::LightBlue)),
            ("default", Some(Color::Reset)),
            ("#0072b2", Some(Color::Rgb(0, 0x72, 0xb2))),
            ("208", Some(Color::Indexed(208))),
            ("256", None),
            ("#12345", None),
            ("#12345g", None),
            ("#é2345", None),
            ("puce", None),
        ];
        for (text, colour) in table {
            assert_eq!(parse(text), colour, "{text}");
        }
    }

    #[test]
    fn colours_become_the_nearest_that_can_be_shown() {
        assert_eq!(reduce(Color::Rgb(255, 0, 0), Depth::Sixteen), Color::LightRed);
        assert_eq!(reduce(Color::Indexed(4), Depth::Sixteen), Color::Blue);
        assert_eq!(reduce(Color::Rgb(95, 135, 175), Depth::TwoHundredFiftySix), Color::Indexed(67));
        assert_eq!(reduce(Color::Red, Depth::True), Color::Red);
        assert_eq!(reduce(Color::Red, Depth::None), Color::Reset);
    }

    proptest! {
        #[test]
        fn no_colour_is_deeper_than_the_terminal(r in any::<u8>(), g in any::<u8>(), b in any::<u8>(), index in any::<u8>()) {
            for colour in [Color::Rgb(r, g, b), Color::Indexed(index)] {
                let sixteen = reduce(colour, Depth::Sixteen);
                prop_assert!(!matches!(sixteen, Color::Rgb(..) | Color::Indexed(_)));
                prop_assert!(!matches!(reduce(colour, Depth::TwoHundredFiftySix), Color::Rgb(..)));
            }
        }
    }
}
