//! What a failure means for the work, by its SQLSTATE or by what the driver says.

use super::error;
use super::sqlstate::{Class, class};
use crate::run::Trouble;

/// The trouble that a failure is. `None`: it does not pass.
#[must_use]
pub fn of(failure: &sqlx::Error) -> Option<Trouble> {
    if error::is_lost(failure) {
        return Some(Trouble::Outage);
    }
    match class(error::code(failure)?) {
        Class::Transient => Some(Trouble::Transient),
        Class::Blocked => Some(Trouble::Blocked),
        Class::Cancelled => Some(Trouble::TooLong),
        Class::Connection | Class::Resource => Some(Trouble::Outage),
        Class::Data | Class::Plan | Class::Other => None,
    }
}

/// Whether the rows themselves are wrong.
#[must_use]
pub fn is_data(failure: &sqlx::Error) -> bool {
    error::code(failure).is_some_and(|code| class(code) == Class::Data)
}
