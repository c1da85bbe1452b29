//! Redis: where it is, and how it is reached. It carries work and news; the truth lies in the database.
//!
//! | file | what |
//! | --- | --- |
//! | `address` | the address as people write it, and what belongs to it |
//! | `link` | a connection that comes back by itself, and whose answers have a deadline |
//! | `wire` | what it is made of: one server, the master that sentinels name, or a cluster |
//! | `gate` | when a Redis that is away is asked again |
//! | `tls` | the certificates it is checked against |
//! | `bullmq` | the address as the task queue wants it |
//! | `error` | why it did not do what was asked, without secrets |

pub mod address;
mod bullmq;
mod error;
mod gate;
pub mod link;
mod tls;
mod wire;

pub use address::Address;
pub use error::LinkError;
pub use link::Link;
