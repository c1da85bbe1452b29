//! Before a run: what would happen, what stands against it, what it would cost. Reads, and changes nothing; a rehearsal
//! rolls back what it tries.
//!
//! | file | what |
//! | --- | --- |
//! | `finding` | what is found: code, severity, reason, the SQL that mends it |
//! | `statements` | statements that lock more, or longer, than their author may think |

pub mod finding;
pub mod statements;

pub use finding::{Code, Finding, Severity};
