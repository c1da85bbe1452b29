//! What an operator leaves a console for: the run is resumed, taken back, or its quarantine is tried again.

use std::path::PathBuf;

use super::quarantine::{self, QuarantineArgs, QuarantineCommand, RetryArgs};
use super::{AttachArgs, Exit, Global, ResumeArgs, ShowArgs, UndoArgs, attach, resume, undo};
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
            Leave::Over | Leave::KeepRunning | Leave::PauseAndQuit | Leave::HungUp | Leave::EndedEarly => None,
        }
    }
}

/// The run that was looked at, and how it was shown.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The run.
    pub run: RunId,
    /// The plan file that was given.
    pub plan: Option<PathBuf>,
    /// How it was shown.
    pub show: ShowArgs,
}

/// Does what the console was left for.
///
/// # Errors
/// As the command that it stands for.
pub async fn follow(global: &Global, subject: Subject, next: Next) -> Result<Exit, Cause> {
    let Subject { run, plan, show } = subject;
    let named = Some(RunRef::Full(run));
    match next {
        Next::Resume => {
            let args = ResumeArgs { run: named, plan, accept_changed_plan: false, detach: false, show };
            Box::pin(resume::run(global, args)).await
        }
        Next::Undo => {
            let args = UndoArgs { run: named, step: None, drop_log: false, yes: true, plan, show };
            Box::pin(undo::run(global, args)).await
        }
        Next::RetryQuarantine => {
            let command = QuarantineCommand::Retry(RetryArgs::of(run, plan.clone()));
            Box::pin(quarantine::run(global, QuarantineArgs { command })).await?;
            let args = AttachArgs { run: named, read_only: false, plan, theme: show.theme, mouse: show.mouse };
            Box::pin(attach::run(global, args)).await
        }
    }
}
