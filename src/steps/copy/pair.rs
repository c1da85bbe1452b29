//! A table and where it goes, and the SQL that takes rows from one to the other.

use std::sync::Arc;

use super::columns::{Mapped, Value, is_of_every_server};
use crate::plan::model::Sql;
use crate::plan::movers::Comparison;
use crate::postgres::catalog::{Part, Table, Writes};
use crate::postgres::key::{Key, KeyColumn};
use crate::postgres::sql::SqlText;
use crate::postgres::walk::Walk;
use crate::postgres::{ident, inline};
use crate::run::{Cause, KeyText};
use crate::steps::keyspace::Keyspace;

/// A table of the source and its target.
pub(super) struct Pair {
    /// Where rows come from.
    pub(super) source: Table,
    /// Where they go.
    pub(super) target: Table,
    /// What each column gets.
    pub(super) columns: Vec<Mapped>,
    /// The step's `where`.
    pub(super) filter: Option<Sql>,
    /// Tables that it refers to are of lower levels.
    pub(super) level: usize,
    /// Whether its rows refer to each other: then they go in their order.
    pub(super) refers_to_itself: bool,
    /// Which columns the source must cast to the target's type, by their places. Only over a connection of its own.
    pub(super) casts: Vec<bool>,
    /// Whether rows travel in binary.
    pub(super) binary: bool,
}

/// A table of the source, or a partition of it, and its place among the pairs.
pub(super) struct Share {
    /// Its pair.
    pub(super) pair: Arc<Pair>,
    /// Its keys.
    pub(super) keys: Keyspace,
    /// Its first key.
    pub(super) first: Option<KeyText>,
}

/// Everything that a step copies.
pub(super) struct Ready {
    /// The tables.
    pub(super) pairs: Vec<Arc<Pair>>,
    /// What is walked.
    pub(super) shares: Vec<Arc<Share>>,
}

impl Ready {
    /// What a segment walks.
    ///
    /// # Errors
    /// It is not there any more.
    pub(super) fn share(&self, part: Option<&str>) -> Result<Arc<Share>, Cause> {
        let found = self.shares.iter().find(|share| Some(share.in_ledger().as_str()) == part);
        found.cloned().ok_or_else(|| {
            let name = part.unwrap_or("without a name");
            Cause::new(format!("table {name} of the source is no longer there, and the copy of it was not at its end"))
                .hint("bring it back and resume, or begin a new run: howdah run PLAN --new")
        })
    }

    /// What the cursors mean, one walk a line.
    pub(super) fn identities(&self) -> String {
        let lines: Vec<String> = self.shares.iter().map(|share| share.identity()).collect();
        lines.join("\n")
    }
}

impl Share {
    /// How the ledger names it: always by its name, since a step may copy several tables.
    pub(super) fn in_ledger(&self) -> String {
        self.part().quoted()
    }

    /// The table or the partition.
    pub(super) fn part(&self) -> &Part {
        self.keys.part()
    }

    /// What a cursor in it means.
    pub(super) fn identity(&self) -> String {
        format!("{}: {}", self.in_ledger(), self.part().walk.identity())
    }

    /// The key as a person names it.
    pub(super) fn key_name(&self) -> String {
        self.part().walk.describe()
    }

    /// Whether a single row can be told from its neighbours, and found again later.
    pub(super) fn can_set_aside(&self) -> bool {
        matches!(self.part().walk, Walk::Key(_))
    }

    /// The rows with keys in `(from, through]`, as a condition over the name that the plan's expressions know the table by.
    /// The keys are `$1` and `$2`.
    fn range(&self, from: Option<&KeyText>, through: Option<&KeyText>) -> String {
        let walk = &self.part().walk;
        let name = self.pair.alias();
        match through {
            Some(_) => walk.batch(&name, from.is_some(), walk.shared(from, through)),
            None => match (walk, from) {
                (Walk::Key(key), Some(_)) => key.between(&name, true, None, 0),
                (Walk::Key(_), None) | (Walk::Blocks(_), _) => "true".to_owned(),
            },
        }
    }

    /// `INSERT INTO target SELECT ...` of the rows in `(from, through]`, which are `$1` and `$2`: within one database.
    pub(super) fn insert(&self, from: Option<&KeyText>, through: &KeyText) -> SqlText {
        let pair = &self.pair;
        let overriding = if pair.columns.iter().any(|column| column.to.writes == Writes::Identity) {
            " OVERRIDING SYSTEM VALUE"
        } else {
            ""
        };
        let head = format!("INSERT INTO {} ({}){overriding} ", pair.target.quoted(), pair.column_list());
        SqlText::default().ours(&head).text(&self.select(&self.range(from, Some(through)), false))
    }

    /// `COPY (SELECT ...) TO STDOUT` of the rows in `(from, through]`.
    pub(super) fn copy_out(&self, from: Option<&KeyText>, through: &KeyText) -> SqlText {
        let range = inline::keys(&self.range(from, Some(through)), from, Some(through));
        let tail = format!(") TO STDOUT (FORMAT {})", self.pair.format());
        SqlText::default().ours("COPY (").text(&self.select(&range, true)).ours(&tail)
    }

    /// The rows of a range as the target gets them.
    pub(super) fn select(&self, range: &str, casts: bool) -> SqlText {
        let pair = &self.pair;
        let mut text = SqlText::default().ours("SELECT ");
        for (at, column) in pair.columns.iter().enumerate() {
            let cast = casts && pair.casts.get(at).copied().unwrap_or(false);
            text = text.ours(if at > 0 { ", " } else { "" }).ours(if cast { "(" } else { "" });
            text = pair.value(text, column);
            if cast {
                // Without a modifier: what is too long is the target's to refuse, and not to be cut here.
                text = text.ours(&format!(")::pg_catalog.{}", ident::quote(&column.to.bare_type)));
            }
        }
        self.from(text, range)
    }

    fn from(&self, text: SqlText, range: &str) -> SqlText {
        let text = text.ours(&format!(" FROM {} AS {} WHERE {range}", self.part().quoted(), self.pair.alias()));
        match &self.pair.filter {
            Some(filter) => text.ours(" AND (\n").plans("where", filter).ours("\n)"),
            None => text,
        }
    }

    /// The one row with its key in `(from, through]`, as JSON, with the keys as `$1` and `$2`.
    pub(super) fn row(&self, from: Option<&KeyText>, through: &KeyText) -> String {
        let range = self.range(from, Some(through));
        let (alias, part) = (self.pair.alias(), self.part().quoted());
        format!("SELECT to_jsonb({alias}.*)::text FROM {part} AS {alias} WHERE {range} LIMIT 1")
    }

    /// How many rows of `(from, through]` match the step's `where`, with the keys as `$1` and `$2`.
    pub(super) fn matching(&self, from: Option<&KeyText>, through: &KeyText) -> SqlText {
        self.from(SqlText::default().ours("SELECT count(*)"), &self.range(from, Some(through)))
    }

    /// Count and checksum of what the target should hold of `(from, through]`, without the rows with the keys `aside`.
    pub(super) fn expected(
        &self,
        comparison: Comparison,
        from: Option<&KeyText>,
        through: Option<&KeyText>,
        aside: &[KeyText],
    ) -> SqlText {
        let pair = &self.pair;
        let text = match comparison {
            Comparison::Count => SqlText::default().ours(COUNT),
            Comparison::Checksum => {
                let mut text = SqlText::default().ours(SUM);
                for (at, column) in pair.columns.iter().enumerate() {
                    text = text.ours(if at > 0 { ", (" } else { "(" });
                    text = pair.value(text, column);
                    let is_known = is_of_every_server(column.to.type_oid);
                    let type_name = if is_known { format!(")::{}", column.to.type_name) } else { ")".to_owned() };
                    text = text.ours(&format!("{type_name}::text"));
                }
                text.ours(SUM_END)
            }
        };
        let mut range = inline::keys(&self.range(from, through), from, through);
        if !aside.is_empty() {
            let key = self.part().walk.row_as_text(&pair.alias());
            let each: Vec<String> = aside.iter().map(|row| format!("{key} = {}", inline::key(Some(row)))).collect();
            range = format!("{range} AND NOT ({})", each.join(" OR "));
        }
        self.from(text, &range)
    }

    /// Count and checksum of what the target holds: of `(from, through]` where its key is the source's, else of all.
    pub(super) fn found(&self, comparison: Comparison, range: Option<(Option<&KeyText>, Option<&KeyText>)>) -> String {
        let pair = &self.pair;
        let sums = match comparison {
            Comparison::Count => COUNT.to_owned(),
            Comparison::Checksum => {
                let texts: Vec<String> =
                    pair.columns.iter().map(|column| format!("t.{}::text", ident::quote(&column.to.name))).collect();
                format!("{SUM}{}{SUM_END}", texts.join(", "))
            }
        };
        let condition = range.and_then(|(from, through)| self.target_range(from, through));
        format!("{sums} FROM {} AS t WHERE {}", pair.target.quoted(), condition.unwrap_or_else(|| "true".to_owned()))
    }

    /// Takes the rows of `(from, through]` out of the target.
    pub(super) fn delete(&self, from: Option<&KeyText>, through: Option<&KeyText>) -> Option<String> {
        let condition = self.target_range(from, through)?;
        Some(format!("DELETE FROM {} AS t WHERE {condition}", self.pair.target.quoted()))
    }

    fn target_range(&self, from: Option<&KeyText>, through: Option<&KeyText>) -> Option<String> {
        let walk = Walk::Key(self.target_key()?);
        let condition = match (through, &walk) {
            (Some(_), walk) => walk.batch("t", from.is_some(), walk.shared(from, through)),
            (None, Walk::Key(key)) if from.is_some() => key.between("t", true, None, 0),
            (None, _) => "true".to_owned(),
        };
        Some(inline::keys(&condition, from, through))
    }

    /// The source's key in the target, where a range of it means the same rows there: the columns are copied as they are,
    /// and are of a type whose order is the same on every server. Partitions of a source may share keys.
    pub(super) fn target_key(&self) -> Option<Key> {
        let Walk::Key(key) = &self.part().walk else { return None };
        if self.part().is_partition {
            return None;
        }
        let column = |column: &KeyColumn| {
            let to =
                self.pair.columns.iter().find(|mapped| mapped.from.column() == Some(&column.name)).map(|m| &m.to)?;
            let same = to.type_name == column.type_name && is_of_every_server(to.type_oid) && !to.is_collated;
            (same && column.operators.is_none()).then(|| KeyColumn { name: to.name.clone(), ..column.clone() })
        };
        Some(Key { columns: key.columns.iter().map(column).collect::<Option<_>>()? })
    }
}

const COUNT: &str = "SELECT count(*), 0::numeric::text";
// NULL and the empty text are written apart in the text of a row. The sum does not hang on the order of rows.
const SUM: &str = "SELECT count(*), coalesce(sum(('x' || left(md5(ROW(";
const SUM_END: &str = ")::text), 16))::bit(64)::int8), 0)::text";

impl Pair {
    /// The name that the plan's expressions know the source by, quoted.
    pub(super) fn alias(&self) -> String {
        ident::quote(&self.source.name)
    }

    /// `COPY target (columns) FROM STDIN`.
    pub(super) fn copy_in(&self) -> String {
        format!("COPY {} ({}) FROM STDIN (FORMAT {})", self.target.quoted(), self.column_list(), self.format())
    }

    /// The names of the target's columns, bare.
    pub(super) fn names(&self) -> Vec<String> {
        self.columns.iter().map(|column| column.to.name.clone()).collect()
    }

    fn format(&self) -> &'static str {
        if self.binary { "binary" } else { "text" }
    }

    fn column_list(&self) -> String {
        self.columns.iter().map(|column| ident::quote(&column.to.name)).collect::<Vec<_>>().join(", ")
    }

    fn value(&self, text: SqlText, column: &Mapped) -> SqlText {
        match &column.from {
            Value::Column(name) => text.ours(&format!("{}.{}", self.alias(), ident::quote(name))),
            Value::Expression(label, sql) => text.ours("(\n").plans(label, sql).ours("\n)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::columns::tests::{column, source, sql};
    use super::*;

    fn share() -> Share {
        let mut source = source();
        let walk = Walk::Key(Key { columns: vec![KeyColumn::new("id", "bigint")] });
        let part = Part { oid: 1, schema: "app".into(), name: "users".into(), is_partition: false, walk };
        source.parts.push(part.clone());
        let target = Table { oid: 2, schema: "new".into(), name: "people".into(), ..source.clone() };
        let columns = vec![
            Mapped { to: column("no", "bigint", 20), from: Value::Column("id".into()) },
            Mapped {
                to: column("mail", "text", 25),
                from: Value::Expression("columns.mail".into(), sql("lower(email) -- small")),
            },
        ];
        let pair = Pair {
            source,
            target,
            columns,
            filter: Some(sql("email <> ''")),
            level: 0,
            refers_to_itself: false,
            casts: vec![false, true],
            binary: true,
        };
        Share { pair: Arc::new(pair), keys: Keyspace::new(part), first: None }
    }

    fn key(text: &str) -> KeyText {
        vec![text.to_owned()]
    }

    #[test]
    fn rows_are_inserted_by_range_within_one_database() {
        let made = share().insert(Some(&key("1")), &key("9"));
        assert_eq!(
            made.as_str(),
            "INSERT INTO \"new\".\"people\" (\"no\", \"mail\") SELECT \"users\".\"id\", (\nlower(email) -- small\n) FROM \
             \"app\".\"users\" AS \"users\" WHERE \"users\".\"id\" > ($1::text[])[1]::bigint AND \"users\".\"id\" <= \
             ($2::text[])[1]::bigint AND (\nemail <> ''\n)"
        );
    }

    #[test]
    fn rows_are_copied_by_range_between_two() {
        let made = share().copy_out(None, &key("9"));
        assert_eq!(
            made.as_str(),
            "COPY (SELECT \"users\".\"id\", ((\nlower(email) -- small\n))::pg_catalog.\"text\" FROM \"app\".\"users\" AS \
             \"users\" WHERE \"users\".\"id\" <= (ARRAY[E'9']::text[])[1]::bigint AND (\nemail <> ''\n)) TO STDOUT (FORMAT \
             binary)"
        );
        assert_eq!(share().pair.copy_in(), "COPY \"new\".\"people\" (\"no\", \"mail\") FROM STDIN (FORMAT binary)");
    }

    #[test]
    fn a_range_is_compared_where_the_target_has_the_same_key() {
        let share = share();
        let found = share.found(Comparison::Count, Some((Some(&key("1")), Some(&key("9")))));
        assert_eq!(
            found,
            "SELECT count(*), 0::numeric::text FROM \"new\".\"people\" AS t WHERE t.\"no\" > \
             (ARRAY[E'1']::text[])[1]::bigint AND t.\"no\" <= (ARRAY[E'9']::text[])[1]::bigint"
        );
        let expected = share.expected(Comparison::Checksum, None, None, &[key("3")]);
        assert!(
            expected.as_str().contains("ROW((\"users\".\"id\")::bigint::text, ((\nlower(email)"),
            "{}",
            expected.as_str()
        );
        assert!(expected.as_str().contains("WHERE true AND NOT (ARRAY[\"users\".\"id\"::text] = ARRAY[E'3'])"));
        let Some(Key { columns }) = share.target_key() else { panic!("a key") };
        assert_eq!(columns[0].name, "no");
    }
}
