//! What answers are kept under: `howdah:cache:<database>.<reader and SQL>:<name>:<argument>:<argument>`.
//!
//! Name and arguments stand as they are written, as far as that can be, so that people can clear them by pattern.

use std::time::Duration;

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use super::source::Identity;
use crate::redis::Address;

/// Arguments that are longer in all, in bytes, stand as their hash.
const LONGEST: usize = 200;
/// Hex digits of the database's hash.
const DATABASE: usize = 16;
/// Hex digits of the hash of reader and SQL.
const SQL: usize = 16;

/// Name and arguments. No two lists of arguments have the same.
#[must_use]
pub fn of(name: &str, arguments: &[Option<String>]) -> String {
    let mut tail = String::new();
    for argument in arguments {
        tail.push(':');
        match argument {
            None => tail.push('~'),
            Some(text) => escape(text, "", &mut tail),
        }
    }
    if tail.len() > LONGEST {
        tail = format!(":#{}", hash(&tail, 64));
    }
    let mut key = String::new();
    escape(name, "", &mut key);
    key.push_str(&tail);
    key
}

/// What stands before it, for all answers of one SQL of one database.
#[must_use]
pub fn front(address: &Address, identity: &Identity, sql: &str, ttl: Duration) -> String {
    // Who wants answers to be fresher takes none of those who do not.
    let reader = hash(&format!("{}\0{sql}\0{}", identity.reader, ttl.as_millis()), SQL);
    address.key(&format!("cache:{}.{reader}:", database(identity)))
}

fn database(identity: &Identity) -> String {
    hash(&identity.database, DATABASE)
}

/// The pattern of Redis for what a person has written, `countries:*`; `identity`: only this database's answers.
#[must_use]
pub fn pattern(address: &Address, identity: Option<&Identity>, written: &str) -> String {
    let database = identity.map_or_else(|| "?".repeat(DATABASE), database);
    let mut pattern = address.key(&format!("cache:{database}.{}:", "?".repeat(SQL)));
    escape(written, ":*?[]^\\~#%", &mut pattern);
    pattern
}

/// The name in a key that [`pattern`] has found, as it is written there.
#[must_use]
pub fn name<'k>(address: &Address, key: &'k str) -> Option<&'k str> {
    let rest = key.strip_prefix(&address.key("cache:"))?.get(DATABASE + 1 + SQL + 1..)?;
    rest.split(':').next()
}

/// Letters, digits, `_`, `.`, `-` and what is in `also` stand for themselves.
fn escape(text: &str, also: &str, to: &mut String) {
    for c in text.chars() {
        if c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-') || also.contains(c) {
            to.push(c);
        } else {
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                // Writing to a String cannot fail.
                let _ = write!(to, "%{byte:02X}");
            }
        }
    }
}

fn hash(text: &str, digits: usize) -> String {
    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(text.as_bytes()) {
        let _ = write!(hex, "{byte:02x}");
    }
    hex.truncate(digits);
    hex
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn texts(all: &[&str]) -> Vec<Option<String>> {
        all.iter().map(|text| Some((*text).to_owned())).collect()
    }

    fn identity(database: &str, reader: &str) -> Identity {
        Identity { database: database.to_owned(), reader: reader.to_owned() }
    }

    fn address() -> Address {
        Address::resolve(Some("redis://h"), None, &|_| None).expect("an address").expect("one")
    }

    #[test]
    fn keys_can_be_read() {
        assert_eq!(of("countries", &texts(&["DE"])), "countries:DE");
        assert_eq!(of("a b", &texts(&["x:y", ""])), "a%20b:x%3Ay:");
        assert_eq!(of("c", &[None, Some("~".to_owned())]), "c:~:%7E");
        assert_eq!(of("c", &[]), "c");
        let long = of("c", &texts(&[&"x".repeat(300)]));
        assert!(long.starts_with("c:#") && long.len() == 67, "{long}");
        let front = front(&address(), &identity("d", "r"), "SELECT 1", HOUR);
        assert!(front.starts_with("howdah:cache:") && front.ends_with(':'), "{front}");
        assert_eq!(name(&address(), &format!("{front}countries:DE")), Some("countries"));
    }

    #[test]
    fn two_databases_two_readers_and_two_texts_of_sql_share_nothing() {
        let all = [("d", "r", "s"), ("e", "r", "s"), ("d", "q", "s"), ("d", "r", "t")];
        let fronts: std::collections::BTreeSet<String> =
            all.iter().map(|(d, r, s)| front(&address(), &identity(d, r), s, HOUR)).collect();
        assert_eq!(fronts.len(), all.len());
    }

    #[test]
    fn a_pattern_is_for_one_database_or_for_all_and_only_for_the_names_that_it_says() {
        let identity = identity("d", "r");
        let one = pattern(&address(), Some(&identity), "countries:*");
        let front = front(&address(), &identity, "SELECT 1", HOUR);
        let of_front = front.split('.').next().expect("a database");
        assert!(one.starts_with(of_front) && one.ends_with(":countries:*"), "{one}");
        let all = pattern(&address(), None, "städte:*");
        assert!(all.contains(&"?".repeat(DATABASE)) && all.ends_with(":st%C3%A4dte:*"), "{all}");
    }

    proptest! {
        #[test]
        fn no_two_lists_of_arguments_share_a_key(
            one in vec(option::of("[a-z:~#%é ]{0,4}"), 0..4),
            other in vec(option::of("[a-z:~#%é ]{0,4}"), 0..4),
        ) {
            prop_assert_eq!(one == other, of("n", &one) == of("n", &other));
        }

        #[test]
        fn any_arguments_make_a_key_of_plain_letters(arguments in vec(option::of(any::<String>()), 0..4)) {
            let key = of("n", &arguments);
            prop_assert!(key.len() < 300);
            prop_assert!(key.chars().all(|c| c.is_ascii_alphanumeric() || "_.-:%~#".contains(c)), "{}", key);
        }
    }
}
