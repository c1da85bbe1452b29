//! howdah.
pub mod cli;
pub mod console;
pub mod engine;
pub mod ledger;
pub mod monitor;
pub mod plan;
pub mod postgres;
pub mod run;
pub mod sandbox;
pub mod steps;
