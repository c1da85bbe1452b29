//! From a run to the steps that take it back, in reverse order.

use sqlx::postgres::PgConnection;

use super::opening::Planned;
use crate::ledger::open::{self, StepRecord};
use crate::ledger::runs;
use crate::plan::model::{Plan, Step, StepKind, Undo};
use crate::plan::movers::Sink;
use crate::postgres::error;
use crate::run::{Cause, Level, RunId, StepIndex, StepState};
use crate::steps::backfill::{self, Purpose};
use crate::steps::index::Owner;
use crate::steps::{Task, preflight};

/// What is to be taken back.
pub struct Undoing {
    /// The run.
    pub run: RunId,
    /// Only this step of it.
    pub step: Option<String>,
    /// Whether the way back is only looked up again: it was allowed before.
    pub again: bool,
}

/// The way back.
pub struct WayBack {
    /// Its steps, in the order in which they run.
    pub steps: Vec<Planned>,
    /// What the operator should know.
    pub notices: Vec<(Level, String)>,
}

/// What a run that takes back a run of `plan` is called.
#[must_use]
pub fn name(plan: &str) -> String {
    format!("undo {plan}")
}

/// The steps that take `undo.run` back, the last step first.
///
/// # Errors
/// It is driven at this moment, was taken back already, or has a step that cannot be taken back.
pub async fn plan(connection: &mut PgConnection, plan: &Plan, undo: &Undoing) -> Result<WayBack, Cause> {
    let failed = |e: sqlx::Error| error::cause("reading the run", &e);
    if !undo.again {
        allowed(connection, undo).await?;
    }
    let before = runs::undone_by(connection, undo.run).await.map_err(failed)?;
    let undone = |name: &str| before.iter().any(|(_, state, step)| state == "done" && step.as_deref() == Some(name));
    let records = open::steps(connection, undo.run).await.map_err(failed)?;
    let names = |steps: &mut dyn Iterator<Item = &str>| steps.collect::<Vec<_>>().join(", ");
    let now = names(&mut plan.steps.iter().map(|step| step.name.as_str()));
    let then = names(&mut records.iter().map(|record| record.view.name.as_str()));
    if now != then {
        return Err(Cause::usage(format!("the plan has other steps than when the run began: {now} now, {then} then"))
            .hint("give the plan as it was: --plan FILE"));
    }
    let mut way = WayBack { steps: Vec::new(), notices: Vec::new() };
    let mut found = undo.step.is_none();
    let steps: Vec<_> = (0..).map(StepIndex).zip(&plan.steps).zip(&records).collect();
    for ((index, step), record) in steps.into_iter().rev() {
        if undo.step.as_ref().is_some_and(|wanted| *wanted != step.name) {
            continue;
        }
        found = true;
        if undone(&step.name) {
            continue;
        }
        if record.fingerprint != step.fingerprint() {
            return Err(Cause::usage(format!(
                "step \"{}\" of the plan is not what it was when the run began",
                step.name
            ))
            .hint("undo the change to the plan, or give the plan as it was: --plan FILE"));
        }
        let replaced = match &step.kind {
            StepKind::Files(_) => open::replaced_files(connection, undo.run, index).await.map_err(failed)?,
            _ => 0,
        };
        match task(undo.run, index, step, record, replaced)? {
            Way::Task(task) => way.steps.push(Planned {
                name: format!("undo {}", step.name),
                fingerprint: format!("undo {}", step.fingerprint()),
                task,
            }),
            Way::Nothing => {}
            Way::Told(text) => way.notices.push((Level::Warning, text)),
        }
    }
    if !found {
        let names: Vec<&str> = plan.steps.iter().map(|step| step.name.as_str()).collect();
        let wanted = undo.step.as_deref().unwrap_or_default();
        return Err(Cause::usage(format!("the plan has no step \"{wanted}\""))
            .hint(format!("its steps are: {}", names.join(", "))));
    }
    if way.steps.is_empty() {
        let mut cause = Cause::usage(format!("there is nothing in run {} to take back", undo.run.short()));
        cause.details.extend(way.notices.into_iter().map(|(_, text)| text));
        return Err(cause);
    }
    Ok(way)
}

/// Whether the run may be taken back now.
async fn allowed(connection: &mut PgConnection, undo: &Undoing) -> Result<(), Cause> {
    let failed = |e: sqlx::Error| error::cause("reading the run", &e);
    let short = undo.run.short();
    if runs::undoes(connection, undo.run).await.map_err(failed)?.is_some() {
        return Err(Cause::usage(format!("run {short} itself takes another run back"))
            .hint("to make its changes again, run the plan again: howdah run PLAN"));
    }
    if runs::is_driven(connection, undo.run).await.map_err(failed)? {
        return Err(Cause::usage(format!("run {short} is being driven at this moment"))
            .hint("stop it first: q in its console, or SIGTERM"));
    }
    for (other, state, step) in runs::undone_by(connection, undo.run).await.map_err(failed)? {
        // One step alone may have been taken back before the others.
        let overlaps = match (&step, &undo.step) {
            (Some(one), Some(other)) => one == other,
            (Some(_), None) => state != "done",
            (None, _) => true,
        };
        if !overlaps {
            continue;
        }
        let other = other.short();
        return Err(if state == "done" {
            Cause::usage(format!("run {short} was taken back already, by run {other}"))
                .hint(format!("see what that did: howdah report {other}"))
        } else {
            Cause::usage(format!("run {short} is being taken back by run {other}, which is {state}"))
                .hint(format!("go on with that: howdah resume {other}"))
        });
    }
    Ok(())
}

/// What takes a step back.
enum Way {
    /// This.
    Task(Task),
    /// It has changed nothing.
    Nothing,
    /// It stays, and this is to be said.
    Told(String),
}

/// `replaced`: files that the step has replaced, or may have.
fn task(run: RunId, at: StepIndex, step: &Step, record: &StepRecord, replaced: u64) -> Result<Way, Cause> {
    match &step.kind {
        StepKind::Verify(_) | StepKind::Analyze(_) => Ok(Way::Nothing),
        StepKind::Statement(statement) => Ok(match (&statement.down, record.view.state) {
            (_, StepState::Waiting) => Way::Nothing,
            // Its `down` has run as the run's clean-up.
            (Some(_), _) if record.cleaned => Way::Nothing,
            (Some(down), StepState::Done) => Way::Task(Task::Down(down.clone())),
            (Some(_), StepState::Running | StepState::Failed) => Way::Told(format!(
                "step \"{}\" did not end: look whether something of it is left; its `down` is not run",
                step.name
            )),
            (None, _) => Way::Told(format!("step \"{}\" stays as it is: it has no `down`", step.name)),
        }),
        StepKind::Index(_) if record.view.state == StepState::Waiting || record.cleaned => Ok(Way::Nothing),
        // Whether the run has made it is told by the index itself.
        StepKind::Index(index) => {
            Ok(Way::Task(Task::DropIndex { index: index.clone(), owner: Owner { run, step: at } }))
        }
        StepKind::Reindex(_) if record.view.state == StepState::Waiting => Ok(Way::Nothing),
        // One that was cut off may have left INVALID indexes behind.
        StepKind::Reindex(reindex) if record.view.state != StepState::Done => {
            Ok(Way::Task(Task::ClearRebuild(reindex.clone())))
        }
        StepKind::Reindex(_) => Ok(Way::Told(format!(
            "step \"{}\" has nothing to take back: an index that was built anew is what it was",
            step.name
        ))),
        StepKind::Files(_) if replaced == 0 => Ok(Way::Nothing),
        StepKind::Files(files) if files.backup => Ok(Way::Task(Task::Restore { files: files.clone(), run, step: at })),
        StepKind::Files(_) => Err(Cause::usage(format!(
            "step \"{}\" replaced files and cannot be taken back: it kept no originals",
            step.name
        ))
        .hint("`backup = true` in the plan must be there when the run is made")
        .hint("take another step back alone: --step NAME")),
        StepKind::Import(_) | StepKind::Copy(_) | StepKind::Transform(_) if record.view.batches == 0 => {
            Ok(Way::Nothing)
        }
        StepKind::Transform(transform) if matches!(transform.sink, Sink::Update(_)) && record.view.rows_changed > 0 => {
            Err(Cause::usage(format!(
                "step \"{}\" updated rows and cannot be taken back: a transform keeps no undo log",
                step.name
            ))
            .hint("take another step back alone: --step NAME"))
        }
        StepKind::Import(_) | StepKind::Copy(_) | StepKind::Transform(_) => Ok(Way::Told(format!(
            "step \"{}\" stays as it is: rows that {} has brought are not taken back",
            step.name,
            match &step.kind {
                StepKind::Import(_) => "an import",
                StepKind::Copy(_) => "a copy",
                _ => "a transform",
            }
        ))),
        StepKind::Backfill(backfill) => {
            let purpose = match &backfill.undo {
                _ if record.view.batches == 0 => return Ok(Way::Nothing),
                Undo::Auto => Purpose::RevertByLog { run, step: at },
                Undo::Sql(_) => Purpose::RevertBySql { run, step: at },
                Undo::None if record.view.rows_changed == 0 => return Ok(Way::Nothing),
                Undo::None => {
                    return Err(Cause::usage(format!(
                        "step \"{}\" changed rows and cannot be taken back: it kept no undo log",
                        step.name
                    ))
                    .hint("`undo = \"auto\"` or `undo_sql` in the plan must be there when the run is made")
                    .hint("take another step back alone: --step NAME"));
                }
            };
            Ok(Way::Task(Task::Revert { backfill: backfill.clone(), purpose }))
        }
    }
}

/// The tables that the way back works on, for whoever watches them.
pub async fn found(connection: &mut PgConnection, plan: &Plan, steps: &[Planned]) -> preflight::Found {
    let backfills = steps.iter().filter_map(|step| match &step.task {
        Task::Revert { backfill, .. } => Some((step.name.as_str(), backfill)),
        Task::Plan(_) | Task::Down(_) | Task::DropIndex { .. } | Task::ClearRebuild(_) | Task::Restore { .. } => None,
    });
    let tables = backfill::tables(connection, backfills, &plan.source).await;
    preflight::Found { tables, ..preflight::Found::default() }
}
