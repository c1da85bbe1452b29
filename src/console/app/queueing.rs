//! What is asked of the queue, and which run is looked at next.

use super::{App, redraw};
use crate::console::Leave;
use crate::console::action::{Action, Effect};
use crate::console::ui::{ListId, Mode, View};
use crate::run::{JobState, JobView, QueueOrder, ShortId, human};

impl App {
    /// Asks whoever carries it out.
    pub(super) fn order(&mut self, order: QueueOrder) -> Vec<Effect> {
        self.ordered(&order);
        let mut effects = vec![Effect::Order(order)];
        effects.extend(redraw());
        effects
    }

    /// [`Self::order`], for somebody who has typed it: what cannot be taken back is asked once more.
    pub(super) fn order_in_words(&mut self, order: QueueOrder) -> Vec<Effect> {
        match order {
            QueueOrder::Remove { id } => match self.job(&id) {
                Some(job) => self.ask_to_remove(&job),
                None => self.say(format!("job {id} is not shown here")),
            },
            QueueOrder::Drain => self.ask_to_drain(),
            QueueOrder::Enqueue { .. }
            | QueueOrder::Retry { .. }
            | QueueOrder::Promote { .. }
            | QueueOrder::Pause
            | QueueOrder::Resume => self.order(order),
        }
    }

    pub(super) fn retry_job(&mut self) -> Vec<Effect> {
        match self.selected_job() {
            Ok(job) if job.state == JobState::Failed => self.order(QueueOrder::Retry { id: job.id }),
            Ok(job) => {
                self.say(format!("job {} is {}: only one that has failed is tried again", job.id, job.state.word()))
            }
            Err(effects) => effects,
        }
    }

    pub(super) fn promote_job(&mut self) -> Vec<Effect> {
        match self.selected_job() {
            Ok(job) if job.state == JobState::Delayed => self.order(QueueOrder::Promote { id: job.id }),
            Ok(job) => {
                self.say(format!("job {} is {}: only a delayed one can be taken sooner", job.id, job.state.word()))
            }
            Err(effects) => effects,
        }
    }

    pub(super) fn remove_job(&mut self) -> Vec<Effect> {
        match self.selected_job() {
            Ok(job) => self.ask_to_remove(&job),
            Err(effects) => effects,
        }
    }

    fn ask_to_remove(&mut self, job: &JobView) -> Vec<Effect> {
        if job.state == JobState::Active {
            return self.say(format!("job {} is at work: stop its run first", job.id));
        }
        let text = format!("remove job {} ({})?", job.id, job.name);
        let consequence = match &job.run {
            Some(run) => format!("the queue forgets it; its run {run} stays in the database as it is"),
            None => "the queue forgets it".to_owned(),
        };
        self.question(text, consequence, Effect::Order(QueueOrder::Remove { id: job.id.clone() }))
    }

    fn ask_to_drain(&mut self) -> Vec<Effect> {
        let jobs = self.details.queue.reading.view().map(|view| &view.counts);
        let text = match jobs.map(|counts| counts.waiting.saturating_add(counts.delayed).saturating_add(counts.blocked))
        {
            Some(1) => "forget the job that waits?".to_owned(),
            Some(waiting) => format!("forget the {} jobs that wait?", human::count(waiting)),
            None => "forget every job that waits?".to_owned(),
        };
        let consequence = "also those that are delayed; jobs at work go on, failed and completed ones stay".to_owned();
        self.question(text, consequence, Effect::Order(QueueOrder::Drain))
    }

    pub(super) fn toggle_queue(&mut self) -> Vec<Effect> {
        match self.details.queue.reading.view().map(|view| view.is_paused) {
            Some(true) => self.order(QueueOrder::Resume),
            Some(false) => self.order(QueueOrder::Pause),
            None => self.say("the queue has not been read: whether it is paused is not known"),
        }
    }

    pub(super) fn attach_job(&mut self) -> Vec<Effect> {
        let job = match self.selected_job() {
            Ok(job) => job,
            Err(effects) => return effects,
        };
        match job.run.as_deref().map(str::parse) {
            Some(Ok(run)) => self.attach(run),
            Some(Err(_)) => self.say(format!("job {} names no run of howdah's", job.id)),
            None => self.say(format!("job {} has no run yet: it is {}", job.id, job.state.word())),
        }
    }

    /// Leaves for the console of another run.
    pub(super) fn attach(&mut self, run: ShortId) -> Vec<Effect> {
        if self.newest.run == run.to_string() {
            return self.goto(View::Overview);
        }
        match self.ui.mode {
            Mode::Attached | Mode::ReadOnly => vec![Effect::Leave(Leave::Attach(run))],
            Mode::Driver => self.say(format!("this console drives a run: `howdah attach {run}` opens another one")),
        }
    }

    pub(super) fn say_no_run(&mut self) -> Vec<Effect> {
        let attaches = match self.ui.keymap.first_key(&Action::AttachJob) {
            Some(key) => format!("{key} on a job of the queue opens the console of its run"),
            None => ":attach opens the console of a job's run".to_owned(),
        };
        self.say(format!("no run is shown here: {attaches}"))
    }

    /// The job that is selected, or what is done where none is.
    fn selected_job(&mut self) -> Result<JobView, Vec<Effect>> {
        let selected = match self.ui.list() {
            Some(ListId::Queue) => self.ui.lists.queue.selected.clone(),
            _ => None,
        };
        match selected.and_then(|id| self.job(&id)) {
            Some(job) => Ok(job),
            None => Err(self.say("no job is selected: the view of the queue has them")),
        }
    }

    fn job(&self, id: &str) -> Option<JobView> {
        self.details.queue.reading.view()?.jobs.iter().find(|job| job.id == id).cloned()
    }
}
