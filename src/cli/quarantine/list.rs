//! `howdah quarantine list`: a line for each row that is set aside, or JSON.

use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use serde_json::{Value, json};

use super::{ListArgs, Reading};
use crate::cli::{Exit, Global, say};
use crate::console::measure::{fit, left, right, width};
use crate::ledger::book::Book;
use crate::ledger::quarantine::{Counts, Entry, Wanted};
use crate::run::text::clean;
use crate::run::{Cause, human};

/// What the table fits into, in cells.
const WIDTH: usize = 80;
/// The most that a step's name and a key take of it.
const NAME: usize = 14;
const KEY: usize = 20;
const GAP: &str = "  ";

/// Entries that tell how wide the columns are. Further ones come one by one, and are cut to fit.
const TELLING: usize = 1000;

/// Shows them.
pub(super) async fn run(global: &Global, args: &ListArgs) -> Result<Exit, Cause> {
    let mut reading = Reading::begin(global, &args.which).await?;
    let wanted = Wanted { run: reading.run, step: reading.step, resolved: args.all, with_row: false };
    let mut counts = Counts::default();
    if reading.exists {
        counts = reading.counts().await?;
        let entries = reading.entries(wanted).await?;
        if args.json { show_json(entries).await? } else { show_table(entries, args.all).await? }
    } else if args.json {
        say::out("[]");
    }
    if !args.json {
        say::err(&in_all(counts, args.all, &reading));
    }
    Ok(Exit::Done)
}

/// One array, an object a line.
async fn show_json(mut entries: BoxStream<'_, Result<Entry, Cause>>) -> Result<(), Cause> {
    let Some(mut entry) = entries.try_next().await? else {
        say::out("[]");
        return Ok(());
    };
    say::out("[");
    while let Some(next) = entries.try_next().await? {
        say::out(&format!("{},", as_json(&entry)));
        entry = next;
    }
    say::out(&format!("{}\n]", as_json(&entry)));
    Ok(())
}

async fn show_table(mut entries: BoxStream<'_, Result<Entry, Cause>>, with_state: bool) -> Result<(), Cause> {
    let first: Vec<Entry> = entries.as_mut().take(TELLING).try_collect().await?;
    if first.is_empty() {
        return Ok(());
    }
    let table = Table::for_these(&first, with_state);
    say::out(&table.heading());
    for entry in &first {
        say::out(&table.line(entry));
    }
    while let Some(entry) = entries.try_next().await? {
        say::out(&table.line(&entry));
    }
    Ok(())
}

/// How many there are, and what can be done.
fn in_all(counts: Counts, all: bool, reading: &Reading) -> String {
    let run = reading.run.short();
    match (counts.open, counts.resolved) {
        (0, 0) => format!("no row of run {run} is set aside"),
        (0, resolved) if all => {
            format!("no row of run {run} is set aside any more; {} resolved", human::rows(resolved))
        }
        (0, resolved) => format!(
            "no row of run {run} is set aside any more; {} resolved: {} --all",
            human::rows(resolved),
            reading.command("list")
        ),
        (open, _) if matches!(reading.book, Book::Redis(_)) => format!(
            "{} set aside. With the rows themselves: {}\nOnce they are mended, run the plan again: howdah run PLAN",
            human::rows(open),
            reading.command("export"),
        ),
        (open, _) => format!(
            "{} set aside. With the rows themselves: {}\nOnce they are mended, or the plan is: {}",
            human::rows(open),
            reading.command("export"),
            reading.command("retry")
        ),
    }
}

fn as_json(entry: &Entry) -> Value {
    json!({
        "step": entry.step,
        "part": entry.part,
        "key": entry.key,
        "sqlstate": entry.sqlstate,
        "message": entry.message,
        "attempts": entry.attempts,
        "at": entry.at,
        "resolved_at": entry.resolved_at,
    })
}

/// Lines of cells, with a column for the state where there are rows of both. The message gets what room is left.
struct Table {
    name: usize,
    key: usize,
    with_state: bool,
}

impl Table {
    fn for_these(entries: &[Entry], with_state: bool) -> Self {
        let widest = |cells: Vec<usize>| cells.into_iter().max().unwrap_or_default();
        let name = widest(entries.iter().map(|entry| width(&clean(&entry.step))).collect());
        let key = widest(entries.iter().map(|entry| width(&key(entry))).collect());
        Self { name: name.clamp("STEP".len(), NAME), key: key.clamp("KEY".len(), KEY), with_state }
    }

    fn heading(&self) -> String {
        self.cells(["STEP", "KEY", "SQLSTATE", "MESSAGE", "TRIES", "STATE", "WHEN (UTC)"])
    }

    fn line(&self, entry: &Entry) -> String {
        let state = if entry.resolved_at.is_some() { "resolved" } else { "aside" };
        let at = entry.resolved_at.unwrap_or(entry.at).format("%m-%d %H:%M").to_string();
        let (code, message) = (clean(entry.sqlstate.as_deref().unwrap_or("-")), clean(&entry.message));
        let tries = human::count(u64::from(entry.attempts));
        self.cells([&clean(&entry.step), &key(entry), &code, &message, &tries, state, &at])
    }

    fn cells(&self, [step, key, code, message, tries, state, at]: [&str; 7]) -> String {
        let mut cells = vec![left(step, self.name), left(key, self.key), left(code, 8)];
        let mut ends = vec![right(tries, 5)];
        if self.with_state {
            ends.push(left(state, 8));
        }
        ends.push(left(at, 11));
        let taken: usize = cells.iter().chain(&ends).map(|cell| width(cell) + GAP.len()).sum();
        cells.push(left(message, WIDTH.saturating_sub(taken)));
        cells.extend(ends);
        cells.join(GAP).trim_end().to_owned()
    }
}

/// `12`, `eu, 12`, and behind it the partition, where there is one.
fn key(entry: &Entry) -> String {
    let key = entry.key.join(", ");
    let key = match &entry.part {
        None => key,
        Some(part) => format!("{key} ({part})"),
    };
    fit(&clean(&key), KEY).into_owned()
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use proptest::prelude::*;

    use super::*;

    fn entry(step: &str, key: &[&str], message: &str) -> Entry {
        Entry {
            step: step.to_owned(),
            part: None,
            key: key.iter().map(|&column| column.to_owned()).collect(),
            sqlstate: Some("22P02".to_owned()),
            message: message.to_owned(),
            attempts: 1,
            at: DateTime::from_timestamp(1_772_373_802, 0).expect("a time"),
            resolved_at: None,
            row: None,
        }
    }

    fn table(entries: &[Entry], with_state: bool) -> String {
        let table = Table::for_these(entries, with_state);
        let lines = entries.iter().map(|entry| table.line(entry));
        std::iter::once(table.heading()).chain(lines).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_table_gives_the_message_what_room_is_left() {
        let mut entries = vec![
            entry("numbers", &["12"], "invalid input syntax for type integer: \"x12\""),
            entry("numbers", &["eu", "1340"], "short\x1b"),
        ];
        entries[1].sqlstate = None;
        assert_eq!(
            table(&entries, false),
            "STEP     KEY       SQLSTATE  MESSAGE                          TRIES  WHEN (UTC)\n\
             numbers  12        22P02     invalid input syntax for type …      1  03-01 14:03\n\
             numbers  eu, 1340  -         short\u{fffd}                               1  03-01 14:03"
        );
        entries[0].resolved_at = Some(entries[0].at);
        entries.truncate(1);
        assert_eq!(
            table(&entries, true),
            "STEP     KEY  SQLSTATE  MESSAGE                     TRIES  STATE     WHEN (UTC)\n\
             numbers  12   22P02     invalid input syntax for …      1  resolved  03-01 14:03"
        );
    }

    #[test]
    fn a_key_in_a_partition_names_it_last() {
        let mut one = entry("s", &["1340"], "m");
        one.part = Some("\"old\".\"users_of_2019\"".to_owned());
        assert_eq!(key(&one), "1340 (\"old\".\"users_…");
    }

    proptest! {
        #[test]
        fn no_line_is_wider_than_80_cells_whatever_the_database_says(
            step in any::<String>(), column in any::<String>(), message in any::<String>(), all in any::<bool>()
        ) {
            let entries = [entry(&step, &[&column, &column], &message)];
            for line in table(&entries, all).lines() {
                prop_assert!(width(line) <= WIDTH, "{line}");
                prop_assert!(!line.chars().any(char::is_control));
            }
        }
    }
}
