//! Keys of any shape: compared as rows, carried as text, cast back to the column's own type.

use super::ident;

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
    /// The type as SQL writes it, schema included where the search path does not find it: `format_type`'s answer.
    pub type_name: String,
}

impl Key {
    /// `t."a", t."b"`: for ORDER BY. `table` is quoted already.
    #[must_use]
    pub fn order(&self, table: &str, direction: Direction) -> String {
        let word = match direction {
            Direction::Ascending => "",
            Direction::Descending => " DESC",
        };
        self.list(|column| format!("{table}.{}{word}", ident::quote(&column.name)))
    }

    /// `ARRAY[t."a"::text, t."b"::text]`: the key as one value of type `text[]`.
    #[must_use]
    pub fn as_text(&self, table: &str) -> String {
        format!("ARRAY[{}]", self.list(|column| format!("{table}.{}::text", ident::quote(&column.name))))
    }

    /// `(t."a", t."b") > (($1::text[])[1]::bigint, ($1::text[])[2]::uuid)`: a comparison with the key in parameter `$n`.
    ///
    /// Always a row comparison, which an index on the same columns serves.
    #[must_use]
    pub fn compare(&self, table: &str, operator: &str, parameter: usize) -> String {
        let left = self.list(|column| format!("{table}.{}", ident::quote(&column.name)));
        let right: Vec<String> = self
            .columns
            .iter()
            .enumerate()
            .map(|(index, column)| format!("(${parameter}::text[])[{}]::{}", index + 1, column.type_name))
            .collect();
        let right = right.join(", ");
        match self.columns.len() {
            1 => format!("{left} {operator} {right}"),
            _ => format!("({left}) {operator} ({right})"),
        }
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

    fn list(&self, each: impl Fn(&KeyColumn) -> String) -> String {
        self.columns.iter().map(each).collect::<Vec<_>>().join(", ")
    }
}

/// The order of a walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Smallest first.
    Ascending,
    /// Largest first.
    Descending,
}

/// Where `cursor` lies between `first` and `last`, 0 to 1, for keys of one column that are whole numbers or UUIDs.
///
/// `None` for other types, whose text says nothing of their distance.
#[must_use]
pub fn position(first: &[String], last: &[String], cursor: &[String]) -> Option<f64> {
    let ([first], [last], [cursor]) = (first, last, cursor) else { return None };
    let (first, last, cursor) = (number(first)?, number(last)?, number(cursor)?);
    (last > first).then(|| ((cursor - first) / (last - first)).clamp(0.0, 1.0))
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
        let columns =
            columns.iter().map(|(name, type_name)| KeyColumn { name: (*name).into(), type_name: (*type_name).into() });
        Key { columns: columns.collect() }
    }

    #[test]
    fn a_key_writes_its_own_sql() {
        let one = key(&[("id", "bigint")]);
        assert_eq!(one.compare("t", ">", 1), r#"t."id" > ($1::text[])[1]::bigint"#);
        let two = key(&[("Tenant", "uuid"), ("a\"b", "text")]);
        assert_eq!(
            two.compare("t", "<=", 2),
            r#"(t."Tenant", t."a""b") <= (($2::text[])[1]::uuid, ($2::text[])[2]::text)"#
        );
        assert_eq!(two.order("t", Direction::Descending), r#"t."Tenant" DESC, t."a""b" DESC"#);
        assert_eq!(two.as_text("t"), r#"ARRAY[t."Tenant"::text, t."a""b"::text]"#);
    }

    #[test]
    fn numbers_and_uuids_have_a_position_and_texts_have_none() {
        let s = |text: &str| vec![text.to_owned()];
        assert_eq!(position(&s("-10"), &s("10"), &s("0")), Some(0.5));
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
