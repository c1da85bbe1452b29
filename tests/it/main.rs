//! howdah as a whole, on real servers and in real terminals. One binary, so that it links once.
#![allow(missing_docs, reason = "tests are named as sentences")]

mod architecture;
mod commands;
mod exactness;
mod keys;
mod mistakes;
mod plans;
mod statements;
mod support;
mod sweeps;
