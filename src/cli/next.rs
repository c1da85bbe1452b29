//! What an operator leaves a console for: the run is resumed, taken back, or its quarantine is tried again.

use std::path::PathBuf;

use super::drive::{self, Driven};
use super::quarantine::{self, QuarantineArgs, QuarantineCommand, RetryArgs};
use super::{AttachArgs, Exit, Global, ResumeArgs, ShowArgs, UndoArgs, attach, resume, say, undo};
use crate::console::Leave;
use crate::run::id::RunRef;
use crate::run::{Cause, RunId};

/// What comes after a console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The run goes on, driven by this process.
    Resume,
    /// It is taken back; that was confirmed.
    Undo,
    /// Rows that were set aside are tried again, and then it is looked at again.
    RetryQuarantine,
}

impl Next {
    /// What a way to leave the console asks for.
    #[must_use]
    pub fn of(leave: Leave) -> Option<Self> {
        match leave {
            Leave::Resume => Some(Self::Resume),
            Leave::Undo => Some(Self::Undo),
            Leave::RetryQuarantine => Some(Self::RetryQuarantine),
            Leave::Over
            | Leave::KeepRunning
            | Leave::PauseAndQuit
            | Leave::HungUp
            | Leave::EndedEarly
            | Leave::Attach(_)
            | Leave::Terminated => None,
        }
    }
}

/// The run that was looked at, and how.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The run.
    pub run: RunId,
    /// The plan file that was given.
    pub plan: Option<PathBuf>,
    /// Whether a plan that has changed since it began was accepted.
    pub accept_changed_plan: bool,
    /// How it was shown.
    pub show: ShowArgs,
}

/// Does what the console of a run was left for, if for anything.
///
/// What cannot be done is told, and changes nothing of how the run itself has ended.
pub async fn after(global: &Global, driven: Driven, subject: Subject) -> Exit {
    let Some(next) = driven.next else { return driven.exit };
    match follow(global, subject, next).await {
        Ok(exit) => exit,
        Err(cause) => {
            say::err(&say::failure_text(&cause));
            drive::conclude(driven.last, true).exit
        }
    }
}

async fn follow(global: &Global, subject: Subject, next: Next) -> Result<Exit, Cause> {
    let Subject { run, plan, accept_changed_plan, show } = subject;
    let named = Some(RunRef::Full(run));
    match next {
        Next::Resume => {
            let args = ResumeArgs { run: named, plan, accept_changed_plan, detach: false, show };
            Box::pin(resume::run(global, args)).await
        }
        Next::Undo => {
            let args = UndoArgs { run: named, step: None, drop_log: false, yes: true, plan, show };
            Box::pin(undo::run(global, args)).await
        }
        Next::RetryQuarantine => {
            let retry = RetryArgs { accept_changed_plan, ..RetryArgs::of(run, plan.clone()) };
            let command = QuarantineCommand::Retry(retry);
            let retried = Box::pin(quarantine::run(global, QuarantineArgs { command })).await?;
            if retried == Exit::Resumable {
                // Whoever has interrupted it wants no console.
                return Ok(retried);
            }
            let args = AttachArgs { run: named, read_only: false, plan, theme: show.theme, mouse: show.mouse };
            Box::pin(attach::run(global, args)).await
        }
    }
}
