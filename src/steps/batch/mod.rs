//! What every worker over segments has in common: a connection and what is done when it breaks, why a batch failed, rows
//! that are set aside.

pub mod failure;
pub mod lines;
pub mod places;

pub use failure::{BatchError, committed, recorded};
pub use lines::{Line, Lines, roll_back};
pub use places::Places;
