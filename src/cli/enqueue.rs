//! `howdah enqueue`: a plan into the line of a queue.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::environment::{self, of_plan, variable};
use super::{Exit, Global, say};
use crate::plan::model::RedisOptions;
use crate::queue::backoff::Backoff;
use crate::queue::line::{Added, Line, NAME};
use crate::queue::ticket::{self, ATTEMPTS, LEAST_URGENT, PRIORITY};
use crate::redis::address::Address;
use crate::run::{Cause, human, text};

/// `howdah enqueue`.
#[derive(Debug, Args)]
pub struct EnqueueArgs {
    /// The plan file
    pub plan: PathBuf,
    /// The queue
    #[arg(long, value_name = "NAME", default_value = NAME)]
    pub queue: String,
    /// The lower, the sooner; from 1. Jobs of one priority are taken in their order
    #[arg(long, value_name = "N", default_value_t = PRIORITY, value_parser = clap::value_parser!(u32).range(1..=i64::from(LEAST_URGENT)))]
    pub priority: u32,
    /// How often it may be tried
    #[arg(long, value_name = "N", default_value_t = ATTEMPTS, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub attempts: u32,
    /// How long it rests between two attempts: exponential:1s (at most 5m, with jitter), fixed:5s
    #[arg(long, value_name = "KIND:TIME", default_value = "exponential:1s", value_parser = Backoff::parse)]
    pub backoff: Backoff,
    /// How long it waits before it may be taken
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub delay: Option<Duration>,
    /// The job's id: the same id twice adds nothing
    #[arg(long, value_name = "KEY")]
    pub id: Option<String>,
    /// Only once this job is completed
    #[arg(long, value_name = "JOB")]
    pub after: Option<String>,
    /// Answers for ${NAME} in the plan, before the worker's environment. Never a secret: it lies in Redis
    #[arg(long = "var", value_name = "NAME=VALUE", value_parser = parse_var)]
    pub vars: Vec<(String, String)>,
    /// Leave the plan's text out: the worker has a file of this name in its --plans
    #[arg(long)]
    pub by_name: bool,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

fn parse_var(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it like table=users")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Puts a plan into line.
///
/// # Errors
/// The plan or the command is wrong; Redis does not answer or refuses.
pub async fn run(global: &Global, args: EnqueueArgs) -> Result<Exit, Cause> {
    let env = of_plan(global.database.as_deref());
    let vars = given(args.vars)?;
    let mut checked = ticket::check(&args.plan, vars, args.by_name, environment::who(), &env)?;
    let line = open(global, checked.redis.as_ref(), &args.queue).await?;
    let ticket = &mut checked.ticket;
    (ticket.priority, ticket.attempts, ticket.backoff) = (args.priority, args.attempts, args.backoff);
    (ticket.delay, ticket.id) = (args.delay, args.id);
    if let Some(after) = &args.after {
        line.has(after).await?;
        ticket.data.after = Some(after.clone());
    }
    let added = line.add(ticket).await?;
    for notice in &checked.notices {
        say::err(&format!("note: {}", text::clean(notice)));
    }
    let place = line.place(&added.id).await?;
    let name = checked.ticket.data.name.as_deref().unwrap_or_default();
    if args.json {
        let told = json!({
            "id": added.id, "name": name, "queue": line.name(), "server": line.link().address().label(),
            "added": !added.was_there, "ahead": place,
        });
        say::out(&told.to_string());
    } else {
        say::out(&told(&added, name, &line, place, args.delay, args.after.as_deref()));
    }
    Ok(Exit::Done)
}

fn told(
    added: &Added,
    name: &str,
    line: &Line,
    place: Option<u64>,
    delay: Option<Duration>,
    after: Option<&str>,
) -> String {
    let (id, name) = (text::clean(&added.id), text::clean(name));
    if added.was_there {
        return format!("job {id} is there already: nothing was added; see it: howdah queue");
    }
    let place = match (place, after, delay) {
        (_, Some(after), _) => format!("waits for job {}", text::clean(after)),
        (_, None, Some(delay)) => format!("may be taken in {}", human::rough_duration(delay)),
        (Some(0), None, None) => "is the next to be taken".to_owned(),
        (Some(ahead), None, None) => format!("waits behind {}", human::count(ahead)),
        (None, None, None) => "was taken at once".to_owned(),
    };
    format!("job {id}: `{name}` {place}, in queue {} on {}", text::clean(line.name()), line.link().address().label())
}

fn given(pairs: Vec<(String, String)>) -> Result<BTreeMap<String, String>, Cause> {
    let mut vars = BTreeMap::new();
    for (name, value) in pairs {
        if vars.insert(name.clone(), value).is_some() {
            return Err(Cause::usage(format!("--var {name} is given twice")));
        }
    }
    Ok(vars)
}

/// Opens a queue on the Redis that is named: by the flag, else by the plan, else by the environment.
///
/// # Errors
/// None is named; it cannot be reached.
pub async fn open(global: &Global, plan: Option<&RedisOptions>, queue: &str) -> Result<Line, Cause> {
    let address = Address::resolve(global.redis.as_deref(), plan, &variable)?.ok_or_else(|| {
        Cause::usage("no Redis is named, and a queue lies on one")
            .hint("name it: --redis redis://host:6379/0, HOWDAH_REDIS, REDIS_URL, or `[redis] url` of the plan")
    })?;
    Line::open(&address, queue).await
}
