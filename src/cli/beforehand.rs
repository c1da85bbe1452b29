//! The cheap part of the check, before a run: what refuses it, and what is told at its start.

use std::time::Duration;

use super::opening;
use crate::check::upkeep::Patience;
use crate::check::{Code, Finding, allow, checked, look, rights};
use crate::plan::model::Plan;
use crate::postgres::connect;
use crate::postgres::dsn::Target;
use crate::postgres::session::Session;
use crate::run::{Cause, Level, human};

/// How long a run's beginning may be held up by it.
const LIMIT: Duration = Duration::from_secs(2);

/// What was found, or why nothing is known.
pub(super) enum Beforehand {
    /// Findings that are not accepted, in order.
    Looked(Vec<Finding>),
    /// It took too long, or could not be asked.
    Skipped(String),
}

/// Looks at what the catalog says, on a connection of its own that is given up when time is over.
pub(super) async fn look(target: &Target, plan: &Plan, allowed: &[Code]) -> Beforehand {
    let settings = Session { statement_timeout: LIMIT, ..opening::session("check", "cli", Some(&plan.limits)) };
    let looking = async {
        let mut connection = connect::one(target, plan.database.pool_connect, &settings).await?;
        let looked = look::cheap(&mut connection, plan, Patience::default()).await;
        looked.map_err(|e| crate::postgres::error::cause("reading the catalog", &e))
    };
    match tokio::time::timeout(LIMIT, looking).await {
        Ok(Ok(looked)) => {
            let (findings, _) = allow::apart(look::in_order(looked.findings, plan), allowed);
            Beforehand::Looked(findings)
        }
        Ok(Err(cause)) => Beforehand::Skipped(cause.headline()),
        Err(_) => Beforehand::Skipped(format!("no answer within {}", human::duration(LIMIT))),
    }
}

impl Beforehand {
    fn findings(&self) -> &[Finding] {
        match self {
            Self::Looked(findings) => findings,
            Self::Skipped(_) => &[],
        }
    }

    /// A failure of the plan's own check, with every right that is missing and not only the one that it met first.
    pub(super) fn explains(&self, cause: Cause) -> Cause {
        with_rights(cause, self.findings())
    }

    /// Refuses the run where there is an error; else what is told at its start. `known` is told already.
    ///
    /// # Errors
    /// There is an error among the findings.
    pub(super) fn judge(&self, plan: &Plan, known: &[String]) -> Result<Vec<(Level, String)>, Cause> {
        let label = &plan.source.label;
        match self {
            Self::Looked(findings) => {
                checked::refuse(findings, label)?;
                let lines = checked::notices(findings, known, label);
                Ok(lines.into_iter().map(|line| (Level::Warning, line)).collect())
            }
            Self::Skipped(why) => {
                let line = format!("the check before the run was left out: {why}; howdah check {label}");
                Ok(vec![(Level::Info, line)])
            }
        }
    }
}

/// The cause, with the statements that give every right that is missing.
pub(super) fn with_rights(cause: Cause, findings: &[Finding]) -> Cause {
    let missing =
        findings.iter().filter(|finding| [rights::MISSING_RIGHT, rights::LEDGER_RIGHT].contains(&finding.code));
    let grants: Vec<&String> = missing.flat_map(|finding| &finding.mend).collect();
    let is_told = |grant: &&&String| cause.hints.iter().any(|hint| hint.contains(grant.as_str()));
    if grants.is_empty() || grants.iter().all(|grant| is_told(&grant)) {
        return cause;
    }
    let all: Vec<&str> = grants.iter().map(|grant| grant.as_str()).collect();
    cause.hint(format!("all rights that are missing: {};", all.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Severity;

    #[test]
    fn a_failure_is_told_with_every_right_that_is_missing() {
        let missing = |mend: &str| Finding {
            code: rights::MISSING_RIGHT,
            severity: Severity::Error,
            step: None,
            subject: "users".to_owned(),
            what: String::new(),
            why: String::new(),
            mend: vec![mend.to_owned()],
        };
        let findings = [missing("GRANT SELECT ON a TO b"), missing("GRANT SELECT ON c TO b")];
        let told = with_rights(Cause::new("no"), &findings);
        assert_eq!(told.hints, ["all rights that are missing: GRANT SELECT ON a TO b; GRANT SELECT ON c TO b;"]);
        let known = Cause::new("no").hint("as its owner: GRANT SELECT ON a TO b");
        assert_eq!(with_rights(known.clone(), &findings[..1]), known, "told already");
        assert_eq!(with_rights(Cause::new("no"), &[]).hints, Vec::<String>::new());
    }
}
