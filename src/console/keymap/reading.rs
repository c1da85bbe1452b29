//! A keymap file, read over the keys that hold without it.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::super::config_error::{Located, did_you_mean};
use super::actions::{BINDABLE, FIRST};
use super::context::Context;
use super::problem::{KeymapError, KeymapProblem};
use super::sequence::Sequence;
use super::{Binding, Keymap};

/// A key of the file that is read: whose it is, and where it stands.
struct Written {
    context: Context,
    action: usize,
    keys: Sequence,
    span: Range<usize>,
}

impl Written {
    fn is_of(&self, binding: &Binding) -> bool {
        self.context == binding.context && self.action == binding.action
    }
}

impl Keymap {
    /// `self` with the bindings of `text` in the place of its own, and everything that is wrong in `text`, in the order of
    /// its lines.
    pub(super) fn over(mut self, label: &str, text: &str) -> (Self, Vec<KeymapError>) {
        let mut mistakes: Vec<(Range<usize>, KeymapProblem)> = Vec::new();
        match DeTable::parse(text) {
            Ok(document) => {
                let written = self.read(document.get_ref(), &mut mistakes);
                self.bindings.sort_by_key(|binding| (binding.context, binding.action));
                self.give_way(&written);
                self.conflicts(&written, &mut mistakes);
            }
            Err(error) => {
                let problem = KeymapProblem::Syntax(error.message().to_owned());
                mistakes.push((error.span().unwrap_or_default(), problem));
            }
        }
        mistakes.sort_by_key(|(span, _)| span.start);
        let located = mistakes.into_iter().map(|(span, problem)| Located::new(problem, label, text, &span));
        (self, located.collect())
    }

    /// Takes in the bindings of a file, and says which keys they are, in the order of its lines.
    fn read(&mut self, document: &DeTable<'_>, mistakes: &mut Vec<(Range<usize>, KeymapProblem)>) -> Vec<Written> {
        let mut written = Vec::new();
        for (name, table) in document {
            let Some(context) = Context::ALL.into_iter().find(|context| *context.name() == **name.get_ref()) else {
                let meant = did_you_mean(name.get_ref(), Context::ALL.map(Context::name));
                let name_written = name.get_ref().to_string();
                mistakes.push((name.span(), KeymapProblem::UnknownContext { name: name_written, meant }));
                continue;
            };
            let DeValue::Table(actions) = table.get_ref() else {
                mistakes.push((table.span(), wrong_type(context.name(), "a table", table)));
                continue;
            };
            for (name, value) in actions {
                let action = match action_in(context, name.get_ref()) {
                    Ok(action) => action,
                    Err(problem) => {
                        mistakes.push((name.span(), problem));
                        continue;
                    }
                };
                let mut keys = Vec::new();
                for key in listed(value) {
                    match key_in(context, name.get_ref(), key) {
                        Ok(sequence) => {
                            keys.push(sequence.clone());
                            written.push(Written { context, action, keys: sequence, span: key.span() });
                        }
                        Err(problem) => mistakes.push((key.span(), problem)),
                    }
                }
                self.bindings.retain(|binding| (binding.context, binding.action) != (context, action));
                self.bindings.push(Binding { context, action, keys });
            }
        }
        written.sort_by_key(|key| key.span.start);
        written
    }

    /// Defaults that are younger than a user's file may be give way to its keys.
    fn give_way(&mut self, written: &[Written]) {
        for binding in &mut self.bindings {
            let is_old = FIRST.contains(&(binding.context, BINDABLE[binding.action].name));
            if is_old || written.iter().any(|key| key.is_of(binding)) {
                continue;
            }
            let context = binding.context;
            let taken =
                |keys: &Sequence| written.iter().any(|key| key.context.meets(context) && key.keys.clashes(keys));
            binding.keys.retain(|keys| !taken(keys));
        }
    }

    /// Every key of the file that something else takes as well: of two in the file, the later one.
    fn conflicts(&self, written: &[Written], mistakes: &mut Vec<(Range<usize>, KeymapProblem)>) {
        for (at, key) in written.iter().enumerate() {
            let clashes = |context: Context, keys: &Sequence| key.context.meets(context) && key.keys.clashes(keys);
            let earlier = written[..at]
                .iter()
                .find(|earlier| clashes(earlier.context, &earlier.keys))
                .map(|earlier| (earlier.context, earlier.action, &earlier.keys));
            let of_defaults = || {
                let kept = self.bindings.iter().filter(|binding| !written.iter().any(|key| key.is_of(binding)));
                kept.flat_map(|binding| binding.keys.iter().map(move |keys| (binding.context, binding.action, keys)))
                    .find(|(context, _, keys)| clashes(*context, keys))
            };
            let Some((context, other, keys)) = earlier.or_else(of_defaults) else { continue };
            let [own, other] = [key.action, other].map(|action| BINDABLE[action].name);
            let problem = if key.keys == *keys {
                // The hint speaks of the second one.
                let [first, second] = if earlier.is_some() { [other, own] } else { [own, other] };
                let context = if earlier.is_some() { key.context } else { context };
                KeymapProblem::DuplicateKey { key: keys.spelling(), first, second, context: context.name() }
            } else {
                let [mut short, mut long] = [(key.keys.spelling(), own), (keys.spelling(), other)];
                if short.0.len() > long.0.len() {
                    std::mem::swap(&mut short, &mut long);
                }
                KeymapProblem::Prefix { short: short.0, shorter: short.1, long: long.0, longer: long.1 }
            };
            mistakes.push((key.span.clone(), problem));
        }
    }
}

/// The action of this name, in the index of [`BINDABLE`].
pub(super) fn index_of(name: &str) -> Option<usize> {
    BINDABLE.iter().position(|bindable| bindable.name == name)
}

fn action_in(context: Context, name: &str) -> Result<usize, KeymapProblem> {
    let Some(action) = index_of(name) else {
        let known = BINDABLE.iter().filter(|bindable| bindable.contexts.contains(&context));
        let meant = did_you_mean(name, known.map(|bindable| bindable.name));
        return Err(KeymapProblem::UnknownAction { context: context.name(), name: name.to_owned(), meant });
    };
    let bindable = &BINDABLE[action];
    if bindable.contexts.contains(&context) {
        return Ok(action);
    }
    let belongs: Vec<_> = bindable.contexts.iter().map(|context| format!("[{}]", context.name())).collect();
    Err(KeymapProblem::OutOfPlace { context: context.name(), name: bindable.name, belongs: belongs.join(" ") })
}

fn key_in(context: Context, name: &str, key: &Spanned<DeValue<'_>>) -> Result<Sequence, KeymapProblem> {
    let DeValue::String(spelled) = key.get_ref() else {
        return Err(wrong_type(name, "a list of keys", key));
    };
    match Sequence::parse(spelled) {
        None => Err(KeymapProblem::BadKey(spelled.to_string())),
        Some(keys) if context == Context::Prompt && keys.begins_with_text() => {
            Err(KeymapProblem::Text(spelled.to_string()))
        }
        Some(keys) => Ok(keys),
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
