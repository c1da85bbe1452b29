//! What stands against a plan, or should be known before it runs: a finding, with a stable code and what mends it.

use serde::Serialize;

use crate::run::text::clean;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Good to know.
    Note,
    /// It will hurt: slower, more bloat, a lock that is felt.
    Warning,
    /// It will fail, or do harm: the plan is not run.
    Error,
}

impl Severity {
    /// Its word on the screen.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// What is found, for machines and for the docs: words with hyphens that never change, such as `no-index-for-where`. Each has a page,
/// `assets/reference/checks/CODE.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Code(pub &'static str);

impl Code {
    /// Its page in the docs, from the top of the repository.
    #[must_use]
    pub fn page(self) -> String {
        format!("assets/reference/checks/{}.md", self.0)
    }
}

/// One thing that was found. Texts are not cleaned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What kind of thing.
    pub code: Code,
    /// How much it matters.
    pub severity: Severity,
    /// The step that it is about. `None`: the plan, or the database.
    pub step: Option<String>,
    /// What it is about, such as a table, an index, a setting: `users.email`.
    pub subject: String,
    /// What is the case, in one sentence with its figures.
    pub what: String,
    /// Why that matters here, in one sentence.
    pub why: String,
    /// SQL that mends it, one statement each, or lines for the plan. Empty: nothing that can be written down.
    pub mend: Vec<String>,
}

impl Finding {
    /// The finding in one line: `warning[no-index-for-where] users: ...`.
    #[must_use]
    pub fn headline(&self) -> String {
        let step = self.step.as_ref().map(|step| format!("step \"{}\": ", clean(step))).unwrap_or_default();
        format!("{}[{}] {step}{}: {}", self.severity.word(), self.code.0, clean(&self.subject), clean(&self.what))
    }
}
