//! `howdah cache`: the answers of look-ups that are kept on Redis.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use sqlx::Connection;

use super::environment::{self, of_plan, variable};
use super::{Exit, Global, opening, say};
use crate::cache::{self, Identity};
use crate::plan::model::Plan;
use crate::plan::{PlanError, load};
use crate::postgres::deadline::within;
use crate::postgres::dsn::Target;
use crate::postgres::error;
use crate::redis::{Address, Link};
use crate::run::text::clean;
use crate::run::{Cause, human};
use crate::steps::lookup;

/// `howdah cache`.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub struct CacheArgs {
    /// What to do with them.
    #[command(subcommand)]
    pub command: CacheCommand,
}

/// What can be done with answers that are kept.
#[derive(Debug, Subcommand)]
pub enum CacheCommand {
    /// Forget the answers on Redis that match a pattern, so that the database is asked anew
    ///
    /// A run that is under way keeps what it has in its own memory, no longer than the cache's `ttl`.
    Clear(ClearArgs),
    /// Count the answers on Redis, by the name of the cache
    Stats(WhereArgs),
}

/// Whose answers are meant.
#[derive(Debug, Args)]
pub struct WhereArgs {
    /// Those of all databases, and not only of this one
    #[arg(long)]
    pub all_databases: bool,
    /// The plan file, where it holds the addresses of the database and of Redis
    #[arg(long, value_name = "PLAN")]
    pub plan: Option<PathBuf>,
}

/// `howdah cache clear`.
#[derive(Debug, Args)]
pub struct ClearArgs {
    /// NAME:ARGUMENT, with * and ? for any letters: "countries:*", "countries:DE". "*" is all of them
    pub pattern: String,
    /// Whose.
    #[command(flatten)]
    pub of: WhereArgs,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

/// Does what was asked for.
///
/// # Errors
/// Redis or the database cannot be asked; nobody names a Redis.
pub async fn run(global: &Global, args: CacheArgs) -> Result<Exit, Cause> {
    match args.command {
        CacheCommand::Clear(args) => clear(global, &args).await,
        CacheCommand::Stats(args) => stats(global, &args).await,
    }
}

async fn clear(global: &Global, args: &ClearArgs) -> Result<Exit, Cause> {
    let (link, identity, whose) = open(global, &args.of).await?;
    let question = format!("forget the answers `{}` of {whose} on Redis ({})?", args.pattern, link.address().label());
    if !say::confirmed(&clean(&question), args.yes, "this forgets answers")? {
        say::err("nothing was changed");
        return Ok(Exit::Failed);
    }
    let forgotten = cache::clear(&link, identity.as_ref(), &args.pattern).await.map_err(|e| e.cause("clearing"))?;
    say::out(&clean(&format!("{} of {whose} forgotten", answers(forgotten))));
    Ok(Exit::Done)
}

async fn stats(global: &Global, args: &WhereArgs) -> Result<Exit, Cause> {
    let (link, identity, whose) = open(global, args).await?;
    let counts = cache::count(&link, identity.as_ref()).await.map_err(|e| e.cause("counting"))?;
    if counts.is_empty() {
        say::out(&clean(&format!("no answers of {whose} on Redis ({})", link.address().label())));
    }
    for (name, count) in counts {
        say::out(&clean(&format!("{name}  {}", answers(count))));
    }
    Ok(Exit::Done)
}

fn answers(n: u64) -> String {
    format!("{} {}", human::count(n), if n == 1 { "answer" } else { "answers" })
}

/// Redis, and which database is meant; in words as well.
async fn open(global: &Global, of: &WhereArgs) -> Result<(Link, Option<Identity>, String), Cause> {
    let plan = match &of.plan {
        Some(path) => Some(load::from_file(path, &of_plan(global.database.as_deref())).map_err(PlanError::into_cause)?),
        None => None,
    };
    let address = Address::resolve(global.redis.as_deref(), plan.as_ref().map(|plan| &plan.redis), &variable)?;
    let address = address.ok_or_else(|| {
        Cause::usage("nobody names a Redis").hint("give --redis redis://user@host:6379/0, or set HOWDAH_REDIS")
    })?;
    let link = Link::open(&address).await.map_err(|e| e.cause("connecting"))?;
    if of.all_databases {
        return Ok((link, None, "all databases".to_owned()));
    }
    let database = plan.as_ref().map(|plan: &Plan| &plan.database);
    let url = database.and_then(|database| database.control.as_ref().or(database.url.as_ref()));
    let target = Target::resolve(global.database.as_deref(), url, &variable)?;
    let mut connection = opening::look(&target).await?;
    let host = environment::host();
    let asked = lookup::identity(&mut connection, target.label(), &host);
    let identity =
        within(opening::CONNECT * 5, asked).await.map_err(|e| error::cause("asking which database it is", &e))?;
    drop(connection.close().await);
    Ok((link, Some(identity), target.label()))
}
