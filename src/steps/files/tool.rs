//! The program of a step, on a thread of its own: what takes long never holds up the others.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use tokio::sync::oneshot;

use super::child;
use super::halt::Halt;
use super::script::FileScript;
use crate::cache::{Caches, LookError};
use crate::plan::model::PlanSource;
use crate::plan::movers::{FileTransform, Program};
use crate::run::Cause;
use crate::steps::program::asking::{self, Answering, Asking};

/// What a program has made of a file: SHA-256 of what was there and of what came out. Alike: it stays as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// Of what was there, in hex.
    pub before: String,
    /// Of what came out, in hex.
    pub after: String,
}

/// A program, ready to be run. Lives on one thread.
pub enum Tool {
    /// A script.
    Script(Box<FileScript>),
    /// A program of its own.
    Command {
        /// It and its arguments.
        argv: Vec<String>,
        /// How long it may be silent.
        silence: Duration,
    },
}

impl Tool {
    /// Makes it ready. `what`: how messages name the step; `asking`: for what a script looks up.
    ///
    /// # Errors
    /// The script is wrong.
    pub fn new(what: &str, files: &FileTransform, source: &PlanSource, asking: Option<&Asking>) -> Result<Self, Cause> {
        match &files.program {
            Program::Rhai { script, operations, memory, caches } => {
                let script = (script, caches.as_slice(), files.by);
                let script = FileScript::compile(what, script, (*operations, *memory), source, asking)?;
                Ok(Self::Script(Box::new(script)))
            }
            Program::Command { argv, timeout } => {
                Ok(Self::Command { argv: argv.iter().map(|word| word.text.clone()).collect(), silence: *timeout })
            }
        }
    }

    /// Runs over one file, which the plan names `name`; what comes out goes to `out`.
    ///
    /// # Errors
    /// Why the file does not get its new content.
    pub fn make(&mut self, name: &str, file: File, out: &mut dyn Write) -> Result<Made, Halt> {
        match self {
            Self::Script(script) => script.make(name, file, out),
            Self::Command { argv, silence } => child::run(argv, *silence, file, out),
        }
    }
}

/// Whether a program can be found, as the system will look for it.
#[must_use]
pub fn is_there(program: &str) -> bool {
    let runs = |path: &Path| path.is_file() && nix::unistd::access(path, nix::unistd::AccessFlags::X_OK).is_ok();
    if program.contains('/') {
        return runs(Path::new(program));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| runs(&directory.join(program)))
}

type Job = Box<dyn FnOnce(&mut Result<Tool, Cause>) + Send>;

/// The thread that a worker's program lives on. It ends with this.
pub struct Desk {
    jobs: SyncSender<Job>,
    answering: Option<Answering>,
}

impl Desk {
    /// Starts the thread, which makes the program ready.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn begin(
        what: String,
        files: Arc<FileTransform>,
        source: Arc<PlanSource>,
        caches: Option<&Arc<Caches>>,
    ) -> Result<Self, Cause> {
        let (asking, answering) = caches.map(asking::both).unzip();
        // One who asks waits for the answer: there is never more than one job.
        let (jobs, asked) = sync_channel::<Job>(1);
        let thread = std::thread::Builder::new().name("howdah-files".to_owned()).spawn(move || {
            let mut tool = Tool::new(&what, &files, &source, asking.as_ref());
            for job in asked {
                job(&mut tool);
            }
        });
        thread.map_err(|e| Cause::new(format!("no thread for the program: {e}")))?;
        Ok(Self { jobs, answering })
    }

    /// Does `work` on the thread, and waits for it.
    ///
    /// # Errors
    /// The script is wrong; the thread is gone.
    pub async fn ask<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Tool) -> T + Send + 'static,
    ) -> Result<T, Cause> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |tool| {
            let done = tool.as_mut().map(work).map_err(|cause| cause.clone());
            // Whoever asked may have gone.
            drop(answer.send(done));
        });
        let gone = || Cause::bug("the thread of a program is gone");
        self.jobs.send(job).map_err(|_| gone())?;
        asking::answered(self.answering.as_mut(), answered).await.map_err(|_| gone())?
    }

    /// What ended the script the last time, where that was something that it had looked up.
    pub fn failure(&mut self) -> Option<LookError> {
        self.answering.as_mut().and_then(Answering::failure)
    }
}
