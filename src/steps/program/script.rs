//! Rhai scripts: compiled once by whoever checks the plan, and once in each thread that runs them.
//!
//! An engine may not go from one thread to another, so a [`Script`] is only its text and its limits. What a script can
//! reach is what it is given: there are no files, no modules, no clock, no `eval`.

use rhai::packages::{
    ArithmeticPackage, BasicArrayPackage, BasicBlobPackage, BasicFnPackage, BasicIteratorPackage, BasicMapPackage,
    BasicMathPackage, BasicStringPackage, BitFieldPackage, LanguageCorePackage, LogicPackage, MoreStringPackage,
    Package,
};
use rhai::{AST, Dynamic, Engine, EvalAltResult, Position, Scope};

use super::asking::{self, Asking};
use super::json;
use crate::plan::lookups::{self, script_file};
use crate::plan::model::{CachedLookup, PlanSource, Sql};
use crate::run::Cause;
use crate::run::human::ByteSize;
use crate::run::text::clean;

/// Calls within calls.
const CALLS: usize = 64;
/// Expressions within expressions.
const DEPTH: usize = 128;
/// An array or a map holds at most this share of the bytes of a string.
const BYTES_PER_ELEMENT: u64 = 100;

/// A script's text, and what it may use.
#[derive(Debug, Clone)]
pub struct Script {
    text: String,
    /// The file that it was read from. `None`: it stands in the plan.
    file: Option<String>,
    operations: u64,
    memory: u64,
    variables: Vec<&'static str>,
    looks_up: bool,
}

/// Why a script gave no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptError {
    /// Line of the script, from 1, where it is known.
    pub line: Option<usize>,
    /// Character of the line, from 1.
    pub column: Option<usize>,
    /// What is wrong, without the place.
    pub message: String,
    /// It was ended from outside: what it had asked for could not be had, and that is no matter of its row.
    pub is_ended: bool,
}

impl std::fmt::Display for ScriptError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.line, self.column) {
            (Some(line), Some(column)) => write!(f, "line {line}, column {column}: {}", self.message),
            (Some(line), None) => write!(f, "line {line}: {}", self.message),
            (None, _) => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for ScriptError {}

impl ScriptError {
    fn new(message: impl Into<String>, at: Position) -> Self {
        Self { line: at.line(), column: at.position(), message: message.into(), is_ended: false }
    }
}

impl From<Box<EvalAltResult>> for ScriptError {
    fn from(mut e: Box<EvalAltResult>) -> Self {
        let at = e.take_position();
        let hint = match e.unwrap_inner() {
            EvalAltResult::ErrorTooManyOperations(_) => " (`operations` says how many)",
            EvalAltResult::ErrorDataTooLarge(..) => " (`memory` says how large)",
            _ => "",
        };
        let is_ended = matches!(e.unwrap_inner(), EvalAltResult::ErrorTerminated(..));
        Self { is_ended, ..Self::new(format!("{e}{hint}"), at) }
    }
}

impl Script {
    /// The script that a plan names: its text, or the path of a file that ends in `.rhai`. `variables` are the names of
    /// what it is given, `caches` what it may look up. It is compiled, to see that it can be.
    ///
    /// # Errors
    /// The file cannot be read, or the script is not one: with the line and the column of the mistake; or it looks up what
    /// the plan has not. `what` is how messages name the step.
    pub fn new(
        what: &str,
        (script, caches): (&Sql, &[CachedLookup]),
        operations: u64,
        memory: ByteSize,
        variables: &[&'static str],
        source: &PlanSource,
    ) -> Result<Self, Cause> {
        let file = script_file(&script.text);
        let text = match file {
            None => script.text.clone(),
            Some(path) => std::fs::read_to_string(path).map_err(|e| {
                let mut cause = Cause::usage(format!("{what}: the script {} cannot be read: {e}", clean(path)))
                    .hint("a `rhai` that ends in `.rhai` is the path of a file, from where howdah is started");
                cause.details = source.excerpt_in_sql(script, 0);
                cause
            })?,
        };
        let file = file.map(str::to_owned);
        let named = lookups::named(&text);
        let (variables, looks_up) = (variables.to_vec(), named.is_any());
        let made = Self { text, file, operations, memory: memory.0, variables, looks_up };
        made.runner(None).map_err(|e| made.cause(what, &e, script, source))?;
        let has = |name: &str| caches.iter().any(|cache| cache.name == name);
        if let Some((name, at)) = named.names.iter().find(|(name, _)| !has(name)) {
            let names = caches.iter().map(|cache| cache.name.as_str());
            let at = made.place(*at);
            let mut cause = made.cause(what, &ScriptError::new(asking::unknown(name, names), at), script, source);
            cause.hints = vec![format!("add it: [cache.{name}] with `sql = \"SELECT ... WHERE ... = $1\"`")];
            return Err(cause);
        }
        Ok(made)
    }

    /// Whether it looks anything up.
    #[must_use]
    pub fn looks_up(&self) -> bool {
        self.looks_up
    }

    /// The line and the column of a character of the text.
    fn place(&self, offset: usize) -> Position {
        let before: Vec<char> = self.text.chars().take(offset).collect();
        let line = before.iter().filter(|c| **c == '\n').count() + 1;
        let column = before.iter().rev().take_while(|c| **c != '\n').count() + 1;
        match (u16::try_from(line), u16::try_from(column)) {
            (Ok(line), Ok(column)) => Position::new(line, column),
            _ => Position::NONE,
        }
    }

    fn cause(&self, what: &str, e: &ScriptError, script: &Sql, source: &PlanSource) -> Cause {
        let of = self.file.as_deref().map_or_else(String::new, |file| format!(" {}", clean(file)));
        let mut cause = Cause::usage(format!("{what}: the script{of}: {}", clean(&e.to_string())));
        if self.file.is_none() {
            cause.details = source.excerpt_in_sql(script, self.offset(e));
        } else if let Some(line) = e.line.and_then(|line| self.text.lines().nth(line.saturating_sub(1))) {
            cause.details = vec![clean(line).into_owned()];
        }
        cause.hint(format!("it is given {}", self.given()))
    }

    /// Where an error stands, in characters of the text.
    fn offset(&self, e: &ScriptError) -> usize {
        let before = e.line.unwrap_or(1).saturating_sub(1);
        let lines: usize = self.text.split_inclusive('\n').take(before).map(|line| line.chars().count()).sum();
        lines + e.column.unwrap_or(1).saturating_sub(1)
    }

    fn given(&self) -> String {
        let names: Vec<String> = self.variables.iter().map(|name| format!("`{name}`")).collect();
        names.join(" and ")
    }

    /// An engine with the script in it, for the thread that asks. It cannot leave that thread. `asking`: for what it looks
    /// up.
    ///
    /// # Errors
    /// It does not compile.
    pub fn runner(&self, asking: Option<&Asking>) -> Result<Runner, ScriptError> {
        let mut engine = engine(self.operations, self.memory);
        if let Some(asking) = asking {
            asking::register(&mut engine, asking);
        }
        // Names that nobody gives a value to are mistakes that are found now.
        engine.set_strict_variables(true);
        let mut scope = Scope::new();
        for name in &self.variables {
            scope.push_dynamic(*name, Dynamic::UNIT);
        }
        let ast = engine.compile_with_scope(&scope, &self.text);
        let ast = ast.map_err(|e| ScriptError::new(e.0.to_string(), e.1))?;
        Ok(Runner { engine, ast, scope, variables: self.variables.clone() })
    }
}

/// A script in an engine of its own.
pub struct Runner {
    engine: Engine,
    ast: AST,
    scope: Scope<'static>,
    variables: Vec<&'static str>,
}

impl Runner {
    /// Runs the script once. `values` are those of its variables, in their order; its limits count anew.
    ///
    /// # Errors
    /// What it threw, or a limit that it came to, with the place.
    pub fn call<const N: usize>(&mut self, values: [Dynamic; N]) -> Result<Dynamic, ScriptError> {
        // What the last run has left behind goes.
        self.scope.clear();
        for (name, value) in self.variables.iter().zip(values) {
            self.scope.push_dynamic(*name, value);
        }
        Ok(self.engine.eval_ast_with_scope(&mut self.scope, &self.ast)?)
    }
}

/// An engine with all that a script may use.
fn engine(operations: u64, memory: u64) -> Engine {
    let mut engine = Engine::new_raw();
    LanguageCorePackage::new().register_into_engine(&mut engine);
    ArithmeticPackage::new().register_into_engine(&mut engine);
    LogicPackage::new().register_into_engine(&mut engine);
    BasicStringPackage::new().register_into_engine(&mut engine);
    MoreStringPackage::new().register_into_engine(&mut engine);
    BasicIteratorPackage::new().register_into_engine(&mut engine);
    BasicFnPackage::new().register_into_engine(&mut engine);
    BasicMathPackage::new().register_into_engine(&mut engine);
    BasicArrayPackage::new().register_into_engine(&mut engine);
    BasicBlobPackage::new().register_into_engine(&mut engine);
    BasicMapPackage::new().register_into_engine(&mut engine);
    BitFieldPackage::new().register_into_engine(&mut engine);
    let bytes = usize::try_from(memory).unwrap_or(usize::MAX);
    let elements = usize::try_from(memory / BYTES_PER_ELEMENT).unwrap_or(usize::MAX);
    engine
        .disable_symbol("eval")
        .set_max_operations(operations)
        .set_max_call_levels(CALLS)
        .set_max_expr_depths(DEPTH, DEPTH)
        .set_max_string_size(bytes)
        .set_max_array_size(elements)
        .set_max_map_size(elements)
        .on_print(|text| tracing::info!(target: "script", "{}", clean(text)))
        .on_debug(|text, _, at| tracing::debug!(target: "script", "{at:?}: {}", clean(text)));
    // A script that sleeps holds a batch's transaction open, and no limit ends it.
    engine.register_fn("sleep", |_: i64| Err::<(), Box<EvalAltResult>>("a script cannot sleep".into()));
    engine.register_fn("sleep", |_: f64| Err::<(), Box<EvalAltResult>>("a script cannot sleep".into()));
    json::register(&mut engine);
    engine
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(text: &str, operations: u64, memory: u64) -> Result<Runner, ScriptError> {
        let file = None;
        let (text, variables) = (text.to_owned(), vec!["row", "other"]);
        Script { text, file, operations, memory, variables, looks_up: false }.runner(None)
    }

    fn run(text: &str) -> Result<Dynamic, ScriptError> {
        script(text, 100_000, 10_000)?.call([Dynamic::from(7_i64), Dynamic::from("x")])
    }

    fn said(text: &str) -> String {
        run(text).expect_err(text).to_string()
    }

    #[test]
    fn a_script_is_given_its_values_anew_each_time() {
        let mut runner = script("let seen = row; row += 1; [seen, row, other]", 1000, 1000).expect("a script");
        for n in [1_i64, 5] {
            let answer = runner.call([Dynamic::from(n), Dynamic::from("x")]).expect("an answer");
            assert_eq!(format!("{answer:?}"), format!("[{n}, {}, \"x\"]", n + 1));
        }
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        assert_eq!(said("let a = 1;\nlet b = rwo;"), "line 2, column 9: Undefined variable: rwo");
        assert!(said("let a = ;").starts_with("line 1, column 9: "), "{}", said("let a = ;"));
        assert_eq!(said("\n\n  throw \"no\""), "line 3, column 3: Runtime error: no");
        assert!(
            said("fn f(x) { x.nothing() }\nf(row)").contains("line 1"),
            "{}",
            said("fn f(x) { x.nothing() }\nf(row)")
        );
    }

    #[test]
    fn what_a_script_may_not_do_ends_it() {
        assert!(said("loop { }").contains("`operations` says how many"));
        assert!(said("let s = \"x\"; loop { s += s; }").contains("`memory` says how large"));
        assert!(
            said("let a = []; loop { a.push(1); }").contains("too large"),
            "{}",
            said("let a = []; loop { a.push(1); }")
        );
        assert!(said("fn f(n) { f(n + 1) } f(1)").contains("tack overflow"));
        assert!(said("sleep(1)").contains("cannot sleep"));
        for unknown in ["eval(\"1\")", "import \"x\" as y;", "timestamp()", "open_file(\"/etc/passwd\")"] {
            run(unknown).expect_err(unknown);
        }
        // The limits count anew.
        let mut runner = script("let n = 0; for i in 0..200 { n += i; } n", 2_000, 1000).expect("a script");
        for _ in 0..20 {
            let _ = runner.call([Dynamic::UNIT, Dynamic::UNIT]).expect("few operations");
        }
    }
}
