//! Runs a plan: steps in order, batches in segments, states, pace.
//!
//! The engine knows no database. Steps and the ledger come to it as traits ([`ports`]), so does time ([`clock`]). It owns
//! the run's state and publishes an immutable [`Snapshot`](crate::run::Snapshot); nobody else changes it.

pub mod afield;
pub mod batch_size;
pub mod board;
pub mod breaker;
pub mod churn;
pub mod clock;
pub mod course;
pub mod failpoint;
pub mod following;
pub mod gate;
pub mod gauge;
pub mod governing;
pub mod governor;
pub mod handle;
pub mod news;
pub mod orders;
pub mod patience;
pub mod pool;
pub mod ports;
pub mod retry;
pub mod runner;
pub mod sharing;
pub mod survey;
pub mod turnstile;
pub mod walk;
pub mod worker;
pub mod yard;

pub use handle::{Handle, spawn};
