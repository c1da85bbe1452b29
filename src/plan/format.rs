//! The format of a plan, as a table: which keys there are, of what type, in which kinds of step, and which come later.

/// What a key holds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    Text,
    Whole,
    Truth,
    /// A whole number, a text or a boolean.
    Answer,
    /// Column names with an expression each.
    Columns,
    Table(&'static Table),
    /// `[[step]]`.
    Steps(&'static Table),
    /// Part of the design, and not built yet.
    Later {
        with: &'static str,
        instead: &'static str,
    },
}

/// One key of a table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) shape: Shape,
    /// How it is written, for hints.
    pub(super) example: &'static str,
    /// The kinds of step that it belongs to; of none in particular: to all.
    pub(super) kinds: &'static [Kind],
}

/// The keys of one table.
#[derive(Debug)]
pub(super) struct Table {
    /// Its dotted name; empty for the top of the plan.
    pub(super) path: &'static str,
    pub(super) keys: &'static [Key],
}

/// The kinds of step that are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Statement,
    Backfill,
    Verify,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Statement, Self::Backfill, Self::Verify];

    /// The key that makes a step one of this kind.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Statement => "statement",
            Self::Backfill => "backfill",
            Self::Verify => "verify",
        }
    }

    pub(super) fn with_article(self) -> &'static str {
        match self {
            Self::Statement => "a statement",
            Self::Backfill => "a backfill",
            Self::Verify => "a verify",
        }
    }
}

impl Table {
    pub(super) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// The name of a key in messages: with its table, except in a step, where the excerpt shows it.
    pub(super) fn full_name(&self, key: &str) -> String {
        if self.path.is_empty() || self.path == STEP.path { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Where it is, in a sentence.
    pub(super) fn place(&self) -> String {
        match self.path {
            "" => "at the top of the plan".to_owned(),
            path if path == STEP.path => "in a step".to_owned(),
            path => format!("in `[{path}]`"),
        }
    }
}

impl Key {
    pub(super) fn is_built(&self) -> bool {
        !matches!(self.shape, Shape::Later { .. })
    }
}

/// Every table of a plan.
pub(super) static TABLES: [&Table; 9] = [&TOP, &DATABASE, &POOL, &LIMITS, &BATCH, &RETRY, &BREAKER, &ALERTS, &STEP];

/// The kinds of step that come later.
pub(super) const LATER_KINDS: [&str; 3] = ["import", "copy", "transform"];

pub(super) static TOP: Table = Table {
    path: "",
    keys: &[
        key("name", Shape::Text, "name = \"normalise-emails\""),
        key("database", Shape::Table(&DATABASE), "[database]"),
        key("limits", Shape::Table(&LIMITS), "[limits]"),
        key("retry", Shape::Table(&RETRY), "[retry]"),
        key("breaker", Shape::Table(&BREAKER), "[breaker]"),
        key("alerts", Shape::Table(&ALERTS), "[alerts]"),
        key("step", Shape::Steps(&STEP), "[[step]]"),
        later("on_hangup", "`attach`", "remove it: a run without a console goes on headless"),
        later("ledger", "the ledger on Redis", "remove it: the ledger lies in the target database"),
        later("cache", "cached look-ups", "remove it"),
        later("notify", "notifications", "remove it: alerts are shown and logged"),
        later("allowed", "the governor", ALLOWED),
    ],
};

static DATABASE: Table = Table {
    path: "database",
    keys: &[
        key("url", Shape::Text, "url = \"${DATABASE_URL}\""),
        key("pool", Shape::Table(&POOL), "pool = { max = 20, idle = \"30s\", connect = \"2s\" }"),
    ],
};

static POOL: Table = Table {
    path: "database.pool",
    keys: &[
        key("max", Shape::Whole, "max = 20"),
        key("idle", Shape::Text, "idle = \"30s\""),
        key("connect", Shape::Text, "connect = \"2s\""),
    ],
};

static LIMITS: Table = Table {
    path: "limits",
    keys: &[
        key("workers", Shape::Whole, "workers = 1"),
        key("batch", Shape::Table(&BATCH), "batch = { start = 1000, min = 100, max = 100000, target = \"500ms\" }"),
        key("lock_timeout", Shape::Text, "lock_timeout = \"2s\""),
        key("statement_timeout", Shape::Text, "statement_timeout = \"5s\""),
        key("idle_in_transaction_timeout", Shape::Text, "idle_in_transaction_timeout = \"60s\""),
        key("count_timeout", Shape::Text, "count_timeout = \"10m\""),
        later("max_quarantined", "the quarantine", "remove it: a batch that fails stops the run, resumable"),
        later("replay_lag", "the governor", UNGOVERNED),
        later("wal", "the governor", UNGOVERNED),
        later("archive", "the governor", UNGOVERNED),
        later("waiters", "the governor", UNGOVERNED),
        later("sessions", "the governor", UNGOVERNED),
        later("snapshot_age", "the governor", UNGOVERNED),
        later("vacuum", "the governor", UNGOVERNED),
        later("free_disk", "the governor", UNGOVERNED),
        later("host_cpu", "the governor", UNGOVERNED),
        later("free_memory", "the governor", "remove it; `alerts.free_memory` warns without slowing down"),
        later("probe", "the governor", UNGOVERNED),
        later("nice", "the governor", UNGOVERNED),
        later("allowed", "the governor", ALLOWED),
    ],
};

const UNGOVERNED: &str = "remove it, and pause by hand where needed; batches still follow `limits.batch.target`";
const ALLOWED: &str = "remove it: start, pause and continue the run by hand";

static BATCH: Table = Table {
    path: "limits.batch",
    keys: &[
        key("start", Shape::Whole, "start = 1000"),
        key("min", Shape::Whole, "min = 100"),
        key("max", Shape::Whole, "max = 100000"),
        key("target", Shape::Text, "target = \"500ms\""),
    ],
};

static RETRY: Table = Table {
    path: "retry",
    keys: &[
        key("attempts", Shape::Whole, "attempts = 3"),
        key("base", Shape::Text, "base = \"1s\""),
        key("max", Shape::Text, "max = \"30s\""),
    ],
};

static BREAKER: Table = Table {
    path: "breaker",
    keys: &[key("failures", Shape::Whole, "failures = 5"), key("reset", Shape::Text, "reset = \"60s\"")],
};

static ALERTS: Table = Table {
    path: "alerts",
    keys: &[
        key("duration", Shape::Text, "duration = \"5m\""),
        key("memory", Shape::Text, "memory = \"1GiB\""),
        key("free_memory", Shape::Text, "free_memory = \"10%\""),
        key("error_rate", Shape::Text, "error_rate = \"10%\""),
    ],
};

pub(super) static STEP: Table = Table {
    path: "step",
    keys: &[
        key("name", Shape::Text, "name = \"emails\""),
        key("statement", Shape::Text, "statement = \"CREATE INDEX CONCURRENTLY ...\""),
        of(&[Kind::Statement], key("down", Shape::Text, "down = \"DROP INDEX CONCURRENTLY IF EXISTS ...\"")),
        of(&[Kind::Statement], key("cleanup", Shape::Truth, "cleanup = true")),
        of(&[Kind::Statement, Kind::Verify], key("timeout", Shape::Text, "timeout = \"10m\"")),
        key("backfill", Shape::Text, "backfill = \"users\""),
        of(&[Kind::Backfill], key("set", Shape::Columns, "set = { email = \"lower(email)\" }")),
        of(&[Kind::Backfill], key("where", Shape::Text, "where = \"migrated_at IS NULL\"")),
        of(&[Kind::Backfill], key("sql", Shape::Text, "sql = \"UPDATE users u SET ... WHERE {batch}\"")),
        of(&[Kind::Backfill], key("alias", Shape::Text, "alias = \"u\"")),
        key("verify", Shape::Text, "verify = \"SELECT count(*) FROM users WHERE migrated_at IS NULL\""),
        of(&[Kind::Verify], key("expect", Shape::Answer, "expect = 0")),
        later("undo", "the undo log", "remove the line to run without an undo log"),
        later("undo_sql", "the undo log", "remove the line to run without an undo log"),
        later("import", "imports of files", "load the file by `psql \\copy` first, and remove the step"),
        later("copy", "copies of tables", "use a `statement` or a `backfill` with `sql`, or remove the step"),
        later("transform", "row transforms", "use a `backfill` with SQL expressions, or remove the step"),
    ],
};

const fn key(name: &'static str, shape: Shape, example: &'static str) -> Key {
    Key { name, shape, example, kinds: &[] }
}

const fn of(kinds: &'static [Kind], key: Key) -> Key {
    Key { kinds, ..key }
}

const fn later(name: &'static str, with: &'static str, instead: &'static str) -> Key {
    Key { name, shape: Shape::Later { with, instead }, example: "", kinds: &[] }
}
