//! `howdah run`: a plan from its file, on one's own database.

use super::books;
use super::desk;
use super::detach::{self, Detached};
use super::drive::{self, Job};
use super::environment::{self, of_plan, variable};
use super::log::Log;
use super::next::{self, Subject};
use super::opening::{self, Slots};
use super::{Exit, Global, RunArgs, dry_run};
use crate::plan::model::{Plan, Store};
use crate::plan::{PlanError, load};
use crate::postgres::dsn::Target;
use crate::run::Cause;

/// Runs a plan.
///
/// # Errors
/// The plan or the command is wrong. What goes wrong later is in the exit code.
pub async fn run(global: &Global, args: RunArgs) -> Result<Exit, Cause> {
    let plan = load::from_file(&args.plan, &of_plan(global.database.as_deref())).map_err(PlanError::into_cause)?;
    let target = Target::resolve(
        global.database.as_deref(),
        plan.database.control.as_ref().or(plan.database.url.as_ref()),
        &variable,
    )?;
    if args.dry_run {
        return dry_run::run(global, &target, &plan).await;
    }
    let run = environment::new_run();
    if args.detach {
        if plan.store == Store::Redis {
            return Err(books::only_in_the_database("a run is driven in the background"));
        }
        let mut arguments = vec!["run".into(), args.plan.clone().into()];
        arguments.extend(args.new.then(|| "--new".into()));
        arguments.extend(args.show.metrics.arguments());
        let flags = resume_flags(global, Some(&plan));
        let (plan, theme, mouse) = (Some(args.plan), args.show.theme, args.show.mouse);
        let detached = Detached { target: &target, flags, run, arguments, before: None, plan, theme, mouse };
        return detach::run(global, detached).await;
    }
    let log = Log::begin(global.log_level.as_deref())?;
    log.of_run(run)?;
    let slots = Slots::of(global);
    // A terminal may be lost before the run is opened.
    slots.on_hangup.send_replace(plan.on_hangup);
    slots.tell_those_of(&plan);
    let opening = slots.opening(target.clone(), Some(resume_flags(global, Some(&plan))));
    let queue = desk::queue::named(global, Some(&plan), None);
    let job = Job {
        start: drive::starting(run.short(), plan.name.clone()),
        farewell: Vec::new(),
        opener: Box::pin(opening::begin(opening, plan, run, args.new)),
        slots,
        target,
        queue,
    };
    let driven = drive::drive(job, &args.show).await?;
    let subject = Subject { run, plan: Some(args.plan), accept_changed_plan: false, show: args.show };
    Ok(next::after(global, driven, subject).await)
}

/// What has to stand behind `howdah resume RUN` so that it finds the same database again. Never a password.
#[must_use]
pub fn resume_flags(global: &Global, plan: Option<&Plan>) -> String {
    let flag = |name: &str, address: &Option<String>| {
        address.as_ref().map(|address| format!(" --{name} {}", quoted(&without_password(address))))
    };
    let (database, redis) = (flag("database", &global.database), flag("redis", &global.redis));
    let on_redis = |plan: &&Plan| plan.store == Store::Redis;
    let in_plan = |plan: &&Plan| plan.database.control.is_some() || plan.database.url.is_some();
    // Without the plan nobody knows that its ledger lies on Redis, nor under which prefix.
    let wanted = plan.filter(|plan| on_redis(plan) || database.is_none() && in_plan(plan));
    let path = wanted.and_then(|plan| plan.source.path.as_ref());
    let path = path.map(|path| format!(" --plan {}", quoted(&path.display().to_string())));
    let redis = redis.filter(|_| plan.is_none() || plan.as_ref().is_some_and(on_redis));
    [database, redis, path].into_iter().flatten().collect()
}

/// The address without its password, wherever it stands in it.
fn without_password(address: &str) -> String {
    if let Ok(mut url) = url::Url::parse(address) {
        if url.password().is_some() {
            let _ = url.set_password(Some("***"));
        }
        let secret = url.query_pairs().any(|(name, _)| name == "password");
        if secret {
            let kept: Vec<(String, String)> = url
                .query_pairs()
                .filter(|(name, _)| name != "password")
                .map(|(n, v)| (n.into_owned(), v.into_owned()))
                .collect();
            url.query_pairs_mut().clear().extend_pairs(kept);
        }
        return url.to_string();
    }
    // An address that is no URL to the parser may still hold a password, as `postgres://user:secret@/name` does.
    if address.contains("password") || address.contains("://") { "...".to_owned() } else { address.to_owned() }
}

/// For a shell: quoted where it has to be.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@=%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_repeated_without_its_password() {
        let table = [
            ("postgres://ann:hunter2@db1/shop", "postgres://ann:***@db1/shop"),
            ("postgres://ann@db1/shop?password=hunter2&sslmode=require", "postgres://ann@db1/shop?sslmode=require"),
            ("postgres://ann:hunter2@/shop", "..."),
            ("host=db1 password=hunter2", "..."),
            ("host=db1 dbname=shop", "host=db1 dbname=shop"),
        ];
        for (address, shown) in table {
            assert_eq!(without_password(address), shown);
        }
    }

    #[test]
    fn a_word_is_quoted_for_the_shell_where_it_must_be() {
        assert_eq!(quoted("/srv/plan.toml"), "/srv/plan.toml");
        assert_eq!(quoted("it's here"), r"'it'\''s here'");
        assert_eq!(quoted("a?b&c"), "'a?b&c'");
    }
}
