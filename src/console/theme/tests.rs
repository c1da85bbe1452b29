use super::*;
use crate::console::config_error::Problem;
use ratatui::style::Modifier;

fn terminal(no_color: &str, colorterm: &str, term: &str, lang: &str) -> Environment {
    let set = |text: &str| Some(text.to_owned());
    Environment {
        no_color: set(no_color),
        colorterm: set(colorterm),
        term: set(term),
        lang: set(lang),
        ..Environment::default()
    }
}

fn full() -> Environment {
    terminal("", "truecolor", "xterm-256color", "C.UTF-8")
}

#[test]
fn roles_are_in_the_order_of_their_declaration() {
    for (index, role) in Role::ALL.into_iter().enumerate() {
        assert_eq!(role as usize, index, "{}", role.name());
    }
}

#[test]
fn every_compiled_in_theme_can_be_loaded_at_every_depth() {
    let depths = [("", "truecolor", "xterm"), ("", "", "xterm-256color"), ("", "", "xterm"), ("1", "", "xterm")];
    for (name, _) in COMPILED_IN {
        for (no_color, colorterm, term) in depths {
            Theme::load(Source::Named(name), &terminal(no_color, colorterm, term, "C")).unwrap();
        }
    }
}

#[test]
fn alerts_differ_from_plain_text_in_every_theme() {
    for (name, _) in COMPILED_IN {
        let theme = Theme::load(Source::Named(name), &full()).unwrap();
        let [text, warning, critical] = [Role::Text, Role::Warning, Role::Critical].map(|role| theme.style(role));
        assert!(text != warning && text != critical && warning != critical, "{name}");
    }
}

#[test]
fn no_color_leaves_no_colour_whatever_the_theme_says() {
    let environment = terminal("yes", "truecolor", "xterm-256color", "C.UTF-8");
    for source in [Source::Named("light"), Source::File { label: "x", text: "text = { fg = \"red\", bg = 3 }" }] {
        let theme = Theme::load(source, &environment).unwrap();
        for role in Role::ALL {
            let style = theme.style(role);
            assert_eq!((style.fg, style.bg), (None, None), "{}", role.name());
        }
    }
    let empty = terminal("", "truecolor", "xterm-256color", "C.UTF-8");
    let theme = Theme::load(Source::Named("dark"), &empty).unwrap();
    assert!(Role::ALL.into_iter().any(|role| theme.style(role).fg.is_some()));
}

#[test]
fn a_locale_without_utf_8_gets_ascii_signs() {
    assert!(Theme::load(Source::Named("dark"), &terminal("", "", "xterm", "C")).unwrap().glyphs.ascii);
    assert!(!Theme::load(Source::Named("dark"), &full()).unwrap().glyphs.ascii);
}

#[test]
fn a_file_changes_the_roles_that_it_names() {
    let text =
        "base = \"light\"\nok = { fg = \"#010203\", modifiers = [\"bold\", \"reverse\"] }\nbusy = { bg = 208 }\n";
    let theme = Theme::load(Source::File { label: "mine", text }, &full()).unwrap();
    let light = Theme::load(Source::Named("light"), &full()).unwrap();
    let ok = Style::new().fg(Color::Rgb(1, 2, 3)).add_modifier(Modifier::BOLD | Modifier::REVERSED);
    assert_eq!(theme.style(Role::Ok), ok);
    assert_eq!(theme.style(Role::Busy), Style::new().bg(Color::Indexed(208)));
    assert_eq!(theme.style(Role::Critical), light.style(Role::Critical));
}

#[test]
fn what_is_wrong_in_a_theme_is_refused_with_its_line() {
    let table = [
        ("ok = {", 1, "", None),
        ("\nwarming = {}\n", 2, "there is no role `warming`", Some("did you mean `warning`?")),
        ("ok = { fgg = 1 }\n", 1, "there is no property `fgg`", Some("did you mean `fg`?")),
        ("ok = { fg = \"light-bleu\" }\n", 1, "`light-bleu` is not a colour", Some("did you mean `light-blue`?")),
        ("ok = { fg = 256 }\n", 1, "`256` is not a colour", None),
        ("ok = { fg = true }\n", 1, "`fg` must be a colour, not boolean", None),
        ("ok = { modifiers = [\"bald\"] }\n", 1, "there is no modifier `bald`", Some("did you mean `bold`?")),
        ("ok = \"red\"\n", 1, "`ok` must be a table, not string", None),
        ("base = \"darkness\"\n", 1, "there is no theme `darkness`", None),
    ];
    for (text, line, message, hint) in table {
        let error = Theme::load(Source::File { label: "mine.toml", text }, &full()).unwrap_err();
        assert_eq!(error.place.line, line, "{error}");
        assert!(error.problem.to_string().starts_with(message), "{error}");
        if hint.is_some() {
            assert_eq!(error.problem.hint().as_deref(), hint);
        }
    }
    assert!(Theme::load(Source::Named("solarized"), &full()).is_err());
}
