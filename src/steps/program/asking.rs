//! `lookup("name", argument, ...)` in a script: out of this process's memory at once, else asked for on the runtime while the
//! script's own thread waits.

use std::sync::Arc;

use rhai::{Dynamic, Engine, EvalAltResult, ImmutableString, Map, NativeCallContext, Position};
use tokio::sync::{mpsc, oneshot};

use super::json;
use crate::cache::{Arguments, Caches, LookError};

/// A look-up that this process does not know.
struct Question {
    name: String,
    arguments: Arguments,
    reply: oneshot::Sender<Result<Arc<str>, LookError>>,
}

/// The script's end: on its thread.
#[derive(Clone)]
pub struct Asking {
    caches: Arc<Caches>,
    questions: mpsc::Sender<Question>,
}

/// The runtime's end.
pub struct Answering {
    caches: Arc<Caches>,
    questions: mpsc::Receiver<Question>,
    failure: Option<LookError>,
}

/// The two ends of a script's look-ups.
#[must_use]
pub fn both(caches: &Arc<Caches>) -> (Asking, Answering) {
    // A script asks one thing at a time.
    let (questions, asked) = mpsc::channel(1);
    let asking = Asking { caches: Arc::clone(caches), questions };
    (asking, Answering { caches: Arc::clone(caches), questions: asked, failure: None })
}

impl Answering {
    /// Waits for `work`, and answers meanwhile.
    pub async fn until<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            let question = tokio::select! {
                biased;
                done = &mut work => return done,
                question = self.questions.recv() => question,
            };
            // Whoever could ask is gone: only the work itself is left.
            let Some(Question { name, arguments, reply }) = question else { return work.await };
            let answer = self.caches.look(&name, arguments).await;
            if let Err(e @ (LookError::Passing(..) | LookError::Failed(_))) = &answer {
                self.failure = Some(e.clone());
            }
            // Whoever asked may be gone.
            let _ = reply.send(answer);
        }
    }

    /// What ended a script, where that was no matter of its row.
    pub fn failure(&mut self) -> Option<LookError> {
        self.failure.take()
    }
}

/// [`Answering::until`], where there is anything to answer.
pub async fn answered<T>(answering: Option<&mut Answering>, work: impl Future<Output = T>) -> T {
    match answering {
        Some(answering) => answering.until(work).await,
        None => work.await,
    }
}

type Answer = Result<Dynamic, Box<EvalAltResult>>;

/// Gives an engine `lookup`, with up to four arguments beside the name.
pub(super) fn register(engine: &mut Engine, asking: &Asking) {
    type Any = Dynamic;
    let ask = || {
        let asking = asking.clone();
        move |at: &NativeCallContext<'_>, name: &str, arguments: &[&Dynamic]| {
            asking.ask(name, arguments, at.call_position())
        }
    };
    let f = ask();
    engine.register_fn("lookup", move |c: NativeCallContext<'_>, n: ImmutableString| f(&c, &n, &[]));
    let f = ask();
    engine.register_fn("lookup", move |c: NativeCallContext<'_>, n: ImmutableString, p: Any| f(&c, &n, &[&p]));
    let f = ask();
    engine.register_fn("lookup", move |c: NativeCallContext<'_>, n: ImmutableString, p: Any, q: Any| {
        f(&c, &n, &[&p, &q])
    });
    let f = ask();
    engine.register_fn("lookup", move |c: NativeCallContext<'_>, n: ImmutableString, p: Any, q: Any, r: Any| {
        f(&c, &n, &[&p, &q, &r])
    });
    let f = ask();
    engine.register_fn(
        "lookup",
        move |c: NativeCallContext<'_>, n: ImmutableString, p: Any, q: Any, r: Any, s: Any| {
            f(&c, &n, &[&p, &q, &r, &s])
        },
    );
}

impl Asking {
    fn ask(&self, name: &str, arguments: &[&Dynamic], at: Position) -> Answer {
        let wrong = |message: String| EvalAltResult::ErrorRuntime(format!("lookup(\"{name}\"): {message}").into(), at);
        let arguments: Arguments =
            arguments.iter().map(|argument| text(argument)).collect::<Result<_, String>>().map_err(wrong)?;
        if let Some(known) = self.caches.known(name, &arguments) {
            return given(&known).map_err(|e| wrong(e).into());
        }
        let answer = if self.caches.has(name) {
            let (reply, answer) = oneshot::channel();
            let asked = self.questions.blocking_send(Question { name: name.to_owned(), arguments, reply });
            let gone = |()| EvalAltResult::ErrorTerminated("nobody answers any more".into(), at);
            asked.map_err(|_| gone(()))?;
            answer.blocking_recv().map_err(|_| gone(()))?
        } else {
            return Err(wrong(unknown(name, self.caches.names())).into());
        };
        match answer {
            Ok(text) => given(&text).map_err(|e| wrong(e).into()),
            Err(LookError::Row(cause)) => Err(wrong(cause.headline()).into()),
            // No script can catch this one: the batch ends, and not the row.
            Err(LookError::Passing(_, cause) | LookError::Failed(cause)) => {
                Err(EvalAltResult::ErrorTerminated(cause.message.into(), at).into())
            }
        }
    }
}

/// What is said of a name that the plan has not.
pub(super) fn unknown<'n>(name: &str, names: impl Iterator<Item = &'n str>) -> String {
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    if names.is_empty() {
        return format!("the plan has no [cache.{name}], and no other");
    }
    format!("the plan has no [cache.{name}]; it has {}", names.join(", "))
}

/// A script's value as the server reads it.
fn text(value: &Dynamic) -> Result<Option<String>, String> {
    if value.is_unit() {
        return Ok(None);
    }
    let text = if let Ok(text) = value.as_immutable_string_ref() {
        text.to_string()
    } else if let Ok(n) = value.as_int() {
        n.to_string()
    } else if let Ok(n) = value.as_float() {
        float(n)
    } else if let Ok(b) = value.as_bool() {
        b.to_string()
    } else if let Ok(n) = value.as_decimal() {
        n.to_string()
    } else if let Ok(c) = value.as_char() {
        c.to_string()
    } else if let Some(number) = value.read_lock::<json::Number>() {
        number.0.to_string()
    } else {
        return Err(format!("a value of type {} cannot be looked up by", value.type_name()));
    };
    if text.contains('\0') { Err("a text with a NUL character".to_owned()) } else { Ok(Some(text)) }
}

/// As PostgreSQL writes it.
fn float(n: f64) -> String {
    if n.is_infinite() { if n > 0.0 { "Infinity" } else { "-Infinity" }.to_owned() } else { n.to_string() }
}

/// An answer as a script knows it: numbers and truth values as a row's columns, everything else as text.
fn given(json: &str) -> Result<Dynamic, String> {
    if !json.starts_with('{') {
        return scalar(json);
    }
    let members = json::members(json)?.into_iter().map(|(name, value)| Ok((name.into(), scalar(value.get())?)));
    Ok(Dynamic::from_map(members.collect::<Result<Map, String>>()?))
}

fn scalar(json: &str) -> Result<Dynamic, String> {
    match json.as_bytes().first() {
        Some(b'{' | b'[' | b'"') => json::parse(json, 0),
        _ => Ok(match json {
            "null" => Dynamic::UNIT,
            "true" => true.into(),
            "false" => false.into(),
            number => match (number.parse::<i64>(), number.parse::<f64>()) {
                (Ok(n), _) => n.into(),
                (_, Ok(n)) => n.into(),
                (Err(_), Err(_)) => return Err("the answer is no JSON".to_owned()),
            },
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_go_to_the_server_as_it_reads_them() {
        let table: [(Dynamic, Option<&str>); 7] = [
            (Dynamic::UNIT, None),
            ("x".into(), Some("x")),
            (42_i64.into(), Some("42")),
            (0.5_f64.into(), Some("0.5")),
            (f64::NEG_INFINITY.into(), Some("-Infinity")),
            (true.into(), Some("true")),
            ('é'.into(), Some("é")),
        ];
        for (value, expected) in table {
            assert_eq!(text(&value), Ok(expected.map(str::to_owned)));
        }
        assert!(text(&Dynamic::from_array(Vec::new())).is_err());
        assert!(text(&"a\0b".into()).is_err());
    }

    #[test]
    fn answers_come_back_as_columns_do() {
        let table = [
            ("null", "()"),
            ("9223372036854775807", "9223372036854775807"),
            ("0.30000000000000004", "0.30000000000000004"),
            ("true", "true"),
            ("\"a\"", "\"a\""),
            ("{\"a\":1,\"b\":null,\"c\":\"x\"}", "#{\"a\": 1, \"b\": (), \"c\": \"x\"}"),
        ];
        for (json, expected) in table {
            assert_eq!(format!("{:?}", given(json).expect(json)), expected);
        }
        assert!(given("<html>").is_err());
    }
}
