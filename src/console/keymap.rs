//! Which key does what: `keymap.toml`, compiled in, with the user's file merged over it.

use std::ops::Range;

use crokey::KeyCombination;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::action::Action;
use super::config_error::{Located, Problem, did_you_mean};

/// The default keys. The file's comments are its documentation.
const DEFAULTS: &str = include_str!("../../keymap.toml");
const DEFAULTS_LABEL: &str = "keymap.toml";

/// Where a key works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Context {
    /// Everywhere.
    Global,
    /// While the run is watched.
    View,
    /// In a box that lies over the view.
    Dialogue,
}

impl Context {
    /// All of them, in the order of the file.
    pub const ALL: [Self; 3] = [Self::Global, Self::View, Self::Dialogue];

    /// The name in the file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::View => "view",
            Self::Dialogue => "dialogue",
        }
    }

    /// The heading in the help.
    #[must_use]
    pub fn about(self) -> &'static str {
        match self {
            Self::Global => "Everywhere",
            Self::View => "While the run is watched",
            Self::Dialogue => "In a box like this one",
        }
    }

    /// Whether one key press can reach both.
    fn meets(self, other: Self) -> bool {
        self == other || self == Self::Global || other == Self::Global
    }
}

/// An action that keys can be bound to.
#[derive(Debug, PartialEq)]
pub struct Bindable {
    /// Where it works.
    pub context: Context,
    /// The name in the file.
    pub name: &'static str,
    /// What it does.
    pub action: Action,
    /// What it does, in words for the help.
    pub about: &'static str,
}

const fn bindable(context: Context, name: &'static str, action: Action, about: &'static str) -> Bindable {
    Bindable { context, name, action, about }
}

/// How many actions keys can be bound to.
pub const BINDABLE_COUNT: usize = 17;

/// Every action that keys can be bound to, in the order of the help.
pub static BINDABLE: [Bindable; BINDABLE_COUNT] = [
    bindable(Context::Global, "help", Action::Help, "show or hide these keys"),
    bindable(Context::Global, "interrupt", Action::Interrupt, "ask how to leave; again: stop the run and quit"),
    bindable(Context::Global, "suspend", Action::Suspend, "pause, and back to the shell until fg"),
    bindable(Context::Global, "repaint", Action::Repaint, "draw the whole screen again"),
    bindable(Context::View, "pause", Action::TogglePause, "pause at the batch's edge, or continue"),
    bindable(Context::View, "longer-batches", Action::LongerBatches, "longer batches: faster, longer locks"),
    bindable(Context::View, "shorter-batches", Action::ShorterBatches, "shorter batches: gentler"),
    bindable(Context::View, "more-workers", Action::MoreWorkers, "one more worker: faster, more load"),
    bindable(Context::View, "fewer-workers", Action::FewerWorkers, "one worker less, at its batch's edge"),
    bindable(Context::View, "close-breaker", Action::CloseBreaker, "close the open circuit breaker: try again now"),
    bindable(Context::View, "quit", Action::Quit, "ask how to leave"),
    bindable(Context::Dialogue, "next", Action::Next, "next line or choice"),
    bindable(Context::Dialogue, "previous", Action::Previous, "previous line or choice"),
    bindable(Context::Dialogue, "page-down", Action::PageDown, "ten lines on"),
    bindable(Context::Dialogue, "page-up", Action::PageUp, "ten lines back"),
    bindable(Context::Dialogue, "confirm", Action::Confirm, "take the choice, or close"),
    bindable(Context::Dialogue, "dismiss", Action::Dismiss, "close"),
];

/// What can be wrong in a keymap file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeymapProblem {
    /// It is not TOML.
    #[error("{0}")]
    Syntax(String),
    /// A table, or a key outside of every table, that nobody reads.
    #[error("there is no context `{name}`")]
    UnknownContext {
        /// As written.
        name: String,
        /// What was probably meant.
        meant: Option<&'static str>,
    },
    /// An action that does not exist in its context.
    #[error("there is no action `{name}` in [{context}]")]
    UnknownAction {
        /// Where.
        context: &'static str,
        /// As written.
        name: String,
        /// What was probably meant.
        meant: Option<&'static str>,
    },
    /// Something that is no table, list or text where one belongs.
    #[error("`{name}` must be {expected}, not {found}")]
    WrongType {
        /// Whose value it is.
        name: String,
        /// What belongs there.
        expected: &'static str,
        /// What stands there.
        found: &'static str,
    },
    /// A text that names no key.
    #[error("`{0}` is not a key that a terminal can send")]
    BadKey(String),
    /// A key that is bound to two actions at a time.
    #[error("the key `{key}` is bound to `{first}` and to `{second}`")]
    DuplicateKey {
        /// The key.
        key: String,
        /// One action.
        first: &'static str,
        /// The other action.
        second: &'static str,
    },
}

impl Problem for KeymapProblem {
    fn hint(&self) -> Option<String> {
        let meant = |meant: Option<&str>| meant.map(|name| format!("did you mean `{name}`?"));
        match self {
            Self::Syntax(_) => None,
            Self::UnknownContext { meant: likely, .. } => {
                meant(*likely).or_else(|| Some("the contexts are [global], [view] and [dialogue]".to_owned()))
            }
            Self::UnknownAction { meant: likely, .. } => {
                meant(*likely).or_else(|| Some("`howdah keymap` prints every action".to_owned()))
            }
            Self::WrongType { .. } => Some("write it like pause = [\"space\", \"p\"]".to_owned()),
            Self::BadKey(_) => Some(
                "write it like a, space, enter, esc, f1, up, hyphen or ctrl-c; `howdah keymap` has examples".into(),
            ),
            Self::DuplicateKey { second, .. } => Some(format!("give `{second}` another key, or none: {second} = []")),
        }
    }
}

/// An error in a keymap file.
pub type KeymapError = Located<KeymapProblem>;

/// Which key does what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keymap {
    /// The keys of each of [`BINDABLE`].
    keys: [Vec<KeyCombination>; BINDABLE_COUNT],
}

impl Keymap {
    /// The keys that are compiled in.
    ///
    /// # Panics
    /// If the compiled-in `keymap.toml` is wrong, which a test rules out.
    #[must_use]
    pub fn defaults() -> Self {
        match Self::empty().over(DEFAULTS_LABEL, DEFAULTS) {
            Ok(keymap) => keymap,
            Err(error) => panic!("the compiled-in keymap is wrong: {error}"),
        }
    }

    /// The defaults with a user's file over them. `user_file_label` is how messages name the file.
    ///
    /// # Errors
    /// [`KeymapError`] with the line, where the file is not TOML, names an unknown context or action, holds a text that
    /// is not a key, or binds a key twice.
    pub fn merged(user_file_label: &str, text: &str) -> Result<Self, KeymapError> {
        Self::defaults().over(user_file_label, text)
    }

    /// What `key` does in `context`.
    #[must_use]
    pub fn action(&self, context: Context, key: KeyCombination) -> Option<&'static Action> {
        self.bindings()
            .find(|(bindable, keys)| {
                (bindable.context == context || bindable.context == Context::Global) && keys.contains(&key)
            })
            .map(|(bindable, _)| &bindable.action)
    }

    /// The keys of one context, written out, each with what it does. Actions without a key are left out.
    pub fn help(&self, context: Context) -> impl Iterator<Item = (String, &'static str)> {
        self.bindings()
            .filter(move |(bindable, keys)| bindable.context == context && !keys.is_empty())
            .map(|(bindable, keys)| (keys.iter().map(|key| label(*key)).collect::<Vec<_>>().join(" "), bindable.about))
    }

    /// The first key of an action, written out.
    #[must_use]
    pub fn first_key(&self, action: &Action) -> Option<String> {
        self.bindings()
            .find(|(bindable, _)| bindable.action == *action)
            .and_then(|(_, keys)| keys.first())
            .map(|key| label(*key))
    }

    /// The keys in force, in the form of the file, with its comments.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut context = None;
        let mut lines: Vec<String> = Vec::new();
        for line in DEFAULTS.lines() {
            let heading = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
            context = heading.or(context);
            let binding = line.split_once(" = ").and_then(|(name, _)| {
                self.bindings().find(|(bindable, _)| bindable.name == name && Some(bindable.context.name()) == context)
            });
            lines.push(match binding {
                Some((bindable, keys)) => {
                    let keys = keys.iter().map(|key| toml::Value::from(spelling(*key)).to_string());
                    format!("{} = [{}]", bindable.name, keys.collect::<Vec<_>>().join(", "))
                }
                None => line.to_owned(),
            });
        }
        lines.push(String::new());
        lines.join("\n")
    }

    fn empty() -> Self {
        Self { keys: std::array::from_fn(|_| Vec::new()) }
    }

    fn bindings(&self) -> impl Iterator<Item = (&'static Bindable, &Vec<KeyCombination>)> {
        BINDABLE.iter().zip(&self.keys)
    }

    /// `self` with the bindings of `text` in the place of its own.
    fn over(mut self, label: &str, text: &str) -> Result<Self, KeymapError> {
        let wrong = |span: Range<usize>, problem| Located::new(problem, label, text, &span);
        let document = DeTable::parse(text).map_err(|error| {
            wrong(error.span().unwrap_or_default(), KeymapProblem::Syntax(error.message().to_owned()))
        })?;
        // The place of every key that this file binds, by the index of its action.
        let mut written: Vec<(usize, KeyCombination, Range<usize>)> = Vec::new();
        for (name, table) in document.get_ref() {
            let Some(context) = Context::ALL.into_iter().find(|context| *context.name() == **name.get_ref()) else {
                let meant = did_you_mean(name.get_ref(), Context::ALL.map(Context::name));
                let problem = KeymapProblem::UnknownContext { name: name.get_ref().to_string(), meant };
                return Err(wrong(name.span(), problem));
            };
            let DeValue::Table(actions) = table.get_ref() else {
                return Err(wrong(table.span(), wrong_type(context.name(), "a table", table)));
            };
            for (name, keys) in actions {
                let Some(index) = index_of(context, name.get_ref()) else {
                    let problem = KeymapProblem::UnknownAction {
                        context: context.name(),
                        name: name.get_ref().to_string(),
                        meant: did_you_mean(name.get_ref(), names_in(context)),
                    };
                    return Err(wrong(name.span(), problem));
                };
                self.keys[index].clear();
                for key in listed(keys) {
                    let DeValue::String(spelled) = key.get_ref() else {
                        return Err(wrong(key.span(), wrong_type(name.get_ref(), "a list of keys", key)));
                    };
                    let Some(combination) = parse(spelled) else {
                        return Err(wrong(key.span(), KeymapProblem::BadKey(spelled.to_string())));
                    };
                    self.keys[index].push(combination);
                    written.push((index, combination, key.span()));
                }
            }
        }
        match self.conflict(&written) {
            Some((span, problem)) => Err(wrong(span, problem)),
            None => Ok(self),
        }
    }

    /// The first of the keys just `written` that another binding takes as well.
    fn conflict(&self, written: &[(usize, KeyCombination, Range<usize>)]) -> Option<(Range<usize>, KeymapProblem)> {
        let mut in_order: Vec<_> = written.iter().collect();
        in_order.sort_by_key(|(_, _, span)| span.start);
        in_order.into_iter().rev().find_map(|(index, key, span)| {
            let own = &BINDABLE[*index];
            let other = self.bindings().enumerate().find_map(|(other, (bindable, keys))| {
                let times = keys.iter().filter(|bound| *bound == key).count();
                let meets = bindable.context.meets(own.context);
                (meets && times > usize::from(other == *index)).then_some(bindable)
            })?;
            let problem = KeymapProblem::DuplicateKey { key: spelling(*key), first: own.name, second: other.name };
            Some((span.clone(), problem))
        })
    }
}

/// One text, or every element of a list.
fn listed<'a, 'i>(value: &'a Spanned<DeValue<'i>>) -> Vec<&'a Spanned<DeValue<'i>>> {
    match value.get_ref() {
        DeValue::Array(keys) => keys.iter().collect(),
        _ => vec![value],
    }
}

fn wrong_type(name: &str, expected: &'static str, found: &Spanned<DeValue<'_>>) -> KeymapProblem {
    KeymapProblem::WrongType { name: name.to_owned(), expected, found: found.get_ref().type_str() }
}

fn index_of(context: Context, name: &str) -> Option<usize> {
    BINDABLE.iter().position(|bindable| bindable.context == context && bindable.name == name)
}

fn names_in(context: Context) -> impl Iterator<Item = &'static str> {
    BINDABLE.iter().filter(move |bindable| bindable.context == context).map(|bindable| bindable.name)
}

/// Reads a key. A capital letter means the letter with shift, as it does on the keyboard.
fn parse(text: &str) -> Option<KeyCombination> {
    let with_shift;
    let text = match text.as_bytes() {
        [letter] if letter.is_ascii_uppercase() => {
            with_shift = format!("shift-{text}");
            with_shift.as_str()
        }
        _ => text,
    };
    // Keys held together reach a program only by a protocol that few terminals speak.
    crokey::parse(text).ok().filter(|key| key.is_ansi_compatible())
}

/// The key as the file spells it.
fn spelling(key: KeyCombination) -> String {
    key.to_string().to_lowercase()
}

/// The key as the screen shows it.
fn label(key: KeyCombination) -> String {
    let spelled = spelling(key);
    match spelled.strip_suffix("hyphen") {
        Some(modifiers) => format!("{modifiers}-"),
        None => spelled,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> KeyCombination {
        parse(text).unwrap()
    }

    #[test]
    fn the_compiled_in_file_binds_every_action() {
        let keymap = Keymap::defaults();
        for (bindable, keys) in keymap.bindings() {
            assert!(!keys.is_empty(), "{} has no key", bindable.name);
        }
        assert_eq!(keymap.to_toml(), DEFAULTS);
    }

    #[test]
    fn a_user_file_replaces_the_keys_of_the_actions_that_it_names() {
        let keymap = Keymap::merged("mine", "[view]\npause = \"x\"\nquit = [\"Q\"]\n").unwrap();
        assert_eq!(keymap.action(Context::View, key("x")), Some(&Action::TogglePause));
        assert_eq!(keymap.action(Context::View, key("space")), None);
        assert_eq!(keymap.action(Context::View, key("shift-q")), Some(&Action::Quit));
        assert_eq!(keymap.action(Context::View, key("?")), Some(&Action::Help));
        assert_eq!(keymap.action(Context::Dialogue, key("x")), None);
        let again = Keymap::merged("printed", &keymap.to_toml()).unwrap();
        assert_eq!(again, keymap);
    }

    #[test]
    fn two_actions_may_trade_their_keys() {
        let keymap = Keymap::merged("mine", "[view]\npause = [\"q\"]\nquit = [\"space\"]\n").unwrap();
        assert_eq!(keymap.action(Context::View, key("q")), Some(&Action::TogglePause));
        assert_eq!(keymap.first_key(&Action::Quit).as_deref(), Some("space"));
    }

    #[test]
    fn what_is_wrong_in_a_user_file_is_refused_with_its_line() {
        let table = [
            ("[view]\npause = [", 2, "", None),
            ("[veiw]\n", 1, "there is no context `veiw`", Some("did you mean `view`?")),
            ("[view]\n\npuase = []\n", 3, "there is no action `puase` in [view]", Some("did you mean `pause`?")),
            ("[view]\npause = [\"spce\"]\n", 2, "`spce` is not a key that a terminal can send", None),
            ("[view]\npause = [\"a-b\"]\n", 2, "`a-b` is not a key that a terminal can send", None),
            ("[view]\npause = 7\n", 2, "`pause` must be a list of keys, not integer", None),
            ("view = 7\n", 1, "`view` must be a table, not integer", None),
            ("[view]\npause = [\"q\"]\n", 2, "the key `q` is bound to `pause` and to `quit`", None),
            ("[view]\npause = [\"?\"]\n", 2, "the key `?` is bound to `pause` and to `help`", None),
            ("[view]\npause = [\"x\", \"x\"]\n", 2, "the key `x` is bound to `pause` and to `pause`", None),
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
    fn an_error_carries_the_file_the_line_and_carets() {
        let error = Keymap::merged("mine.toml", "[view]\npause = [\"spce\"]\n").unwrap_err();
        let expected =
            "mine.toml:2:10: `spce` is not a key that a terminal can send\n2 | pause = [\"spce\"]\n  |          ^^^^^^";
        assert!(error.to_string().starts_with(expected), "{error}");
    }

    #[test]
    fn brackets_are_written_read_and_pressed_as_they_are() {
        let keymap = Keymap::defaults();
        for (sign, action) in [(']', Action::MoreWorkers), ('[', Action::FewerWorkers)] {
            let pressed = KeyCombination::from(crossterm::event::KeyCode::Char(sign));
            assert_eq!(keymap.action(Context::View, pressed), Some(&action));
            assert_eq!(keymap.first_key(&action), Some(sign.to_string()));
        }
        let traded = Keymap::merged("mine", "[view]\nmore-workers = \"[\"\nfewer-workers = [\"]\"]\n").unwrap();
        assert_eq!(Keymap::merged("printed", &traded.to_toml()).unwrap(), traded);
    }

    #[test]
    fn keys_are_shown_as_people_call_them() {
        let keymap = Keymap::defaults();
        assert_eq!(keymap.first_key(&Action::ShorterBatches).as_deref(), Some("-"));
        assert_eq!(keymap.first_key(&Action::Interrupt).as_deref(), Some("ctrl-c"));
        let view: Vec<_> = keymap.help(Context::View).collect();
        assert_eq!(view[0].0, "space p");
    }
}
