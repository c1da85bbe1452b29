//! What an index is to be: its statement, its name, and what makes another one the same.

use std::fmt::Write;

use sha2::{Digest, Sha256};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};

use crate::plan::indexing::Index;
use crate::plan::model::PlanSource;
use crate::postgres::catalog::{self, Indexed};
use crate::postgres::sql::SqlText;
use crate::postgres::{error, ident, sqlstate};
use crate::run::{Cause, RunId, StepIndex};

/// The longest name that the server keeps, in bytes.
const LONGEST_NAME: usize = 63;

/// How an index is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// `CONCURRENTLY`: nobody waits for it.
    Concurrently,
    /// `ON ONLY`: that of a partitioned table, empty until those of its partitions are attached.
    Only,
    /// At once: on a table that nobody else knows.
    AtOnce,
}

/// `CREATE INDEX ...` of this name on this table, both quoted; an empty name lets the server choose.
///
/// # Errors
/// A name in the plan that is not one.
pub fn create(index: &Index, name: &str, table: &str, manner: Manner) -> Result<SqlText, Cause> {
    let unique = if index.unique { "UNIQUE " } else { "" };
    let (concurrently, only) = match manner {
        Manner::Concurrently => ("CONCURRENTLY ", ""),
        Manner::Only => ("", "ONLY "),
        Manner::AtOnce => ("", ""),
    };
    let space = if name.is_empty() { "" } else { " " };
    let mut sql = SqlText::default().ours(&format!("CREATE {unique}INDEX {concurrently}{name}{space}ON {only}{table}"));
    if let Some(method) = &index.method {
        sql = sql.ours(&format!(" USING {}", ident::quote(&identifier("index.method", &method.text)?)));
    }
    let list = index.on.list.clone().unwrap_or_default();
    sql = sql.ours(" (").plans_part("index.on", &index.on.written, list).ours(")");
    if !index.include.is_empty() {
        sql = sql.ours(" INCLUDE (");
        for (at, column) in index.include.iter().enumerate() {
            sql = sql.ours(if at == 0 { "" } else { ", " }).plans("index.include", column);
        }
        sql = sql.ours(")");
    }
    if !index.with.is_empty() {
        let with: Vec<String> = index.with.iter().map(|(name, value)| format!("{name} = {value}")).collect();
        sql = sql.ours(&format!(" WITH ({})", with.join(", ")));
    }
    if let Some(tablespace) = &index.tablespace {
        sql = sql.ours(&format!(" TABLESPACE {}", ident::quote(&identifier("index.tablespace", &tablespace.text)?)));
    }
    if let Some(filter) = &index.filter {
        sql = sql.ours(" WHERE (").plans("index.where", filter).ours(")");
    }
    Ok(sql)
}

fn identifier(key: &str, written: &str) -> Result<String, Cause> {
    ident::parse(written).map_err(|e| Cause::usage(format!("`{key}`: {e}")))
}

/// The bare name of the index: the plan's, or one made of the table and its columns that is the same every time.
///
/// # Errors
/// The plan's is not a name, or too long for the server to keep.
pub fn name(index: &Index, table: &str) -> Result<String, Cause> {
    let Some(written) = &index.name else { return Ok(default_name(index, table)) };
    let name = identifier("index.name", &written.text)?;
    if name.len() > LONGEST_NAME {
        return Err(Cause::usage(format!(
            "`index.name`: a name has at most {LONGEST_NAME} bytes, this has {}",
            name.len()
        ))
        .hint("shorten `name`"));
    }
    Ok(name)
}

/// As the server names indexes, `users_email_idx`; with a few digits where that would not tell two of them apart.
pub(super) fn default_name(index: &Index, table: &str) -> String {
    let words = index.on.list().split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty());
    let columns = words.map(str::to_lowercase).collect::<Vec<_>>().join("_");
    let filter = index.filter.as_ref().map(|filter| filter.text.as_str());
    let plain = format!("{table}_{columns}");
    let full = format!("{plain}_idx");
    if filter.is_none() && full.len() <= LONGEST_NAME {
        return full;
    }
    let told = format!("{table}\0{}\0{}", index.on.list(), filter.unwrap_or_default());
    let digest = Sha256::digest(told);
    let mut end = String::from("_");
    for byte in digest.iter().take(4) {
        // Writing to a String cannot fail.
        let _ = write!(end, "{byte:02x}");
    }
    end.push_str("_idx");
    let mut short = plain;
    while short.len() + end.len() > LONGEST_NAME {
        short.pop();
    }
    short + end.as_str()
}

/// Whose an index is, and how that is told from the index itself.
///
/// It is built under a name that only this step of this run uses. Its final name, this mark as its comment and the step's
/// record are written in one transaction: at no instant can it be taken for somebody else's, nor theirs for ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The run.
    pub run: RunId,
    /// The step.
    pub step: StepIndex,
}

impl Owner {
    /// The comment of an index that the step has made.
    #[must_use]
    pub fn mark(&self) -> String {
        format!("howdah run {} step {}", self.run.0, self.step.0 + 1)
    }

    /// The name under which it is built.
    #[must_use]
    pub fn working_name(&self) -> String {
        format!("howdah_{}_{}", self.run.0.simple(), self.step.0 + 1)
    }

    /// The name under which the part on one partition is built.
    #[must_use]
    pub fn working_part(&self, table: i64) -> String {
        format!("{}_{table}", self.working_name())
    }

    /// Whether the step builds, or has built, an index of that name and comment.
    #[must_use]
    pub fn owns(&self, name: &str, comment: Option<&str>) -> bool {
        let working = self.working_name();
        let is_part = || name.strip_prefix(&working).is_some_and(|rest| rest.starts_with('_'));
        comment == Some(&self.mark()) || name == working || is_part()
    }
}

/// What an index of this definition on `table` would be, as [`catalog::Existing::shape`] tells it: it is made on an empty
/// temporary table of the same columns, looked at, and rolled back. `None`: this role may make no temporary table.
///
/// # Errors
/// The definition is wrong, with its place in the plan; the driver's error.
pub async fn shape(
    connection: &mut PgConnection,
    what: &str,
    index: &Index,
    table: &Indexed,
    source: &PlanSource,
) -> Result<Option<String>, Failure> {
    // Of the same name: an expression may name its table.
    let there = format!("pg_temp.{}", ident::quote(&table.name));
    let sql = create(index, "", &there, Manner::AtOnce).map_err(Failure::Plan)?;
    let mut tx = connection.begin().await?;
    // LIKE waits only for whoever changes the table itself.
    let like = format!("CREATE TEMPORARY TABLE {} (LIKE {}) ON COMMIT DROP", ident::quote(&table.name), table.quoted());
    match sqlx::query(AssertSqlSafe(like)).persistent(false).execute(&mut *tx).await {
        Ok(_) => {}
        Err(e) if error::code(&e) == Some(sqlstate::INSUFFICIENT_PRIVILEGE) => {
            tx.rollback().await?;
            return Ok(None);
        }
        Err(e) => return Err(e.into()),
    }
    if let Err(e) = sqlx::query(AssertSqlSafe(sql.as_str().to_owned())).persistent(false).execute(&mut *tx).await {
        tx.rollback().await?;
        return Err(if error::is_lost(&e) {
            Failure::Sql(e)
        } else {
            Failure::Plan(error::cause_in_plan(what, &e, &sql, source))
        });
    }
    let oid: i64 = sqlx::query_scalar("SELECT to_regclass($1)::oid::int8").bind(&there).fetch_one(&mut *tx).await?;
    let made = catalog::indexes(&mut tx, &[oid]).await?;
    tx.rollback().await?;
    Ok(made.into_iter().next().map(|index| index.shape))
}

/// Why a definition could not be looked at.
#[derive(Debug)]
pub enum Failure {
    /// It is wrong.
    Plan(Cause),
    /// The server or the network.
    Sql(sqlx::Error),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::StepKind;
    use crate::plan::load::from_text;
    use proptest::prelude::*;

    fn index(keys: &str) -> Index {
        let text = format!("[[step]]\nname = 'i'\nindex = {{ {keys} }}\n");
        let plan = from_text("plan.toml", None, &text, &|_: &str| None).expect("a good plan");
        let StepKind::Index(index) = plan.steps[0].kind.clone() else { panic!("an index") };
        *index
    }

    #[test]
    fn the_statement_says_all_that_the_plan_says() {
        let table = [
            ("on = 'users (email)'", "CREATE INDEX CONCURRENTLY \"i\" ON \"t\" (email)"),
            (
                "on = 'users (tags)', unique = true, method = 'gin', include = ['a', '\"B\"'], where = 'a > 1', \
                 with = { fastupdate = false }, tablespace = 'fast'",
                "CREATE UNIQUE INDEX CONCURRENTLY \"i\" ON \"t\" USING \"gin\" (tags) INCLUDE (a, \"B\") \
                 WITH (fastupdate = false) TABLESPACE \"fast\" WHERE (a > 1)",
            ),
        ];
        for (keys, expected) in table {
            let sql = create(&index(keys), "\"i\"", "\"t\"", Manner::Concurrently).expect("a statement");
            assert_eq!(sql.as_str(), expected);
        }
        let only = create(&index("on = 'users (a)'"), "\"i\"", "\"t\"", Manner::Only).expect("a statement");
        assert_eq!(only.as_str(), "CREATE INDEX \"i\" ON ONLY \"t\" (a)");
        let odd = create(&index("on = 'users (a)', method = 'gin; DROP'"), "i", "t", Manner::AtOnce).expect_err("odd");
        assert!(odd.message.contains("`index.method`"), "{}", odd.message);
    }

    #[test]
    fn a_default_name_is_that_of_the_server_where_that_tells_it_apart() {
        let table = [
            ("on = 'users (email)'", "users_email_idx"),
            ("on = 'app.users (lower(email), id DESC)'", "users_lower_email_id_desc_idx"),
            ("on = 'users (id)', where = 'a'", "users_id_"),
        ];
        for (keys, expected) in table {
            let name = name(&index(keys), "users").expect("a name");
            assert!(name.starts_with(expected) && name.ends_with("_idx"), "{name}");
        }
        let [a, b] = ["a", "b"].map(|filter| default_name(&index(&format!("on = 'u (id)', where = '{filter}'")), "u"));
        assert_ne!(a, b);
        assert_eq!(name(&index("on = 'users (a)', name = '\"My Index\"'"), "users").expect("a name"), "My Index");
        assert!(name(&index(&format!("on = 'users (a)', name = '{}'", "n".repeat(64))), "users").is_err());
    }

    #[test]
    fn an_owner_knows_its_own_and_nobody_elses() {
        let run = RunId(uuid::Uuid::from_u128(7));
        let owner = Owner { run, step: StepIndex(0) };
        let other = Owner { run, step: StepIndex(9) };
        assert!(owner.working_part(i64::from(u32::MAX)).len() <= LONGEST_NAME);
        assert!(owner.owns("x", Some(&owner.mark())) && owner.owns(&owner.working_part(7), None));
        assert!(owner.owns(&owner.working_name(), None));
        assert!(!owner.owns("x", None) && !owner.owns("x", Some("mine")));
        assert!(!owner.owns(&other.working_name(), None) && !owner.owns("x", Some(&other.mark())));
        let first_of_ten = Owner { run, step: StepIndex(0) };
        assert!(!first_of_ten.owns(&Owner { run, step: StepIndex(10) }.working_name(), None));
    }

    proptest! {
        #[test]
        fn a_default_name_always_fits(table in "[a-zé\"]{1,70}", columns in "[a-zé, ]{0,70}") {
            let index = index(&format!("on = 'x (a{columns})'"));
            let name = default_name(&index, &table);
            prop_assert!(name.len() <= LONGEST_NAME && name.ends_with("_idx"));
        }
    }
}
