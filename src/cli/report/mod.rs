//! `howdah report`: what a run did, or two of them side by side; as text, as JSON, as a page, as a picture.

mod file;
mod settings;

use sqlx::postgres::PgConnection;

use super::run::resume_flags;
use super::{Exit, Global, ReportArgs, ReportFormat, books, opening, say, status};
use crate::ledger::book::Book;
use crate::ledger::dossier;
use crate::plan::model::Plan;
use crate::postgres::dsn::Target;
use crate::report::{self, Comparison, Undrawn};
use crate::run::Cause;
use crate::run::dossier::Dossier;
use crate::run::id::RunRef;

/// Tells what a run did.
///
/// # Errors
/// There is no such run; the database cannot be asked; the file cannot be written.
pub async fn run(global: &Global, args: &ReportArgs) -> Result<Exit, Cause> {
    if let Some(path) = &args.out {
        file::expect_free(path, args.force)?;
    } else if matches!(args.format, ReportFormat::Html | ReportFormat::Svg) && say::stream().1 {
        let name = if args.format == ReportFormat::Html { "report.html" } else { "report.svg" };
        return Err(Cause::usage("a page or a picture is not for a terminal")
            .hint(format!("give it a file: --out {name}"))
            .hint(format!("or send it on: > {name}")));
    }
    let (target, plan) = books::target(global, args.plan.as_deref())?;
    let mut reader = Reader { global, connection: opening::look(&target).await?, target, plan };
    let one = reader.read(args.run.as_ref()).await?;
    let text = match &args.other {
        None => told(&one, args.format)?,
        Some(other) => {
            let other = reader.read(Some(other)).await?;
            compared(&Comparison::of(one, other), args.format)?
        }
    };
    match &args.out {
        None => say::out(text.trim_end()),
        Some(path) => {
            file::write(path, &text, args.force)?;
            say::err(&format!("written: {}", path.display()));
        }
    }
    Ok(Exit::Done)
}

fn told(dossier: &Dossier, format: ReportFormat) -> Result<String, Cause> {
    match format {
        ReportFormat::Text => Ok(dossier.report.to_text() + report::text(dossier).as_str()),
        ReportFormat::Json => json(&report::json(dossier)),
        ReportFormat::Html => report::html(dossier).map_err(undrawn),
        ReportFormat::Svg => report::svg(dossier).map_err(undrawn),
    }
}

fn compared(comparison: &Comparison, format: ReportFormat) -> Result<String, Cause> {
    match format {
        ReportFormat::Text => Ok(comparison.text()),
        ReportFormat::Json => json(&comparison.json()),
        ReportFormat::Html => comparison.html().map_err(undrawn),
        ReportFormat::Svg => comparison.svg().map_err(undrawn),
    }
}

fn json(value: &serde_json::Value) -> Result<String, Cause> {
    serde_json::to_string_pretty(value).map_err(|e| Cause::bug(format!("a report that is not JSON: {e}")))
}

#[expect(clippy::needless_pass_by_value, reason = "it stands behind `map_err`")]
fn undrawn(e: Undrawn) -> Cause {
    Cause::bug(e.to_string())
}

/// Reads runs of one database.
struct Reader<'a> {
    global: &'a Global,
    connection: PgConnection,
    target: Target,
    plan: Option<Plan>,
}

impl Reader<'_> {
    async fn read(&mut self, named: Option<&RunRef>) -> Result<Dossier, Cause> {
        let ledgers = books::all(self.global.redis.as_deref(), self.plan.as_ref()).await?;
        let (book, id) = books::find(ledgers, &mut self.connection, named, false).await?;
        let mut record = book.one(&mut self.connection, id).await?;
        record.snapshot.server = self.target.label();
        record.snapshot.resume_command.push_str(&resume_flags(self.global, self.plan.as_ref()));
        let state = status::state(&record.word, record.driven);
        let mut dossier = match &book {
            Book::Postgres => dossier::read(&mut self.connection, record, state).await?,
            Book::Redis(_) => dossier::of_record(&record, state, book.stored_plan(&mut self.connection, id).await?),
        };
        dossier.settings = settings::of_source(&dossier, self.global.database.as_deref());
        Ok(dossier)
    }
}
