//! The format of a plan, as a table: which keys there are, of what type, and in which kinds of step.

mod signals;
mod steps;

use signals::{ARCHIVE, FREE_DISK, FREE_MEMORY, HOST_CPU, REPLAY_LAG, SESSIONS, SNAPSHOT_AGE, WAL};
use steps::{INDEX, REINDEX};

pub(super) use signals::PROBE;
pub(super) use steps::STEP;

/// What a key holds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    Text,
    /// A text, of which "off" has a meaning of its own.
    TextOrOff,
    /// A text or a list of texts.
    Texts,
    Whole,
    /// A number, with or without a fraction.
    Number,
    Truth,
    /// A number, or a text with its unit.
    Amount,
    /// A whole number, a text or a boolean.
    Answer,
    /// Column names with an expression each.
    Columns,
    /// Names of one's own with a whole number, a text or a boolean each.
    Answers,
    /// Names of one's own with a text each.
    Pairs,
    Table(&'static Table),
    /// A text, or a table.
    TextOrTable(&'static Table),
    /// `slow` and `stop` of a signal in a table; `slow` alone; or "off".
    Signal(&'static Table),
    /// `[[limits.probe]]`.
    Tables(&'static Table),
    /// `[[step]]`.
    Steps(&'static Table),
    /// `[cache.NAME]`: tables under names of one's own.
    Named(&'static Table),
}

impl Shape {
    /// What it takes, in words.
    pub(super) fn wanted(self) -> &'static str {
        match self {
            Self::Text | Self::TextOrOff => "a string",
            Self::Texts => "a string or a list of strings",
            Self::Whole => "a whole number",
            Self::Number => "a number",
            Self::Truth => "true or false",
            Self::Amount => "a number or a string",
            Self::Pairs => "a table of strings",
            Self::Answer => "a whole number, a string or a boolean",
            Self::Columns => "a table of columns",
            Self::Answers => "a table of values",
            Self::TextOrTable(_) => "a string or a table",
            Self::Table(_) => "a table",
            Self::Signal(_) if self.takes_integers() => "a table of `slow` and `stop`, a whole number or \"off\"",
            Self::Signal(_) => "a table of `slow` and `stop`, or a string",
            Self::Tables(_) | Self::Steps(_) => "a list of tables",
            Self::Named(_) => "a table of tables",
        }
    }

    pub(super) fn takes_integers(self) -> bool {
        match self {
            Self::Whole | Self::Number | Self::Amount | Self::Answer => true,
            Self::Signal(limits) => limits.key("slow").is_some_and(|slow| slow.shape.takes_integers()),
            Self::Text
            | Self::TextOrOff
            | Self::Texts
            | Self::Truth
            | Self::Columns
            | Self::Answers
            | Self::Pairs
            | Self::Table(_)
            | Self::TextOrTable(_)
            | Self::Tables(_)
            | Self::Steps(_)
            | Self::Named(_) => false,
        }
    }
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
    Import,
    Copy,
    Transform,
    Files,
    Index,
    Reindex,
    Analyze,
    Verify,
}

impl Kind {
    pub(super) const ALL: [Self; 10] = [
        Self::Statement,
        Self::Backfill,
        Self::Import,
        Self::Copy,
        Self::Transform,
        Self::Files,
        Self::Index,
        Self::Reindex,
        Self::Analyze,
        Self::Verify,
    ];

    /// The key that makes a step one of this kind.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Statement => "statement",
            Self::Backfill => "backfill",
            Self::Import => "import",
            Self::Copy => "copy",
            Self::Transform => "transform",
            Self::Files => "files",
            Self::Index => "index",
            Self::Reindex => "reindex",
            Self::Analyze => "analyze",
            Self::Verify => "verify",
        }
    }

    pub(super) fn with_article(self) -> &'static str {
        match self {
            Self::Statement => "a statement",
            Self::Backfill => "a backfill",
            Self::Import => "an import",
            Self::Copy => "a copy",
            Self::Transform => "a transform",
            Self::Files => "a transform of files",
            Self::Index => "an index",
            Self::Reindex => "a reindex",
            Self::Analyze => "an analyze",
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
        if self.path.is_empty() || self.path == STEP.path {
            return key.to_owned();
        }
        format!("{}.{key}", self.in_step().unwrap_or(self.path))
    }

    /// The name of a table that stands in a step.
    pub(super) fn in_step(&self) -> Option<&'static str> {
        self.path.strip_prefix("step.")
    }

    /// Where it is, in a sentence.
    pub(super) fn place(&self) -> String {
        match self.path {
            "" => "at the top of the plan".to_owned(),
            path if path == STEP.path => "in a step".to_owned(),
            _ => format!("in `{}`", self.header()),
        }
    }

    /// Its header, as it is written.
    pub(super) fn header(&self) -> String {
        if let Some(name) = self.in_step() {
            return format!("{name} = {{ ... }}");
        }
        let is_list = [STEP.path, PROBE.path, RULE.path, NOTIFY.path].contains(&self.path);
        if is_list { format!("[[{}]]", self.path) } else { format!("[{}]", self.path) }
    }
}

impl Key {
    /// Whether "off" is one of its values.
    pub(super) fn can_be_off(&self) -> bool {
        matches!(self.shape, Shape::TextOrOff | Shape::Signal(_))
    }
}

/// Every table of a plan.
pub(super) static TABLES: [&Table; 27] = [
    &TOP,
    &DATABASE,
    &POOL,
    &LIMITS,
    &BATCH,
    &RETRY,
    &BREAKER,
    &ALERTS,
    &STEP,
    &PROBE,
    &REPLAY_LAG,
    &WAL,
    &ARCHIVE,
    &SESSIONS,
    &SNAPSHOT_AGE,
    &FREE_DISK,
    &HOST_CPU,
    &FREE_MEMORY,
    &REDIS,
    &LEDGER,
    &CACHE,
    &LOCK_RETRY,
    &INDEX,
    &REINDEX,
    &CHECK,
    &RULE,
    &NOTIFY,
];

/// The key of that full name, such as `limits.batch.min`, or `set` of a step.
pub(super) fn key_of(full_name: &str) -> Option<&'static Key> {
    TABLES.iter().find_map(|table| table.keys.iter().find(|key| table.full_name(key.name) == full_name))
}

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
        key("on_hangup", Shape::Text, "on_hangup = \"pause\""),
        key("redis", Shape::Table(&REDIS), "[redis]"),
        key("ledger", Shape::Table(&LEDGER), "[ledger]"),
        key("idempotent", Shape::Truth, "idempotent = true"),
        key("cache", Shape::Named(&CACHE), "[cache.NAME]"),
        key("check", Shape::Table(&CHECK), "[check]"),
        key("notify", Shape::Tables(&NOTIFY), "[[notify]]"),
        key("allowed", Shape::Texts, ALLOWED),
    ],
};

const ALLOWED: &str = "allowed = \"22:00-06:00 Europe/Berlin\"";

static DATABASE: Table = Table {
    path: "database",
    keys: &[
        key("url", Shape::Text, "url = \"${DATABASE_URL}\""),
        key("control", Shape::Text, "control = \"postgres://user@host:5432/database\""),
        key("slow", Shape::Text, "slow = \"1s\""),
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
        key("workers", Shape::Whole, "workers = 4"),
        key("batch", Shape::Table(&BATCH), "batch = { start = 1000, min = 100, max = 100000, target = \"500ms\" }"),
        key("lock_timeout", Shape::Text, "lock_timeout = \"2s\""),
        key("lock_retry", Shape::Table(&LOCK_RETRY), "lock_retry = { attempts = 30, base = \"1s\", max = \"30s\" }"),
        key("statement_timeout", Shape::Text, "statement_timeout = \"5s\""),
        key("idle_in_transaction_timeout", Shape::Text, "idle_in_transaction_timeout = \"60s\""),
        key("count_timeout", Shape::Text, "count_timeout = \"10m\""),
        key("max_quarantined", Shape::Whole, "max_quarantined = 100"),
        key("nice", Shape::Number, "nice = 0.5"),
        key("waiters", Shape::TextOrOff, "waiters = \"200ms\""),
        key("vacuum", Shape::Text, "vacuum = \"wait\""),
        key("allowed", Shape::Texts, ALLOWED),
        key("replay_lag", Shape::Signal(&REPLAY_LAG), "replay_lag = { slow = \"5s\", stop = \"60s\" }"),
        key("wal", Shape::Signal(&WAL), "wal = { slow = \"16GiB\", stop = \"64GiB\" }"),
        key("archive", Shape::Signal(&ARCHIVE), "archive = { slow = 256, stop = 2048 }"),
        key("sessions", Shape::Signal(&SESSIONS), "sessions = { slow = 50, stop = 200 }"),
        key("snapshot_age", Shape::Signal(&SNAPSHOT_AGE), "snapshot_age = { slow = \"10m\", stop = \"1h\" }"),
        key("free_disk", Shape::Signal(&FREE_DISK), "free_disk = { slow = \"10%\", stop = \"5%\" }"),
        key("host_cpu", Shape::Signal(&HOST_CPU), "host_cpu = { slow = \"80%\" }"),
        key("free_memory", Shape::Signal(&FREE_MEMORY), "free_memory = { slow = \"10%\", stop = \"5%\" }"),
        key("probe", Shape::Tables(&PROBE), "[[limits.probe]]"),
    ],
};

static BATCH: Table = Table {
    path: "limits.batch",
    keys: &[
        key("start", Shape::Whole, "start = 1000"),
        key("min", Shape::Whole, "min = 100"),
        key("max", Shape::Whole, "max = 100000"),
        key("target", Shape::Text, "target = \"500ms\""),
    ],
};

static REDIS: Table = Table {
    path: "redis",
    keys: &[
        key("url", Shape::Text, "url = \"${REDIS_URL}\""),
        key("password_file", Shape::Text, "password_file = \"/run/secrets/redis\""),
        key("ca", Shape::Text, "ca = \"/etc/ssl/redis-ca.pem\""),
        key("prefix", Shape::Text, "prefix = \"howdah\""),
        key("timeout", Shape::Text, "timeout = \"2s\""),
    ],
};

static LEDGER: Table = Table { path: "ledger", keys: &[key("store", Shape::Text, "store = \"redis\"")] };

static CHECK: Table = Table { path: "check", keys: &[key("allow", Shape::Texts, "allow = [\"triggers-fire\"]")] };

static CACHE: Table = Table {
    path: "cache.NAME",
    keys: &[
        key("sql", Shape::Text, "sql = \"SELECT code, name FROM countries WHERE code = $1\""),
        key("ttl", Shape::Text, "ttl = \"1h\""),
        key("most", Shape::Whole, "most = 100000"),
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

static LOCK_RETRY: Table = Table {
    path: "limits.lock_retry",
    keys: &[
        key("attempts", Shape::Whole, "attempts = 30"),
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
        key("every", Shape::Text, "every = \"30s\""),
        key("rule", Shape::Tables(&RULE), "[[alerts.rule]]"),
    ],
};

static RULE: Table = Table {
    path: "alerts.rule",
    keys: &[
        key("name", Shape::Text, "name = \"slow batches\""),
        key("metric", Shape::Text, "metric = \"batch_seconds\""),
        key("label", Shape::Text, "label = \"users\""),
        key("of", Shape::Text, "of = \"p95\""),
        key("above", Shape::Amount, "above = \"2s\""),
        key("below", Shape::Amount, "below = \"10%\""),
        key("for", Shape::Text, "for = \"30s\""),
        key("clear", Shape::Amount, "clear = \"1s\""),
        key("level", Shape::Text, "level = \"critical\""),
        key("do", Shape::Texts, "do = [\"bell\", \"notify\", \"pause\"]"),
    ],
};

static NOTIFY: Table = Table {
    path: "notify",
    keys: &[
        key("name", Shape::Text, "name = \"ops\""),
        key("url", Shape::Text, "url = \"${HOOK}\""),
        key("shape", Shape::Text, "shape = \"slack\""),
        key("key", Shape::Text, "key = \"${PD_KEY}\""),
        key("headers", Shape::Pairs, "headers = { Authorization = \"Bearer ${TOKEN}\" }"),
        key("command", Shape::Texts, "command = [\"/usr/bin/logger\", \"-t\", \"howdah\"]"),
        key("level", Shape::Text, "level = \"warning\""),
        key("on", Shape::Texts, "on = [\"raised\", \"cleared\", \"finished\", \"failed\"]"),
        key("timeout", Shape::Text, "timeout = \"10s\""),
        key("attempts", Shape::Whole, "attempts = 5"),
    ],
};

const fn key(name: &'static str, shape: Shape, example: &'static str) -> Key {
    Key { name, shape, example, kinds: &[] }
}

const fn of(kinds: &'static [Kind], key: Key) -> Key {
    Key { kinds, ..key }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_an_example_that_names_it() {
        for table in TABLES {
            for key in table.keys {
                let found = key_of(&table.full_name(key.name)).map(|key| key.name);
                assert_eq!(found, Some(key.name), "[{}]", table.path);
                let header = format!("[{}]", table.full_name(key.name));
                // Tables of their own, under names of one's own.
                let named = format!("[{}.", table.full_name(key.name));
                let names_it = key.example.starts_with(&format!("{} = ", key.name))
                    || key.example.contains(&header)
                    || key.example.starts_with(&named);
                assert!(names_it, "{}: {}", key.name, key.example);
            }
        }
    }
}
