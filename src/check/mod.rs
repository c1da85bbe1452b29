//! Before a run: what would happen, what stands against it, what it would cost. Reads, and changes nothing; a rehearsal
//! rolls back what it tries.
//!
//! | file | what |
//! | --- | --- |
//! | `finding` | what is found: code, severity, reason, the SQL that mends it |
//! | `work` | what a plan does to which table, by its words |
//! | `facts` | what the catalog and the statistics say, as plain values |
//! | `case` | what a rule is given: one step's work on one table |
//! | `rights`, `writing`, `upkeep`, `replication`, `database`, `locking` | rules: values in, findings out |
//! | `walking`, `proposal` | what the planner says of a backfill; the index that it lacks |
//! | `look` | asks, judges, puts in order |
//! | `allow` | findings that a plan accepts |
//! | `checked` | all of it, told to people and machines; what refuses a run |
//! | `statements` | statements that lock more, or longer, than their author may think |
//! | `outlook` | what will happen: tables, keys, rows, segments, the SQL of a batch and the server's plan for it |
//! | `rehearsal` | `--rehearse`: a few batches for real, rolled back |
//! | `forecast` | what a run would cost by a rehearsal: time, WAL, growth, dead rows, locks. Pure |

pub mod allow;
pub mod case;
pub mod checked;
pub mod database;
pub mod facts;
pub mod finding;
pub mod forecast;
mod json;
pub mod locking;
pub mod look;
pub mod outlook;
pub mod proposal;
pub mod rehearsal;
pub mod replication;
pub mod rights;
pub mod statements;
pub mod upkeep;
pub mod walking;
pub mod work;
pub mod writing;

pub use finding::{Code, Finding, Severity};

/// Every code that there is. Each has a page, `assets/reference/checks/CODE.md`.
#[must_use]
pub fn codes() -> Vec<Code> {
    [
        rights::CODES.as_slice(),
        walking::CODES.as_slice(),
        writing::CODES.as_slice(),
        replication::CODES.as_slice(),
        upkeep::CODES.as_slice(),
        locking::CODES.as_slice(),
        database::CODES.as_slice(),
        statements::CODES,
        rehearsal::CODES.as_slice(),
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::codes;

    const PAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/reference");

    #[test]
    fn every_code_has_its_page_and_every_page_its_code() {
        let known: BTreeSet<String> = codes().iter().map(|code| code.0.to_owned()).collect();
        assert_eq!(known.len(), codes().len(), "no code stands for two things");
        let pages: BTreeSet<String> = std::fs::read_dir(format!("{PAGES}/checks"))
            .expect("assets/reference/checks")
            .map(|entry| entry.expect("a file").file_name().to_string_lossy().trim_end_matches(".md").to_owned())
            .collect();
        assert_eq!(known, pages);
        let index = std::fs::read_to_string(format!("{PAGES}/checks.md")).expect("the index");
        for code in known {
            assert!(index.contains(&format!("(checks/{code}.md)")), "{code} is in the index");
            let page = std::fs::read_to_string(format!("{PAGES}/checks/{code}.md")).expect("a page");
            assert!(page.starts_with(&format!("# {code}\n")), "{code} is its page's title");
        }
    }

    #[test]
    fn codes_are_words_with_hyphens() {
        for code in codes() {
            assert!(code.0.chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{}", code.0);
        }
    }
}
