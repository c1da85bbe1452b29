//! Which cached look-ups a script names: by its words, since nobody has run it yet.

use super::model::{CachedLookup, Step, StepKind};
use super::movers::{Program, RowProgram};

/// The function by which scripts look something up.
const FUNCTION: &str = "lookup";

/// The look-ups of a script.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Named {
    /// The names that are written as such, and where: characters from the script's start.
    pub names: Vec<(String, usize)>,
    /// Whether it may look others up as well: a name is computed.
    pub others: bool,
}

impl Named {
    /// Whether it looks anything up.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.others || !self.names.is_empty()
    }
}

/// The look-ups that a script names. One that has a function `lookup` of its own names none.
#[must_use]
pub fn named(script: &str) -> Named {
    let mut named = Named::default();
    let tokens = tokens(script);
    let word = |at: usize, is: &str| matches!(tokens.get(at), Some((Token::Word(word), _)) if word == is);
    let sign = |at: usize, is: char| matches!(tokens.get(at), Some((Token::Sign(sign), _)) if *sign == is);
    for (at, (token, _)) in tokens.iter().enumerate() {
        match token {
            Token::Word(name) if name == FUNCTION => {
                if at > 0 && word(at - 1, "fn") {
                    return Named::default();
                }
                let is_method = at > 0 && sign(at - 1, '.');
                match tokens.get(at + 2) {
                    _ if !sign(at + 1, '(') => {}
                    Some((Token::Text(name), place)) if !is_method && (sign(at + 3, ',') || sign(at + 3, ')')) => {
                        named.names.push((name.clone(), *place));
                    }
                    _ => named.others = true,
                }
            }
            // A pointer to it: `Fn("lookup")`.
            Token::Text(text) if text == FUNCTION => named.others = true,
            Token::Word(_) | Token::Text(_) | Token::Sign(_) => {}
        }
    }
    named
}

/// The path that a plan's `rhai` is, where it is one.
#[must_use]
pub fn script_file(written: &str) -> Option<&str> {
    let written = written.trim();
    let is_rhai = std::path::Path::new(written).extension().is_some_and(|e| e.eq_ignore_ascii_case("rhai"));
    (is_rhai && !written.contains(['\n', ';', '{', '"'])).then_some(written)
}

/// Gives each step's script the look-ups that it may ask: those that it names; all, where that cannot be told.
pub(super) fn lend(caches: &[CachedLookup], steps: &mut [Step]) {
    for step in steps {
        let program = match &mut step.kind {
            StepKind::Transform(transform) => match &mut transform.by {
                RowProgram::Program(program) => program,
                RowProgram::Set(_) => continue,
            },
            StepKind::Files(files) => &mut files.program,
            StepKind::Statement(_)
            | StepKind::Backfill(_)
            | StepKind::Import(_)
            | StepKind::Copy(_)
            | StepKind::Index(_)
            | StepKind::Reindex(_)
            | StepKind::Analyze(_)
            | StepKind::Verify(_) => continue,
        };
        let Program::Rhai { script, caches: lent, .. } = program else { continue };
        let named = named(&script.text);
        // What stands in a file is not read yet. Whoever names one that is not there is told which there are.
        let is_there = |name: &str| caches.iter().any(|cache| cache.name == name);
        let all =
            named.others || script_file(&script.text).is_some() || named.names.iter().any(|(name, _)| !is_there(name));
        let is_named = |cache: &&CachedLookup| all || named.names.iter().any(|(name, _)| *name == cache.name);
        *lent = caches.iter().filter(is_named).cloned().collect();
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    /// A text, without its escapes where it has any: such a one is no name.
    Text(String),
    Sign(char),
}

/// Cuts a script into words, texts and signs, each with its place. Never fails: what does not close ends with the script.
fn tokens(script: &str) -> Vec<(Token, usize)> {
    let chars: Vec<char> = script.chars().collect();
    let mut found = Vec::new();
    // How many braces are open in each `${...}` that is open.
    let mut within: Vec<usize> = Vec::new();
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        let next = chars.get(at + 1).copied();
        let start = at;
        match c {
            '/' if next == Some('/') => at = end_of(&chars, at, |c| c == '\n'),
            '/' if next == Some('*') => at = comment(&chars, at),
            '"' | '\'' => {
                let (text, end) = text(&chars, at, c);
                found.push((Token::Text(text), start));
                at = end;
            }
            '`' => at = template(&chars, at + 1, &mut within),
            '{' => {
                if let Some(open) = within.last_mut() {
                    *open += 1;
                }
                at += 1;
            }
            '}' => {
                at += 1;
                match within.last_mut() {
                    Some(0) => {
                        within.pop();
                        at = template(&chars, at, &mut within);
                    }
                    Some(open) => *open -= 1,
                    None => {}
                }
            }
            c if c.is_alphabetic() || c == '_' => {
                at = end_of(&chars, at, |c| !(c.is_alphanumeric() || c == '_'));
                found.push((Token::Word(chars[start..at].iter().collect()), start));
            }
            c => {
                if !c.is_whitespace() {
                    found.push((Token::Sign(c), start));
                }
                at += 1;
            }
        }
    }
    found
}

fn end_of(chars: &[char], from: usize, end: impl Fn(char) -> bool) -> usize {
    chars[from..].iter().position(|c| end(*c)).map_or(chars.len(), |n| from + n)
}

/// Comments nest.
fn comment(chars: &[char], from: usize) -> usize {
    let (mut depth, mut at) = (0_u32, from);
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) if depth == 1 => return at + 2,
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    chars.len()
}

fn text(chars: &[char], from: usize, quote: char) -> (String, usize) {
    let (mut text, mut at) = (String::new(), from + 1);
    while let Some(&c) = chars.get(at) {
        match c {
            '\\' => {
                text.extend(chars[at..].iter().take(2));
                at += 2;
            }
            c if c == quote => return (text, at + 1),
            c => {
                text.push(c);
                at += 1;
            }
        }
    }
    (text, chars.len())
}

/// The rest of a text in backquotes, up to its end or to an expression in it.
fn template(chars: &[char], from: usize, within: &mut Vec<usize>) -> usize {
    let mut at = from;
    while let Some(&c) = chars.get(at) {
        match (c, chars.get(at + 1)) {
            ('`', Some('`')) => at += 2,
            ('`', _) => return at + 1,
            ('$', Some('{')) => {
                within.push(0);
                return at + 2;
            }
            _ => at += 1,
        }
    }
    chars.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_names_that_a_script_looks_up_are_found_by_its_words() {
        type Names = &'static [(&'static str, usize)];
        let table: [(&str, Names, bool); 15] = [
            ("row", &[], false),
            ("lookup(\"countries\", row.code)", &[("countries", 7)], false),
            ("let a = lookup ( \"a\" ); lookup(\"b\", lookup(\"c\"))", &[("a", 17), ("b", 31), ("c", 43)], false),
            ("// lookup(\"a\")\n/* lookup(\"b\") /* */ lookup(\"c\") */ row", &[], false),
            ("\"lookup(\\\"a\\\")\"", &[], false),
            ("`lookup(\"a\") ${lookup(\"b\", #{x: `${1}`})} lookup(\"c\")`", &[("b", 22)], false),
            ("lookup(row.which, 1)", &[], true),
            ("lookup(\"a\" + row.b, 1)", &[], true),
            ("\"a\".lookup(row.code)", &[], true),
            ("let f = Fn(\"lookup\"); f.call(\"a\")", &[], true),
            ("fn lookup(x) { x } lookup(\"a\")", &[], false),
            ("lookups(\"a\"); my_lookup(\"b\"); row.lookup", &[], false),
            ("let s = `a``b`; lookup(\"c\", 1)", &[("c", 23)], false),
            ("lookup(\"a", &[], true),
            ("let é = 'x'; lookup(\"b\")", &[("b", 20)], false),
        ];
        for (script, names, others) in table {
            let names = names.iter().map(|(name, at)| ((*name).to_owned(), *at)).collect();
            assert_eq!(named(script), Named { names, others }, "{script}");
        }
    }

    #[test]
    fn a_script_is_lent_what_it_names_and_a_file_all_there_is() {
        let plan = |script: &str| {
            let text = format!(
                "[cache.a]\nsql = 'SELECT 1'\n[cache.b]\nsql = 'SELECT 2'\n[[step]]\nname = 't'\ntransform = 't'\n\
                 update = ['x']\nrhai = '''{script}'''\n"
            );
            let plan = crate::plan::load::from_text("p", None, &text, &|_: &str| None).expect("a plan");
            let StepKind::Transform(transform) = &plan.steps[0].kind else { panic!("a transform") };
            let RowProgram::Program(Program::Rhai { caches, .. }) = &transform.by else { panic!("a script") };
            caches.iter().map(|cache| cache.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(plan("lookup(\"b\", 1)"), ["b"]);
        assert!(plan("row").is_empty());
        assert_eq!(plan("lookup(row.x)"), ["a", "b"]);
        assert_eq!(plan("scripts/x.rhai"), ["a", "b"]);
        assert_eq!(plan("lookup(\"c\", 1)"), ["a", "b"]);
    }

    #[test]
    fn a_path_is_told_from_a_script() {
        assert_eq!(script_file("scripts/tidy.rhai"), Some("scripts/tidy.rhai"));
        for text in ["row", "row.rhai; row", "let a = 1;\n a.rhai", "#{a: row.rhai}"] {
            assert_eq!(script_file(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_cut_without_panic(text in r#"[a-z"'`$\{\}/*\\\n(),.é]{0,40}"#) {
            let _ = named(&text);
            let _ = named(&format!("lookup(\"{text}"));
        }
    }
}
