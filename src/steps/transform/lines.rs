//! Rows through a program over JSON Lines: a row a line to it, an answer a line from it, in order.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde_json::value::RawValue;

use super::rows::{Answer, Asked, NewRow, Rows, Value};
use super::shape::{Kind, Place, ReadColumn, Shape};
use crate::engine::ports::{StepError, Trouble};
use crate::run::Cause;
use crate::run::human;
use crate::run::text::clean;
use crate::steps::program::command::{self, Process};

/// Bytes that are written at once.
const CHUNK: usize = 64 << 10;
/// Rows that it is given before the clock is looked at, where a batch may end early.
const WINDOW: usize = 64;
/// Deaths in a row, without an answer between them, after which it is not the rows.
const BARREN: u32 = 20;
/// The same of a program that has never answered.
const STILLBORN: u32 = 6;
/// Bytes of an answer.
const LONGEST: u64 = 256 << 20;

/// A program, which is started when it is first asked.
pub(super) struct Lines {
    argv: Vec<String>,
    timeout: Duration,
    what: String,
    process: Option<Process>,
    /// Key of the row that it has died of once, given alone.
    died_at: Option<Vec<String>>,
    /// How often it has died since a batch was answered.
    deaths: u32,
    /// How often it has died in a row without an answer.
    barren: u32,
    /// Whether it has ever answered.
    has_answered: bool,
    /// Rows that may be given to it at once, where it has died of more.
    most: Option<usize>,
}

/// Why a program gave no answer, and how many answers it had given before.
struct Silence {
    answered: Vec<Answer>,
    why: String,
}

impl Lines {
    pub(super) fn new(argv: Vec<String>, timeout: Duration, what: String) -> Self {
        Self {
            argv,
            timeout,
            what,
            process: None,
            died_at: None,
            deaths: 0,
            barren: 0,
            has_answered: false,
            most: None,
        }
    }

    /// The answers, in the order of what is asked; fewer, at least one, once `linger` has passed.
    ///
    /// # Errors
    /// The program dies, or says nothing: the first time the batch is to be tried again. When that goes on, it is given fewer
    /// rows at once, down to the one that it dies of; of many in a row it is the program that is wrong.
    pub(super) async fn ask(
        &mut self,
        asked: Asked,
        (read, shape): (&[ReadColumn], &Shape),
        linger: Option<Duration>,
    ) -> Result<Vec<Answer>, StepError> {
        let wanted = asked.which.len();
        let mut answers: Vec<Answer> = Vec::with_capacity(wanted);
        let began = Instant::now();
        while answers.len() < wanted {
            if !answers.is_empty() && linger.is_some_and(|linger| began.elapsed() >= linger) {
                break;
            }
            let left = &asked.which[answers.len()..];
            let window = if linger.is_some() { WINDOW } else { usize::MAX };
            let piece = &left[..left.len().min(self.most.unwrap_or(usize::MAX)).min(window)];
            let Silence { answered, why } = match self.piece(&asked.rows, piece, read, shape).await? {
                Ok(more) => {
                    answers.extend(more);
                    (self.has_answered, self.barren, self.died_at) = (true, 0, None);
                    self.most = self.most.map(|most| most.saturating_mul(4)).filter(|most| *most < wanted);
                    continue;
                }
                Err(silence) => silence,
            };
            self.deaths += 1;
            let cause = || {
                Cause::new(format!("{}: {}", self.what, clean(&why))).detail(format!(
                    "it had answered {} of {} rows",
                    answered.len(),
                    piece.len()
                ))
            };
            if self.deaths == 1 {
                return Err(StepError::Passing(Trouble::Transient, cause()));
            }
            if answered.is_empty() {
                self.barren += 1;
                if self.barren >= if self.has_answered { BARREN } else { STILLBORN } {
                    let cause = cause();
                    self.barren = 0;
                    return Err(StepError::Passing(Trouble::Transient, cause));
                }
            } else {
                (self.has_answered, self.barren) = (true, 0);
            }
            let alone = piece.len() == 1;
            let key = piece.get(answered.len()).map(|at| asked.rows.key(*at));
            answers.extend(answered);
            if alone && self.died_at == key {
                self.died_at = None;
                answers.push(Answer::Wrong(format!("the program fails on it: {}", clean(&why))));
            } else if alone {
                self.died_at = key;
            } else {
                self.most = Some((piece.len() / 8).max(1));
            }
        }
        self.deaths = 0;
        Ok(answers)
    }

    /// Gives it some rows, and takes their answers.
    async fn piece(
        &mut self,
        rows: &Rows,
        which: &[usize],
        read: &[ReadColumn],
        shape: &Shape,
    ) -> Result<Result<Vec<Answer>, Silence>, StepError> {
        let mut process = match self.process.take() {
            Some(process) => process,
            None => Process::start(&self.argv).map_err(|e| {
                let program = self.argv.first().map(String::as_str).unwrap_or_default();
                StepError::Failed(
                    Cause::new(format!("{}: {} cannot be started: {e}", self.what, clean(program)))
                        .hint("`command` names a program on PATH, or its path, and its arguments"),
                )
            })?,
        };
        let timeout = self.timeout;
        let (Some(stdin), stdout) = process.ends() else {
            return Err(StepError::Failed(Cause::bug("a program without a standard input")));
        };
        let names: Vec<String> =
            read.iter().map(|column| serde_json::to_string(&column.name).unwrap_or_default()).collect();
        let write = async {
            let mut text = String::with_capacity(CHUNK + 1024);
            for (n, at) in which.iter().enumerate() {
                document(rows, *at, read, &names, &mut text);
                if text.len() >= CHUNK || n + 1 == which.len() {
                    if command::write(stdin, text.as_bytes()).await.is_err() {
                        // Why is told by its answers.
                        return;
                    }
                    text.clear();
                }
            }
        };
        let listen = async {
            let mut answers: Vec<Answer> = Vec::with_capacity(which.len());
            let mut bytes = Vec::new();
            while answers.len() < which.len() {
                match tokio::time::timeout(timeout, command::line(stdout, &mut bytes, LONGEST)).await {
                    Ok(Ok(Some(()))) => {
                        answers.push(taken(&bytes, shape).unwrap_or_else(Answer::Wrong));
                    }
                    Ok(Ok(None)) => return (answers, Some("it has closed its standard output".to_owned())),
                    Ok(Err(e)) => return (answers, Some(e.to_string())),
                    Err(_) => {
                        let words = format!("silent for {} (`timeout`)", human::duration(timeout));
                        return (answers, Some(words));
                    }
                }
            }
            (answers, None)
        };
        // A program that has ended reads nothing more: whoever listens knows first.
        let (answered, silent) = {
            tokio::pin!(write, listen);
            let mut written = false;
            loop {
                tokio::select! {
                    biased;
                    heard = &mut listen => break heard,
                    () = &mut write, if !written => written = true,
                }
            }
        };
        match silent {
            None => {
                self.process = Some(process);
                Ok(Ok(answered))
            }
            Some(how) => Ok(Err(Silence { answered, why: process.autopsy(&how).await })),
        }
    }

    /// Lets the program end.
    pub(super) async fn close(self) {
        if let Some(process) = self.process {
            process.close().await;
        }
    }
}

/// A row that goes on as it was read: the server has done it all.
pub(super) fn as_read(rows: &Rows, at: usize, read: &[ReadColumn], shape: &Shape) -> Answer {
    if shape.lines {
        let names: Vec<String> =
            read.iter().map(|column| serde_json::to_string(&column.name).unwrap_or_default()).collect();
        let mut line = String::new();
        document(rows, at, read, &names, &mut line);
        line.pop();
        return Answer::Row(vec![Value::Text(line)]);
    }
    let values = rows.fields(at).map(|value| value.map_or(Value::Null, |text| Value::Text(text.into_owned())));
    Answer::Row(values.collect())
}

/// A row as a line of JSON.
fn document(rows: &Rows, at: usize, read: &[ReadColumn], names: &[String], to: &mut String) {
    to.push('{');
    for (n, ((value, column), name)) in rows.fields(at).zip(read).zip(names).enumerate() {
        if n > 0 {
            to.push(',');
        }
        to.push_str(name);
        to.push(':');
        let Some(value) = value else {
            to.push_str("null");
            continue;
        };
        let is_number = value.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'+' | b'.' | b'e' | b'E'));
        match column.kind {
            Kind::Int => to.push_str(&value),
            Kind::Float if is_number => to.push_str(&value),
            Kind::Bool => to.push_str(if value == "t" { "true" } else { "false" }),
            // A line is one line: what stands between the tokens of a document may be left out.
            Kind::Json if !value.contains(['\n', '\r']) => to.push_str(&value),
            Kind::Json => to.push_str(&value.replace(['\n', '\r'], " ")),
            // Digits that a double does not hold are safe in a string; no number of JSON is NaN.
            Kind::BigInt | Kind::Float | Kind::Text => quote(&value, to),
        }
    }
    to.push_str("}\n");
}

/// A text as a string of JSON.
fn quote(text: &str, to: &mut String) {
    if text.bytes().all(|b| b >= 0x20 && b != b'"' && b != b'\\') {
        to.push('"');
        to.push_str(text);
        to.push('"');
        return;
    }
    // A string is always JSON, and a string takes all that is written.
    let _ = write!(to, "{}", serde_json::to_string(text).unwrap_or_default());
}

/// What a line of a program says.
fn taken(line: &[u8], shape: &Shape) -> Result<Answer, String> {
    let text = std::str::from_utf8(line).map_err(|_| "the program's answer is not UTF-8".to_owned())?;
    let text = text.trim();
    match text.as_bytes().first() {
        Some(b'{') => match object(text, shape)? {
            Ok(row) => Ok(Answer::Row(row)),
            Err(refused) => Ok(Answer::Wrong(refused)),
        },
        Some(b'[') => {
            shape.several()?;
            let rows: Vec<&RawValue> = serde_json::from_str(text).map_err(|e| not_json(&e))?;
            let rows = rows.into_iter().map(|row| object(row.get(), shape)?);
            rows.collect::<Result<_, _>>().map(Answer::Rows)
        }
        _ if text == "null" => Ok(Answer::Rows(Vec::new())),
        _ => {
            Err(format!("the program's answer is not an object: {}", clean(&text.chars().take(60).collect::<String>())))
        }
    }
}

fn not_json(e: &serde_json::Error) -> String {
    format!("the program's answer is not JSON: {e}")
}

/// A row that an object is, or why the program refuses it.
fn object(text: &str, shape: &Shape) -> Result<Result<NewRow, String>, String> {
    let members =
        crate::steps::program::json::members(text).map_err(|e| format!("the program's answer is not JSON: {e}"))?;
    if let Some((_, error)) = members.iter().find(|(name, _)| name == "$error") {
        return Ok(Err(serde_json::from_str::<String>(error.get()).unwrap_or_else(|_| error.get().to_owned())));
    }
    if shape.lines {
        return Ok(Ok(vec![Value::Text(text.to_owned())]));
    }
    let mut row = vec![Value::Absent; shape.columns.len()];
    for (name, value) in members {
        if let Place::Column(at) = shape.place(&name)? {
            row[at] =
                text_of(value.get(), &shape.columns[at].type_name).map_err(|e| format!("column `{name}`: {e}"))?;
        }
    }
    Ok(Ok(row))
}

/// A value of JSON as a column of that type reads it.
fn text_of(value: &str, type_name: &str) -> Result<Value, String> {
    if value == "null" {
        return Ok(Value::Null);
    }
    if matches!(type_name, "json" | "jsonb") {
        return Ok(Value::Text(value.to_owned()));
    }
    match value.as_bytes().first() {
        Some(b'"') => {
            let text: String = serde_json::from_str(value).map_err(|e| e.to_string())?;
            if text.contains('\0') {
                return Err("a text with a NUL character".to_owned());
            }
            Ok(Value::Text(text))
        }
        Some(b'[') if type_name.ends_with("[]") => array(value, type_name).map(Value::Text),
        Some(b'{' | b'[') => Err(format!("an object or an array, and its type is {type_name}")),
        _ => Ok(Value::Text(value.to_owned())),
    }
}

/// An array as PostgreSQL reads it.
fn array(value: &str, type_name: &str) -> Result<String, String> {
    let values: Vec<&RawValue> = serde_json::from_str(value).map_err(|e| e.to_string())?;
    let part = |value: &RawValue| {
        if value.get().starts_with('[') {
            return array(value.get(), type_name);
        }
        Ok(match text_of(value.get(), type_name.trim_end_matches("[]"))? {
            Value::Text(text) => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
            Value::Null | Value::Absent => "NULL".to_owned(),
        })
    };
    let parts: Result<Vec<String>, String> = values.into_iter().map(part).collect();
    Ok(format!("{{{}}}", parts?.join(",")))
}
