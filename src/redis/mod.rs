//! Redis: where it is, and how it is reached. It carries work and news; the truth lies in the database.
//!
//! | file | what |
//! | --- | --- |
//! | `address` | the address as people write it, and what belongs to it |
//! | `link` | a connection that comes back by itself, and whose answers have a deadline |

pub mod address;
pub mod link;

pub use address::Address;
pub use link::{Link, LinkError};
