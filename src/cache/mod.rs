//! Cached look-ups: in process, and on Redis.
