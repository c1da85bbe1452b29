//! Steps that look after indexes and statistics: `index`, `reindex`, `analyze`.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use super::mistake::Mistake;
use super::model::Sql;
use super::raw::{Located, RawExpected, RawIndex, RawStep, Text};
use super::raw_value::{RawReindex, RawTexts};
use super::values::{LONGEST_TIMEOUT, Reader};

/// `index = { on = "users (email)" }`: an index that is there when the step has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// `on`: the table and what is indexed.
    pub on: TableAndList,
    /// `name`, as it is written in SQL. `None`: made of the table and its columns.
    pub name: Option<Sql>,
    /// `unique`. Default: false.
    pub unique: bool,
    /// `method`. `None`: the server's, which is `btree`.
    pub method: Option<Sql>,
    /// `include`: columns that are kept in the index beside its key.
    pub include: Vec<Sql>,
    /// `where`: the rows that are indexed.
    pub filter: Option<Sql>,
    /// `with`: storage parameters and their values as in SQL, in alphabetical order.
    pub with: Vec<(String, String)>,
    /// `tablespace`.
    pub tablespace: Option<Sql>,
    /// `during`: it is dropped once the plan has succeeded. Default: false.
    pub during: bool,
    /// `timeout`: the longest that a build may take. Default: as long as it takes.
    pub timeout: Option<Duration>,
}

/// `reindex = "users_email"`: indexes that are built anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reindex {
    /// Of what.
    pub what: Rebuilt,
    /// `timeout`: the longest that it may take. Default: as long as it takes.
    pub timeout: Option<Duration>,
}

/// What is built anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rebuilt {
    /// One index, as it is written in SQL.
    Index(Sql),
    /// All indexes of a table, as it is written in SQL.
    Table(Sql),
}

impl Rebuilt {
    /// The name, as it is written in SQL.
    #[must_use]
    pub fn name(&self) -> &Sql {
        match self {
            Self::Index(name) | Self::Table(name) => name,
        }
    }

    /// The word for it in SQL and in messages.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Index(_) => "index",
            Self::Table(_) => "table",
        }
    }
}

/// `analyze = "users"`: tables whose statistics are gathered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Analyze {
    /// The tables, in the plan's order; at least one.
    pub tables: Vec<TableAndList>,
    /// `timeout`: the longest that each table may take. Default: as long as it takes.
    pub timeout: Option<Duration>,
}

/// `users (email, id)`: a table, and what stands behind it in parentheses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableAndList {
    /// The whole, as it is written.
    pub written: Sql,
    /// Where the table is in it, in bytes.
    pub table: Range<usize>,
    /// Where the list is in it, in bytes, without the parentheses. `None`: there is none.
    pub list: Option<Range<usize>>,
}

impl TableAndList {
    /// The table, as it is written in SQL.
    #[must_use]
    pub fn table(&self) -> &str {
        &self.written.text[self.table.clone()]
    }

    /// What stands in the parentheses; nothing where there are none.
    #[must_use]
    pub fn list(&self) -> &str {
        self.list.clone().map_or("", |list| &self.written.text[list])
    }
}

/// What only these steps can have wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum IndexMistake {
    #[error("`on` names a table and its columns in parentheses, as in SQL, and nothing else")]
    On,
    #[error("`{0}` is not a storage parameter")]
    Parameter(String),
    #[error("`analyze` names a table, with or without columns in parentheses, as in SQL")]
    Analyzed,
}

impl IndexMistake {
    /// What to write instead; names the key.
    pub(super) fn hint(&self) -> &'static str {
        match self {
            Self::On => {
                "write it like `on = \"users (lower(email), id DESC)\"`; `where`, `include`, `with` and `method` are keys of their own"
            }
            Self::Parameter(_) => "write it like `with = { fillfactor = 90 }`",
            Self::Analyzed => "write it like `analyze = [\"users\", \"orders (customer, placed_at)\"]`",
        }
    }
}

pub(super) fn index(reader: &mut Reader<'_>, raw: Located<RawIndex>, step: RawStep) -> Option<Index> {
    let Located { value: raw, span: place } = raw;
    let timeout = timeout(reader, step.timeout);
    let mut one = |key: &'static str, field: Option<Text>| field.and_then(|field| reader.text(key, field));
    let name = one("index.name", raw.name);
    let method = one("index.method", raw.method);
    let filter = one("index.where", raw.filter);
    let tablespace = one("index.tablespace", raw.tablespace);
    let include = match raw.include {
        Some(include) => list(reader, "index.include", include),
        None => Vec::new(),
    };
    let with = raw.with.map(|with| parameters(reader, with.value)).unwrap_or_default();
    let Some(on) = raw.on else {
        reader.report(place, Mistake::lacks("an index", "`on`", "on = \"users (email)\""));
        return None;
    };
    let on = reader.text("index.on", on)?;
    let place = on.span.clone();
    let Some(on) = table_and_list(on).filter(|on| on.list.is_some()) else {
        reader.report(place, Mistake::Index(IndexMistake::On));
        return None;
    };
    let is_set = |field: Option<Located<bool>>| field.is_some_and(|field| field.value);
    Some(Index {
        on,
        name,
        unique: is_set(raw.unique),
        method,
        include,
        filter,
        with,
        tablespace,
        during: is_set(raw.during),
        timeout,
    })
}

pub(super) fn reindex(reader: &mut Reader<'_>, raw: Located<RawReindex>, step: RawStep) -> Option<Reindex> {
    let Located { value, span } = raw;
    let timeout = timeout(reader, step.timeout);
    let what = match value {
        RawReindex::Index(value) => Rebuilt::Index(reader.text("reindex", Text { value, span })?),
        RawReindex::Of(of) => match (of.index, of.table) {
            (Some(index), None) => Rebuilt::Index(reader.text("reindex.index", index)?),
            (None, Some(table)) => Rebuilt::Table(reader.text("reindex.table", table)?),
            (Some(_), Some(table)) => {
                reader.report(table.span, Mistake::apart("table", "`index`", "write a step for each"));
                return None;
            }
            (None, None) => {
                let example = "index = \"users_email\"` or `table = \"users\"";
                reader.report(span, Mistake::lacks("a reindex", "something to build anew", example));
                return None;
            }
        },
    };
    Some(Reindex { what, timeout })
}

pub(super) fn analyze(reader: &mut Reader<'_>, raw: Located<RawTexts>, step: RawStep) -> Option<Analyze> {
    let timeout = timeout(reader, step.timeout);
    let mut tables = Vec::new();
    for written in list(reader, "analyze", raw) {
        let place = written.span.clone();
        match table_and_list(written) {
            Some(table) => tables.push(table),
            None => reader.report(place, Mistake::Index(IndexMistake::Analyzed)),
        }
    }
    (!tables.is_empty()).then_some(Analyze { tables, timeout })
}

fn timeout(reader: &mut Reader<'_>, field: Option<Text>) -> Option<Duration> {
    reader.duration("timeout", field, LONGEST_TIMEOUT).map(|timeout| timeout.value)
}

/// Texts that are not empty, at least one.
fn list(reader: &mut Reader<'_>, key: &'static str, field: Located<RawTexts>) -> Vec<Sql> {
    let place = field.span.clone();
    let texts = RawTexts::into_list(field);
    if texts.is_empty() {
        let advice = "name at least one, or remove it".to_owned();
        reader.report(place, Mistake::Empty { key: key.to_owned(), advice });
    }
    texts.into_iter().filter_map(|text| reader.text(key, text)).collect()
}

/// Storage parameters as SQL writes them. A name that is not a plain word is refused: it stands in the statement as it is.
fn parameters(reader: &mut Reader<'_>, raw: BTreeMap<String, Located<RawExpected>>) -> Vec<(String, String)> {
    let mut parameters = Vec::new();
    for (name, Located { value, span }) in raw {
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.')) {
            reader.report(span, Mistake::Index(IndexMistake::Parameter(name)));
            continue;
        }
        let value = match value {
            RawExpected::Integer(number) => number.to_string(),
            RawExpected::Boolean(truth) => truth.to_string(),
            RawExpected::Text(text) => match reader.possibly_empty(&Text { value: text, span }) {
                Some(text) => format!("'{}'", text.replace('\'', "''")),
                None => continue,
            },
        };
        parameters.push((name.to_ascii_lowercase(), value));
    }
    parameters
}

/// Cuts `users (email, id)` into the table and what stands in the parentheses. `None` where they do not close, hold nothing,
/// or are followed by anything.
fn table_and_list(written: Sql) -> Option<TableAndList> {
    let (table, list) = cut(&written.text)?;
    let trimmed = |range: Range<usize>| {
        let text = &written.text[range.clone()];
        let start = range.start + (text.len() - text.trim_start().len());
        start..start + text.trim().len()
    };
    let (table, list) = (trimmed(table), list.map(trimmed));
    Some(TableAndList { written, table, list })
}

fn cut(text: &str) -> Option<(Range<usize>, Option<Range<usize>>)> {
    let (mut depth, mut opened, mut closed, mut quote) = (0_usize, None, None, None);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            _ if closed.is_some() && !c.is_whitespace() => return None,
            (None, '"' | '\'') => quote = Some(c),
            (None, '(') => {
                opened = opened.or(Some(at));
                depth += 1;
            }
            (None, ')') => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    closed = Some(at);
                }
            }
            (None, _) => {}
        }
    }
    let is_blank = |range: &Range<usize>| text[range.clone()].trim().is_empty();
    let cut = match (opened, closed) {
        _ if quote.is_some() => return None,
        (None, None) => (0..text.len(), None),
        (Some(opened), Some(closed)) => (0..opened, Some(opened + 1..closed)),
        _ => return None,
    };
    (!is_blank(&cut.0) && !cut.1.as_ref().is_some_and(is_blank)).then_some(cut)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::StepKind;
    use crate::plan::tests::load;
    use proptest::prelude::*;

    fn halves(text: &str) -> Option<(String, Option<String>)> {
        let written = Sql { text: text.to_owned(), span: 0..text.len() };
        let list = |on: &TableAndList| on.list.is_some().then(|| on.list().to_owned());
        table_and_list(written).map(|on| (on.table().to_owned(), list(&on)))
    }

    #[test]
    fn a_table_and_its_columns_are_told_apart() {
        let table = [
            ("users (email)", Some(("users", Some("email")))),
            (" app.users(lower(email), \"a)\" DESC) ", Some(("app.users", Some("lower(email), \"a)\" DESC")))),
            ("\"odd (name)\".t (a)", Some(("\"odd (name)\".t", Some("a")))),
            ("t ((a || ')'))", Some(("t", Some("(a || ')')")))),
            ("users", Some(("users", None))),
            ("users (a) WHERE b", None),
            ("users (a) (b)", None),
            ("users (a", None),
            ("users a)", None),
            ("users ()", None),
            ("(a)", None),
            ("\"users (a)", None),
        ];
        for (text, expected) in table {
            let expected = expected.map(|(table, list)| (table.to_owned(), list.map(str::to_owned)));
            assert_eq!(halves(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_cut_without_panic(text in "[a(\"') é]{0,20}") {
            let _ = halves(&text);
        }
    }

    #[test]
    fn an_index_is_read_with_all_that_is_said_of_it() {
        let plan = load(
            "[[step]]\nname = 'i'\ntimeout = '1h'\nindex = { on = 'users (email)', name = 'e', unique = true, method = 'btree', \
             include = ['a', 'b'], where = 'c', with = { FILLFACTOR = 90, buffering = \"a'o\", deduplicate_items = false }, \
             tablespace = 'fast', during = true }\n\
             [[step]]\nname = 'r'\nreindex = 'e'\n[[step]]\nname = 's'\nreindex = { table = 'users' }\n\
             [[step]]\nname = 'a'\nanalyze = ['users', 'orders (id, total)']",
        )
        .expect("a good plan");
        let [StepKind::Index(index), StepKind::Reindex(one), StepKind::Reindex(all), StepKind::Analyze(analyze)] =
            [0, 1, 2, 3].map(|at: usize| plan.steps[at].kind.clone())
        else {
            panic!("{:?}", plan.steps);
        };
        assert_eq!((index.on.table(), index.on.list()), ("users", "email"));
        assert!(index.unique && index.during && index.include.len() == 2);
        let with: Vec<_> = index.with.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(with, ["fillfactor=90", "buffering='a''o'", "deduplicate_items=false"]);
        assert_eq!((one.what.word(), all.what.word(), all.what.name().text.as_str()), ("index", "table", "users"));
        let tables: Vec<_> = analyze.tables.iter().map(|one| (one.table(), one.list())).collect();
        assert_eq!(tables, [("users", ""), ("orders", "id, total")]);
    }

    #[test]
    fn what_is_wrong_with_an_index_is_shown_where_it_stands() {
        let table = [
            ("index = { unique = true }", "an index needs `on`"),
            ("index = { on = 'users' }", "names a table and its columns"),
            ("index = { on = 'users (a)', with = { 'a b' = 1 } }", "`a b` is not a storage parameter"),
            ("index = { on = 'users (a)', using = 'gin' }", "using"),
            ("reindex = {}", "a reindex needs something"),
            ("reindex = { index = 'a', table = 'b' }", "`table` does not go with `index`"),
            ("analyze = 'users (a'", "names a table"),
            ("analyze = []", "`analyze` is empty"),
        ];
        for (text, words) in table {
            let error = load(&format!("[[step]]\nname = 'i'\n{text}\n")).expect_err(text);
            assert!(error.to_string().contains(words), "{text}: {error}");
        }
    }
}
