//! What a backfill walks: its table, or each partition of it, and what is done to the rows there.

use std::sync::Arc;

use crate::postgres::catalog::Table;
use crate::postgres::walk::Walk;
use crate::run::{Cause, KeyText};
use crate::steps::change::BatchSql;
use crate::steps::change::undo::UndoSql;
use crate::steps::keyspace::Keyspace;

/// What is known once the table has been looked at.
pub(in crate::steps) struct Ready {
    pub(super) table: Table,
    pub(super) parts: Vec<Arc<Part>>,
}

impl Ready {
    /// The table, or the partition that the ledger calls `name`.
    pub(in crate::steps) fn part(&self, name: Option<&str>) -> Result<Arc<Part>, Cause> {
        let part = self.parts.iter().find(|part| part.keys.part().in_ledger().as_deref() == name);
        part.cloned().ok_or_else(|| {
            let name = name.unwrap_or("of another kind");
            Cause::new(format!("partition {name} is no longer there, and the walk of it was not at its end"))
                .hint("attach it again and resume, or begin a new run: howdah run PLAN --new")
        })
    }

    /// What the cursors of its walks mean, one a line.
    pub(super) fn identities(&self) -> String {
        let mut all: Vec<String> = self.parts.iter().map(|part| part.keys.part().walk.identity()).collect();
        all.sort_unstable();
        all.dedup();
        all.join("\n")
    }
}

/// One table that is walked by its own key, or by its blocks: the step's table, or a partition of it.
pub(in crate::steps) struct Part {
    pub(super) action: Action,
    pub(in crate::steps) keys: Keyspace,
    pub(super) first: Option<KeyText>,
}

/// What is done to the rows of a batch.
pub(super) enum Action {
    /// Changed, by the plan's SQL.
    Change(Box<BatchSql>),
    /// Changed back, by the undo log.
    Revert(UndoSql),
}

impl Part {
    pub(super) fn sql(&self) -> Option<&BatchSql> {
        match &self.action {
            Action::Change(sql) => Some(sql),
            Action::Revert(_) => None,
        }
    }

    /// Whether a single row can be told from its neighbours, and found again later.
    pub(super) fn can_set_aside(&self) -> bool {
        self.sql().is_some() && matches!(self.keys.part().walk, Walk::Key(_))
    }

    /// The key as a person names it.
    pub(in crate::steps) fn key_name(&self) -> String {
        self.keys.part().walk.describe()
    }

    pub(super) fn has_distances(&self) -> bool {
        self.keys.part().walk.has_distances()
    }
}
