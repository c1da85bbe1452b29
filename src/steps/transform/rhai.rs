//! Rows through a Rhai script, in a thread of the worker's own: an engine cannot go from one thread to another.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use rhai::{Array, Blob, Dynamic, Map};
use tokio::sync::oneshot;

use super::rows::{Answer, Asked, NewRow, Value};
use super::shape::{Kind, Place, ReadColumn, Shape};
use crate::cache::{Caches, LookError};
use crate::engine::ports::StepError;
use crate::run::Cause;
use crate::steps::program::asking::{self, Answering};
use crate::steps::program::json;
use crate::steps::program::script::{Runner, Script};

/// Rows between two looks at the clock.
const LOOK: usize = 64;

/// A question to the thread.
struct Job {
    asked: Asked,
    linger: Option<Duration>,
    /// `None`: the script was ended by what it had looked up.
    reply: oneshot::Sender<Option<Vec<Answer>>>,
}

/// The thread that runs a script. It ends when this is dropped.
pub(super) struct Thread {
    jobs: SyncSender<Job>,
    answering: Option<Answering>,
}

impl Thread {
    /// Begins a thread with an engine of its own.
    pub(super) fn start(
        (script, caches): (Arc<Script>, Option<&Arc<Caches>>),
        read: Arc<Vec<ReadColumn>>,
        shape: Arc<Shape>,
    ) -> Result<Self, StepError> {
        let (jobs, asked) = sync_channel(1);
        let (asking, answering) = caches.filter(|_| script.looks_up()).map(asking::both).unzip();
        let begun = std::thread::Builder::new().name("script".to_owned()).spawn(move || {
            if let Ok(runner) = script.runner(asking.as_ref()) {
                serve(runner, &asked, &read, &shape);
            }
        });
        begun.map_err(|e| StepError::Failed(Cause::new(format!("no thread for a script: {e}"))))?;
        Ok(Self { jobs, answering })
    }

    /// The answers, in the order of what is asked; fewer, at least one, once `linger` has passed.
    pub(super) async fn ask(&mut self, asked: Asked, linger: Option<Duration>) -> Result<Vec<Answer>, StepError> {
        let (reply, answer) = oneshot::channel();
        let gone = || StepError::Failed(Cause::bug("the thread of a script has ended"));
        // One question at a time: there is always room.
        self.jobs.try_send(Job { asked, linger, reply }).map_err(|_| gone())?;
        let answers = asking::answered(self.answering.as_mut(), answer).await.map_err(|_| gone())?;
        answers.ok_or_else(|| match self.answering.as_mut().and_then(Answering::failure) {
            Some(LookError::Passing(trouble, cause)) => StepError::Passing(trouble, cause),
            Some(LookError::Failed(cause) | LookError::Row(cause)) => StepError::Failed(cause),
            None => gone(),
        })
    }
}

fn serve(mut runner: Runner, jobs: &Receiver<Job>, read: &[ReadColumn], shape: &Shape) {
    // A map is in the order of its names: one that is copied is made quicker than one that grows.
    let empty: Map = read.iter().map(|column| (column.name.as_str().into(), Dynamic::UNIT)).collect();
    let mut in_order: Vec<usize> = (0..read.len()).collect();
    in_order.sort_by(|a, b| read[*a].name.cmp(&read[*b].name));
    let mut values: Vec<Dynamic> = Vec::with_capacity(read.len());
    'jobs: while let Ok(Job { asked: Asked { rows, which }, linger, reply }) = jobs.recv() {
        let began = Instant::now();
        let mut answers = Vec::with_capacity(which.len());
        for (n, at) in which.into_iter().enumerate() {
            if n > 0 && n % LOOK == 0 && linger.is_some_and(|linger| began.elapsed() >= linger) {
                break;
            }
            values.clear();
            values.extend(rows.fields(at).zip(read).map(|(text, column)| given(text.as_deref(), column.kind)));
            values.resize(read.len(), Dynamic::UNIT);
            let mut row = empty.clone();
            for (slot, at) in row.values_mut().zip(&in_order) {
                *slot = std::mem::take(&mut values[*at]);
            }
            answers.push(match runner.call([row.into()]) {
                Ok(answer) => taken(answer, shape).unwrap_or_else(Answer::Wrong),
                Err(e) if e.is_ended => {
                    let _ = reply.send(None);
                    continue 'jobs;
                }
                Err(e) => Answer::Wrong(e.to_string()),
            });
        }
        // Whoever asked may be gone.
        let _ = reply.send(Some(answers));
    }
}

/// A column's text as a script knows it.
fn given(text: Option<&str>, kind: Kind) -> Dynamic {
    let Some(text) = text else { return Dynamic::UNIT };
    match kind {
        Kind::Int | Kind::BigInt => text.parse::<i64>().map_or_else(|_| text.into(), Dynamic::from),
        Kind::Float => text.parse::<f64>().map_or_else(|_| text.into(), Dynamic::from),
        Kind::Bool => (text == "t").into(),
        Kind::Json | Kind::Text => text.into(),
    }
}

/// What a script returned.
fn taken(answer: Dynamic, shape: &Shape) -> Result<Answer, String> {
    if answer.is_unit() {
        return Ok(Answer::Rows(Vec::new()));
    }
    if answer.is_array() {
        shape.several()?;
        let rows = answer.into_array().unwrap_or_default().into_iter();
        return rows.map(|row| new_row(row, shape)).collect::<Result<_, _>>().map(Answer::Rows);
    }
    new_row(answer, shape).map(Answer::Row)
}

fn new_row(answer: Dynamic, shape: &Shape) -> Result<NewRow, String> {
    if !answer.is_map() {
        let what = if shape.many { "a map, an array of maps or ()" } else { "a map or ()" };
        return Err(format!("the script returned a value of type {}, not {what}", answer.type_name()));
    }
    if shape.lines {
        let mut line = String::new();
        json::write(&answer, &mut line, 0)?;
        return Ok(vec![Value::Text(line)]);
    }
    let map = answer.try_cast::<Map>().unwrap_or_default();
    let mut row = vec![Value::Absent; shape.columns.len()];
    for (name, value) in map {
        if let Place::Column(at) = shape.place(&name)? {
            row[at] = text_of(value, &shape.columns[at].type_name).map_err(|e| format!("column `{name}`: {e}"))?;
        }
    }
    Ok(row)
}

/// A script's value as a column of that type reads it.
fn text_of(value: Dynamic, type_name: &str) -> Result<Value, String> {
    if value.is_unit() {
        return Ok(Value::Null);
    }
    if matches!(type_name, "json" | "jsonb") && !value.is_string() {
        let mut text = String::new();
        json::write(&value, &mut text, 0)?;
        return Ok(Value::Text(text));
    }
    if value.is_array() && type_name.ends_with("[]") {
        return Ok(Value::Text(array(&value.into_array().unwrap_or_default())?));
    }
    scalar(&value).map(Value::Text)
}

fn scalar(value: &Dynamic) -> Result<String, String> {
    if let Ok(text) = value.as_immutable_string_ref() {
        if text.contains('\0') {
            return Err("a text with a NUL character".to_owned());
        }
        return Ok(text.to_string());
    }
    if let Ok(n) = value.as_int() {
        return Ok(n.to_string());
    }
    if let Ok(n) = value.as_float() {
        return Ok(n.to_string());
    }
    if let Ok(b) = value.as_bool() {
        return Ok(b.to_string());
    }
    if let Ok(n) = value.as_decimal() {
        return Ok(n.to_string());
    }
    if let Ok(c) = value.as_char() {
        return Ok(c.to_string());
    }
    if let Some(number) = value.read_lock::<json::Number>() {
        return Ok(number.0.to_string());
    }
    if let Some(blob) = value.read_lock::<Blob>() {
        return Ok(blob.iter().fold("\\x".to_owned(), |hex, byte| format!("{hex}{byte:02x}")));
    }
    Err(format!("a value of type {} (`to_json` makes a text of it)", value.type_name()))
}

/// An array as PostgreSQL reads it: `{"a",NULL,{"b"}}`.
fn array(values: &Array) -> Result<String, String> {
    let mut parts = Vec::with_capacity(values.len());
    for value in values {
        parts.push(if value.is_unit() {
            "NULL".to_owned()
        } else if let Ok(inner) = value.as_array_ref() {
            array(&inner)?
        } else {
            format!("\"{}\"", scalar(value)?.replace('\\', "\\\\").replace('"', "\\\""))
        });
    }
    Ok(format!("{{{}}}", parts.join(",")))
}
