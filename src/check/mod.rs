//! Before a run: what would happen, what stands against it, what it would cost. Reads, and changes nothing; a rehearsal
//! rolls back what it tries.
//!
//! | file | what |
//! | --- | --- |
//! | `finding` | what is found: code, severity, reason, the SQL that mends it |
//! | `outlook` | what will happen: tables, keys, rows, segments, the SQL of a batch and the server's plan for it |
//! | `rehearsal` | `--rehearse`: a few batches for real, rolled back |
//! | `forecast` | what a run would cost by a rehearsal: time, WAL, growth, dead rows, locks. Pure |

pub mod finding;
pub mod forecast;
mod json;
pub mod outlook;
pub mod rehearsal;

pub use finding::{Code, Finding, Severity};
