//! What `howdah check` tells, for people and for machines.

use std::fmt::Write as _;

use serde::Serialize;

use super::finding::{Code, Finding, Severity};
use super::outlook::Outlook;
use super::rehearsal::Rehearsal;
use crate::run::Cause;
use crate::run::text::clean;

/// A plan that was checked.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Checked {
    /// The plan's name.
    pub plan: String,
    /// The database: `ann@db1:5432/shop`.
    pub server: String,
    /// The server's version: `15.6`. Empty: it could not be asked.
    pub server_version: String,
    /// Its steps, in order.
    pub steps: Vec<CheckedStep>,
    /// How tables are walked.
    pub walks: Vec<Walks>,
    /// What the operator should know besides.
    pub notices: Vec<String>,
    /// What was found: errors first, then by step.
    pub findings: Vec<Finding>,
    /// What was found and is accepted by `[check] allow`.
    pub allowed: Vec<Finding>,
    /// What will happen, step by step. `None`: the plan cannot work.
    pub outlook: Option<Outlook>,
    /// What a rehearsal has measured, where there was one.
    pub rehearsal: Option<Rehearsal>,
    /// Why the plan cannot work at all: its SQL, a table that is not there.
    pub failure: Option<Cause>,
}

/// A step that was checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckedStep {
    /// Its name.
    pub name: String,
    /// Its kind's word.
    pub kind: &'static str,
    /// It can be checked only once an earlier statement has run.
    pub is_later: bool,
}

/// How a table is walked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Walks {
    /// The table.
    pub table: String,
    /// By its key, or by its blocks: `id`, `id, in 12 partitions`, `block`.
    pub by: String,
}

/// How many findings there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Errors.
    pub errors: usize,
    /// Warnings.
    pub warnings: usize,
    /// Notes.
    pub notes: usize,
    /// Accepted ones.
    pub allowed: usize,
}

impl Checked {
    /// How many findings there are.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let of = |severity| self.findings.iter().filter(|finding| finding.severity == severity).count();
        Counts {
            errors: of(Severity::Error),
            warnings: of(Severity::Warning),
            notes: of(Severity::Note),
            allowed: self.allowed.len(),
        }
    }

    /// Whether the plan may be run.
    #[must_use]
    pub fn may_run(&self) -> bool {
        self.failure.is_none() && self.counts().errors == 0
    }

    /// For people. The failure is left out: it is told as every other failure is.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let version = if self.server_version.is_empty() {
            String::new()
        } else {
            format!(" (PostgreSQL {})", clean(&self.server_version))
        };
        let steps = if self.steps.len() == 1 { "1 step".to_owned() } else { format!("{} steps", self.steps.len()) };
        let _ = writeln!(
            text,
            "{}: {steps}, checked against {}{version}; nothing was changed",
            clean(&self.plan),
            clean(&self.server)
        );
        match &self.outlook {
            Some(outlook) => {
                let _ = writeln!(text, "\n{}", outlook.to_text().trim_end());
            }
            None => {
                for walk in &self.walks {
                    let _ = writeln!(text, "  walks {} by {}", clean(&walk.table), clean(&walk.by));
                }
            }
        }
        if self.outlook.is_some() && !self.notices.is_empty() {
            text.push('\n');
        }
        for notice in &self.notices {
            let _ = writeln!(text, "  {}", clean(notice));
        }
        for step in self.steps.iter().filter(|step| step.is_later && self.outlook.is_none()) {
            let name = clean(&step.name);
            let _ = writeln!(text, "  step \"{name}\" can be checked only once an earlier statement has run");
        }
        grouped(&mut text, &self.findings);
        if !self.allowed.is_empty() {
            text.push('\n');
        }
        for finding in &self.allowed {
            let _ = writeln!(text, "allowed: {}", finding.headline());
        }
        let _ = write!(text, "\n{}", self.summary());
        text
    }

    /// What the rehearsal has measured, and found beyond the first `before` findings. `None`: there was none.
    #[must_use]
    pub fn rehearsal_text(&self, before: usize) -> Option<String> {
        let mut text = format!("\n{}\n", self.rehearsal.as_ref()?.to_text().trim_end());
        grouped(&mut text, self.findings.get(before..).unwrap_or_default());
        let _ = write!(text, "\n{}", self.summary());
        Some(text)
    }

    /// `1 error, 2 warnings, 1 note; 1 allowed`.
    #[must_use]
    pub fn summary(&self) -> String {
        let Counts { errors, warnings, notes, allowed } = self.counts();
        let counted: Vec<String> = [(errors, "error"), (warnings, "warning"), (notes, "note")]
            .into_iter()
            .filter(|(n, _)| *n > 0)
            .map(|(n, word)| if n == 1 { format!("1 {word}") } else { format!("{n} {word}s") })
            .collect();
        let found = if counted.is_empty() { "nothing was found".to_owned() } else { counted.join(", ") };
        let allowed = if allowed == 0 { String::new() } else { format!("; {allowed} allowed") };
        let runs = match (self.failure.is_some(), errors) {
            (true, _) => "; the plan cannot work",
            (false, 1..) => "; `howdah run` refuses the plan",
            (false, 0) => "",
        };
        format!("{found}{allowed}{runs}")
    }

    /// For machines: all of it, with the counts.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let mut json = serde_json::to_value(self).unwrap_or_default();
        json["counts"] = serde_json::to_value(self.counts()).unwrap_or_default();
        json["may_run"] = self.may_run().into();
        json
    }
}

/// Findings in their order: a group of each severity, with room between.
fn grouped(text: &mut String, findings: &[Finding]) {
    let mut last = None;
    for finding in findings {
        if last != Some(finding.severity) {
            text.push('\n');
            last = Some(finding.severity);
        }
        told(text, finding);
    }
}

/// One finding: headline, reason, what mends it, its page.
fn told(text: &mut String, finding: &Finding) {
    let _ = writeln!(text, "{}", finding.headline());
    let _ = writeln!(text, "    why:  {}", clean(&finding.why));
    for (at, line) in finding.mend.iter().enumerate() {
        let label = if at == 0 { "mend:" } else { "     " };
        // Statements can be pasted as they stand. Lines for the plan, remarks and advice are none: ours begin with a keyword.
        let is_sql = line.starts_with(|c: char| c.is_ascii_uppercase());
        let line = if is_sql { ended(line) } else { line.clone() };
        for (at, line) in line.lines().enumerate() {
            let label = if at == 0 { label } else { "     " };
            let _ = writeln!(text, "    {label} {}", clean(line));
        }
    }
    let _ = writeln!(text, "    see:  {}", finding.code.page());
}

/// A statement with its semicolon, before what is said of it.
fn ended(line: &str) -> String {
    match line.split_once("  -- ") {
        Some((sql, remark)) => format!("{sql};  -- {remark}"),
        None => format!("{line};"),
    }
}

/// Errors that keep a run from beginning.
///
/// # Errors
/// There is one among the findings.
pub fn refuse(findings: &[Finding], plan: &str) -> Result<(), Cause> {
    let errors: Vec<&Finding> = findings.iter().filter(|finding| finding.severity == Severity::Error).collect();
    if errors.is_empty() {
        return Ok(());
    }
    let many = if errors.len() == 1 { "an error".to_owned() } else { format!("{} errors", errors.len()) };
    let mut cause = Cause::usage(format!("the check before the run has found {many}; nothing was changed"));
    for finding in &errors {
        let mut text = String::new();
        told(&mut text, finding);
        cause.details.extend(text.lines().map(str::to_owned));
    }
    let mut codes: Vec<Code> = errors.iter().map(|finding| finding.code).collect();
    codes.dedup();
    let codes: Vec<String> = codes.iter().map(|code| format!("\"{}\"", code.0)).collect();
    Err(cause
        .hint(format!("howdah check {plan} tells what else is found"))
        .hint(format!("to run all the same, accept it in the plan: [check] allow = [{}]", codes.join(", "))))
}

/// Warnings as lines for the start of a run: so many, and how many more there are.
#[must_use]
pub fn notices(findings: &[Finding], known: &[String], plan: &str) -> Vec<String> {
    let warnings: Vec<&Finding> = findings
        .iter()
        .filter(|finding| finding.severity == Severity::Warning && !known.contains(&finding.what))
        .collect();
    let mut lines: Vec<String> = warnings.iter().take(NOTICES).map(|finding| finding.headline()).collect();
    if let Some(more @ 1..) = warnings.len().checked_sub(NOTICES) {
        lines.push(format!("{more} more: howdah check {plan}"));
    }
    lines
}

/// Lines of warnings at the start of a run.
const NOTICES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(severity: Severity, code: &'static str) -> Finding {
        Finding {
            code: Code(code),
            severity,
            step: Some("emails".to_owned()),
            subject: "users".to_owned(),
            what: "something is the case".to_owned(),
            why: "it matters".to_owned(),
            mend: vec!["VACUUM \"users\"".to_owned(), "-- or not".to_owned()],
        }
    }

    fn checked(findings: Vec<Finding>) -> Checked {
        Checked {
            plan: "p".to_owned(),
            server: "ann@db/shop".to_owned(),
            server_version: "17.2".to_owned(),
            steps: vec![CheckedStep { name: "emails".to_owned(), kind: "backfill", is_later: false }],
            walks: vec![Walks { table: "users".to_owned(), by: "id".to_owned() }],
            findings,
            ..Checked::default()
        }
    }

    #[test]
    fn findings_are_told_by_severity_with_what_mends_them() {
        let told = checked(vec![finding(Severity::Error, "a"), finding(Severity::Warning, "b")]).to_text();
        let expected = "p: 1 step, checked against ann@db/shop (PostgreSQL 17.2); nothing was changed\n  walks users by id\n\n\
            error[a] step \"emails\": users: something is the case\n    why:  it matters\n    mend: VACUUM \"users\";\n          -- or not\n    \
            see:  assets/reference/checks/a.md\n\n\
            warning[b] step \"emails\": users: something is the case\n    why:  it matters\n    mend: VACUUM \"users\";\n          -- or not\n    \
            see:  assets/reference/checks/b.md\n\n\
            1 error, 1 warning; `howdah run` refuses the plan";
        assert_eq!(told, expected);
    }

    #[test]
    fn a_plan_without_findings_may_run_and_says_so() {
        let clean = checked(Vec::new());
        assert!(clean.may_run());
        assert!(clean.to_text().ends_with("\n\nnothing was found"));
        let json = clean.to_json();
        assert_eq!(json["may_run"], true);
        assert_eq!(json["counts"]["errors"], 0);
        let failed = Checked { failure: Some(Cause::usage("no table")), ..clean };
        assert!(!failed.may_run());
        assert_eq!(failed.summary(), "nothing was found; the plan cannot work");
    }

    #[test]
    fn what_stands_in_a_finding_cannot_steer_a_terminal() {
        let evil = Finding {
            subject: "u\x1b[2J".to_owned(),
            mend: vec!["DROP \x07 x".to_owned()],
            ..finding(Severity::Note, "a")
        };
        assert!(!checked(vec![evil]).to_text().chars().any(|c| c.is_control() && c != '\n'));
    }

    #[test]
    fn errors_refuse_a_run_and_warnings_are_a_few_lines() {
        let warnings = vec![finding(Severity::Warning, "b"); 11];
        assert_eq!(refuse(&warnings, "p.toml"), Ok(()));
        let lines = notices(&warnings, &[], "p.toml");
        assert_eq!((lines.len(), lines[8].as_str()), (9, "3 more: howdah check p.toml"));
        assert_eq!(notices(&warnings, &["something is the case".to_owned()], "p.toml"), Vec::<String>::new());
        assert_eq!(notices(&warnings[..8], &[], "p.toml").len(), 8);
        let cause =
            refuse(&[finding(Severity::Error, "a"), finding(Severity::Error, "a")], "p.toml").expect_err("errors");
        assert!(cause.message.contains("2 errors"));
        assert!(cause.hints[1].ends_with("[check] allow = [\"a\"]"), "{:?}", cause.hints);
    }
}
