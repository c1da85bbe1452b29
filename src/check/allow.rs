//! `[check] allow = ["code", ...]`: findings that somebody has accepted.

use super::finding::{Code, Finding};
use crate::plan::model::Plan;
use crate::postgres::catalog::near;
use crate::run::Cause;

/// The codes that a plan accepts.
///
/// # Errors
/// One of them is no code: with its place in the plan, and the one that was meant.
pub fn codes(plan: &Plan) -> Result<Vec<Code>, Cause> {
    plan.check
        .allow
        .iter()
        .map(|written| {
            let known = super::codes();
            if let Some(code) = known.iter().find(|code| code.0 == written.text) {
                return Ok(*code);
            }
            let mut cause = Cause::usage(format!("`check.allow`: there is no finding `{}`", written.text));
            cause.details = plan.source.excerpt_in_sql(written, 0);
            Err(match near(&written.text, known.iter().map(|code| code.0)) {
                Some(meant) => cause.hint(format!("did you mean `{meant}`?")),
                None => {
                    cause.hint("write a code as `howdah check` prints it, in brackets: `allow = [\"triggers-fire\"]`")
                }
            })
        })
        .collect()
}

/// The findings that stand, and those that are accepted.
#[must_use]
pub fn apart(findings: Vec<Finding>, allowed: &[Code]) -> (Vec<Finding>, Vec<Finding>) {
    findings.into_iter().partition(|finding| !allowed.contains(&finding.code))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::load;

    fn plan(allow: &str) -> Plan {
        let text = format!("[check]\nallow = {allow}\n[[step]]\nname = 's'\nstatement = 'SELECT 1'\n");
        load::from_text("p.toml", None, &text, &|_| None).expect("a plan")
    }

    #[test]
    fn a_code_that_is_none_is_refused_with_its_place_and_the_one_that_was_meant() {
        let allowed = codes(&plan("['triggers-fire', 'no-replica-identity']")).expect("codes");
        assert_eq!(allowed.iter().map(|code| code.0).collect::<Vec<_>>(), ["triggers-fire", "no-replica-identity"]);
        let wrong = codes(&plan("['triggers-fires']")).expect_err("no such code");
        assert_eq!(wrong.hints, ["did you mean `triggers-fire`?"]);
        assert!(wrong.details.iter().any(|line| line.contains("allow = ['triggers-fires']")), "{:?}", wrong.details);
        assert!(codes(&plan("'whatever'")).expect_err("no such code").hints[0].contains("howdah check"));
    }
}
