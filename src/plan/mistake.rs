//! What can be wrong in a plan, in words, each with what to do about it.

use super::alarms::AlarmMistake;
use super::format;
use super::indexing::IndexMistake;
use super::shared::RedisMistake;
use super::window::BadWindow;

/// One kind of mistake. Values that were filled in from the environment are never part of it: they may be secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Mistake {
    #[error("this is not TOML: {0}")]
    Syntax(String),
    #[error("`{0}` is written twice")]
    DuplicateKey(String),
    #[error("unknown key `{key}` {place}")]
    UnknownKey { key: String, place: String, advice: String },
    #[error("`{key}` must be {wanted}, not {found}")]
    WrongType { key: String, wanted: &'static str, found: &'static str, advice: String },
    #[error("a plan needs at least one step")]
    NoSteps,
    #[error("a step needs a name")]
    NoName,
    #[error("two steps are called `{0}`")]
    DuplicateStep(String),
    #[error("two probes are called `{0}`")]
    DuplicateProbe(String),
    #[error("a probe needs `sql`")]
    NoProbeSql,
    #[error("`{key}` has no `slow`")]
    NoSlow { key: &'static str },
    #[error("`{key}` is neither a whole number nor \"off\"")]
    NeitherCountNorOff { key: &'static str },
    #[error("this step does not say what it does")]
    NoKind,
    #[error("one step cannot be both {first} and {second}")]
    TwoKinds { first: &'static str, second: &'static str },
    #[error("`{key}` belongs to {owners}, this step is {kind}")]
    Misplaced { key: String, owners: String, kind: &'static str },
    #[error("`{key}` is empty")]
    Empty { key: String, advice: String },
    #[error("`{key}` is not a duration")]
    BadDuration { key: String },
    #[error("`{key}` is not a size in bytes")]
    BadSize { key: String },
    #[error("`{key}` is not a percentage from 0% to 100%")]
    BadPercentage { key: String },
    #[error("`{key}` is {value}; it must be between {least} and {most}")]
    OutOfRange { key: String, value: String, least: String, most: String },
    #[error("`{key}` is not a finite number")]
    NotFinite { key: String },
    #[error("`{key}` must be {}", listed(words))]
    NotOneOf { key: &'static str, words: &'static [&'static str] },
    #[error("`{lower}` is larger than `{upper}`")]
    Contradiction { lower: String, upper: String },
    #[error("`limits.workers` is {workers}, which takes {needed} connections; `database.pool.max` is {pool}")]
    PoolTooSmall { workers: u32, needed: u32, pool: u32, most: u32 },
    #[error("`{key}` {bad}")]
    BadWindow { key: &'static str, bad: BadWindow },
    #[error("`allowed` is given in two places: at the top of the plan and in `[limits]`")]
    TwoAllowed,
    #[error("`limits.statement_timeout` is not longer than `limits.batch.target`: no batch could end in time")]
    TimeoutBelowTarget,
    #[error("`{key}` is not a postgres:// URL")]
    NotPostgresUrl { key: &'static str },
    #[error(transparent)]
    Redis(RedisMistake),
    #[error(transparent)]
    Alarm(AlarmMistake),
    #[error("`${{` without its `}}`")]
    OpenReference,
    #[error("`{0}` does not name an environment variable")]
    BadReference(String),
    #[error("the environment variable {0} is not set")]
    MissingVariable(String),
    #[error("the environment variable {0} is empty")]
    EmptyVariable(String),
    #[error("this backfill does not say how to change the rows")]
    NoChange,
    #[error("a backfill has `set` or `sql`, not both")]
    TwoChanges,
    #[error("`set` names no column")]
    EmptySet,
    #[error("`{key}` does not hold `{{batch}}`: it would change the whole table in every batch")]
    NoBatch { key: &'static str },
    #[error("`{key}` holds `{{batch}}` more than once")]
    SecondBatch { key: &'static str },
    #[error("`undo` keeps the old values of the columns in `set`, and this backfill has `sql`")]
    UndoWithSql,
    #[error("`undo_sql` takes back what `sql` does, and this backfill has `set`")]
    UndoSqlWithSet,
    #[error("`alias` names the table inside `sql`, and this backfill has none")]
    AliasWithoutSql,
    #[error("`cleanup` runs `down` at the end, and this step has none")]
    CleanupWithoutDown,
    #[error("{kind} needs {wanted}")]
    Lacks { kind: &'static str, wanted: &'static str, example: &'static str },
    #[error("`{key}` does not go with {with}")]
    Apart { key: &'static str, with: &'static str, instead: &'static str },
    #[error("`{key}` belongs to {with}, and this transform has none")]
    OnlyWith { key: &'static str, with: &'static str },
    #[error(transparent)]
    Index(IndexMistake),
    #[error("`{key}` must be one ASCII character, and no line break")]
    NotOneByte { key: &'static str },
    #[error("the standard input cannot stand among files")]
    StdinAmongFiles,
    #[error("this copy does not say where the rows go")]
    NowhereToCopy,
    #[error("`file` does not hold `{{n}}`, and there will be more than one file")]
    NoNumber,
    #[error("this verify does not say what it expects")]
    NoExpectation,
    #[error("`expect` cannot be a number with a fraction: it would be compared inexactly")]
    InexactExpectation(String),
}

impl Mistake {
    pub(super) fn contradiction(lower: impl Into<String>, upper: impl Into<String>) -> Self {
        Self::Contradiction { lower: lower.into(), upper: upper.into() }
    }

    pub(super) fn lacks(kind: &'static str, wanted: &'static str, example: &'static str) -> Self {
        Self::Lacks { kind, wanted, example }
    }

    pub(super) fn apart(key: &'static str, with: &'static str, instead: &'static str) -> Self {
        Self::Apart { key, with, instead }
    }

    /// What to write or set instead; names the key.
    pub(super) fn hint(&self) -> String {
        match self {
            Self::Syntax(_) => "a plan is TOML: `key = value`, one a line, text in quotes (https://toml.io)".to_owned(),
            Self::DuplicateKey(key) => format!("keep one `{key}` here and remove the other"),
            Self::UnknownKey { advice, .. } | Self::WrongType { advice, .. } | Self::Empty { advice, .. } => {
                advice.clone()
            }
            Self::Apart { instead, .. } => (*instead).to_owned(),
            Self::NoSteps => {
                "add one: `[[step]]`, a `name`, and `statement`, `backfill`, `import`, `copy`, `transform` or `verify`"
                    .to_owned()
            }
            Self::NoName => "add `name = \"...\"`, unique in the plan".to_owned(),
            Self::DuplicateStep(name) | Self::DuplicateProbe(name) => {
                format!("give one of them another `name` than `{name}`")
            }
            Self::NoKind => A_KIND.to_owned(),
            Self::TwoKinds { .. } => "split it: one `[[step]]`, with a `name` of its own, for each".to_owned(),
            Self::Misplaced { key, .. } => format!("remove `{key}`, or move it to the step it is for"),
            Self::NoProbeSql => {
                "add `sql = \"SELECT ...\"`: the first column of its first row, a number, is compared".to_owned()
            }
            Self::NoSlow { key } => {
                let slow = format::key_of(&format!("{key}.slow")).map_or("slow", |slow| slow.example);
                format!("add `{slow}`: past it batches wait")
            }
            Self::NeitherCountNorOff { key } => {
                let example = format::key_of(key).map_or("", |key| key.example);
                format!("write it like `{example}`{}", or_off(key))
            }
            Self::BadDuration { key } => {
                format!("write it like `{} = \"500ms\"` (units: ms, s, m, h, days){}", last_part(key), or_off(key))
            }
            Self::BadSize { key } => {
                format!("write it like `{} = \"512MiB\"` (units: B, KiB, MiB, GiB, TiB){}", last_part(key), or_off(key))
            }
            Self::BadPercentage { key } => format!("write it like `{} = \"10%\"`{}", last_part(key), or_off(key)),
            Self::NotFinite { key } => format!("write it like `{} = 1000`", last_part(key)),
            Self::NotOneOf { key, words } => {
                let lines: Vec<String> =
                    words.iter().map(|word| format!("`{} = \"{word}\"`", last_part(key))).collect();
                format!("write {}, or remove it", lines.join(" or "))
            }
            Self::OutOfRange { key, least, most, .. } => format!("set `{key}` to a value from {least} to {most}"),
            Self::Contradiction { lower, upper } => format!("lower `{lower}` or raise `{upper}`"),
            Self::PoolTooSmall { needed, most, .. } => format!(
                "lower `limits.workers` to {most} or raise `database.pool.max` to {needed}: two for each worker, and four"
            ),
            Self::BadWindow { bad, .. } => bad.hint(),
            Self::TwoAllowed => "keep one of them; several windows are a list of strings".to_owned(),
            Self::TimeoutBelowTarget => {
                "raise `statement_timeout`, or remove it: the default is ten times the target".to_owned()
            }
            Self::NotPostgresUrl { key } => {
                format!("write it like `{} = \"postgres://user@host:5432/database\"`", last_part(key))
            }
            Self::Redis(mistake) => mistake.hint(),
            Self::Alarm(mistake) => mistake.hint(),
            Self::OpenReference => "write `${NAME}`, or `$${` for the two characters themselves".to_owned(),
            Self::BadReference(_) => {
                "write `${NAME}` or `${NAME:-default}` with letters, digits and `_`, or `$${` for the characters \
                 themselves"
                    .to_owned()
            }
            Self::MissingVariable(name) | Self::EmptyVariable(name) => {
                format!("set {name} in the environment, or give a default: `${{{name}:-default}}`")
            }
            Self::NoChange => {
                "add `set = { column = \"expression\" }`, or `sql = \"UPDATE ... WHERE {batch}\"`".to_owned()
            }
            Self::TwoChanges => "remove `sql`, or remove `set`".to_owned(),
            Self::EmptySet => "write it like `set = { email = \"lower(email)\" }`".to_owned(),
            Self::NoBatch { .. } => {
                "put `{batch}` where the keys of a batch are to be compared: `WHERE {batch} AND ...`".to_owned()
            }
            Self::SecondBatch { .. } => "keep one `{batch}`; join other tables to the rows that it selects".to_owned(),
            Self::UndoWithSql => {
                "write `undo_sql = \"UPDATE ... WHERE {batch}\"` in its place, or remove it".to_owned()
            }
            Self::UndoSqlWithSet => "write `undo = \"auto\"` in its place, or remove it".to_owned(),
            Self::AliasWithoutSql => "remove `alias`: in `set` and `where` columns need no prefix".to_owned(),
            Self::CleanupWithoutDown => "add `down = \"SQL\"`, or remove `cleanup`".to_owned(),
            Self::Lacks { example, .. } => format!("add `{example}`"),
            Self::OnlyWith { key, with } => format!("remove `{key}`, or add {with}"),
            Self::Index(mistake) => mistake.hint().to_owned(),
            Self::NotOneByte { key } => format!("write it like `{key} = \";\"`"),
            Self::StdinAmongFiles => "give \"-\" a step of its own".to_owned(),
            Self::NowhereToCopy => {
                "add `to = \"table\"`, or `from = \"postgres://...\"` for tables of the same name elsewhere".to_owned()
            }
            Self::NoNumber => "write it like `file = \"out/people-{n}.csv.gz\"`".to_owned(),
            Self::NoExpectation => {
                "add `expect = 0`: a whole number, a string, or a boolean, compared to the query's first value"
                    .to_owned()
            }
            Self::InexactExpectation(text) => format!("write it as a string: `expect = \"{text}\"`"),
        }
    }
}

/// What makes a step one of a kind.
const A_KIND: &str = "add `statement = \"SQL\"`, `backfill = \"table\"`, `import = \"file\"`, `copy = \"table\"`, \
    `transform = \"table\"`, `files = \"glob\"`, `index = { on = \"table (column)\" }`, `reindex = \"index\"`, \
    `analyze = \"table\"` or `verify = \"SELECT ...\"`";

/// `"off", "wait" or "run"`.
fn listed(words: &[&str]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    match words.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

/// More of a hint, for keys that can be switched off.
fn or_off(key: &str) -> String {
    let can_be_off = format::key_of(key).is_some_and(format::Key::can_be_off);
    if can_be_off { format!(", or `{} = \"off\"`", last_part(key)) } else { String::new() }
}

fn last_part(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}
