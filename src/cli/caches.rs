//! What the scripts of a plan look things up in: the plan's caches, with Redis where one is named.

use std::sync::Arc;

use super::environment::{self, variable};
use crate::cache::Caches;
use crate::plan::model::Plan;
use crate::postgres::connect::Connector;
use crate::postgres::dsn::Target;
use crate::postgres::session::Session;
use crate::redis::{Address, Link};
use crate::run::Cause;
use crate::steps;
use crate::steps::lookup::Database;

/// The Redis of a plan's caches. `None`: it has none, or nobody names a Redis. `flag`: `--redis`.
///
/// # Errors
/// The address is wrong.
pub(super) fn address(plan: &Plan, flag: Option<&str>) -> Result<Option<Address>, Cause> {
    if plan.caches.is_empty() {
        return Ok(None);
    }
    Address::resolve(flag, Some(&plan.redis), &variable)
}

/// The caches of a plan, asked in sessions called `session`. `None`: it has none. Nothing is connected yet.
pub(super) fn of_plan(plan: &Plan, target: &Target, session: Session, redis: Option<&Address>) -> Option<Arc<Caches>> {
    if plan.caches.is_empty() {
        return None;
    }
    let name = session.application_name.clone();
    let session = Session { statement_timeout: plan.limits.statement_timeout, ..session };
    let connector = Connector { target: target.clone(), limit: plan.database.pool_connect, session };
    let (source, limit) = (Arc::new(plan.source.clone()), steps::deadline(&plan.limits));
    let database = Database::new(Arc::new(connector), source, limit, environment::host(), name);
    Some(Arc::new(Caches::new(&plan.caches, redis.map(Link::lazy), Arc::new(database))))
}
