//! The plan file: read, checked, made complete. A plan that loads is a plan that can run, as far as its text can tell.
//!
//! The way of a plan: [`load`] reads the text and parses it to a tree with places; `shape` looks at which keys there
//! are and of what type, by the table in `format`; `raw` takes the values; `options`, `signals` and `steps` turn them into the
//! [`model`], with every default filled in. Nothing in a plan is silently ignored: whatever is not understood, or not
//! built yet, is an error with the line, a caret and a hint.
//!
//! Only [`load::from_file`] reads a file. The environment comes in as a function; of the host nothing is asked but the
//! number of its cores, for the default of `limits.workers`. No clock: [`window::place`] is told the time.

pub mod alarms;
pub mod error;
mod fingerprint;
mod format;
pub mod indexing;
mod interpolate;
pub mod load;
pub mod lookups;
mod mistake;
pub mod model;
pub mod movers;
mod moving;
mod options;
mod raw;
mod raw_alarms;
mod raw_value;
pub mod schema;
mod secrets;
mod shape;
mod shared;
mod signals;
mod source;
mod steps;
mod values;
pub mod window;

#[cfg(test)]
mod examples_tests;
#[cfg(test)]
mod limits_tests;
#[cfg(test)]
mod mistake_tests;
#[cfg(test)]
mod tests;

pub use error::PlanError;
pub use model::{Plan, PlanSource, Step, StepKind};
pub use moving::{STDIN, by_name};
