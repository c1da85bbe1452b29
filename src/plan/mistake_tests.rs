//! Mistakes in plans: each is shown at its place, with what to write instead.

use super::tests::{STEP, assert_refused};

/// Each is followed by a good step. The wrong part, the message, the hint.
const WRONG_OPTIONS: &[(&str, &str, &str)] = &[
    ("[limits]\n«wokers» = 1", "unknown key `wokers` in `[limits]`", "did you mean `workers`?"),
    ("«workers» = 1", "unknown key `workers` at the top of the plan", "`workers` belongs in `[limits]`"),
    ("[breaker]\n«zzz» = 1", "unknown key `zzz` in `[breaker]`", "remove it; the keys here are `failures`, `reset`"),
    (
        "[limits]\nworkers = «\"4\"»",
        "`limits.workers` must be a whole number, not a string",
        "write it like `workers = 4`",
    ),
    (
        "[limits]\nworkers = «0»",
        "`limits.workers` is 0; it must be between 1 and 64",
        "set `limits.workers` to a value from 1 to 64",
    ),
    (
        "on_hangup = «\"die\"»",
        "`on_hangup` must be \"continue\", \"pause\" or \"stop\"",
        "write `on_hangup = \"continue\"` or `on_hangup = \"pause\"` or `on_hangup = \"stop\"`, or remove it",
    ),
    ("notify = «\"https://x\"»", "`notify` must be a list of tables, not a string", "write it like `[[notify]]`"),
    (
        "[ledger]\nstore = «\"redis\"»",
        "a ledger on Redis does not commit with the changes: after a crash a batch may run twice",
        "where that does no harm, say so: `idempotent = true` at the top of the plan; else remove `store`",
    ),
    (
        "[redis]\nurl = «\"localhost:6379\"»",
        "`redis.url` is not the address of a Redis",
        "write it like `url = \"redis://user@host:6379/0\"`; also rediss://, redis-sentinel://host,host/service, redis-cluster://host,host",
    ),
    (
        "[redis]\nprefix = «\"a b\"»",
        "`redis.prefix` may hold letters, digits, `-`, `_` and `.`",
        "write it like `prefix = \"howdah\"`",
    ),
    (
        "[cache]\ncountries = «\"SELECT 1\"»",
        "`cache.countries` must be a table, not a string",
        "write it like `[cache.NAME]`",
    ),
    ("limits = «3»", "`limits` must be a table, not a number", "write it like `[limits]`"),
    (
        "[limits]\nlock_timeout = «\"2 parsecs\"»",
        "`limits.lock_timeout` is not a duration",
        "write it like `lock_timeout = \"500ms\"` (units: ms, s, m, h, days)",
    ),
    (
        "[limits]\nlock_timeout = «\"0s\"»",
        "`limits.lock_timeout` is 0µs; it must be between 1ms and 24d00h",
        "set `limits.lock_timeout` to a value from 1ms to 24d00h",
    ),
    (
        "[limits]\nlock_timeout = «2»",
        "`limits.lock_timeout` must be a string, not a number",
        "write it like `lock_timeout = \"2s\"`",
    ),
    (
        "[alerts]\nmemory = «\"lots\"»",
        "`alerts.memory` is not a size in bytes",
        "write it like `memory = \"512MiB\"` (units: B, KiB, MiB, GiB, TiB)",
    ),
    (
        "[alerts]\nerror_rate = «\"110%\"»",
        "`alerts.error_rate` is not a percentage from 0% to 100%",
        "write it like `error_rate = \"10%\"`",
    ),
    (
        "[alerts]\nfree_memory = «10»",
        "`alerts.free_memory` must be a string, not a number",
        "write it like `free_memory = \"10%\"`",
    ),
    (
        "[limits]\nbatch = { min = «500», start = 100 }",
        "`limits.batch.min` is larger than `limits.batch.start`",
        "lower `limits.batch.min` or raise `limits.batch.start`",
    ),
    (
        "[limits.batch]\nmin = «-5»",
        "`limits.batch.min` is -5; it must be between 1 and 1,000,000,000",
        "set `limits.batch.min` to a value from 1 to 1,000,000,000",
    ),
    (
        "[limits]\nstatement_timeout = «\"500ms\"»",
        "`limits.statement_timeout` is not longer than `limits.batch.target`: no batch could end in time",
        "raise `statement_timeout`, or remove it: the default is ten times the target",
    ),
    (
        "[limits]\nlock_retry = { base = «\"1m\"», max = \"30s\" }",
        "`limits.lock_retry.base` is larger than `limits.lock_retry.max`",
        "lower `limits.lock_retry.base` or raise `limits.lock_retry.max`",
    ),
    (
        "[retry]\nbase = «\"1m\"»\nmax = \"30s\"",
        "`retry.base` is larger than `retry.max`",
        "lower `retry.base` or raise `retry.max`",
    ),
    (
        "[database]\nurl = \"«${NOWHERE}»\"",
        "the environment variable NOWHERE is not set",
        "set NOWHERE in the environment, or give a default: `${NOWHERE:-default}`",
    ),
    (
        "[database]\nurl = \"«${EMPTY}»\"",
        "the environment variable EMPTY is empty",
        "set EMPTY in the environment, or give a default: `${EMPTY:-default}`",
    ),
    (
        "[database]\nurl = «\"mysql://localhost\"»",
        "`database.url` is not a postgres:// URL",
        "write it like `url = \"postgres://user@host:5432/database\"`",
    ),
    ("name = «\"  \"»", "`name` is empty", "write it like `name = \"normalise-emails\"`, or remove it"),
];

#[test]
fn a_mistake_in_the_options_is_shown_at_its_place_with_a_hint() {
    for (marked, message, hint) in WRONG_OPTIONS {
        assert_refused(&format!("{marked}{STEP}"), message, hint);
    }
}

const NO_STEPS: &str =
    "add one: `[[step]]`, a `name`, and `statement`, `backfill`, `import`, `copy`, `transform` or `verify`";

/// Whole plans. The wrong part, the message, the hint.
const WRONG_STEPS: &[(&str, &str, &str)] = &[
    ("«»", "a plan needs at least one step", NO_STEPS),
    ("step = «[]»", "a plan needs at least one step", NO_STEPS),
    ("«[step]»\nname = 'x'", "`step` must be a list of tables, not a table", "write it like `[[step]]`"),
    ("«[[step]]»\nstatement = 'x'", "a step needs a name", "add `name = \"...\"`, unique in the plan"),
    (
        "[[step]]\nname = «3»\nstatement = 'x'",
        "`name` must be a string, not a number",
        "write it like `name = \"emails\"`",
    ),
    (
        "«[[step]]»\nname = 'x'",
        "this step does not say what it does",
        "add `statement = \"SQL\"`, `backfill = \"table\"`, `import = \"file\"`, `copy = \"table\"`, `transform = \"table\"`, \
         `files = \"glob\"`, `index = { on = \"table (column)\" }`, `reindex = \"index\"`, `analyze = \"table\"` or \
         `verify = \"SELECT ...\"`",
    ),
    ("[[step]]\nname = 'x'\n«statment» = 'x'", "unknown key `statment` in a step", "did you mean `statement`?"),
    (
        "[[step]]\nname = 'x'\nstatement = 'x'\n«verify» = 'x'",
        "one step cannot be both a statement and a verify",
        "split it: one `[[step]]`, with a `name` of its own, for each",
    ),
    (
        "[[step]]\nname = 'x'\nstatement = 'x'\n«where» = 'x'",
        "`where` belongs to a backfill or a copy or a transform, this step is a statement",
        "remove `where`, or move it to the step it is for",
    ),
    (
        "[[step]]\nname = 'x'\nbackfill = 't'\nset = { a = '1' }\n«timeout» = '1s'",
        "`timeout` belongs to a statement or a verify or a transform or a transform of files or an index or a reindex or \
         an analyze, this step is a backfill",
        "remove `timeout`, or move it to the step it is for",
    ),
    ("[[step]]\nname = 'x'\nimport = «'a.csv'»", "an import needs `into`", "add `into = \"users\"`"),
    (
        "[[step]]\nname = 'x'\nimport = ['a.csv', «'-'»]\ninto = 't'",
        "the standard input cannot stand among files",
        "give \"-\" a step of its own",
    ),
    (
        "[[step]]\nname = 'x'\nimport = 'a.csv'\ninto = 't'\ndelimiter = «'::'»",
        "`delimiter` must be one ASCII character, and no line break",
        "write it like `delimiter = \";\"`",
    ),
    (
        "[[step]]\nname = 'x'\nimport = 'a.csv'\ninto = 't'\nformat = «'xml'»",
        "`format` must be \"csv\", \"text\", \"jsonl\" or \"parquet\"",
        "write `format = \"csv\"` or `format = \"text\"` or `format = \"jsonl\"` or `format = \"parquet\"`, or remove it",
    ),
    (
        "[[step]]\nname = 'x'\ncopy = «'t'»",
        "this copy does not say where the rows go",
        "add `to = \"table\"`, or `from = \"postgres://...\"` for tables of the same name elsewhere",
    ),
    (
        "[[step]]\nname = 'x'\ncopy = 't'\nto = 'u'\nrepair = «true»",
        "`repair` needs `verify`",
        "add `verify = \"checksum\"`",
    ),
    (
        "[[step]]\nname = 'x'\ntransform = «'t'»\nupdate = ['a']",
        "a transform needs a program",
        "add `rhai = \"...\"` or `command = [\"program\"]`",
    ),
    (
        "[[step]]\nname = 'x'\ntransform = «'t'»\nrhai = 'row'",
        "a transform needs somewhere to put its rows",
        "add `update = [\"column\"]`, `into = \"table\"` or `file = \"out/{n}.csv\"`",
    ),
    (
        "[[step]]\nname = 'x'\ntransform = «'SELECT 1 AS a'»\nrhai = 'row'\ninto = 't'",
        "a transform of a query needs `key`",
        "add `key = [\"id\"]`",
    ),
    (
        "[[step]]\nname = 'x'\ntransform = 't'\nrhai = 'row'\ninto = 't'\nrotate = «'1MiB'»",
        "`rotate` belongs to `file`, and this transform has none",
        "remove `rotate`, or add `file`",
    ),
    (
        "[[step]]\nname = 'x'\ntransform = 't'\nrhai = 'row'\nfile = «'out.csv'»",
        "`file` does not hold `{n}`, and there will be more than one file",
        "write it like `file = \"out/people-{n}.csv.gz\"`",
    ),
    (
        "[[step]]\nname = 'x'\nfiles = «'*.json'»",
        "a transform of files needs a program",
        "add `rhai = \"...\"` or `command = [\"program\"]`",
    ),
    (
        "[[step]]\nname = 'x'\nstatement = «''»",
        "`statement` is empty",
        "write it like `statement = \"CREATE INDEX CONCURRENTLY ...\"`, or remove it",
    ),
    (
        "[[step]]\nname = 'x'\nbackfill = «'t'»",
        "this backfill does not say how to change the rows",
        "add `set = { column = \"expression\" }`, or `sql = \"UPDATE ... WHERE {batch}\"`",
    ),
    (
        "[[step]]\nname = 'x'\nbackfill = 't'\nset = { a = '1' }\nsql = «'UPDATE'»",
        "a backfill has `set` or `sql`, not both",
        "remove `sql`, or remove `set`",
    ),
    (
        "[[step]]\nname = 'x'\nbackfill = 't'\nset = «{}»",
        "`set` names no column",
        "write it like `set = { email = \"lower(email)\" }`",
    ),
    (
        "[[step]]\nname = 'x'\nbackfill = 't'\nset = { a = «true» }",
        "`set.a` must be an SQL expression in quotes, not a boolean",
        "write it like `set = { email = \"lower(email)\" }`",
    ),
    (
        "[[step]]\nname = 'x'\nbackfill = 't'\nsql = «'UPDATE t SET x = 1'»",
        "`sql` does not hold `{batch}`: it would change the whole table in every batch",
        "put `{batch}` where the keys of a batch are to be compared: `WHERE {batch} AND ...`",
    ),
    (
        "[[step]]\nname = 'x'\nbackfill = 't'\nsql = 'UPDATE t SET x = 1 WHERE {batch} OR «{batch}»'",
        "`sql` holds `{batch}` more than once",
        "keep one `{batch}`; join other tables to the rows that it selects",
    ),
    (
        "[[step]]\nname = 'x'\nbackfill = 't'\nset = { a = '1' }\nalias = «'u'»",
        "`alias` names the table inside `sql`, and this backfill has none",
        "remove `alias`: in `set` and `where` columns need no prefix",
    ),
    (
        "[[step]]\nname = 'x'\nstatement = 'x'\ncleanup = «true»",
        "`cleanup` runs `down` at the end, and this step has none",
        "add `down = \"SQL\"`, or remove `cleanup`",
    ),
    (
        "[[step]]\nname = 'x'\nstatement = 'x'\ncleanup = «'yes'»",
        "`cleanup` must be true or false, not a string",
        "write it like `cleanup = true`",
    ),
    (
        "[[step]]\nname = 'x'\nverify = «'SELECT 1'»",
        "this verify does not say what it expects",
        "add `expect = 0`: a whole number, a string, or a boolean, compared to the query's first value",
    ),
    (
        "[[step]]\nname = 'x'\nverify = 'SELECT 1'\nexpect = «0.5»",
        "`expect` cannot be a number with a fraction: it would be compared inexactly",
        "write it as a string: `expect = \"0.5\"`",
    ),
    (
        "[[step]]\nname = 'x'\nverify = 'SELECT 1'\nexpect = «[1]»",
        "`expect` must be a whole number, a string or a boolean, not a list",
        "write it like `expect = 0`",
    ),
    (
        "[[step]]\nname = 'x'\nstatement = \"SELECT '«${1x}»'\"",
        "`${1x}` does not name an environment variable",
        "write `${NAME}` or `${NAME:-default}` with letters, digits and `_`, or `$${` for the characters themselves",
    ),
];

#[test]
fn a_mistake_in_a_step_is_shown_at_its_place_with_a_hint() {
    for (marked, message, hint) in WRONG_STEPS {
        assert_refused(marked, message, hint);
    }
}
