//! A Rhai script over a file, or over its lines.

use std::io::{BufRead, BufReader, Read, Write};

use rhai::{Dynamic, ImmutableString};

use super::disk::{self, Hashing};
use super::halt::Halt;
use super::tool::Made;
use crate::plan::model::{CachedLookup, PlanSource, Sql};
use crate::plan::movers::FileUnit;
use crate::run::{ByteSize, Cause, human};
use crate::steps::program::asking::Asking;
use crate::steps::program::script::{Runner, Script};

/// A script over files, ready to be run. Lives on one thread.
pub struct FileScript {
    runner: Runner,
    by: FileUnit,
    memory: u64,
}

impl FileScript {
    /// Reads and compiles a script, or the file that it names. `asking`: for what it looks up.
    ///
    /// # Errors
    /// It is not there, or is no script: with the place.
    pub fn compile(
        what: &str,
        (script, caches, by): (&Sql, &[CachedLookup], FileUnit),
        (operations, memory): (u64, ByteSize),
        source: &PlanSource,
        asking: Option<&Asking>,
    ) -> Result<Self, Cause> {
        let unit = match by {
            FileUnit::File => "text",
            FileUnit::Line => "line",
        };
        let script = Script::new(what, (script, caches), operations, memory, &["path", unit], source)?;
        let runner = script.runner(asking).map_err(|e| Cause::usage(format!("{what}: the script: {e}")))?;
        Ok(Self { runner, by, memory: memory.0 })
    }

    /// Runs over one file; what comes out goes to `out`.
    ///
    /// # Errors
    /// The file is not UTF-8 or too large, the script fails; nothing can be written.
    pub fn make(&mut self, path: &str, file: impl Read, out: &mut dyn Write) -> Result<Made, Halt> {
        match self.by {
            FileUnit::File => self.whole(path, file, out),
            FileUnit::Line => self.lines(path, file, out),
        }
    }

    fn whole(&mut self, path: &str, file: impl Read, out: &mut dyn Write) -> Result<Made, Halt> {
        let bytes = disk::whole(file, self.memory).map_err(|e| Halt::unreadable(&e))?.ok_or_else(|| {
            let memory = ByteSize(self.memory);
            Halt::Wrong(format!("it is larger than {memory}: raise `memory`, or go `by = \"line\"`"))
        })?;
        let mut before = Hashing::new(std::io::sink());
        before.write_all(&bytes).map_err(|e| Halt::unreadable(&e))?;
        let (before, _) = before.digest();
        let text = String::from_utf8(bytes).map_err(|e| not_text(&e.utf8_error(), 0))?;
        let Some(new) = self.call(path, text)? else { return Ok(Made { after: before.clone(), before }) };
        let mut after = Hashing::new(out);
        after.write_all(new.as_bytes()).map_err(|e| Halt::unwritable("it cannot be written anew", &e))?;
        Ok(Made { before, after: after.digest().0 })
    }

    fn lines(&mut self, path: &str, file: impl Read, out: &mut dyn Write) -> Result<Made, Halt> {
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
            let new = self.call(path, line.to_owned()).map_err(|halt| match halt {
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
    fn call(&mut self, path: &str, text: String) -> Result<Option<ImmutableString>, Halt> {
        let made =
            self.runner.call([Dynamic::from(ImmutableString::from(path)), Dynamic::from(ImmutableString::from(text))]);
        let made =
            made.map_err(|e| if e.is_ended { Halt::Fatal(Cause::new(e.message)) } else { Halt::Wrong(e.to_string()) })?;
        if made.is_unit() {
            return Ok(None);
        }
        let kind = made.type_name();
        made.into_immutable_string().map(Some).map_err(|_| {
            Halt::Wrong(format!("the script returned a value of type {kind}: a string takes its place, () leaves it"))
        })
    }
}

/// A line without its end.
fn without_end(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\n").map_or(line, |line| line.strip_suffix(b"\r").unwrap_or(line))
}

fn not_text(e: &std::str::Utf8Error, offset: u64) -> Halt {
    let at = offset + e.valid_up_to() as u64;
    Halt::Wrong(format!("it is not UTF-8: invalid bytes behind byte {}", human::count(at)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::movers::Program;

    fn script(text: &str, by: FileUnit) -> FileScript {
        let plan = format!(
            "[[step]]\nname = 'f'\nfiles = '*'\nby = '{}'\nrhai = '''{text}'''",
            if by == FileUnit::File { "file" } else { "line" }
        );
        let plan = crate::plan::load::from_text("p", None, &plan, &|_: &str| None).expect("a plan");
        let crate::plan::model::StepKind::Files(files) = &plan.steps[0].kind else { panic!("files") };
        let Program::Rhai { script, .. } = &files.program else { panic!("a script") };
        FileScript::compile("step", (script, &[], by), (10_000, ByteSize(1000)), &plan.source, None).expect("a script")
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
            ("loop { }", b"a", &["operations"]),
            ("let x = text; while true { x += x; }", b"aaaaaaaa", &["memory"]),
            ("text", &[b'a'; 1001], &["larger than"]),
        ];
        for (text, input, words) in table {
            let told = made(text, FileUnit::File, input).expect_err(text);
            assert!(words.iter().all(|word| told.contains(word)), "{text}: {told}");
        }
    }
}
