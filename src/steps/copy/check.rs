//! Checks a copy on both sides before anything is changed: tables, columns, SQL, rights.

use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row};

use super::look::{Look, Sides};
use super::origin;
use super::pair::{Pair, Ready};
use crate::engine::ports::StepError;
use crate::plan::model::Plan;
use crate::plan::movers::{Address, Copy};
use crate::postgres::catalog::{self, Part};
use crate::postgres::connect;
use crate::postgres::dsn::Target;
use crate::postgres::session::{Session, application_name};
use crate::postgres::{error, ident, sqlstate};
use crate::run::Cause;
use crate::steps::preflight::{Found, Looking};

/// One database of one cluster, as nobody can fake it by another address.
pub(super) const IDENTITY: &str = "SELECT system_identifier::text || '/' || d.oid FROM pg_control_system(), \
                                   pg_database d WHERE d.datname = current_database()";

/// Checks the step against both databases, before anything is changed.
///
/// # Errors
/// Why it cannot work, with the place in the plan.
pub async fn check(
    connection: &mut PgConnection,
    looking: &Looking<'_>,
    copy: &Copy,
    found: &mut Found,
) -> Result<(), Cause> {
    let plan = looking.plan;
    let from = origin::target(copy).map_err(|cause| at(cause, looking, ("from", copy.from.as_ref())))?;
    let mut there = open(from.as_ref(), looking, ("from", copy.from.as_ref())).await?;
    let to = origin::destination(copy).map_err(|cause| at(cause, looking, ("database", copy.database.as_ref())))?;
    let mut elsewhere = open(to.as_ref(), looking, ("database", copy.database.as_ref())).await?;
    let is_elsewhere = match elsewhere.as_mut() {
        Some(elsewhere) => !is_one_database(connection, elsewhere).await,
        None => false,
    };
    let label = from.as_ref().map_or_else(|| "this database".to_owned(), Target::label);
    let look = Look { step: &looking.step.name, what: looking.what, origin: &label, copy, plan: &plan.source };
    let mut sides = match (elsewhere.as_mut(), there.as_mut()) {
        (None, source) => Sides { target: connection, source },
        (Some(target), Some(source)) => Sides { target, source: Some(source) },
        (Some(target), None) => Sides { target, source: Some(connection) },
    };
    let ready = look.ready(&mut sides).await.map_err(final_cause)?;
    let piped = origin::is_apart(copy) || copy.consistent;
    may_read(looking.what, &ready, sides.source(), &label).await?;
    for pair in &ready.pairs {
        may_write(looking.what, copy, pair, sides.target, piped).await?;
        for text in catalog::row_security_notices(sides.source(), &pair.source)
            .await
            .map_err(|e| error::cause(looking.what, &e))?
        {
            found.notices.push(text.replace("are changed and counted", "are copied"));
        }
        if holds_rows(sides.target, pair).await.map_err(|e| error::cause(looking.what, &e))? {
            let label = pair.target.label();
            found.notices.push(format!("{}: `{label}` is not empty: what it holds is left as it is", looking.what));
        }
        if !is_elsewhere && !found.tables.contains(&pair.target) {
            found.tables.push(pair.target.clone());
        }
    }
    Ok(())
}

fn settings(plan: &Plan) -> Session {
    Session {
        application_name: application_name("cli", "check"),
        lock_timeout: plan.limits.lock_timeout,
        statement_timeout: plan.limits.statement_timeout.max(Duration::from_secs(30)),
        idle_in_transaction_timeout: plan.limits.idle_in_transaction_timeout,
    }
}

/// A connection to an address of the step.
async fn open(
    target: Option<&Target>,
    looking: &Looking<'_>,
    address: (&str, Option<&Address>),
) -> Result<Option<PgConnection>, Cause> {
    let Some(target) = target else { return Ok(None) };
    let opened = connect::one(target, looking.plan.database.pool_connect, &settings(looking.plan)).await;
    opened.map(Some).map_err(|cause| at(cause, looking, address))
}

/// With the place of an address in the plan; the address itself is not shown.
fn at(mut cause: Cause, looking: &Looking<'_>, (key, address): (&str, Option<&Address>)) -> Cause {
    cause.message = format!("{}: {}", looking.what, cause.message);
    if let Some(line) = address.and_then(|address| line_of(&looking.plan.source.text, address.span.start)) {
        cause.details.push(format!("`{key}` stands at {}:{line}", looking.plan.source.label));
    }
    cause
}

fn line_of(text: &str, byte: usize) -> Option<usize> {
    text.get(..byte).map(|before| before.matches('\n').count() + 1)
}

/// Whether both connections lead to one database. Where nobody can tell, they do not.
pub(super) async fn is_one_database(here: &mut PgConnection, there: &mut PgConnection) -> bool {
    let here: Result<String, _> = sqlx::query_scalar(IDENTITY).persistent(false).fetch_one(here).await;
    let there: Result<String, _> = sqlx::query_scalar(IDENTITY).persistent(false).fetch_one(there).await;
    matches!((here, there), (Ok(here), Ok(there)) if here == there)
}

/// The cause of a failure, of whatever kind.
pub(super) fn final_cause(failure: StepError) -> Cause {
    match failure {
        StepError::Failed(cause) | StepError::Passing(_, cause) => cause,
        StepError::Stopped => Cause::bug("a copy was looked at by something that can be stopped"),
    }
}

/// Whether the target holds a row already.
pub(super) async fn holds_rows(connection: &mut PgConnection, pair: &Pair) -> Result<bool, sqlx::Error> {
    let sql = format!("SELECT EXISTS (SELECT FROM {})", pair.target.quoted());
    match sqlx::query_scalar(AssertSqlSafe(sql)).persistent(false).fetch_one(connection).await {
        // To write it is not to see it: then nobody can tell, and nothing is said.
        Err(e) if error::code(&e) == Some(sqlstate::INSUFFICIENT_PRIVILEGE) => Ok(false),
        other => other,
    }
}

/// Whether the role may read every table and partition: partitions are read one by one.
async fn may_read(what: &str, ready: &Ready, connection: &mut PgConnection, label: &str) -> Result<(), Cause> {
    let parts: Vec<&Part> = ready.shares.iter().map(|share| share.part()).collect();
    let oids: Vec<i64> = parts.iter().map(|part| part.oid).collect();
    let failed = |e: sqlx::Error| error::cause(what, &e);
    let refused: Option<(i64, String)> = sqlx::query_as(
        "SELECT o, current_user::text FROM unnest($1::int8[]) WITH ORDINALITY AS u(o, at) \
         WHERE NOT has_any_column_privilege(o::oid, 'SELECT') ORDER BY at LIMIT 1",
    )
    .bind(oids)
    .persistent(false)
    .fetch_optional(connection)
    .await
    .map_err(failed)?;
    let Some((oid, role)) = refused else { return Ok(()) };
    let Some(part) = parts.into_iter().find(|part| part.oid == oid) else { return Ok(()) };
    Err(Cause::new(format!("{what}: role `{role}` may not read `{}` in {label}", part.label()))
        .sqlstate(sqlstate::INSUFFICIENT_PRIVILEGE)
        .hint(format!("as its owner: GRANT SELECT ON {} TO {}", part.quoted(), ident::quote(&role))))
}

/// Whether the role may write the target, and whatever else the step does to it.
async fn may_write(
    what: &str,
    copy: &Copy,
    pair: &Pair,
    connection: &mut PgConnection,
    piped: bool,
) -> Result<(), Cause> {
    let failed = |e: sqlx::Error| error::cause(what, &e);
    let row = sqlx::query(
        "SELECT current_user::text AS role, row_security_active($1::int8::oid) AS secured, \
                has_table_privilege($1::int8::oid, 'INSERT') OR NOT EXISTS (SELECT FROM unnest($2::text[]) AS c \
                    WHERE NOT has_column_privilege($1::int8::oid, c, 'INSERT')) AS inserts, \
                has_table_privilege($1::int8::oid, 'SELECT') OR NOT EXISTS (SELECT FROM unnest($2::text[]) AS c \
                    WHERE NOT has_column_privilege($1::int8::oid, c, 'SELECT')) AS selects, \
                has_table_privilege($1::int8::oid, 'DELETE') AS deletes",
    )
    .bind(pair.target.oid)
    .bind(pair.names())
    .persistent(false)
    .fetch_one(&mut *connection)
    .await
    .map_err(failed)?;
    let has = |name: &str| row.try_get::<bool, _>(name).map_err(failed);
    let role: String = row.try_get("role").map_err(failed)?;
    let (quoted, label, to) = (pair.target.quoted(), pair.target.label(), ident::quote(&role));
    let needs = [
        ("INSERT", "write", !has("inserts")?),
        ("SELECT", "read", copy.verify.is_some() && !has("selects")?),
        ("DELETE", "delete from", copy.repair && !has("deletes")?),
    ];
    if let Some((right, word, _)) = needs.iter().find(|(_, _, lacks)| *lacks) {
        return Err(Cause::new(format!("{what}: role `{role}` may not {word} `{label}`"))
            .sqlstate(sqlstate::INSUFFICIENT_PRIVILEGE)
            .hint(format!("as its owner: GRANT {right} ON {quoted} TO {to}")));
    }
    if copy.repair {
        refuse_cascade(what, pair, connection).await?;
    }
    may_set_sequences(what, pair, connection, &to).await?;
    if piped && has("secured")? {
        return Err(Cause::usage(format!("{what}: row security of `{label}` is active for role `{role}`, and COPY refuses that"))
            .hint(format!("copy as the table's owner, or as a role with BYPASSRLS; or: ALTER TABLE {quoted} DISABLE ROW LEVEL SECURITY")));
    }
    Ok(())
}

/// A range that is copied again is first taken out of the target: nothing else may go with it.
async fn refuse_cascade(what: &str, pair: &Pair, connection: &mut PgConnection) -> Result<(), Cause> {
    let follower: Option<String> = sqlx::query_scalar(
        "SELECT conrelid::regclass::text FROM pg_constraint WHERE contype = 'f' AND confrelid = $1::int8::oid \
         AND confdeltype IN ('c', 'n', 'd') ORDER BY 1 LIMIT 1",
    )
    .bind(pair.target.oid)
    .persistent(false)
    .fetch_optional(connection)
    .await
    .map_err(|e| error::cause(what, &e))?;
    let Some(follower) = follower else { return Ok(()) };
    Err(Cause::usage(format!(
        "{what}: `repair` takes rows out of `{}` before it copies them again, and rows of `{follower}` would go, or be \
         changed, with them (ON DELETE)",
        pair.target.label()
    ))
    .hint("take `repair` out of the step: `verify` names the ranges that differ")
    .hint(format!("or drop the foreign key of `{follower}` in a `statement` before, and add it again after")))
}

/// The sequences of copied columns are set at the end: better to know now whether that may be.
async fn may_set_sequences(what: &str, pair: &Pair, connection: &mut PgConnection, to: &str) -> Result<(), Cause> {
    let closed: Option<String> = sqlx::query_scalar(
        "SELECT d.objid::regclass::text FROM pg_depend d JOIN pg_class c ON c.oid = d.objid AND c.relkind = 'S' \
         JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid \
         WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i') \
           AND d.refobjid = $1::int8::oid AND a.attname = ANY ($2::text[]) \
           AND CASE WHEN c.relkind = 'S' THEN NOT (has_sequence_privilege(d.objid, 'UPDATE') \
                AND has_sequence_privilege(d.objid, 'SELECT')) ELSE false END LIMIT 1",
    )
    .bind(pair.target.oid)
    .bind(pair.names())
    .persistent(false)
    .fetch_optional(connection)
    .await
    .map_err(|e| error::cause(what, &e))?;
    let Some(sequence) = closed else { return Ok(()) };
    let label = pair.target.label();
    Err(Cause::new(format!("{what}: the sequence {sequence} of `{label}` is to be set at the end, and may not be"))
        .sqlstate(sqlstate::INSUFFICIENT_PRIVILEGE)
        .hint(format!("as its owner: GRANT SELECT, UPDATE ON SEQUENCE {sequence} TO {to}")))
}

#[cfg(test)]
mod tests {
    use super::line_of;

    #[test]
    fn an_address_is_found_by_its_line() {
        assert_eq!(line_of("a\nb\nc", 4), Some(3));
        assert_eq!(line_of("a", 9), None);
    }
}
