//! Which key does what: `keymap.toml`, compiled in, with the user's file merged over it.
//!
//! A binding is an action in a [`Context`] with its keys. No key means two things at a time: what could is refused. No layer
//! hides another one but that of the queue: in its view, its keys come before those that steer a run.

mod actions;
mod context;
mod problem;
mod reading;
mod sequence;
#[cfg(test)]
mod tests;

use crokey::KeyCombination;

use super::action::Action;

pub use actions::{BINDABLE, Bindable};
pub use context::Context;
pub use problem::{KeymapError, KeymapProblem};
pub use sequence::Sequence;
pub(crate) use sequence::{is_text, pending};

/// The default keys. The file's comments are its documentation.
const DEFAULTS: &str = include_str!("../../../keymap.toml");
const DEFAULTS_LABEL: &str = "keymap.toml";

/// An action with its keys in one context. No keys: it has none there.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Binding {
    context: Context,
    /// The index in [`BINDABLE`].
    action: usize,
    keys: Vec<Sequence>,
}

impl Binding {
    fn bindable(&self) -> &'static Bindable {
        &BINDABLE[self.action]
    }
}

/// Which key does what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keymap {
    /// In the order of contexts, and of [`BINDABLE`] in each.
    bindings: Vec<Binding>,
}

/// What keys that were pressed one after the other mean.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Meaning {
    /// All of a sequence.
    Action(&'static Action),
    /// The beginning of one.
    Prefix,
    /// Nothing.
    Nothing,
}

/// A line of the help.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HelpLine {
    /// The keys, written out.
    pub keys: String,
    /// The action's name in the file.
    pub name: &'static str,
    /// What it does.
    pub about: &'static str,
}

impl Keymap {
    /// The keys that are compiled in.
    ///
    /// # Panics
    /// If the compiled-in `keymap.toml` is wrong, which a test rules out.
    #[must_use]
    pub fn defaults() -> Self {
        match (Self { bindings: Vec::new() }).over(DEFAULTS_LABEL, DEFAULTS) {
            (keymap, mistakes) if mistakes.is_empty() => keymap,
            (_, mistakes) => panic!("the compiled-in keymap is wrong: {mistakes:?}"),
        }
    }

    /// The defaults with a user's file over them. `user_file_label` is how messages name the file.
    ///
    /// # Errors
    /// [`KeymapError`] with the line, where the file is not TOML, names an unknown context or action, holds a text that
    /// is not a key, or binds a key twice. Of several mistakes, the first.
    pub fn merged(user_file_label: &str, text: &str) -> Result<Self, KeymapError> {
        let (keymap, mistakes) = Self::defaults().over(user_file_label, text);
        mistakes.into_iter().next().map_or(Ok(keymap), Err)
    }

    /// Every mistake of a user's file, in the order of its lines. None: it is fine.
    #[must_use]
    pub fn check(user_file_label: &str, text: &str) -> Vec<KeymapError> {
        Self::defaults().over(user_file_label, text).1
    }

    /// What keys mean that were pressed one after the other, in `layers`, the nearest first.
    #[must_use]
    pub fn meaning(&self, layers: &[Context], pressed: &[KeyCombination]) -> Meaning {
        for layer in layers {
            let mut found = Meaning::Nothing;
            for binding in self.bindings.iter().filter(|binding| binding.context == *layer) {
                for keys in &binding.keys {
                    if keys.is(pressed) {
                        return Meaning::Action(&binding.bindable().action);
                    }
                    if keys.begins_with(pressed) {
                        found = Meaning::Prefix;
                    }
                }
            }
            // A layer further off could only mean something that this one hides.
            if found != Meaning::Nothing {
                return found;
            }
        }
        Meaning::Nothing
    }

    /// The keys of one context, written out, each with what it does. Actions without a key are left out.
    pub fn help(&self, context: Context) -> impl Iterator<Item = HelpLine> {
        self.bindings.iter().filter(move |binding| binding.context == context && !binding.keys.is_empty()).map(
            |binding| {
                let Bindable { name, about, .. } = *binding.bindable();
                let keys = binding.keys.iter().map(Sequence::label).collect::<Vec<_>>().join("  ");
                HelpLine { keys, name, about }
            },
        )
    }

    /// The first key of an action, written out, in whichever context has one.
    #[must_use]
    pub fn first_key(&self, action: &Action) -> Option<String> {
        Context::ALL.iter().find_map(|layer| self.keys_in(*layer, action).next()).map(Sequence::label)
    }

    /// The first key of an action in `layers`, written out; of the nearest layer that has one. None that is hidden.
    #[must_use]
    pub fn key_in(&self, layers: &[Context], action: &Action) -> Option<String> {
        let reaches = |keys: &&Sequence| matches!(self.meaning(layers, keys.pressed()), Meaning::Action(found) if found == action);
        layers.iter().find_map(|layer| self.keys_in(*layer, action).find(reaches)).map(Sequence::label)
    }

    fn keys_in(&self, layer: Context, action: &Action) -> impl Iterator<Item = &Sequence> {
        let own = self.bindings.iter().filter(move |binding| binding.context == layer);
        own.filter(move |binding| binding.bindable().action == *action).flat_map(|binding| &binding.keys)
    }

    /// The keys in force, in the form of the file, with its comments.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let default_lines: Vec<(&str, Option<Context>, Option<usize>)> = annotated(DEFAULTS);
        let mut lines: Vec<String> = Vec::new();
        for (at, (line, context, binding)) in default_lines.iter().enumerate() {
            lines.push(match (context, binding) {
                (Some(context), Some(action)) => match self.binding(*context, *action) {
                    Some(binding) => written(binding),
                    None => (*line).to_owned(),
                },
                _ => (*line).to_owned(),
            });
            // What the user's file has bound in a context beside the defaults stands below them.
            let Some(context) = *context else { continue };
            let is_line = |line: &(&str, Option<Context>, Option<usize>)| {
                line.1 == Some(context) && (line.2.is_some() || line.0.starts_with('['))
            };
            if is_line(&default_lines[at]) && !default_lines[at + 1..].iter().any(is_line) {
                let has_default =
                    |action| default_lines.iter().any(|line| (line.1, line.2) == (Some(context), Some(action)));
                let more = self.bindings.iter().filter(|binding| binding.context == context);
                lines.extend(more.filter(|binding| !has_default(binding.action)).map(written));
            }
        }
        lines.push(String::new());
        lines.join("\n")
    }

    fn binding(&self, context: Context, action: usize) -> Option<&Binding> {
        self.bindings.iter().find(|binding| binding.context == context && binding.action == action)
    }
}

/// The lines of a keymap file, each with the context that it stands in, and with the action that it binds.
fn annotated(text: &str) -> Vec<(&str, Option<Context>, Option<usize>)> {
    let mut context = None;
    let lines = text.lines().map(|line| {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            context = Context::ALL.into_iter().find(|context| context.name() == name);
        }
        let action = line.split_once(" = ").and_then(|(name, _)| reading::index_of(name));
        (line, context, action)
    });
    lines.collect()
}

fn written(binding: &Binding) -> String {
    let keys = binding.keys.iter().map(|keys| toml::Value::from(keys.spelling()).to_string());
    format!("{} = [{}]", binding.bindable().name, keys.collect::<Vec<_>>().join(", "))
}
