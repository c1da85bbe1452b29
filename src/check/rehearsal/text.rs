//! A rehearsal as text.

use super::{Rehearsal, StepRehearsal, Trial};
use crate::run::text::clean;
use crate::run::{ByteSize, human};

impl Rehearsal {
    /// As lines for people, cleaned. Findings are told apart.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut lines: Vec<String> = self.steps.iter().map(StepRehearsal::to_text).collect();
        let tried: usize = self.steps.iter().map(|step| step.trials.len()).sum();
        let left: u64 = self.steps.iter().map(|step| step.dead_left).sum();
        lines.push(format!(
            "rehearsed {tried} batches in {} and rolled each back: no row is changed; about {} dead rows are left for vacuum",
            human::duration(self.took),
            human::count(left)
        ));
        lines.join("\n")
    }
}

impl StepRehearsal {
    /// As lines for people, cleaned.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut lines = vec![format!("step \"{}\" ({}), rehearsed", clean(&self.name), self.kind)];
        lines.extend(self.note.iter().map(|note| format!("  {}", clean(note))));
        lines.extend(self.trials.iter().filter(|trial| !trial.is_repeated).map(|trial| format!("  {}", trial.line())));
        if let Some(forecast) = &self.forecast {
            lines.push("  a run would be".to_owned());
            lines.extend(forecast.to_text().lines().map(|line| format!("    {line}")));
        }
        lines.join("\n")
    }
}

impl Trial {
    fn line(&self) -> String {
        let updated: u64 = self.written.iter().filter(|one| one.oid == self.own).map(|one| one.updated).sum();
        let hot: u64 = self.written.iter().filter(|one| one.oid == self.own).map(|one| one.hot).sum();
        let of_hot = if updated > 0 {
            format!(", {} of {} HOT", human::count(hot), human::count(updated))
        } else {
            String::new()
        };
        let wal = self.explained.as_ref().map(|explained| {
            format!(
                ", {} of WAL with {} full pages",
                ByteSize(explained.wal.bytes),
                human::count(explained.wal.full_pages)
            )
        });
        format!(
            "{} {}: {} changed in {}{of_hot}{}",
            human::rows(self.walked),
            self.at.words(),
            human::count(self.changed),
            human::duration(self.took),
            wal.unwrap_or_default()
        )
    }
}
