//! howdah as a whole, on real servers and in real terminals. One binary, so that it links once.
#![allow(missing_docs, reason = "tests are named as sentences")]
#![allow(clippy::expect_used, reason = "a helper that fails fails its test")]

mod architecture;
mod attach;
mod bouncer;
mod commands;
mod console;
mod copy;
mod copy_crashes;
mod copy_verify;
mod desk;
mod exactness;
mod files;
mod governor;
mod import;
mod import_zoo;
mod interop;
mod keyboard;
mod keys;
mod keyspace;
mod live;
mod locks;
mod mistakes;
mod outages;
mod plans;
mod probe;
mod proxy;
mod quarantine;
mod quarantine_retry;
mod queue;
mod queue_console;
mod screen;
mod signals;
mod slow;
mod ssh;
mod statements;
mod steer;
mod storm;
mod support;
mod sweeps;
mod theme;
mod transform;
mod undo;
mod undo_log;
mod worker;
