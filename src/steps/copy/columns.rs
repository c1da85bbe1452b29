//! Which column of the target gets what, and in which of COPY's formats it travels.

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Row};

use crate::plan::model::{PlanSource, Sql};
use crate::postgres::catalog::{self, Table, Writes};
use crate::postgres::ident;
use crate::run::Cause;

/// A column of the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TargetColumn {
    /// The bare name.
    pub(super) name: String,
    /// The type beneath any domain, with its modifier, as SQL writes it: `numeric(12,2)`.
    pub(super) type_name: String,
    /// The bare name of that type in the catalog, without a modifier: `numeric`, `_int4`.
    pub(super) bare_type: String,
    /// The object id of that type.
    pub(super) type_oid: u32,
    /// Whether texts are ordered by a collation.
    pub(super) is_collated: bool,
    /// Whether a row must have it: NOT NULL, and the server does not fill it in.
    pub(super) is_needed: bool,
    /// Who may write it. An identity's values are copied all the same.
    pub(super) writes: Writes,
}

/// What a column of the target gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mapped {
    /// The column.
    pub(super) to: TargetColumn,
    /// What it gets.
    pub(super) from: Value,
}

/// What a column gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// The column of the source of that bare name, as it is.
    Column(String),
    /// An expression over the source, and how messages name it: `columns.email`.
    Expression(String, Sql),
}

impl Value {
    /// The column of the source, where it is one as it is.
    pub(super) fn column(&self) -> Option<&str> {
        match self {
            Self::Column(name) => Some(name),
            Self::Expression(..) => None,
        }
    }
}

/// The target's columns, in their order.
///
/// # Errors
/// The driver's error.
pub(super) async fn of_target(connection: &mut PgConnection, oid: i64) -> Result<Vec<TargetColumn>, sqlx::Error> {
    let sql = "SELECT a.attname::text AS name, beneath.name AS type_name, beneath.oid::int8 AS type_oid, \
                (SELECT typname::text FROM pg_type WHERE oid = beneath.oid) AS bare_type, \
                a.attcollation <> 0 AS collated, a.attgenerated <> '' AS generated, a.attidentity = 'a' AS always, \
                a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' AND domain.typdefault IS NULL AS needed \
         FROM pg_attribute a JOIN pg_type domain ON domain.oid = a.atttypid \
         CROSS JOIN LATERAL (WITH RECURSIVE beneath(type, modifier, depth) AS ( \
                SELECT a.atttypid, a.atttypmod, 0 UNION ALL \
                SELECT y.typbasetype, y.typtypmod, depth + 1 FROM beneath JOIN pg_type y ON y.oid = type AND y.typtype = 'd') \
             SELECT type AS oid, format_type(type, modifier) AS name FROM beneath ORDER BY depth DESC LIMIT 1) AS beneath \
         WHERE a.attrelid = $1::int8::oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(oid).persistent(false).fetch_all(connection).await?;
    let column = |row: &PgRow| {
        Ok(TargetColumn {
            name: row.try_get("name")?,
            type_name: row.try_get("type_name")?,
            bare_type: row.try_get("bare_type")?,
            type_oid: u32::try_from(row.try_get::<i64, _>("type_oid")?).unwrap_or(0),
            is_collated: row.try_get("collated")?,
            is_needed: row.try_get("needed")?,
            writes: match (row.try_get("generated")?, row.try_get("always")?) {
                (true, _) => Writes::Generated,
                (false, true) => Writes::Identity,
                (false, false) => Writes::Anyone,
            },
        })
    };
    rows.iter().map(column).collect()
}

/// The two ends of a copy, and the words of the plan that name them.
pub(super) struct Ends<'a> {
    /// How messages name the step.
    pub(super) what: &'a str,
    /// The source.
    pub(super) source: &'a Table,
    /// The target's name, for people.
    pub(super) target: &'a str,
    /// The target's columns.
    pub(super) columns: &'a [TargetColumn],
    /// What the plan names the source by.
    pub(super) written: &'a Sql,
    /// The plan.
    pub(super) plan: &'a PlanSource,
}

impl Ends<'_> {
    fn refuse(&self, place: &Sql, message: &str) -> Cause {
        let mut cause = Cause::usage(format!("{}: {message}", self.what));
        cause.details = self.plan.excerpt_in_sql(place, 0);
        cause
    }

    /// What each column of the target gets: by `columns`, or where that is empty by name.
    ///
    /// # Errors
    /// A column is missing on one side, cannot be written, or must have a value and gets none.
    pub(super) fn map(&self, columns: &[(String, Sql)]) -> Result<Vec<Mapped>, Cause> {
        let mapped = if columns.is_empty() { self.by_name()? } else { self.by_plan(columns)? };
        let is_mapped = |name: &str| mapped.iter().any(|mapped| mapped.to.name == name);
        if let Some(lacking) = self.columns.iter().find(|column| column.is_needed && !is_mapped(&column.name)) {
            let (name, target) = (&lacking.name, self.target);
            return Err(self
                .refuse(
                    self.written,
                    &format!("column `{name}` of `{target}` is NOT NULL, has no default, and gets no value"),
                )
                .hint(format!("say what it gets: columns = {{ ..., {name} = \"expression over the source\" }}"))
                .hint(format!(
                    "or give it a default: ALTER TABLE {target} ALTER COLUMN {} SET DEFAULT ...",
                    ident::quote(name)
                )));
        }
        if mapped.is_empty() {
            let message = format!("`{}` and `{}` have no column in common", self.source.label(), self.target);
            return Err(self.refuse(self.written, &message).hint("name them: columns = { target = \"source\" }"));
        }
        Ok(mapped)
    }

    fn by_name(&self) -> Result<Vec<Mapped>, Cause> {
        let mut mapped = Vec::new();
        for column in &self.source.columns {
            match self.columns.iter().find(|to| to.name == column.name) {
                Some(to) if to.writes == Writes::Generated => {}
                Some(to) => mapped.push(Mapped { to: to.clone(), from: Value::Column(column.name.clone()) }),
                // The server can compute it again from what is copied.
                None if column.writes == Writes::Generated => {}
                None => {
                    let (name, label) = (&column.name, self.source.label());
                    let message = format!("`{}` has no column `{name}`, which `{label}` has", self.target);
                    let names = self.columns.iter().map(|column| column.name.as_str());
                    let cause = self.refuse(self.written, &message);
                    let cause = match catalog::near(name, names) {
                        Some(near) => cause.hint(format!("did it become `{near}`?")),
                        None => cause,
                    };
                    return Err(cause.hint(
                        "say what goes where, and leave out what is not copied: columns = { target = \"source\", ... }",
                    ));
                }
            }
        }
        Ok(mapped)
    }

    fn by_plan(&self, columns: &[(String, Sql)]) -> Result<Vec<Mapped>, Cause> {
        let one = |(written, expression): &(String, Sql)| {
            let label = format!("columns.{written}");
            let name = ident::parse(written).map_err(|bad| self.refuse(expression, &format!("`columns`: {bad}")))?;
            let Some(to) = self.columns.iter().find(|column| column.name == name) else {
                let cause =
                    self.refuse(expression, &format!("`columns`: table `{}` has no column `{written}`", self.target));
                let names = self.columns.iter().map(|column| column.name.as_str());
                return Err(match catalog::near(&name, names) {
                    Some(near) => cause.hint(format!("did you mean `{near}`?")),
                    None => cause,
                });
            };
            if to.writes == Writes::Generated {
                let message = format!("`columns`: `{written}` is a generated column: the server computes it");
                return Err(self.refuse(expression, &message).hint("leave it out of `columns`"));
            }
            let plain = ident::parse(&expression.text).ok().filter(|name| self.source.column(name).is_some());
            let from = plain.map_or_else(|| Value::Expression(label, expression.clone()), Value::Column);
            Ok(Mapped { to: to.clone(), from })
        };
        columns.iter().map(one).collect()
    }
}

/// Whether the two ends write and read a type's binary form alike, whatever their versions: by the ids of types that every
/// server has. Texts of a limited length are texts.
#[must_use]
pub(super) fn travels_in_binary(source: u32, target: u32) -> bool {
    const TEXT: u32 = 25;
    const VARCHAR: u32 = 1043;
    let plain = |oid: u32| if oid == VARCHAR { TEXT } else { oid };
    plain(source) == plain(target) && BINARY.binary_search(&source).is_ok()
}

/// Object ids of the types whose binary form has been the same since PostgreSQL 13, in ascending order. Not here: what
/// holds the id of an object (`regclass`), what hangs on a setting (`money`, `xml`), and whatever is not the server's own.
const BINARY: [u32; 64] = [
    16,   // bool
    17,   // bytea
    18,   // "char"
    19,   // name
    20,   // int8
    21,   // int2
    23,   // int4
    25,   // text
    26,   // oid
    114,  // json
    199,  // json[]
    600,  // point
    601,  // lseg
    602,  // path
    603,  // box
    604,  // polygon
    628,  // line
    650,  // cidr
    651,  // cidr[]
    700,  // float4
    701,  // float8
    718,  // circle
    774,  // macaddr8
    829,  // macaddr
    869,  // inet
    1000, // bool[]
    1001, // bytea[]
    1005, // int2[]
    1007, // int4[]
    1009, // text[]
    1014, // bpchar[]
    1015, // varchar[]
    1016, // int8[]
    1021, // float4[]
    1022, // float8[]
    1028, // oid[]
    1041, // inet[]
    1042, // bpchar
    1043, // varchar
    1082, // date
    1083, // time
    1114, // timestamp
    1115, // timestamp[]
    1182, // date[]
    1183, // time[]
    1184, // timestamptz
    1185, // timestamptz[]
    1186, // interval
    1187, // interval[]
    1231, // numeric[]
    1266, // timetz
    1560, // bit
    1562, // varbit
    1700, // numeric
    2950, // uuid
    2951, // uuid[]
    3802, // jsonb
    3807, // jsonb[]
    3904, // int4range
    3906, // numrange
    3908, // tsrange
    3910, // tstzrange
    3912, // daterange
    3926, // int8range
];

/// The first of the ids that a new cluster gives to what is made in it: below are the server's own.
const FIRST_OF_USERS: u32 = 10_000;

/// Whether every server knows a type by that id: then the source can be asked to write a value as the target would.
#[must_use]
pub(super) fn is_of_every_server(oid: u32) -> bool {
    oid < FIRST_OF_USERS
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::postgres::catalog::Column;

    pub(in super::super) fn sql(text: &str) -> Sql {
        Sql { text: text.into(), span: 0..0 }
    }

    pub(in super::super) fn column(name: &str, type_name: &str, type_oid: u32) -> TargetColumn {
        TargetColumn {
            name: name.into(),
            type_name: type_name.into(),
            bare_type: type_name.into(),
            type_oid,
            is_collated: type_name == "text",
            is_needed: false,
            writes: Writes::Anyone,
        }
    }

    pub(in super::super) fn source() -> Table {
        let column =
            |name: &str, type_name: &str, writes| Column { name: name.into(), type_name: type_name.into(), writes };
        Table {
            oid: 1,
            schema: "app".into(),
            name: "users".into(),
            columns: vec![
                column("id", "bigint", Writes::Identity),
                column("email", "text", Writes::Anyone),
                column("lower_email", "text", Writes::Generated),
            ],
            partition_key: Vec::new(),
            parts: Vec::new(),
        }
    }

    fn map(columns: &[TargetColumn], plan: &[(&str, &str)]) -> Result<Vec<(String, Value)>, Cause> {
        let (source, written) = (source(), sql("app.users"));
        let text = PlanSource { path: None, label: "plan.toml".into(), text: String::new() };
        let ends =
            Ends { what: "step \"c\"", source: &source, target: "people", columns, written: &written, plan: &text };
        let plan: Vec<(String, Sql)> = plan.iter().map(|(to, from)| ((*to).to_owned(), sql(from))).collect();
        ends.map(&plan).map(|mapped| mapped.into_iter().map(|one| (one.to.name, one.from)).collect())
    }

    #[test]
    fn columns_go_by_name_and_the_servers_own_are_left_to_it() {
        let mut generated = column("lower_email", "text", 25);
        generated.writes = Writes::Generated;
        let mut all =
            vec![column("email", "text", 25), column("id", "bigint", 20), generated, column("at", "date", 1082)];
        let names = |columns: &[TargetColumn]| map(columns, &[]).map(|all| all.into_iter().map(|(to, _)| to).collect());
        assert_eq!(names(&all), Ok(vec!["id".to_owned(), "email".to_owned()]));
        all.remove(2);
        assert_eq!(names(&all), Ok(vec!["id".to_owned(), "email".to_owned()]), "the target may lack it");
        all[2].is_needed = true;
        let cause = names(&all).expect_err("`at` gets nothing");
        assert!(cause.message.contains("column `at` of `people` is NOT NULL"), "{}", cause.message);
        let cause = names(&all[1..]).expect_err("`email` goes nowhere");
        assert!(cause.message.contains("`people` has no column `email`"), "{}", cause.message);
    }

    #[test]
    fn columns_of_the_plan_are_found_and_a_bare_column_is_known_as_such() {
        let mut generated = column("g", "text", 25);
        generated.writes = Writes::Generated;
        let all = [column("id", "bigint", 20), column("mail", "text", 25), generated];
        let mapped = map(&all, &[("ID", "id"), ("mail", "lower(email)")]).expect("columns");
        assert_eq!(mapped[0], ("id".to_owned(), Value::Column("id".to_owned())));
        assert_eq!(mapped[1].1, Value::Expression("columns.mail".to_owned(), sql("lower(email)")));
        for (written, words) in [("mial", "no column `mial`"), ("g", "generated column"), ("a b", "identifier")] {
            let cause = map(&all, &[(written, "1")]).expect_err(written);
            assert!(cause.message.contains(words), "{}", cause.message);
        }
    }

    #[test]
    fn only_types_that_every_server_writes_alike_travel_in_binary() {
        assert!(BINARY.is_sorted());
        for (source, target, expected) in [
            (20, 20, true),
            (25, 1043, true),
            (1043, 25, true),
            (23, 20, false),
            (790, 790, false),   // money
            (2205, 2205, false), // regclass
            (16_400, 16_400, false),
            (1700, 1700, true),
        ] {
            assert_eq!(travels_in_binary(source, target), expected, "{source} into {target}");
        }
    }
}
