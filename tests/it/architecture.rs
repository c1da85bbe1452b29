//! Arrows point one way: who may import whom, as the blueprint says in section 2.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A part of the house, and the parts that it may name. `plan`, `monitor` and `postgres` stand beside each other.
const MAY: [(&str, &[&str]); 16] = [
    ("run", &[]),
    ("plan", &["run"]),
    ("monitor", &["run"]),
    ("engine", &["run", "plan"]),
    ("postgres", &["run", "plan"]),
    ("redis", &["run", "plan"]),
    ("queue", &["run", "plan", "redis"]),
    ("cache", &["run", "plan", "redis"]),
    ("steps", &["run", "plan", "engine", "postgres", "cache"]),
    ("check", &["run", "plan", "engine", "postgres", "steps"]),
    ("ledger", &["run", "plan", "engine", "postgres", "redis"]),
    ("report", &["run"]),
    ("console", &["run"]),
    ("sandbox", &["run"]),
    (
        "cli",
        &[
            "run", "plan", "monitor", "engine", "postgres", "redis", "queue", "cache", "steps", "check", "ledger",
            "report", "console", "sandbox",
        ],
    ),
    ("main.rs", &["cli", "console"]),
];

/// Words that a part may not hold: (part, word, why).
const NEVER: [(&str, &str, &str); 17] = [
    ("run", "std::fs", "it does no I/O"),
    ("run", "std::env", "it does no I/O"),
    ("run", "tokio::", "it is pure"),
    ("run", "Utc::now", "it takes `now` as a value"),
    ("run", "Instant::now", "it takes `now` as a value"),
    ("run", "SystemTime", "it takes `now` as a value"),
    ("engine", "sqlx", "it knows no database"),
    ("monitor", "sqlx", "it knows no database"),
    ("plan", "sqlx", "it knows no database"),
    ("console", "sqlx", "it knows no database"),
    ("console", "Utc::now", "it shows the snapshot's time"),
    ("console", "Instant::now", "it shows the snapshot's time"),
    ("console", "SystemTime", "it shows the snapshot's time"),
    ("console", "std::env", "the environment is given to it"),
    ("steps", "tokio::spawn", "every task has an owner"),
    ("engine", "tokio::spawn", "every task has an owner"),
    ("cli", "tokio::spawn", "every task has an owner"),
];

fn sources(directory: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory").flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|suffix| suffix == "rs") {
            into.push(path);
        }
    }
}

/// The code without comments and strings' contents mattering: comment lines are dropped.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("a source");
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn part(path: &Path, root: &Path) -> String {
    let inside = path.strip_prefix(root).expect("inside src");
    inside.iter().next().expect("a part").to_string_lossy().into_owned()
}

/// Parts of ours that the code names, as `crate::part` or `howdah::part`, also in `use crate::{a, b}`.
fn named(code: &str) -> BTreeSet<String> {
    let mut parts = BTreeSet::new();
    for prefix in ["crate::", "howdah::"] {
        for (at, _) in code.match_indices(prefix) {
            let rest = &code[at + prefix.len()..];
            let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
            match rest.strip_prefix('{') {
                Some(list) => {
                    parts.extend(list.split('}').next().unwrap_or("").split(',').map(|item| word(item.trim())));
                }
                None => {
                    parts.insert(word(rest));
                }
            }
        }
    }
    parts
}

#[test]
fn every_part_names_only_the_parts_that_it_may() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 60, "the sources are there: {}", files.len());
    let mut wrong = Vec::new();
    let known: BTreeSet<&str> = MAY.iter().map(|(part, _)| *part).collect();
    for file in &files {
        let part = part(file, &root);
        if part == "lib.rs" {
            continue;
        }
        let Some((_, may)) = MAY.iter().find(|(name, _)| *name == part) else {
            wrong.push(format!("{}: part `{part}` is not in the list", file.display()));
            continue;
        };
        let code = code(file);
        for name in named(&code) {
            if known.contains(name.as_str()) && name != part && !may.contains(&name.as_str()) {
                wrong.push(format!("{}: `{part}` names `{name}`", file.display()));
            }
        }
        // What a test measures itself by is its own affair.
        let works = code.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for (of, word, why) in NEVER {
            if of == part && works.contains(word) {
                wrong.push(format!("{}: `{word}`, but {why}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_the_consoles_terminal_writes_to_the_terminal() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    // Where no console is open: words, the progress bar of a run and of the demo.
    let may = ["console/terminal.rs", "console/paint.rs", "cli/say.rs", "cli/headless.rs", "cli/demo.rs"];
    let mut wrong = Vec::new();
    for file in &files {
        let inside = file.strip_prefix(&root).expect("inside src").to_string_lossy().into_owned();
        let code = code(file);
        for word in ["stdout()", "stderr()", "println!", "eprint", "/dev/tty"] {
            let reads = word == "/dev/tty" && inside == "console/input.rs";
            let asks = code.matches(word).count() == code.matches(&format!("{word}.is_terminal()")).count();
            if code.contains(word) && !asks && !reads && !may.contains(&inside.as_str()) {
                wrong.push(format!("{inside}: {word}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn identifiers_are_quoted_by_one_function() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let doubled: Vec<_> = files
        .iter()
        .filter(|file| !file.ends_with("postgres/ident.rs") && !file.ends_with("postgres/tokens.rs"))
        .filter(|file| code(file).contains(r#"replace('"', "\"\"")"#))
        .collect();
    assert!(doubled.is_empty(), "{doubled:?}");
}
