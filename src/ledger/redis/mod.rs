//! The ledger on Redis, for databases where nothing may be made: at least once.
//!
//! | file | what |
//! | --- | --- |
//! | `keys` | where a run lies, and how a segment is written |
//! | `notes` | what a driver writes, by one script under its epoch |
//! | `fence` | the lock of PostgreSQL's that keeps a former driver's batch from committing |
//! | `record` | the record of changes: kept in mind in the transaction, written once it has committed |
//! | `driver` | state, heartbeat and events of the run that this process drives |
//! | `book` | runs as they are made, found and taken over |
//! | `read` | runs as they are shown |
//!
//! The lock that makes one driver the only one is PostgreSQL's, as with the ledger there: a session's, which needs no schema.

pub mod book;
pub mod driver;
pub mod fence;
pub mod keys;
pub mod notes;
pub mod read;
pub mod record;
