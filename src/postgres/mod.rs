//! What howdah knows of PostgreSQL: connecting, quoting, keys, errors, catalog, statistics.
//!
//! Identifiers are quoted in one place, [`ident::quote`]; SQL texts are put together in one type, [`sql::SqlText`], which
//! remembers which part came from the plan, so that the server's error position can point into the plan file.

pub mod catalog;
pub mod connect;
pub mod deadline;
pub mod dsn;
pub mod error;
pub mod explain;
pub mod holders;
pub mod ident;
pub mod inline;
pub mod key;
pub mod lag;
pub mod listen;
pub mod mask;
pub mod parameters;
pub mod pooler;
pub mod progress;
pub mod record;
pub mod session;
pub mod sessions;
pub mod signals;
pub mod sql;
pub mod sqlstate;
pub mod stats;
pub mod tokens;
pub mod trouble;
pub mod walk;
pub mod whereabouts;
