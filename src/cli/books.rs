//! Which ledger a command is about: the database's own, or one on Redis.

use std::path::Path;

use sqlx::postgres::PgConnection;

use super::environment::{self, variable};
use super::{Global, opening};
use crate::ledger::book::Book;
use crate::ledger::redis::book::RedisBook;
use crate::plan::model::{Plan, Store};
use crate::plan::{PlanError, load};
use crate::postgres::dsn::Target;
use crate::redis::Address;
use crate::run::cause::Fault;
use crate::run::id::RunRef;
use crate::run::{Cause, RunId};

/// The ledger of a plan's runs. `flag` is `--redis`.
///
/// # Errors
/// It lies on Redis, and nobody says which, or that cannot be reached.
pub async fn of_plan(flag: Option<&str>, plan: &Plan) -> Result<Book, Cause> {
    match plan.store {
        Store::Postgres => Ok(Book::Postgres),
        Store::Redis => Ok(Book::Redis(on_redis(flag, plan).await?)),
    }
}

/// The Redis that holds the ledger of a plan's runs.
///
/// # Errors
/// Nobody says which, or it cannot be reached.
pub async fn on_redis(flag: Option<&str>, plan: &Plan) -> Result<RedisBook, Cause> {
    let address = Address::resolve(flag, Some(&plan.redis), &variable)?.ok_or_else(|| {
        Cause::usage("the plan keeps its ledger on Redis (`ledger.store = \"redis\"`), and nobody says where that is")
            .hint("name it: `url` in `[redis]`, --redis URL, HOWDAH_REDIS or REDIS_URL")
    })?;
    RedisBook::open(&address).await
}

/// The database that a command is about: by the flag, by the plan where it is given, or by the environment.
///
/// # Errors
/// The plan is wrong, or no database is named.
pub fn target(global: &Global, plan: Option<&Path>) -> Result<(Target, Option<Plan>), Cause> {
    let read = |path| load::from_file(path, &environment::of_plan(global.database.as_deref()));
    let plan = plan.map(read).transpose().map_err(PlanError::into_cause)?;
    let address = plan.as_ref().and_then(|plan| plan.database.control.as_ref().or(plan.database.url.as_ref()));
    let target = Target::resolve(global.database.as_deref(), address, &variable)?;
    Ok((target, plan))
}

/// The ledgers that are looked into for a run, in this order.
///
/// A plan says which one it is. Without one it is the database's; Redis comes first where `--redis` names it, and last where
/// only the environment does: that may be somebody else's.
///
/// # Errors
/// The Redis that is meant cannot be reached.
pub async fn all(flag: Option<&str>, plan: Option<&Plan>) -> Result<Vec<Book>, Cause> {
    if let Some(plan) = plan {
        return Ok(vec![of_plan(flag, plan).await?]);
    }
    let Some(address) = Address::resolve(flag, None, &variable)? else { return Ok(vec![Book::Postgres]) };
    match RedisBook::open(&address).await {
        Ok(book) if flag.is_some() => Ok(vec![Book::Redis(book), Book::Postgres]),
        Ok(book) => Ok(vec![Book::Postgres, Book::Redis(book)]),
        Err(cause) if flag.is_some() => Err(cause),
        Err(cause) => {
            tracing::warn!("runs whose ledger lies on Redis are not looked at: {}", cause.headline());
            Ok(vec![Book::Postgres])
        }
    }
}

/// The run that a person means, and the ledger that it lies in.
///
/// # Errors
/// None, or several, of that name.
pub async fn find(
    books: Vec<Book>,
    connection: &mut PgConnection,
    named: Option<&RunRef>,
    unfinished: bool,
) -> Result<(Book, RunId), Cause> {
    let mut first = None;
    for book in books {
        match book.find(connection, named, unfinished).await {
            Ok(run) => return Ok((book, run)),
            // Not here. Where a ledger could not be asked, another one's run is not the one that is meant.
            Err(cause) if cause.fault == Fault::Usage => first = first.or(Some(cause)),
            Err(cause) => return Err(cause),
        }
    }
    Err(first.unwrap_or_else(|| Cause::bug("no ledger was looked into")))
}

/// What cannot be done with a run whose ledger lies on Redis. `what` is a sentence's beginning: `a run is watched from elsewhere`.
#[must_use]
pub fn only_in_the_database(what: &str) -> Cause {
    Cause::usage(format!("{what} only where its ledger lies in its database; this one's lies on Redis"))
        .hint("watch and steer it in its own console; `howdah status --redis URL` and `howdah report` show it")
}

/// Why a run was not found: it may be one whose ledger lies on Redis.
pub async fn not_found(
    flag: Option<&str>,
    target: &Target,
    named: Option<&RunRef>,
    (cause, what): (Cause, &str),
) -> Cause {
    let Ok(books) = all(flag, None).await else { return cause };
    let Ok(mut connection) = opening::look(target).await else { return cause };
    for book in books.into_iter().filter(|book| matches!(book, Book::Redis(_))) {
        if book.find(&mut connection, named, false).await.is_ok() {
            return only_in_the_database(what);
        }
    }
    cause
}

/// What a plan's ledger on Redis means for its run, in lines.
///
/// # Errors
/// Redis cannot be reached.
pub async fn notices(flag: Option<&str>, plan: &Plan) -> Result<Vec<String>, Cause> {
    if plan.store != Store::Redis {
        return Ok(Vec::new());
    }
    let book = on_redis(flag, plan).await?;
    let mut lines = vec![format!("its ledger lies on Redis ({}): each row is changed at least once", book.label())];
    lines.extend(book.advice().await?);
    Ok(lines)
}
