//! Keys of any shape: compared in the order of their index, carried as text, cast back to the column's own type.
//!
//! "Before" and "behind" mean the key's own order here: a column that the index holds descending is walked downwards.
//! Where all columns run the same way a key is compared as a row, which an index on the same columns serves. Else the
//! comparison is spelled out column by column, and what two ends of a range have in common becomes an equality: without
//! it the server would read the index from the first row that shares only the leading column.

use super::ident;
use crate::run::KeyText;

/// A unique key of a table: one column or several, in the index's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// At least one.
    pub columns: Vec<KeyColumn>,
}

/// A column of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyColumn {
    /// The bare name.
    pub name: String,
    /// The type as SQL writes it, schema included where the search path does not find it: `format_type`'s answer. Of a
    /// domain, the type beneath it: a constraint that old rows do not meet is no reason not to find them.
    pub type_name: String,
    /// Whether the walk goes from its largest value to its smallest.
    pub descending: bool,
    /// The index's collation, quoted, where it is not the column's own.
    pub collation: Option<String>,
    /// The schema of the type's operators, bare, where it is not `pg_catalog`: the search path may lack it, and then
    /// `citext > citext` would be found as `text > text`, which is another order.
    pub operators: Option<String>,
}

/// How a row's key stands to another key, in the key's own order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// In front of it.
    Before,
    /// In front of it, or the same.
    Through,
    /// Behind it.
    Behind,
}

/// One end of a key space, in the key's own order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Where the walk begins.
    First,
    /// Where it ends.
    Last,
}

/// The parameters of a range: the key before its first, and its last or the one behind its last.
const FROM: usize = 1;
const UPPER: usize = 2;

impl KeyColumn {
    /// A column in ascending order, of a type whose operators are the server's own.
    #[must_use]
    pub fn new(name: impl Into<String>, type_name: impl Into<String>) -> Self {
        Self { name: name.into(), type_name: type_name.into(), descending: false, collation: None, operators: None }
    }

    /// `t."a"`, with the collation that the index has.
    fn within(&self, table: &str) -> String {
        let column = ident::quote(&self.name);
        match &self.collation {
            Some(collation) => format!("{table}.{column} COLLATE {collation}"),
            None => format!("{table}.{column}"),
        }
    }

    /// `($1::text[])[2]::bigint`: this column, the `index`th from 0, of the key in parameter `$1`.
    fn of_parameter(&self, parameter: usize, index: usize) -> String {
        format!("(${parameter}::text[])[{}]::{}", index + 1, self.type_name)
    }

    fn operator(&self, sign: &str) -> String {
        match &self.operators {
            Some(schema) => format!("OPERATOR({}.{sign})", ident::quote(schema)),
            None => sign.to_owned(),
        }
    }

    fn sign(&self, relation: Relation) -> String {
        self.operator(match (relation, self.descending) {
            (Relation::Before, false) | (Relation::Behind, true) => "<",
            (Relation::Behind, false) | (Relation::Before, true) => ">",
            (Relation::Through, false) => "<=",
            (Relation::Through, true) => ">=",
        })
    }
}

impl Key {
    /// The same key, walked the other way.
    #[must_use]
    pub fn reversed(&self) -> Self {
        let flip = |column: &KeyColumn| KeyColumn { descending: !column.descending, ..column.clone() };
        Self { columns: self.columns.iter().map(flip).collect() }
    }

    /// The key as it is walked from one of its ends.
    #[must_use]
    pub fn seen_from(&self, end: End) -> Self {
        match end {
            End::First => self.clone(),
            End::Last => self.reversed(),
        }
    }

    /// `t."a", t."b" DESC`: for ORDER BY. `table` is quoted already.
    #[must_use]
    pub fn order(&self, table: &str) -> String {
        self.list(|column| format!("{}{}", column.within(table), if column.descending { " DESC" } else { "" }))
    }

    /// `ARRAY[t."a"::text, t."b"::text]`: the key as one value of type `text[]`.
    #[must_use]
    pub fn as_text(&self, table: &str) -> String {
        format!("ARRAY[{}]", self.list(|column| format!("{table}.{}::text", ident::quote(&column.name))))
    }

    /// `t."a" = o.k1 AND t."b" = o.k2`: the same key in other columns, which are written as SQL.
    #[must_use]
    pub fn equals(&self, table: &str, others: &[String]) -> String {
        let pairs = self.columns.iter().zip(others);
        let equal: Vec<String> =
            pairs.map(|(column, other)| format!("{} {} {other}", column.within(table), column.operator("="))).collect();
        conjunction(&equal)
    }

    /// A comparison with the key in parameter `$n`: `(t."a", t."b") > (($1::text[])[1]::bigint, ($1::text[])[2]::uuid)`.
    #[must_use]
    pub fn compare(&self, table: &str, relation: Relation, parameter: usize) -> String {
        self.compare_from(0, table, relation, parameter)
    }

    /// Leading columns in which both ends of a range are the same, where that matters to [`Key::between`]: at most all
    /// but one.
    ///
    /// Equal texts are equal values; equal values may be unequal texts, and then the range is only read less cleverly.
    #[must_use]
    pub fn shared(&self, from: Option<&KeyText>, upper: Option<&KeyText>) -> usize {
        let (Some(from), Some(upper)) = (from, upper) else { return 0 };
        if self.is_uniform() {
            return 0;
        }
        from.iter().zip(upper).take(self.columns.len() - 1).take_while(|(a, b)| a == b).count()
    }

    /// How many values [`Key::shared`] has.
    #[must_use]
    pub fn shapes(&self) -> usize {
        if self.is_uniform() { 1 } else { self.columns.len() }
    }

    /// The rows behind the key in `$1` (`from`) and up to the one in `$2`, as one condition. `shared` is what
    /// [`Key::shared`] says of these two keys.
    #[must_use]
    pub fn between(&self, table: &str, from: bool, upper: Option<Relation>, shared: usize) -> String {
        let mut parts = self.equal_to_from(table, shared);
        parts.extend(from.then(|| self.compare_from(shared, table, Relation::Behind, FROM)));
        parts.extend(upper.map(|relation| self.compare_from(shared, table, relation, UPPER)));
        conjunction(&parts)
    }

    /// The same range cut into pieces that follow each other in the key's order, each of which the index serves from its
    /// very first row to its last. One piece where the whole range is so.
    #[must_use]
    pub fn pieces(&self, table: &str, from: bool, upper: Option<Relation>, shared: usize) -> Vec<String> {
        if self.is_uniform() || !from {
            return vec![self.between(table, from, upper, shared)];
        }
        // Rows that share all but the last column with `from` come first, then those that share all but two.
        let piece = |level: usize| {
            let column = &self.columns[level];
            let mut parts = self.equal_to_from(table, level);
            parts.push(compare_one(column, table, Relation::Behind, FROM, level));
            parts.extend(upper.map(|relation| self.compare_from(shared, table, relation, UPPER)));
            conjunction(&parts)
        };
        (shared..self.columns.len()).rev().map(piece).collect()
    }

    /// The columns' types, in the key's order: `bigint, text`.
    #[must_use]
    pub fn types(&self) -> String {
        self.list(|column| column.type_name.clone())
    }

    /// The columns as a person names them: `id`, `(tenant, id)`.
    #[must_use]
    pub fn describe(&self) -> String {
        let names = self.columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ");
        if self.columns.len() == 1 { names } else { format!("({names})") }
    }

    /// Whether the key is one column whose order is that of numbers: then [`position`] means something. A text that looks
    /// like a number is ordered as a text.
    #[must_use]
    pub fn has_distances(&self) -> bool {
        let numeric =
            |name: &str| matches!(name, "smallint" | "integer" | "bigint" | "uuid") || name.starts_with("numeric");
        matches!(self.columns.as_slice(), [column] if numeric(&column.type_name))
    }

    /// Whether a row comparison means the key's order: one direction, and operators of one schema.
    fn is_uniform(&self) -> bool {
        let first = self.columns.first();
        first.is_none_or(|first| {
            self.columns.iter().all(|c| c.descending == first.descending && c.operators == first.operators)
        })
    }

    fn equal_to_from(&self, table: &str, columns: usize) -> Vec<String> {
        let equal = |(index, column): (usize, &KeyColumn)| {
            format!("{} {} {}", column.within(table), column.operator("="), column.of_parameter(FROM, index))
        };
        self.columns.iter().enumerate().take(columns).map(equal).collect()
    }

    /// Compares the columns from the `begin`th on; those in front are known to be equal.
    fn compare_from(&self, begin: usize, table: &str, relation: Relation, parameter: usize) -> String {
        let columns = &self.columns[begin..];
        match columns {
            [column] => compare_one(column, table, relation, parameter, begin),
            _ if self.is_uniform() => {
                let left = columns.iter().map(|column| column.within(table)).collect::<Vec<_>>().join(", ");
                let values = columns.iter().enumerate().map(|(i, column)| column.of_parameter(parameter, begin + i));
                let right = values.collect::<Vec<_>>().join(", ");
                let sign = columns.first().map_or_else(String::new, |column| column.sign(relation));
                format!("({left}) {sign} ({right})")
            }
            _ => self.spelled_out(begin, table, relation, parameter),
        }
    }

    /// `a >= x AND (a > x OR (a = x AND ...))`. The first comparison is implied by the rest; it is what the index serves.
    fn spelled_out(&self, begin: usize, table: &str, relation: Relation, parameter: usize) -> String {
        let strict = match relation {
            Relation::Before | Relation::Through => Relation::Before,
            Relation::Behind => Relation::Behind,
        };
        let column = &self.columns[begin];
        let (left, right) = (column.within(table), column.of_parameter(parameter, begin));
        let loose = match column.sign(strict) {
            sign if sign.contains('<') => column.operator("<="),
            _ => column.operator(">="),
        };
        let rest = self.compare_from(begin + 1, table, relation, parameter);
        let (sign, same) = (column.sign(strict), column.operator("="));
        format!("{left} {loose} {right} AND ({left} {sign} {right} OR ({left} {same} {right} AND {rest}))")
    }

    fn list(&self, each: impl Fn(&KeyColumn) -> String) -> String {
        self.columns.iter().map(each).collect::<Vec<_>>().join(", ")
    }
}

fn compare_one(column: &KeyColumn, table: &str, relation: Relation, parameter: usize, index: usize) -> String {
    format!("{} {} {}", column.within(table), column.sign(relation), column.of_parameter(parameter, index))
}

fn conjunction(parts: &[String]) -> String {
    if parts.is_empty() { "true".to_owned() } else { parts.join(" AND ") }
}

/// Where `cursor` lies between `first` and `last`, 0 to 1, for keys of one column that are whole numbers or UUIDs.
///
/// `None` for other types, whose text says nothing of their distance.
#[must_use]
pub fn position(first: &[String], last: &[String], cursor: &[String]) -> Option<f64> {
    let ([first], [last], [cursor]) = (first, last, cursor) else { return None };
    let (first, last, cursor) = (number(first)?, number(last)?, number(cursor)?);
    let length = last - first;
    (length.abs() > 0.0).then(|| ((cursor - first) / length).clamp(0.0, 1.0))
}

#[expect(clippy::cast_precision_loss, reason = "only the share of a range is wanted")]
fn number(text: &str) -> Option<f64> {
    if let Ok(n) = text.parse::<i128>() {
        return Some(n as f64);
    }
    uuid::Uuid::parse_str(text).ok().map(|id| id.as_u128() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(columns: &[(&str, &str)]) -> Key {
        Key { columns: columns.iter().map(|(name, type_name)| KeyColumn::new(*name, *type_name)).collect() }
    }

    fn text(columns: &[&str]) -> KeyText {
        columns.iter().map(|column| (*column).to_owned()).collect()
    }

    #[test]
    fn a_key_writes_its_own_sql() {
        let one = key(&[("id", "bigint")]);
        assert_eq!(one.compare("t", Relation::Behind, 1), r#"t."id" > ($1::text[])[1]::bigint"#);
        let two = key(&[("Tenant", "uuid"), ("a\"b", "text")]);
        assert_eq!(
            two.compare("t", Relation::Through, 2),
            r#"(t."Tenant", t."a""b") <= (($2::text[])[1]::uuid, ($2::text[])[2]::text)"#
        );
        assert_eq!(two.reversed().order("t"), r#"t."Tenant" DESC, t."a""b" DESC"#);
        assert_eq!(two.as_text("t"), r#"ARRAY[t."Tenant"::text, t."a""b"::text]"#);
        assert_eq!(two.equals("t", &["o.k1".into(), "o.k2".into()]), r#"t."Tenant" = o.k1 AND t."a""b" = o.k2"#);
    }

    #[test]
    fn a_key_of_one_direction_is_compared_as_a_row_whichever_way_it_is_walked() {
        let down = key(&[("a", "int"), ("b", "int")]).reversed();
        assert_eq!(
            down.between("t", true, Some(Relation::Through), 0),
            r#"(t."a", t."b") < (($1::text[])[1]::int, ($1::text[])[2]::int) AND (t."a", t."b") >= (($2::text[])[1]::int, ($2::text[])[2]::int)"#
        );
        assert_eq!(down.pieces("t", true, None, 0).len(), 1);
        let seq = Key { columns: vec![KeyColumn { descending: true, ..KeyColumn::new("seq", "bigint") }] };
        assert_eq!(seq.order("l"), r#"l."seq" DESC"#);
        assert_eq!(seq.compare("l", Relation::Behind, 1), r#"l."seq" < ($1::text[])[1]::bigint"#);
    }

    #[test]
    fn a_key_of_mixed_directions_is_spelled_out_and_cut_where_the_index_can_begin() {
        let mut mixed = key(&[("a", "int"), ("b", "int")]);
        mixed.columns[1].descending = true;
        assert_eq!(
            mixed.compare("t", Relation::Behind, 1),
            r#"t."a" >= ($1::text[])[1]::int AND (t."a" > ($1::text[])[1]::int OR (t."a" = ($1::text[])[1]::int AND t."b" < ($1::text[])[2]::int))"#
        );
        assert_eq!(
            mixed.between("t", true, Some(Relation::Through), 1),
            r#"t."a" = ($1::text[])[1]::int AND t."b" < ($1::text[])[2]::int AND t."b" >= ($2::text[])[2]::int"#
        );
        assert_eq!(
            mixed.pieces("t", true, None, 0),
            [r#"t."a" = ($1::text[])[1]::int AND t."b" < ($1::text[])[2]::int"#, r#"t."a" > ($1::text[])[1]::int"#]
        );
        assert_eq!(mixed.shared(Some(&text(&["1", "9"])), Some(&text(&["1", "3"]))), 1);
        assert_eq!(
            mixed.shared(Some(&text(&["1", "9"])), Some(&text(&["1", "9"]))),
            1,
            "one column is left to compare"
        );
        assert_eq!(mixed.shared(Some(&text(&["1", "9"])), Some(&text(&["2", "9"]))), 0);
        assert_eq!((mixed.shapes(), key(&[("a", "int"), ("b", "int")]).shapes()), (2, 1));
    }

    #[test]
    fn collations_and_operators_that_the_index_has_are_written_out() {
        let mut odd = key(&[("a", "ext.citext"), ("b", "text")]);
        odd.columns[0].operators = Some("ext".into());
        odd.columns[1].collation = Some("\"C\"".into());
        assert_eq!(odd.order("t"), r#"t."a", t."b" COLLATE "C""#);
        assert_eq!(
            odd.compare("t", Relation::Before, 1),
            r#"t."a" OPERATOR("ext".<=) ($1::text[])[1]::ext.citext AND (t."a" OPERATOR("ext".<) ($1::text[])[1]::ext.citext OR (t."a" OPERATOR("ext".=) ($1::text[])[1]::ext.citext AND t."b" COLLATE "C" < ($1::text[])[2]::text))"#
        );
    }

    #[test]
    fn numbers_and_uuids_have_a_position_and_texts_have_none() {
        let s = |text: &str| vec![text.to_owned()];
        assert_eq!(position(&s("-10"), &s("10"), &s("0")), Some(0.5));
        assert_eq!(position(&s("100"), &s("0"), &s("75")), Some(0.25), "walked downwards");
        assert_eq!(position(&s("5"), &s("5"), &s("5")), None);
        let half = position(
            &s("00000000-0000-0000-0000-000000000000"),
            &s("ffffffff-ffff-ffff-ffff-ffffffffffff"),
            &s("80000000-0000-0000-0000-000000000000"),
        );
        assert!(half.is_some_and(|p| (p - 0.5).abs() < 1e-9));
        assert_eq!(position(&s("a"), &s("z"), &s("m")), None);
        assert_eq!(position(&s("1"), &["2".into(), "3".into()], &s("1")), None);
    }
}
