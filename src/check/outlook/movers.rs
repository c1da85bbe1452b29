//! What the steps that move rows and files will do, as far as that is cheap to tell.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnection;

use super::{StepOutlook, many, walks};
use crate::plan::model::{Plan, PlanSource};
use crate::plan::movers::{FileTransform, Import, Program, RowProgram, Sink, Source, Transform};
use crate::postgres::catalog;
use crate::run::{ByteSize, Cause, human};
use crate::steps::keyspace::Keyspace;
use crate::steps::{files, import};

pub(super) async fn of_import(
    name: &str,
    import: &Import,
    source: &PlanSource,
    told: &mut StepOutlook,
) -> Result<(), Cause> {
    if import.files.iter().any(|file| file.text == "-") {
        told.does.push(format!("loads what comes on the standard input into {}", import.into.text));
        return Ok(());
    }
    let (what, import, source) = (format!("step \"{name}\""), Arc::new(import.clone()), Arc::new(source.clone()));
    let into = import.into.text.clone();
    // A file system may be slow, and is not waited for on a worker of the runtime.
    let found = tokio::task::spawn_blocking(move || import::files::find(&what, &import, &source)).await;
    let found = found.unwrap_or_else(|e| Err(Cause::bug(format!("looking at files: {e}"))))?;
    let bytes = found.iter().map(|file| file.size).sum();
    told.does.push(format!("loads {}, {}, into {into} by COPY", many(found.len(), "file"), ByteSize(bytes)));
    Ok(())
}

pub(super) async fn of_transform(
    connection: &mut PgConnection,
    plan: &Plan,
    name: &str,
    transform: &Transform,
    told: &mut StepOutlook,
) -> Result<(), Cause> {
    let by = match &transform.by {
        RowProgram::Set(columns) => {
            format!("by {} of `set`, which the server computes", many(columns.len(), "expression"))
        }
        RowProgram::Program(Program::Rhai { .. }) => "by a Rhai script, in howdah".to_owned(),
        RowProgram::Program(Program::Command { argv, .. }) => {
            format!("by the program {}", argv.first().map_or("", |word| word.text.as_str()))
        }
    };
    let to = match &transform.sink {
        Sink::Update(columns) => format!("back into {} of the same rows", many(columns.len(), "column")),
        Sink::Insert { table, .. } => format!("into {}", table.text),
        Sink::File { path, .. } => format!("into the files {}", path.text),
    };
    match &transform.source {
        Source::Query { .. } => told.does.push(format!("reads the rows of a query, {by}, {to}")),
        Source::Table(written) => {
            let table = catalog::table(connection, name, written, &plan.source).await?;
            let way = table.describe_walk();
            told.does.push(format!("reads rows of {}, walked by {way}, {by}, {to}", table.quoted()));
            let keys: Vec<Keyspace> = table.parts.iter().cloned().map(Keyspace::new).collect();
            let sources: Vec<(&Keyspace, Option<&str>)> = keys.iter().map(|keys| (keys, None)).collect();
            told.walks = walks(connection, plan, name, &sources).await?;
        }
    }
    if let Some(linger) = transform.linger.filter(|linger| *linger > Duration::ZERO) {
        told.does.push(format!("a batch goes early once its first row has waited for {}", human::duration(linger)));
    }
    Ok(())
}

pub(super) async fn of_files(
    name: &str,
    wanted: &FileTransform,
    source: &PlanSource,
    told: &mut StepOutlook,
) -> Result<(), Cause> {
    let (what, wanted, source) = (format!("step \"{name}\""), Arc::new(wanted.clone()), Arc::new(source.clone()));
    let backup = wanted.backup;
    let found = tokio::task::spawn_blocking(move || files::count(&what, &wanted, &source)).await;
    let (count, bytes) = found.unwrap_or_else(|e| Err(Cause::bug(format!("looking at files: {e}"))))?;
    told.does.push(format!("rewrites {}, {}, each by its program", many(count, "file"), ByteSize(bytes)));
    told.does.push(if backup {
        "keeps the originals, so that it can be undone".to_owned()
    } else {
        "keeps no originals: howdah cannot undo it".to_owned()
    });
    told.does.push("howdah run PLAN --dry-run shows what would become of the first ones".to_owned());
    Ok(())
}
