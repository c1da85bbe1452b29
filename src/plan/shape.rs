//! Which keys a plan has, and of what type: everything that can be told before a value is looked at.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::Problem;
use super::format::{Key, Kind, STEP, Shape, TABLES, TOP, Table};
use super::mistake::Mistake;

/// Looks at the whole tree; nothing found means that the values can be taken.
pub(super) fn problems(root: &DeTable<'_>) -> Vec<Problem> {
    let mut found = Vec::new();
    table(&TOP, root, &mut found);
    if found.is_empty() && !root.contains_key("step") {
        found.push(Problem::new(0..0, Mistake::NoSteps));
    }
    found
}

fn table(format: &'static Table, entries: &DeTable<'_>, found: &mut Vec<Problem>) {
    for (name, value) in entries {
        let text: &str = name.get_ref();
        match format.key(text) {
            Some(key) => typed(format, key, value, found),
            None => found.push(Problem::new(name.span(), unknown(format, text))),
        }
    }
}

fn typed(format: &Table, key: &Key, value: &Spanned<DeValue<'_>>, found: &mut Vec<Problem>) {
    match (key.shape, value.get_ref()) {
        (
            Shape::Text | Shape::TextOrOff | Shape::Texts | Shape::TextOrTable(_) | Shape::Signal(_),
            DeValue::String(_),
        )
        | (Shape::Number, DeValue::Float(_))
        | (Shape::Amount, DeValue::String(_) | DeValue::Float(_))
        | (Shape::Truth, DeValue::Boolean(_))
        | (Shape::Answer, DeValue::String(_) | DeValue::Boolean(_)) => {}
        (shape, DeValue::Integer(number)) if shape.takes_integers() => {
            if i64::from_str_radix(number.as_str(), number.radix()).is_err() {
                found.push(Problem::new(value.span(), too_large(format.full_name(key.name), number.to_string())));
            }
        }
        (Shape::Answer, DeValue::Float(number)) => {
            found.push(Problem::new(value.span(), Mistake::InexactExpectation(number.to_string())));
        }
        (Shape::Columns, DeValue::Table(entries)) => columns(key, "an SQL expression in quotes", entries, found),
        (Shape::Pairs, DeValue::Table(entries)) => columns(key, "a string", entries, found),
        (Shape::Answers, DeValue::Table(entries)) => answers(key, entries, found),
        (Shape::Table(inner) | Shape::TextOrTable(inner) | Shape::Signal(inner), DeValue::Table(entries)) => {
            table(inner, entries, found);
        }
        (Shape::Named(inner), DeValue::Table(entries)) => named(key, inner, entries, found),
        (Shape::Steps(_), DeValue::Array(items)) if items.is_empty() => {
            found.push(Problem::new(value.span(), Mistake::NoSteps));
        }
        (Shape::Texts | Shape::Tables(_) | Shape::Steps(_), DeValue::Array(items)) => {
            for item in items {
                one_of_list(format, key, item, found);
            }
        }
        (shape, other) => {
            let mistake = wrong_type(format.full_name(key.name), shape.wanted(), other, key);
            found.push(Problem::new(value.span(), mistake));
        }
    }
}

fn one_of_list(format: &Table, key: &Key, item: &Spanned<DeValue<'_>>, found: &mut Vec<Problem>) {
    let wanted = match (key.shape, item.get_ref()) {
        (Shape::Steps(inner), DeValue::Table(entries)) => return step(inner, item.span(), entries, found),
        (Shape::Tables(inner), DeValue::Table(entries)) => return table(inner, entries, found),
        (Shape::Texts, DeValue::String(_)) => return,
        (Shape::Texts, _) => "a list of strings",
        _ => "a table",
    };
    found.push(Problem::new(item.span(), wrong_type(format.full_name(key.name), wanted, item.get_ref(), key)));
}

/// Tables under names of one's own, such as `[cache.countries]`.
fn named(key: &Key, inner: &'static Table, entries: &DeTable<'_>, found: &mut Vec<Problem>) {
    for (name, value) in entries {
        match value.get_ref() {
            DeValue::Table(entries) => table(inner, entries, found),
            other => {
                let mistake = wrong_type(format!("{}.{}", key.name, name.get_ref()), "a table", other, key);
                found.push(Problem::new(value.span(), mistake));
            }
        }
    }
}

fn columns(key: &Key, wanted: &'static str, entries: &DeTable<'_>, found: &mut Vec<Problem>) {
    for (name, value) in entries {
        if !value.get_ref().is_str() {
            let column = format!("{}.{}", key.name, name.get_ref());
            let mistake = wrong_type(column, wanted, value.get_ref(), key);
            found.push(Problem::new(value.span(), mistake));
        }
    }
}

/// Values under names of one's own, such as the storage parameters of an index.
fn answers(key: &Key, entries: &DeTable<'_>, found: &mut Vec<Problem>) {
    for (name, value) in entries {
        let full_name = format!("{}.{}", key.name, name.get_ref());
        match value.get_ref() {
            DeValue::String(_) | DeValue::Boolean(_) => {}
            DeValue::Integer(number) => {
                if i64::from_str_radix(number.as_str(), number.radix()).is_err() {
                    found.push(Problem::new(value.span(), too_large(full_name, number.to_string())));
                }
            }
            other => {
                let mistake = wrong_type(full_name, Shape::Answer.wanted(), other, key);
                found.push(Problem::new(value.span(), mistake));
            }
        }
    }
}

fn step(format: &'static Table, header: Range<usize>, entries: &DeTable<'_>, found: &mut Vec<Problem>) {
    let before = found.len();
    table(format, entries, found);
    let has_unknown = found[before..].iter().any(|problem| matches!(problem.mistake, Mistake::UnknownKey { .. }));
    let mut kinds: Vec<(Kind, Range<usize>)> =
        Kind::ALL.iter().filter_map(|kind| Some((*kind, entries.get_key_value(kind.key())?.0.span()))).collect();
    // `verify` also says how a copy compares.
    if kinds.iter().any(|(kind, _)| *kind == Kind::Copy) {
        kinds.retain(|(kind, _)| *kind != Kind::Verify);
    }
    kinds.sort_by_key(|(_, span)| span.start);
    match kinds.as_slice() {
        // A misspelt kind is enough said.
        [] if has_unknown => {}
        [] => found.push(Problem::new(header, Mistake::NoKind)),
        [(kind, _)] => misplaced(format, *kind, entries, found),
        [(first, _), (second, span), ..] => {
            let mistake = Mistake::TwoKinds { first: first.with_article(), second: second.with_article() };
            found.push(Problem::new(span.clone(), mistake));
        }
    }
}

fn misplaced(format: &Table, kind: Kind, entries: &DeTable<'_>, found: &mut Vec<Problem>) {
    for name in entries.keys() {
        let Some(key) = format.key(name.get_ref()) else { continue };
        if !key.kinds.is_empty() && !key.kinds.contains(&kind) {
            let owners: Vec<&str> = key.kinds.iter().map(|kind| kind.with_article()).collect();
            let (key, owners) = (key.name.to_owned(), owners.join(" or "));
            found.push(Problem::new(name.span(), Mistake::Misplaced { key, owners, kind: kind.with_article() }));
        }
    }
}

fn wrong_type(key: String, wanted: &'static str, value: &DeValue<'_>, format: &Key) -> Mistake {
    let found = match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or a time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    Mistake::WrongType { key, wanted, found, advice: format!("write it like `{}`", format.example) }
}

fn too_large(key: String, value: String) -> Mistake {
    Mistake::OutOfRange { key, value, least: i64::MIN.to_string(), most: i64::MAX.to_string() }
}

fn unknown(format: &Table, name: &str) -> Mistake {
    Mistake::UnknownKey { key: name.to_owned(), place: format.place(), advice: advice(format, name) }
}

/// The nearest key of the same table; else where the key does belong; else what there is.
fn advice(format: &Table, name: &str) -> String {
    let known = || format.keys.iter().map(|key| key.name);
    let distance = |key: &str| strsim::damerau_levenshtein(key, &name.to_lowercase());
    if let Some(nearest) = known().min_by_key(|key| distance(key))
        && distance(nearest) <= 1 + name.chars().count() / 4
    {
        return format!("did you mean `{nearest}`?");
    }
    if let Some(home) = TABLES.iter().find(|table| table.key(name).is_some()) {
        return match home.path {
            "" => format!("`{name}` belongs at the top of the plan, before the first `[table]`"),
            path if path == STEP.path => format!("`{name}` belongs in a `[[step]]`"),
            _ => format!("`{name}` belongs in `{}`", home.header()),
        };
    }
    let known: Vec<String> = known().map(|key| format!("`{key}`")).collect();
    format!("remove it; the keys here are {}", known.join(", "))
}
