//! A plan on its way into the line: checked as far as this host can, and without a secret.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::backoff::{Backoff, USUAL};
use super::job::{JobData, is_variable};
use crate::plan::load;
use crate::plan::model::{PlanSource, RedisOptions};
use crate::run::Cause;

/// Attempts that a job has where nothing else is asked for.
pub const ATTEMPTS: u32 = 3;
/// The priority of a job where nothing else is asked for: the lower, the sooner.
pub const PRIORITY: u32 = 1;
/// BullMQ's greatest number for one.
pub const LEAST_URGENT: u32 = 1 << 21;

/// The environment, asked by name.
pub type Env<'a> = &'a (dyn Fn(&str) -> Option<String> + Sync);

/// A job that is to be put into line.
#[derive(Debug, Clone, PartialEq)]
pub struct Ticket {
    /// What it holds.
    pub data: JobData,
    /// The lower, the sooner; from 1 to [`LEAST_URGENT`].
    pub priority: u32,
    /// How often it may be tried.
    pub attempts: u32,
    /// How long it rests between two attempts.
    pub backoff: Backoff,
    /// How long it waits before it is ready.
    pub delay: Option<Duration>,
    /// Its id, where it is not to be numbered.
    pub id: Option<String>,
}

/// A plan that may be put into line.
pub struct Checked {
    /// The job, with everything that is usual.
    pub ticket: Ticket,
    /// The plan's `[redis]`, where the plan could be read to its end here.
    pub redis: Option<RedisOptions>,
    /// What the enqueuer should know.
    pub notices: Vec<String>,
}

/// Reads and checks a plan as a worker will. A variable that is not set here is only worth a notice: the worker may have it.
///
/// `by_name` leaves the text out: the worker finds the plan among its own. `by` says who asks.
///
/// # Errors
/// The plan is wrong; it or a variable holds a password; a variable is given that the plan does not mention.
pub fn check(
    path: &Path,
    vars: BTreeMap<String, String>,
    by_name: bool,
    by: String,
    env: Env<'_>,
) -> Result<Checked, Cause> {
    let given = |name: &str| vars.get(name).cloned().or_else(|| env(name));
    let mut notices = Vec::new();
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let (source, name, redis) = match load::from_file(path, &given) {
        Ok(plan) => (plan.source, plan.name, Some(plan.redis)),
        Err(error) => {
            let missing: Option<Vec<String>> = error.only_missing().map(|names| names.map(str::to_owned).collect());
            let (Some(missing), Some(source)) = (missing, error.source_text()) else { return Err(error.into_cause()) };
            let names = missing.iter().map(|name| format!("${{{name}}}")).collect::<Vec<_>>().join(", ");
            notices.push(format!("{names} is not set here: the worker must have it, or give it by --var"));
            let name = named(&source.text).unwrap_or_else(|| stem.clone());
            (source.clone(), name, None)
        }
    };
    refuse_secrets(&source, &vars)?;
    for name in vars.keys() {
        if !is_variable(name) {
            return Err(Cause::usage(format!("`{name}` is not the name of a variable"))
                .hint("--var name=value: letters, digits and `_`, and no digit first"));
        }
        if !source.text.contains(&format!("${{{name}")) {
            return Err(Cause::usage(format!("the plan does not mention ${{{name}}}")).hint(format!(
                "--var {name}=... would change nothing; write ${{{name}}} in the plan, or leave it out"
            )));
        }
    }
    let data = JobData {
        after: None,
        by: Some(by),
        name: Some(if by_name { stem } else { name }),
        path: source.path.as_ref().filter(|_| !by_name).map(|path| path.display().to_string()),
        vars,
        plan: (!by_name).then_some(source.text),
    };
    let ticket = Ticket { data, priority: PRIORITY, attempts: ATTEMPTS, backoff: USUAL, delay: None, id: None };
    Ok(Checked { ticket, redis, notices })
}

/// Whoever can read Redis can read a job.
fn refuse_secrets(source: &PlanSource, vars: &BTreeMap<String, String>) -> Result<(), Cause> {
    let hint = "write ${NAME} in its place, and set NAME in the worker's environment";
    if source.redacted() != source.text {
        return Err(Cause::usage(format!("the plan `{}` holds a password, which would lie in Redis", source.label))
            .hint(hint)
            .hint("or leave the plan's text out: --by-name"));
    }
    for (name, value) in vars {
        // As it would stand in the plan, and by itself.
        let filled = source.text.replace(&format!("${{{name}}}"), value);
        let is_secret = [format!("url = \"{value}\""), filled].into_iter().any(|text| {
            let given = PlanSource { path: None, label: String::new(), text };
            given.redacted() != given.text
        });
        if is_secret {
            return Err(Cause::usage(format!("--var {name} holds a password, which would lie in Redis")).hint(hint));
        }
    }
    Ok(())
}

/// The plan's own name, where it can be told without its variables.
fn named(text: &str) -> Option<String> {
    let table: toml::Table = text.parse().ok()?;
    table.get("name")?.as_str().filter(|name| !name.contains("${")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: &str = "name = \"tidy\"\n[[step]]\nname = \"a\"\nstatement = \"DELETE FROM ${table}\"\n";

    fn checked(text: &str, vars: &[(&str, &str)], by_name: bool) -> Result<Checked, Cause> {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("plan.toml");
        std::fs::write(&path, text).expect("a plan");
        let vars = vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        check(&path, vars, by_name, "ann@ops1".to_owned(), &|_| None)
    }

    #[test]
    fn a_plan_goes_into_line_with_its_text_its_variables_and_who_asked() {
        let checked = checked(PLAN, &[("table", "users")], false).expect("a plan");
        let data = &checked.ticket.data;
        assert_eq!((data.plan.as_deref(), data.name.as_deref()), (Some(PLAN), Some("tidy")));
        assert_eq!((data.by.as_deref(), data.vars["table"].as_str()), (Some("ann@ops1"), "users"));
        assert!(checked.notices.is_empty() && checked.redis.is_some());
        assert_eq!((checked.ticket.priority, checked.ticket.attempts), (1, 3));
    }

    #[test]
    fn by_name_only_the_files_name_goes_into_line() {
        let data = checked(PLAN, &[("table", "users")], true).expect("a plan").ticket.data;
        assert_eq!((data.plan, data.path, data.name.as_deref()), (None, None, Some("plan")));
    }

    #[test]
    fn a_variable_that_only_the_worker_has_is_a_notice_and_any_other_mistake_a_refusal() {
        let fine = checked(PLAN, &[], false).expect("the worker may have it");
        assert_eq!(fine.notices.len(), 1);
        assert!(fine.notices[0].contains("${table}"));
        assert_eq!(fine.ticket.data.name.as_deref(), Some("tidy"));
        let both = PLAN.replace("name = \"a\"", "name = \"a\"\nwhat = 1");
        assert!(checked(&both, &[], false).is_err());
        let unknown = checked(PLAN, &[("table", "a"), ("tabel", "b")], false).err().expect("refused");
        assert!(unknown.message.contains("${tabel}"));
    }

    #[test]
    fn a_password_does_not_go_into_line() {
        let text = format!("[database]\nurl = \"postgres://ann:hunter2@db/x\"\n{}", &PLAN[14..]);
        let cause = checked(&text, &[("table", "a")], false).err().expect("refused");
        assert!(cause.message.contains("password") && !cause.message.contains("hunter2"));
        let cause = checked(PLAN, &[("table", "postgres://ann:hunter2@db/x")], false).err().expect("refused");
        assert!(cause.message.contains("--var table") && !cause.message.contains("hunter2"));
    }
}
