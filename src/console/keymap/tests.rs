//! Files of keys, by tables.

use super::super::config_error::Problem;
use super::*;

fn pressed(text: &str) -> Vec<KeyCombination> {
    text.split(' ').map(|key| key.parse().unwrap()).collect()
}

fn meaning(keymap: &Keymap, context: Context, keys: &str) -> Meaning {
    keymap.meaning(&[context, Context::Global], &pressed(keys))
}

#[test]
fn the_compiled_in_file_binds_every_action() {
    let keymap = Keymap::defaults();
    for (index, bindable) in BINDABLE.iter().enumerate() {
        let mut own = keymap.bindings.iter().filter(|binding| binding.action == index);
        assert!(own.any(|binding| !binding.keys.is_empty()), "{} has no key", bindable.name);
    }
    assert!(keymap.bindings.iter().all(|binding| !binding.keys.is_empty()));
    assert_eq!(keymap.to_toml(), DEFAULTS);
}

#[test]
fn every_action_stands_with_its_words_above_it_in_the_compiled_in_file() {
    let mut explained = false;
    for (line, _, action) in annotated(DEFAULTS) {
        if line.starts_with('#') {
            explained = true;
        } else if action.is_some() {
            assert!(explained, "{line}");
        } else {
            explained = false;
        }
    }
}

#[test]
fn names_are_given_once_and_each_context_can_have_nearly_every_action() {
    for (index, bindable) in BINDABLE.iter().enumerate() {
        assert_eq!(reading::index_of(bindable.name), Some(index), "{}", bindable.name);
        assert!(!bindable.contexts.is_empty());
    }
    for context in Context::ALL {
        let count = BINDABLE.iter().filter(|bindable| bindable.contexts.contains(&context)).count();
        assert!(count >= 30, "{}: {count}", context.name());
    }
}

#[test]
fn a_user_file_replaces_the_keys_of_the_actions_that_it_names() {
    let keymap = Keymap::merged("mine", "[view]\npause = \"x\"\nquit = [\"Q\"]\n").unwrap();
    let table = [
        (Context::View, "x", Meaning::Action(&Action::TogglePause)),
        (Context::View, "space", Meaning::Nothing),
        (Context::View, "shift-q", Meaning::Action(&Action::Quit)),
        (Context::View, "?", Meaning::Action(&Action::Help)),
        (Context::Dialogue, "x", Meaning::Nothing),
    ];
    for (context, key, expected) in table {
        assert_eq!(meaning(&keymap, context, key), expected, "{key} in {}", context.name());
    }
    assert_eq!(Keymap::merged("printed", &keymap.to_toml()).unwrap(), keymap);
}

#[test]
fn two_actions_may_trade_their_keys() {
    let keymap = Keymap::merged("mine", "[view]\npause = [\"q\"]\nquit = [\"space\"]\n").unwrap();
    assert_eq!(meaning(&keymap, Context::View, "q"), Meaning::Action(&Action::TogglePause));
    assert_eq!(keymap.first_key(&Action::Quit).as_deref(), Some("space"));
}

/// A file from before there were views, layers and sequences, with keys that have got a meaning since.
#[test]
fn what_was_added_later_gives_way_to_the_keys_of_an_older_file() {
    let text = "[global]\nhelp = [\"h\"]\n[view]\npause = [\"r\", \"1\"]\nquit = [\"x\", \"Q\"]\nclose-breaker = \"g\"\n[dialogue]\nnext = [\"y\", \"/\"]\n";
    let keymap = Keymap::merged("old", text).unwrap();
    let table = [
        (Context::View, "r", Meaning::Action(&Action::TogglePause)),
        (Context::Sessions, "x", Meaning::Nothing),
        (Context::Segments, "h", Meaning::Action(&Action::Help)),
        (Context::List, "g", Meaning::Nothing),
        (Context::List, "home", Meaning::Action(&Action::First)),
        (Context::Dialogue, "y", Meaning::Action(&Action::Next)),
        // Where it does not meet, a default stays.
        (Context::Dialogue, "g", Meaning::Prefix),
    ];
    for (context, key, expected) in table {
        assert_eq!(meaning(&keymap, context, key), expected, "{key} in {}", context.name());
    }
    assert_eq!(keymap.key_in(&[Context::View], &Action::Resume), None);
    assert_eq!(Keymap::merged("printed", &keymap.to_toml()).unwrap(), keymap);
}

#[test]
fn an_action_can_have_keys_of_its_own_in_every_layer() {
    let text = "[log]\npage-down = [\"f\"]\nlevel = []\n[overview]\nskip-window = [\"w\"]\n[view]\nskip-window = []\n[tables]\npause = [\"ctrl-p\"]\n[prompt]\npause = [\"f5\"]\n";
    let keymap = Keymap::merged("mine", text).unwrap();
    assert_eq!(meaning(&keymap, Context::Log, "f"), Meaning::Action(&Action::PageDown));
    assert_eq!(meaning(&keymap, Context::Overview, "w"), Meaning::Action(&Action::SkipWindow));
    assert_eq!(meaning(&keymap, Context::Tables, "ctrl-p"), Meaning::Action(&Action::TogglePause));
    let printed = keymap.to_toml();
    assert!(
        printed.contains("level = []\npage-down = [\"f\"]\n") || printed.contains("page-down = [\"f\"]"),
        "{printed}"
    );
    assert_eq!(Keymap::merged("printed", &printed).unwrap(), keymap);
}

#[test]
fn sequences_are_known_by_their_beginning() {
    let keymap = Keymap::merged("mine", "[view]\nzoom = [\"z z\", \"z x c\"]\n").unwrap();
    let table = [
        ("z", Meaning::Prefix),
        ("z z", Meaning::Action(&Action::Zoom)),
        ("z x", Meaning::Prefix),
        ("z x c", Meaning::Action(&Action::Zoom)),
        ("z y", Meaning::Nothing),
        ("z z z", Meaning::Nothing),
    ];
    for (keys, expected) in table {
        assert_eq!(meaning(&keymap, Context::View, keys), expected, "{keys}");
    }
}

#[test]
fn what_is_wrong_in_a_user_file_is_refused_with_its_line() {
    let table = [
        ("[view]\npause = [", 2, "", None),
        ("[veiw]\n", 1, "there is no context `veiw`", Some("did you mean `view`?")),
        ("[view]\n\npuase = []\n", 3, "there is no action `puase` in [view]", Some("did you mean `pause`?")),
        ("[view]\ncomplete = []\n", 2, "`complete` does nothing in [view]", Some("it works in [prompt]")),
        ("[view]\npause = [\"spce\"]\n", 2, "`spce` is not a key that a terminal can send", None),
        ("[view]\npause = [\"g spce\"]\n", 2, "`g spce` is not a key that a terminal can send", None),
        ("[view]\npause = [\"\"]\n", 2, "`` is not a key that a terminal can send", None),
        ("[view]\npause = [\"a-b\"]\n", 2, "`a-b` is not a key that a terminal can send", None),
        ("[prompt]\npause = [\"p\"]\n", 2, "`p` is text while a line is typed", None),
        ("[view]\npause = 7\n", 2, "`pause` must be a list of keys, not integer", None),
        ("view = 7\n", 1, "`view` must be a table, not integer", None),
        ("[view]\npause = [\"q\"]\n", 2, "the key `q` is bound to `pause` and to `quit`", None),
        ("[view]\npause = [\"?\"]\n", 2, "the key `?` is bound to `pause` and to `help`", None),
        ("[view]\npause = [\"x\", \"x\"]\n", 2, "the key `x` is bound to `pause` and to `pause`", None),
        (
            "[log]\npage-down = [\"space\"]\n",
            2,
            "the key `space` is bound to `page-down` and to `pause`",
            Some("give `pause` another key, or none: pause = [], in [view]"),
        ),
        (
            "[list]\nsort = [\"o\"]\n[tables]\nlevel = []\nzoom = [\"o\"]\n",
            4,
            "`level` does nothing in [tables]",
            Some("it works in [global] [view] [list] [events] [log]"),
        ),
        (
            "[list]\nsort = [\"o\"]\n[tables]\nzoom = [\"o\"]\n",
            4,
            "the key `o` is bound to `sort` and to `zoom`",
            Some("give `zoom` another key, or none: zoom = [], in [tables]"),
        ),
        ("[view]\nzoom = [\"q q\"]\n", 2, "the key `q` of `quit` begins the keys `q q` of `zoom`", None),
        (
            "[view]\nzoom = [\"z\"]\nstop = [\"z s\"]\n",
            3,
            "the key `z` of `zoom` begins the keys `z s` of `stop`",
            None,
        ),
    ];
    for (text, line, message, hint) in table {
        let error = Keymap::merged("mine.toml", text).unwrap_err();
        assert_eq!(error.place.line, line, "{error}");
        assert!(error.problem.to_string().starts_with(message), "{error}");
        if hint.is_some() {
            assert_eq!(error.problem.hint().as_deref(), hint);
        }
    }
}

#[test]
fn views_that_never_meet_may_use_a_key_each_in_its_own_way() {
    let text = "[tables]\nsort = [\"o\"]\n[log]\nlevel = [\"o\"]\n[dialogue]\nnext = [\"o\"]\n";
    assert_eq!(Keymap::check("mine", text), []);
}

#[test]
fn a_check_finds_every_mistake_in_the_order_of_lines() {
    let text = "[view]\npause = [\"spce\", \"q\"]\nquiet = []\nzoom = [\"?\"]\n[veiw]\n[list]\nyes = []\n";
    let lines: Vec<_> = Keymap::check("mine", text).iter().map(|mistake| mistake.place.line).collect();
    assert_eq!(lines, [2, 2, 3, 4, 5, 7]);
    assert_eq!(Keymap::check("mine", DEFAULTS), []);
    assert_eq!(Keymap::check("mine", ""), []);
}

#[test]
fn an_error_carries_the_file_the_line_and_carets() {
    let error = Keymap::merged("mine.toml", "[view]\npause = [\"spce\"]\n").unwrap_err();
    let expected =
        "mine.toml:2:10: `spce` is not a key that a terminal can send\n2 | pause = [\"spce\"]\n  |          ^^^^^^";
    assert!(error.to_string().starts_with(expected), "{error}");
}

#[test]
fn brackets_are_written_read_and_pressed_as_they_are() {
    let keymap = Keymap::defaults();
    for (sign, action) in [(']', &Action::MoreWorkers), ('[', &Action::FewerWorkers)] {
        let pressed = KeyCombination::from(crossterm::event::KeyCode::Char(sign));
        assert_eq!(keymap.meaning(&[Context::View], &[pressed]), Meaning::Action(action));
        assert_eq!(keymap.first_key(action), Some(sign.to_string()));
    }
    let traded = Keymap::merged("mine", "[view]\nmore-workers = \"[\"\nfewer-workers = [\"]\"]\n").unwrap();
    assert_eq!(Keymap::merged("printed", &traded.to_toml()).unwrap(), traded);
}

#[test]
fn keys_are_shown_as_people_call_them() {
    let keymap = Keymap::defaults();
    assert_eq!(keymap.first_key(&Action::ShorterBatches).as_deref(), Some("-"));
    assert_eq!(keymap.first_key(&Action::Interrupt).as_deref(), Some("ctrl-c"));
    assert_eq!(keymap.first_key(&Action::Stop).as_deref(), Some("Q"));
    let pause = keymap.help(Context::View).find(|line| line.name == "pause");
    assert_eq!(pause.map(|line| line.keys).as_deref(), Some("space  p"));
}
