//! The ledger: what is done, by whom, and how far. Schema `howdah` of the target database; or [`redis`], where nothing may be
//! made there.
//!
//! What belongs to a change is written in the change's own transaction ([`record`]); the rest, the run's state, the
//! heartbeat and the events, by the [`Ledger`](crate::engine::ports::Ledger) trait ([`postgres`]). Everything carries the
//! epoch of the driver that writes it, so that one which was replaced is refused.

pub mod book;
pub mod commands;
pub mod diary;
pub mod dossier;
mod files;
pub mod lock;
pub mod member;
pub mod migrate;
pub mod mirror;
pub mod open;
pub mod past;
pub mod postgres;
pub mod quarantine;
pub mod read;
pub mod record;
pub mod redis;
pub mod relay;
pub mod runs;
pub mod shares;
pub mod viewing;
pub mod wire;
