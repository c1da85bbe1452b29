//! The codes of what is found about statements.

use crate::check::Code;

macro_rules! codes {
    ($($name:ident = $code:literal, $what:literal;)*) => {
        $(#[doc = $what] pub(super) const $name: Code = Code($code);)*
        /// All of them.
        pub static CODES: &[Code] = &[$($name),*];
    };
}

codes! {
    ADD_COLUMN_REWRITES = "add-column-rewrites", "A new column's value differs from row to row: the table is rewritten.";
    ATTACH_PARTITION = "attach-partition", "A partition is attached: it is read under a lock.";
    CHANGE_TYPE = "change-type", "A column gets another type: the table may be rewritten.";
    CHECK_VALIDATES = "check-without-not-valid", "A check reads the table under a lock.";
    CREATE_TRIGGER = "create-trigger", "A trigger waits for writers, and fires for each row of the run.";
    DETACH_PARTITION = "detach-partition", "A partition is detached without CONCURRENTLY.";
    DROP_COLUMN = "drop-column", "A column goes that the application may read.";
    DROP_INDEX = "drop-index-not-concurrently", "An index goes without CONCURRENTLY.";
    DROP_TABLE = "drop-table", "A table goes that the application may read.";
    EXCLUDE = "exclude-constraint", "An exclusion constraint builds its index under a lock.";
    FOREIGN_KEY_VALIDATES = "foreign-key-without-not-valid", "A foreign key reads two tables under locks.";
    CREATE_INDEX = "index-not-concurrently", "An index is built without CONCURRENTLY.";
    JSON_COLUMN = "json-column", "A column of type json, which knows no equality.";
    LOCK_TABLE = "lock-table", "A table is locked by name.";
    NOT_NULL_NO_DEFAULT = "not-null-without-default", "A new column is NOT NULL and has no default.";
    REFRESH = "refresh-not-concurrently", "A materialized view is filled without CONCURRENTLY.";
    REINDEX = "reindex-not-concurrently", "An index is built again without CONCURRENTLY.";
    RENAME_COLUMN = "rename-column", "A column gets another name than the application knows.";
    RENAME_TABLE = "rename-table", "A table gets another name than the application knows.";
    REWRITES_TABLE = "rewrites-table", "The table is written anew under a lock.";
    REWRITTEN_TWICE = "rewritten-twice", "Two statements rewrite one table.";
    SET_NOT_NULL = "set-not-null", "SET NOT NULL reads the table under a lock.";
    NOT_UNDERSTOOD = "statement-not-understood", "A statement was not looked at.";
    TRUNCATE = "truncate-table", "A table is emptied.";
    UNIQUE_BUILDS = "unique-builds-index", "A unique or primary key builds its index under a lock.";
    WHOLE_TABLE = "whole-table-statement", "One transaction changes every row.";
}
