//! `howdah quarantine export`: the rows whole, as CSV or as lines of JSON. They pass through one by one.

use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::Path;

use futures_util::TryStreamExt;
use serde_json::json;

use super::{ExportArgs, ExportFormat, Reading};
use crate::cli::{Exit, Global, say};
use crate::ledger::quarantine::{Entry, Wanted};
use crate::postgres::error::io_words;
use crate::run::text::clean;
use crate::run::{Cause, human};

const HEADER: [&str; 8] = ["step", "part", "key", "sqlstate", "message", "at", "attempts", "row"];

/// Writes them out.
pub(super) async fn run(global: &Global, args: &ExportArgs) -> Result<Exit, Cause> {
    let mut reading = Reading::begin(global, &args.which).await?;
    let Some(path) = &args.output else {
        let (out, to_terminal) = say::stream();
        let out = Sink::new(out, args.format, to_terminal);
        return match copy(&mut reading, out).await? {
            Ok(_) => Ok(Exit::Done),
            // Whoever closed the pipe does not want to hear more.
            Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(Exit::Done),
            Err(e) => Err(Cause::new(format!("standard output cannot be written: {}", io_words(&e)))),
        };
    };
    let unwritable = |e: &io::Error| unwritable(path, e);
    let file = File::create(path).map_err(|e| unwritable(&e))?;
    let rows = copy(&mut reading, Sink::new(file, args.format, false)).await?.map_err(|e| unwritable(&e))?;
    say::err(&format!("{} in {}", human::rows(rows), path.display()));
    Ok(Exit::Done)
}

fn unwritable(path: &Path, e: &io::Error) -> Cause {
    Cause::usage(format!("{} cannot be written: {}", path.display(), io_words(e)))
        .hint("name another file with --output, or leave it out for standard output")
}

/// Copies the rows from the server to `out`. Returns how many; the inner error is that of `out`.
async fn copy<W: Write>(reading: &mut Reading, mut out: Sink<W>) -> Result<io::Result<u64>, Cause> {
    let wanted = Wanted { run: reading.run, step: reading.step, resolved: false, with_row: true };
    if let Err(e) = out.header() {
        return Ok(Err(e));
    }
    let mut rows = 0;
    if reading.exists {
        let mut entries = reading.entries(wanted).await?;
        while let Some(entry) = entries.try_next().await? {
            if let Err(e) = out.entry(&entry) {
                return Ok(Err(e));
            }
            rows += 1;
        }
    }
    Ok(out.end().map(|()| rows))
}

/// Where an export goes, in one of its forms.
struct Sink<W: Write> {
    form: Form<W>,
    /// A terminal shows it: what could steer that is taken out. A file or a pipe gets each value as it is.
    to_terminal: bool,
}

enum Form<W: Write> {
    Csv(Box<csv::Writer<W>>),
    Lines(BufWriter<W>),
}

impl<W: Write> Sink<W> {
    fn new(out: W, format: ExportFormat, to_terminal: bool) -> Self {
        let form = match format {
            ExportFormat::Csv => Form::Csv(Box::new(csv::Writer::from_writer(out))),
            ExportFormat::Jsonl => Form::Lines(BufWriter::new(out)),
        };
        Self { form, to_terminal }
    }

    fn header(&mut self) -> io::Result<()> {
        match &mut self.form {
            Form::Csv(out) => out.write_record(HEADER).map_err(plain),
            Form::Lines(_) => Ok(()),
        }
    }

    fn entry(&mut self, entry: &Entry) -> io::Result<()> {
        let shown = |text: &str| if self.to_terminal { clean(text).into_owned() } else { text.to_owned() };
        match &mut self.form {
            Form::Csv(out) => out.write_record(fields(entry).map(|field| shown(&field))).map_err(plain),
            Form::Lines(out) => writeln!(out, "{}", shown(&line(entry))),
        }
    }

    fn end(self) -> io::Result<()> {
        match self.form {
            Form::Csv(mut out) => out.flush(),
            Form::Lines(mut out) => out.flush(),
        }
    }
}

/// The error of what is written to, out of the one that `csv` puts around it.
fn plain(e: csv::Error) -> io::Error {
    match e.into_kind() {
        csv::ErrorKind::Io(e) => e,
        other => io::Error::other(format!("{other:?}")),
    }
}

fn fields(entry: &Entry) -> [String; HEADER.len()] {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    [
        entry.step.clone(),
        text(&entry.part),
        json!(entry.key).to_string(),
        text(&entry.sqlstate),
        entry.message.clone(),
        entry.at.to_rfc3339(),
        entry.attempts.to_string(),
        text(&entry.row),
    ]
}

fn line(entry: &Entry) -> String {
    let mut line = json!({
        "step": entry.step,
        "part": entry.part,
        "key": entry.key,
        "sqlstate": entry.sqlstate,
        "message": entry.message,
        "at": entry.at,
        "attempts": entry.attempts,
    })
    .to_string();
    // The row is JSON already, in the server's text: read and written again, a long number would lose digits.
    line.pop();
    line.push_str(",\"row\":");
    line.push_str(entry.row.as_deref().unwrap_or("null"));
    line.push('}');
    line
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use serde_json::Value;

    use super::*;

    fn odd() -> Entry {
        Entry {
            step: "numbers, \"all\"".to_owned(),
            part: Some("\"old\".\"p1\"".to_owned()),
            key: vec!["eu".to_owned(), "a\"b,c".to_owned()],
            sqlstate: None,
            message: "two\nlines\u{9b}31m".to_owned(),
            attempts: 2,
            at: DateTime::from_timestamp(1_772_373_802, 5_000_000).expect("a time"),
            resolved_at: None,
            row: Some("{\"n\": 12345678901234567890.12345678901234567890, \"t\": \"a\\nb\"}".to_owned()),
        }
    }

    fn written(format: ExportFormat, to_terminal: bool, entry: &Entry) -> String {
        let mut bytes = Vec::new();
        let mut sink = Sink::new(&mut bytes, format, to_terminal);
        sink.header().and_then(|()| sink.entry(entry)).expect("written");
        sink.end().expect("written");
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn csv_gives_back_every_value_as_it_was() {
        let text = written(ExportFormat::Csv, false, &odd());
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        assert_eq!(reader.headers().expect("a header"), HEADER.as_slice());
        let row = reader.records().next().expect("a row").expect("CSV");
        let expected = [
            "numbers, \"all\"",
            "\"old\".\"p1\"",
            "[\"eu\",\"a\\\"b,c\"]",
            "",
            "two\nlines\u{9b}31m",
            "2026-03-01T14:03:22.005+00:00",
            "2",
            "{\"n\": 12345678901234567890.12345678901234567890, \"t\": \"a\\nb\"}",
        ];
        assert_eq!(row.iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_line_of_json_holds_the_row_with_all_its_digits() {
        let text = written(ExportFormat::Jsonl, false, &odd());
        assert_eq!(text.lines().count(), 1);
        assert!(text.contains("12345678901234567890.12345678901234567890"), "{text}");
        let value: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!((&value["key"], &value["row"]["t"]), (&json!(["eu", "a\"b,c"]), &json!("a\nb")));
        let without = Entry { row: None, part: None, ..odd() };
        let value: Value = serde_json::from_str(&written(ExportFormat::Jsonl, false, &without)).expect("JSON");
        assert!(value["row"].is_null() && value["part"].is_null());
    }

    #[test]
    fn a_terminal_is_not_steered() {
        for format in [ExportFormat::Csv, ExportFormat::Jsonl] {
            let text = written(format, true, &odd());
            assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
        }
    }
}
