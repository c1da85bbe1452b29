//! What the rules need to know, read from the catalog in few questions, as plain values. Nothing here judges.

mod database;
mod reading;
mod sessions;
mod table;

use std::collections::HashMap;
use std::time::Duration;

use sqlx::postgres::PgConnection;

pub use database::Database;
pub use sessions::{OpenTransaction, Prepared, Sessions, Slot};
pub use table::{ForeignKey, Identity, Index, Rights, TableFacts, Trigger, Unvalidated};

use super::work::{TableName, Work};
use crate::postgres::deadline::within;

/// How long any of the questions may take.
pub(super) const ANSWER: Duration = Duration::from_secs(10);

/// What is the case.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Of the server, the database and the role.
    pub database: Database,
    /// Of sessions, prepared transactions and slots.
    pub sessions: Sessions,
    /// Of the tables that the plan names, and of their partitions, by object id.
    pub tables: HashMap<i64, TableFacts>,
    /// Which table a name means, and the tables that hold its rows: itself, or its partitions.
    pub named: HashMap<TableName, (i64, Vec<i64>)>,
}

impl Facts {
    /// The table that a step names.
    #[must_use]
    pub fn table(&self, name: &TableName) -> Option<&TableFacts> {
        self.named.get(name).and_then(|(oid, _)| self.tables.get(oid))
    }

    /// The tables that hold its rows.
    #[must_use]
    pub fn parts(&self, name: &TableName) -> Vec<&TableFacts> {
        let parts = self.named.get(name).map(|(_, parts)| parts.as_slice()).unwrap_or_default();
        parts.iter().filter_map(|oid| self.tables.get(oid)).collect()
    }
}

/// Reads the facts.
///
/// # Errors
/// The driver's error. After a deadline the connection is good for nothing.
pub async fn read(connection: &mut PgConnection, works: &[Work]) -> Result<Facts, sqlx::Error> {
    let database = within(ANSWER, database::read(connection)).await?;
    let sessions = within(ANSWER, sessions::read(connection)).await?;
    let mut names: Vec<&TableName> = Vec::new();
    for work in works {
        if !names.contains(&&work.table) {
            names.push(&work.table);
        }
    }
    let (tables, named) = reading::read(connection, &names).await?;
    Ok(Facts { database, sessions, tables, named })
}
