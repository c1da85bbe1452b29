//! Plans waiting on Redis for worker hosts.
