//! howdah as a whole, on real servers and in real terminals. One binary, so that it links once.
#![allow(missing_docs, reason = "tests are named as sentences")]
#![allow(clippy::expect_used, reason = "a helper that fails fails its test")]

mod architecture;
mod commands;
mod console;
mod exactness;
mod keys;
mod keyspace;
mod mistakes;
mod plans;
mod statements;
mod support;
mod sweeps;
mod undo_log;
