//! A Rhai script over a file, or over its lines.

use std::io::{BufRead, BufReader, Read, Write};

use rhai::packages::{Package, StandardPackage};
use rhai::{AST, Dynamic, Engine, EvalAltResult, ImmutableString, Position, Scope};

use super::disk::{self, Hashing};
use super::halt::Halt;
use super::tool::Made;
use crate::plan::model::{PlanSource, Sql};
use crate::plan::movers::FileUnit;
use crate::postgres::error::io_words;
use crate::run::{ByteSize, Cause, human};

/// Calls within calls.
const DEPTH: usize = 64;

/// A script, ready to be run. Lives on one thread.
pub struct Script {
    engine: Engine,
    ast: AST,
    by: FileUnit,
    memory: u64,
}

impl Script {
    /// Reads and compiles a script, or the file that it names.
    ///
    /// # Errors
    /// It is not there, or is no script: with the place.
    pub fn compile(
        what: &str,
        (script, by): (&Sql, FileUnit),
        (operations, memory): (u64, ByteSize),
        source: &PlanSource,
    ) -> Result<Self, Cause> {
        let engine = engine(operations, memory);
        let mut scope = Scope::new();
        let unit = match by {
            FileUnit::File => "text",
            FileUnit::Line => "line",
        };
        scope.push("path", ImmutableString::new()).push(unit, ImmutableString::new());
        let named = std::path::Path::new(script.text.trim());
        let is_file = named.extension().is_some_and(|extension| extension == "rhai") && !script.text.contains('\n');
        let text = if is_file {
            std::fs::read_to_string(script.text.trim()).map_err(|e| {
                let mut cause =
                    Cause::usage(format!("{what}: script {} cannot be read: {}", script.text, io_words(&e)));
                cause.details = source.excerpt_in_sql(script, 0);
                cause.hint("relative paths begin where howdah is started")
            })?
        } else {
            script.text.clone()
        };
        let ast = engine.compile_with_scope(&scope, &text).map_err(|e| {
            let place = if is_file { format!("{}: ", script.text) } else { String::new() };
            let mut cause = Cause::usage(format!("{what}: {place}the script is wrong: {}", e.err_type()));
            if is_file {
                cause.details.push(format!("at {}", place_words(e.position())));
            } else {
                cause.details = source.excerpt_in_sql(script, offset(&text, e.position()));
            }
            cause.hint(format!("it is given `path` and `{unit}`, and returns what takes its place"))
        })?;
        Ok(Self { engine, ast, by, memory: memory.0 })
    }

    /// Runs over one file; what comes out goes to `out`.
    ///
    /// # Errors
    /// The file is not UTF-8 or too large, the script fails; nothing can be written.
    pub fn make(&self, path: &str, file: impl Read, out: &mut dyn Write) -> Result<Made, Halt> {
        match self.by {
            FileUnit::File => self.whole(path, file, out),
            FileUnit::Line => self.lines(path, file, out),
        }
    }

    fn whole(&self, path: &str, file: impl Read, out: &mut dyn Write) -> Result<Made, Halt> {
        let bytes = disk::whole(file, self.memory).map_err(|e| Halt::unreadable(&e))?.ok_or_else(|| {
            let memory = ByteSize(self.memory);
            Halt::Wrong(format!("it is larger than {memory}: raise `memory`, or go `by = \"line\"`"))
        })?;
        let mut before = Hashing::new(std::io::sink());
        before.write_all(&bytes).map_err(|e| Halt::unreadable(&e))?;
        let (before, _) = before.digest();
        let text = String::from_utf8(bytes).map_err(|e| not_text(&e.utf8_error(), 0))?;
        let Some(new) = self.call(path, "text", text)? else { return Ok(Made { after: before.clone(), before }) };
        let mut after = Hashing::new(out);
        after.write_all(new.as_bytes()).map_err(|e| Halt::unwritable("it cannot be written anew", &e))?;
        Ok(Made { before, after: after.digest().0 })
    }

    fn lines(&self, path: &str, file: impl Read, out: &mut dyn Write) -> Result<Made, Halt> {
        let mut reader = BufReader::with_capacity(128 << 10, file);
        let mut before = Hashing::new(std::io::sink());
        let mut after = Hashing::new(out);
        let mut bytes = Vec::new();
        let (mut number, mut offset) = (0_u64, 0_u64);
        loop {
            bytes.clear();
            let most = self.memory.saturating_add(2);
            let read = reader.by_ref().take(most).read_until(b'\n', &mut bytes).map_err(|e| Halt::unreadable(&e))?;
            if read == 0 {
                break;
            }
            number += 1;
            before.write_all(&bytes).map_err(|e| Halt::unreadable(&e))?;
            let content = without_end(&bytes);
            let at = |told: String| Halt::Wrong(format!("line {}: {told}", human::count(number)));
            if content.len() as u64 > self.memory {
                return Err(at(format!("it is longer than {}: raise `memory`", ByteSize(self.memory))));
            }
            let line = std::str::from_utf8(content).map_err(|e| not_text(&e, offset))?;
            offset += bytes.len() as u64;
            let new = self.call(path, "line", line.to_owned()).map_err(|halt| match halt {
                Halt::Wrong(told) => at(told),
                fatal @ Halt::Fatal(_) => fatal,
            })?;
            if let Some(new) = new {
                let end = &bytes[content.len()..];
                let written = after.write_all(new.as_bytes()).and_then(|()| after.write_all(end));
                written.map_err(|e| Halt::unwritable("it cannot be written anew", &e))?;
            }
        }
        Ok(Made { before: before.digest().0, after: after.digest().0 })
    }

    /// What the script makes of a text. `None`: it returned `()`.
    fn call(&self, path: &str, unit: &str, text: String) -> Result<Option<ImmutableString>, Halt> {
        let mut scope = Scope::new();
        scope.push("path", ImmutableString::from(path)).push(unit, ImmutableString::from(text));
        let made: Dynamic = self.engine.eval_ast_with_scope(&mut scope, &self.ast).map_err(|e| failed(&e))?;
        if made.is_unit() {
            return Ok(None);
        }
        let kind = made.type_name();
        made.into_immutable_string().map(Some).map_err(|_| {
            Halt::Wrong(format!("the script returned a value of type {kind}: a string takes its place, () leaves it"))
        })
    }
}

fn engine(operations: u64, memory: ByteSize) -> Engine {
    let mut engine = Engine::new_raw();
    engine.register_global_module(StandardPackage::new().as_shared_module());
    let memory = usize::try_from(memory.0).unwrap_or(usize::MAX);
    let elements = (memory / 100).max(1000);
    engine.set_max_operations(operations).set_max_string_size(memory);
    engine.set_max_array_size(elements).set_max_map_size(elements);
    engine.set_max_call_levels(DEPTH).set_strict_variables(true).disable_symbol("eval");
    engine
}

/// A line without its end.
fn without_end(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\n").map_or(line, |line| line.strip_suffix(b"\r").unwrap_or(line))
}

fn not_text(e: &std::str::Utf8Error, offset: u64) -> Halt {
    let at = offset + e.valid_up_to() as u64;
    Halt::Wrong(format!("it is not UTF-8: invalid bytes behind byte {}", human::count(at)))
}

fn place_words(place: Position) -> String {
    match (place.line(), place.position()) {
        (Some(line), Some(column)) => format!("line {line}, column {column}"),
        (Some(line), None) => format!("line {line}"),
        (None, _) => "its end".to_owned(),
    }
}

fn failed(e: &EvalAltResult) -> Halt {
    let place = e.position();
    let mut inner = e;
    // What happened inside of a function is what is of interest.
    while let EvalAltResult::ErrorInFunctionCall(_, _, within, _) = inner {
        inner = within;
    }
    let hint = match inner {
        EvalAltResult::ErrorTooManyOperations(_) => ": raise `operations`",
        EvalAltResult::ErrorDataTooLarge(..) => ": raise `memory`",
        _ => "",
    };
    let at = if place.is_none() { inner.position() } else { place };
    let mut inner = inner.to_string();
    if let Some(cut) = inner.rfind(" (line ") {
        inner.truncate(cut);
    }
    Halt::Wrong(format!("{inner}{hint} (the script, {})", place_words(at)))
}

/// A place in a text, in characters from its beginning.
fn offset(text: &str, place: Position) -> usize {
    let Some(line) = place.line() else { return text.chars().count().saturating_sub(1) };
    let before: usize = text.split_inclusive('\n').take(line - 1).map(|line| line.chars().count()).sum();
    before + place.position().unwrap_or(1).saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::movers::Program;

    fn script(text: &str, by: FileUnit) -> Script {
        let plan = format!(
            "[[step]]\nname = 'f'\nfiles = '*'\nby = '{}'\nrhai = '''{text}'''",
            if by == FileUnit::File { "file" } else { "line" }
        );
        let plan = crate::plan::load::from_text("p", None, &plan, &|_: &str| None).expect("a plan");
        let crate::plan::model::StepKind::Files(files) = &plan.steps[0].kind else { panic!("files") };
        let Program::Rhai { script, .. } = &files.program else { panic!("a script") };
        Script::compile("step", (script, by), (10_000, ByteSize(1000)), &plan.source).expect("a script")
    }

    fn made(text: &str, by: FileUnit, input: &[u8]) -> Result<Option<String>, String> {
        let mut out = Vec::new();
        match script(text, by).make("dir/a", input, &mut out) {
            Ok(made) if made.before == made.after => Ok(None),
            Ok(_) => Ok(Some(String::from_utf8(out).expect("text"))),
            Err(Halt::Wrong(told)) => Err(told),
            Err(Halt::Fatal(cause)) => panic!("{cause:?}"),
        }
    }

    #[test]
    fn lines_keep_their_ends_whatever_these_are() {
        let table: [(&str, &str, Option<&str>); 6] = [
            ("line + '!'", "a\nb\n", Some("a!\nb!\n")),
            ("line + \"!\"", "a\r\nb\nc", Some("a!\r\nb!\nc!")),
            ("if line == \"b\" { () } else { line }", "a\nb\nc\n", Some("a\nc\n")),
            ("line", "a\r\n\r\nb", None),
            ("path + line", "x", Some("dir/ax")),
            ("line", "", None),
        ];
        for (text, input, expected) in table {
            assert_eq!(
                made(text, FileUnit::Line, input.as_bytes()),
                Ok(expected.map(str::to_owned)),
                "{text} {input:?}"
            );
        }
    }

    #[test]
    fn a_whole_file_is_replaced_by_what_is_returned() {
        assert_eq!(made("text.to_upper()", FileUnit::File, b"a\nb"), Ok(Some("A\nB".to_owned())));
        assert_eq!(made("()", FileUnit::File, b"a"), Ok(None));
        assert_eq!(
            made("let s = parse_json(text); s.n += 1; to_json(s)", FileUnit::File, b"{\"n\":1}"),
            Ok(Some("{\"n\":2}".to_owned()))
        );
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let table: [(&str, &[u8], &[&str]); 6] = [
            ("text", b"ab\xff", &["not UTF-8", "byte 2"]),
            ("let a = 1;\nthrow \"no good\"", b"a", &["line 2", "no good"]),
            ("42", b"a", &["type i64"]),
            ("loop { }", b"a", &["raise `operations`"]),
            ("let x = text; while true { x += x; }", b"aaaaaaaa", &["raise `memory`"]),
            ("text", &[b'a'; 1001], &["larger than"]),
        ];
        for (text, input, words) in table {
            let told = made(text, FileUnit::File, input).expect_err(text);
            assert!(words.iter().all(|word| told.contains(word)), "{text}: {told}");
        }
    }
}
