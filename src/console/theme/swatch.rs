//! A theme, shown role by role: a sample in its style, what the role is for, how well it stands out.

use ratatui::style::{Color, Style};

use super::{Role, Theme};
use crate::console::colour;
use crate::console::contrast::{self, Eye, Rgb};
use crate::console::measure::width;
use crate::console::paint;
use crate::run::{Level, RunState};

/// The roles that say how things stand: they must be told apart by everybody.
const STATES: [Role; 4] = [Role::Ok, Role::Busy, Role::Warning, Role::Critical];
/// Cells of a sample.
const SAMPLE: usize = 14;

impl Theme {
    /// The contrast of a role's words or lines against what lies behind them. `None`: they have the terminal's own colour.
    #[must_use]
    pub fn contrast(&self, role: Role) -> Option<f64> {
        Some(contrast::ratio(self.ink(role)?, self.behind(role)?))
    }

    /// How far the two of `ok`, `busy`, `warning` and `critical` are apart that are nearest to each other, for an eye.
    pub(crate) fn nearest_states(&self, eye: Eye) -> Option<(f64, Role, Role)> {
        let mut nearest: Option<(f64, Role, Role)> = None;
        for (index, one) in STATES.into_iter().enumerate() {
            for other in &STATES[index + 1..] {
                let distance = contrast::distance(self.ink(one)?, self.ink(*other)?, eye);
                if nearest.is_none_or(|(least, ..)| distance < least) {
                    nearest = Some((distance, one, *other));
                }
            }
        }
        nearest
    }

    fn ink(&self, role: Role) -> Option<Rgb> {
        self.style(role).fg.and_then(colour::value)
    }

    fn behind(&self, role: Role) -> Option<Rgb> {
        self.style(role).bg.and_then(colour::value).or_else(|| self.ground.and_then(colour::value))
    }

    /// The theme as lines of text; with colours where `coloured`.
    #[must_use]
    pub fn swatch(&self, coloured: bool) -> String {
        let mut lines = vec![match self.ground {
            Some(ground) => {
                format!("for a background like {}; text without a colour has the terminal's own", name(ground))
            }
            None => "without colours: every role has the terminal's own".to_owned(),
        }];
        lines.push(String::new());
        lines.push(format!("{:<12} {:<SAMPLE$}  {:>8}  {:<24} for", "role", "sample", "contrast", "style"));
        for role in Role::ALL {
            let sample = self.sample(role);
            let padding = " ".repeat(SAMPLE.saturating_sub(width(&sample)));
            let sample = if coloured { paint::styled(self.style(role), &sample) } else { sample };
            let least = if role.is_drawn() || role == Role::Dim { 3.0 } else { 4.5 };
            let low = match self.contrast(role) {
                Some(ratio) if ratio < least => format!(" (hard to see: it needs {least:.1}:1)"),
                Some(_) | None => String::new(),
            };
            let ratio =
                self.contrast(role).map_or_else(|| self.glyphs.none.to_owned(), |ratio| format!("{ratio:.1}:1"));
            let words = words(self.style(role));
            lines.push(format!(
                "{:<12} {sample}{padding}  {ratio:>8}  {words:<24} {}{low}",
                role.name(),
                role.purpose()
            ));
        }
        let apart = Eye::ALL.map(|eye| (eye, self.nearest_states(eye)));
        if let [(_, Some(_)), ..] = apart {
            lines.push(String::new());
            lines.push(
                "the nearest two of ok, busy, warning and critical, and how far they are apart in CIELAB (2 can just be seen, 25 is plain):"
                    .to_owned(),
            );
            for (eye, nearest) in apart {
                if let Some((distance, one, other)) = nearest {
                    lines.push(format!("  {:<13} {distance:>4.0}  {} and {}", eye.name(), one.name(), other.name()));
                }
            }
        }
        lines.join("\n")
    }

    /// A few letters or signs, as the role shows them.
    fn sample(&self, role: Role) -> String {
        let glyphs = &self.glyphs;
        match role {
            Role::Text => "48,210 rows/s".to_owned(),
            Role::Dim => "replay lag".to_owned(),
            Role::Title => "Progress".to_owned(),
            Role::Accent => "users.email".to_owned(),
            Role::Border => {
                let (left, line, right) =
                    (glyphs.border.top_left, glyphs.border.horizontal_top, glyphs.border.top_right);
                format!("{left}{}{right}", line.repeat(SAMPLE - 2))
            }
            Role::Ok => format!("{} RUNNING", glyphs.state(&RunState::Running)),
            Role::Busy => format!("{} STARTING", glyphs.state(&RunState::Starting)),
            Role::Warning => format!("{} {}", glyphs.level(Level::Warning), Level::Warning.word()),
            Role::Critical => format!("{} {}", glyphs.level(Level::Critical), Level::Critical.word()),
            Role::Gauge => glyphs.full.repeat(SAMPLE),
            Role::GaugeEmpty => glyphs.empty.repeat(SAMPLE),
            Role::Spark => glyphs.levels.concat(),
            Role::Key => "space".to_owned(),
            Role::Selected => " public.users ".to_owned(),
        }
    }
}

/// A style in the words of a theme file.
fn words(style: Style) -> String {
    let mut words: Vec<String> = style.fg.into_iter().map(name).collect();
    words.extend(style.bg.map(|bg| format!("on {}", name(bg))));
    for (word, modifier) in super::reading::MODIFIERS {
        if style.add_modifier.contains(modifier) {
            words.push(word.to_owned());
        }
    }
    words.join(" ")
}

fn name(colour: Color) -> String {
    colour::name(colour)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::colour::Environment;
    use crate::console::theme::Source;
    use ratatui::style::Modifier;

    fn theme(name: &str, term: &str, colorterm: &str) -> Theme {
        let set = |text: &str| Some(text.to_owned());
        let environment =
            Environment { term: set(term), colorterm: set(colorterm), lang: set("C.UTF-8"), ..Environment::default() };
        Theme::load(Source::Named(name), &environment).unwrap()
    }

    #[test]
    fn every_role_of_the_default_themes_stands_out_from_its_background() {
        let dark = &["#14171c", "#000000"][..];
        let table = [
            ("dark", "xterm", "truecolor", dark),
            ("dark", "xterm-256color", "", dark),
            ("dark", "xterm", "", &["#000000"]),
            ("light", "xterm", "truecolor", &["#ffffff"]),
            ("light", "xterm-256color", "", &["#ffffff"]),
            ("light", "xterm", "", &["#ffffff"]),
        ];
        for (name, term, colorterm, grounds) in table {
            let mut theme = theme(name, term, colorterm);
            let is_sixteen = colorterm.is_empty() && term == "xterm";
            for ground in grounds {
                theme.ground = colour::parse(ground);
                for role in Role::ALL {
                    let Some(ratio) = theme.contrast(role) else { continue };
                    // With sixteen colours there are but two greys.
                    let is_mark = role.is_drawn() || role == Role::Dim && is_sixteen;
                    let least = if is_mark { 3.0 } else { 4.5 };
                    assert!(ratio >= least, "{name} on {ground} in {term}: {} has {ratio:.2}", role.name());
                }
            }
        }
    }

    #[test]
    fn the_dark_theme_stands_out_in_the_palette_of_the_linux_console() {
        // drivers/tty/vt/vt.c: default_red, default_grn, default_blu.
        let palette = [
            (Color::Gray, (0xaa, 0xaa, 0xaa)),
            (Color::DarkGray, (0x55, 0x55, 0x55)),
            (Color::LightRed, (0xff, 0x55, 0x55)),
            (Color::LightYellow, (0xff, 0xff, 0x55)),
            (Color::LightMagenta, (0xff, 0x55, 0xff)),
            (Color::LightCyan, (0x55, 0xff, 0xff)),
        ];
        let theme = theme("dark", "linux", "truecolor");
        for role in Role::ALL {
            let Some(fg) = theme.style(role).fg else { continue };
            let (_, value) = palette.into_iter().find(|(named, _)| *named == fg).unwrap();
            // Its dark grey has 2.8 on black, and there is no other between that and the grey of text.
            let least = if role.is_drawn() { 2.8 } else { 4.5 };
            assert!(contrast::ratio(value, (0, 0, 0)) >= least, "{}", role.name());
        }
    }

    #[test]
    fn states_are_told_apart_by_every_eye() {
        for name in ["dark", "light"] {
            for (term, colorterm) in [("xterm", "truecolor"), ("xterm-256color", "")] {
                let theme = theme(name, term, colorterm);
                for eye in Eye::ALL {
                    let (distance, one, other) = theme.nearest_states(eye).unwrap();
                    let pair = format!("{} and {}", one.name(), other.name());
                    assert!(distance >= 30.0, "{name} in {term}, {}: {pair} are {distance:.1} apart", eye.name());
                }
            }
        }
    }

    #[test]
    fn with_sixteen_colours_states_differ_in_colour_for_every_eye_or_in_what_else_makes_them_stand_out() {
        for name in ["dark", "light"] {
            let theme = theme(name, "xterm", "");
            for (index, one) in STATES.into_iter().enumerate() {
                for other in &STATES[index + 1..] {
                    let differ = theme.style(one).add_modifier != theme.style(*other).add_modifier;
                    let (a, b) = (theme.ink(one).unwrap(), theme.ink(*other).unwrap());
                    for eye in Eye::ALL {
                        let distance = contrast::distance(a, b, eye);
                        let pair = format!("{} and {}", one.name(), other.name());
                        assert!(differ || distance >= 30.0, "{name}, {}: {pair} are {distance:.1} apart", eye.name());
                    }
                }
            }
        }
    }

    #[test]
    fn a_swatch_has_a_line_for_each_role_and_colours_only_where_they_are_wanted() {
        for (name, term) in [("dark", "xterm-256color"), ("light", "xterm"), ("mono", "xterm")] {
            let theme = theme(name, term, "");
            let (plain, coloured) = (theme.swatch(false), theme.swatch(true));
            assert!(!plain.contains('\u{1b}') && coloured.contains('\u{1b}'), "{name}");
            for role in Role::ALL {
                let line = plain.lines().find(|line| line.starts_with(&format!("{} ", role.name())));
                assert!(line.is_some_and(|line| line.ends_with(role.purpose())), "{name} {}", role.name());
            }
        }
        assert!(theme("dark", "xterm", "truecolor").swatch(false).contains("7.8:1"));
    }

    #[test]
    fn a_style_is_said_as_a_theme_file_says_it() {
        let style = Style::new().fg(Color::Rgb(1, 2, 0xf3)).bg(Color::Indexed(208)).add_modifier(Modifier::BOLD);
        assert_eq!(words(style), "#0102f3 on 208 bold");
        assert_eq!(words(Style::new().fg(Color::LightBlue)), "light-blue");
    }
}
