//! What a job holds, and which run it is. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::run::{Cause, RunId};

/// What a job holds. Never a password: it can be read by everybody who can read Redis.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobData {
    /// The job that has to be completed first, by its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Who asked for it: `ann@ops1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// The plan's name; where there is no text, the worker's file `NAME.toml`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where the plan lay when it was put into line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Answers for `${NAME}` in the plan, before the worker's environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub vars: BTreeMap<String, String>,
    /// The plan's text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
}

impl JobData {
    /// Reads what a producer has put into a job.
    ///
    /// # Errors
    /// It is not what a job of howdah holds: a usage [`Cause`] that names the key.
    pub fn read(data: &Value) -> Result<Self, Cause> {
        let hint = "a job holds {\"plan\": \"<a plan's text>\"} or {\"name\": \"<a plan of the worker's>\"}, and may hold \
                    \"vars\", \"by\", \"path\" and \"after\"";
        let read: Self = serde_json::from_value(data.clone())
            .map_err(|e| Cause::usage(format!("the job's data is not howdah's: {e}")).hint(hint))?;
        let empty = |text: &Option<String>| text.as_deref().is_none_or(|text| text.trim().is_empty());
        if empty(&read.plan) && empty(&read.name) {
            return Err(Cause::usage("the job's data holds neither `plan` nor `name`").hint(hint));
        }
        if let Some(name) = read.name.as_deref().filter(|name| read.plan.is_none() && !is_file_stem(name)) {
            return Err(Cause::usage(format!("`{name}` is not the name of a plan"))
                .hint("a plan is named by its file in the worker's --plans, without `.toml`, and without a folder"));
        }
        if let Some(name) = read.vars.keys().find(|name| !is_variable(name)) {
            return Err(Cause::usage(format!("`{name}` is not the name of a variable"))
                .hint("letters, digits and `_`, and no digit first"));
        }
        Ok(read)
    }
}

/// Whether it may stand in `${NAME}`.
#[must_use]
pub fn is_variable(name: &str) -> bool {
    let first = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    first && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Whether it names a file and leads nowhere else: it comes from whoever can write to Redis.
fn is_file_stem(name: &str) -> bool {
    !name.starts_with('.') && !name.chars().any(|c| matches!(c, '/' | '\\' | '\0') || c.is_control())
}

/// The run that a job is: the same for whoever takes the job, and another one for a job that was removed and put into line
/// again under the same id. `added_ms` is the job's time, in milliseconds since 1970; `queue` is its full name.
#[must_use]
pub fn run_id(queue: &str, id: &str, added_ms: u64) -> RunId {
    let digest = Sha256::digest(format!("{queue}:{id}:{added_ms}"));
    let mut random = [0; 10];
    random.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    // 48 bits of milliseconds are enough for eight thousand years; a producer's nonsense must still be an id.
    let ms = added_ms & ((1 << 48) - 1);
    RunId(uuid::Builder::from_unix_timestamp_millis(ms, &random).into_uuid())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn a_job_is_the_same_run_for_whoever_takes_it() {
        let run = run_id("howdah:howdah", "12", 1_700_000_000_000);
        assert_eq!(run, run_id("howdah:howdah", "12", 1_700_000_000_000));
        assert_eq!(run.0.get_version_num(), 7);
        let others = [
            run_id("howdah:howdah", "13", 1_700_000_000_000),
            run_id("howdah:other", "12", 1_700_000_000_000),
            run_id("howdah:howdah", "12", 1_700_000_000_001),
        ];
        assert!(!others.contains(&run));
    }

    #[test]
    fn a_plans_text_or_its_name_is_enough() {
        let data = JobData::read(&json!({ "plan": "[[step]]" })).expect("a text is enough");
        assert_eq!((data.plan.as_deref(), data.name), (Some("[[step]]"), None));
        let data = JobData::read(&json!({ "name": "emails", "vars": { "table": "users" } })).expect("a name is enough");
        assert_eq!(data.vars["table"], "users");
    }

    #[test]
    fn what_is_no_job_of_ours_is_refused_with_the_key() {
        let table = [
            (json!({}), "neither `plan` nor `name`"),
            (json!("emails"), "not howdah's"),
            (json!({ "plan": " ", "name": "" }), "neither"),
            (json!({ "plan": 7 }), "expected a string"),
            (json!({ "plan": "x", "table": "users" }), "unknown field `table`"),
            (json!({ "name": "../etc/passwd" }), "not the name of a plan"),
            (json!({ "name": ".hidden" }), "not the name of a plan"),
            (json!({ "name": "a", "vars": { "1a": "x" } }), "not the name of a variable"),
            (json!({ "name": "a", "vars": { "a": 1 } }), "expected a string"),
        ];
        for (data, said) in table {
            let cause = JobData::read(&data).expect_err("refused");
            assert!(cause.message.contains(said), "{}", cause.message);
            assert_eq!(cause.fault, crate::run::cause::Fault::Usage);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            (after, by, name) in (".{1,8}", ".{0,8}", "[a-z]{1,8}"),
            vars in prop::collection::btree_map("[a-z_][a-z0-9_]{0,5}", ".{0,9}", 0..4),
            plan in prop::option::of("[^ ].{0,30}"),
        ) {
            let data = JobData { after: Some(after), by: Some(by), name: Some(name), path: None, vars, plan };
            let written = serde_json::to_value(&data).expect("JSON");
            prop_assert_eq!(JobData::read(&written), Ok(data));
        }

        #[test]
        fn any_time_gives_an_id(ms: u64, id in ".{0,9}") {
            prop_assert_eq!(run_id("q", &id, ms).0.get_version_num(), 7);
        }
    }
}
