//! Programs of a plan's author: what a `transform` and a `files` step have in common.

pub mod asking;
pub mod command;
pub mod json;
pub mod script;
