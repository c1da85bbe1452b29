//! `howdah report`: what a run did.

use super::run::resume_flags;
use super::{Exit, Global, ReportArgs, ReportFormat, books, opening, say};
use crate::run::Cause;
use crate::run::report::Report;

/// Tells what a run did.
///
/// # Errors
/// There is no such run; the database cannot be asked.
pub async fn run(global: &Global, args: &ReportArgs) -> Result<Exit, Cause> {
    let (target, plan) = books::target(global, args.plan.as_deref())?;
    let mut connection = opening::look(&target).await?;
    let ledgers = books::all(global.redis.as_deref(), plan.as_ref()).await?;
    let (book, id) = books::find(ledgers, &mut connection, args.run.as_ref(), false).await?;
    let mut record = book.one(&mut connection, id).await?;
    record.snapshot.server = target.label();
    record.snapshot.resume_command.push_str(&resume_flags(global, plan.as_ref()));
    let report = Report::of(&record.snapshot);
    match args.format {
        ReportFormat::Text => say::out(report.to_text().trim_end()),
        ReportFormat::Json => {
            let json = serde_json::to_string_pretty(&report)
                .map_err(|e| Cause::bug(format!("a report that is not JSON: {e}")))?;
            say::out(&json);
        }
    }
    Ok(Exit::Done)
}
