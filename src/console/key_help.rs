//! The lines of the help: which keys there are, those of the open view first, and what is looked for among them.

use super::keymap::{Context, HelpLine};
use super::ui::{Overlay, Ui};

/// The keys of one context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Section {
    pub context: Context,
    pub lines: Vec<HelpLine>,
}

/// The sections that are shown: what works in the open view first, then boxes and lines, then the other views. Without
/// those that have no line left.
pub(crate) fn sections(ui: &Ui) -> Vec<Section> {
    let filter = match &ui.overlay {
        Overlay::Help { filter, .. } => filter.to_lowercase(),
        Overlay::None | Overlay::Quit { .. } | Overlay::Confirm(_) | Overlay::Detail { .. } => String::new(),
    };
    let mut order = Context::layers(ui.view).to_vec();
    order.extend([Context::Dialogue, Context::Prompt]);
    order.extend(
        Context::ALL
            .into_iter()
            .filter(|context| !Context::layers(ui.view).contains(context))
            .filter(|context| !matches!(context, Context::Dialogue | Context::Prompt)),
    );
    let found = |line: &HelpLine| {
        [&line.keys, line.name, line.about].into_iter().any(|text| text.to_lowercase().contains(&filter))
    };
    let sections = order.into_iter().map(|context| {
        let lines = ui.keymap.help(context).filter(found).collect();
        Section { context, lines }
    });
    sections.filter(|section| !section.lines.is_empty()).collect()
}

/// How many lines they take: a heading each, and a gap between two.
pub(crate) fn height(ui: &Ui) -> usize {
    let sections = sections(ui);
    sections.iter().map(|section| section.lines.len() + 2).sum::<usize>().saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::keymap::Keymap;
    use crate::console::ui::{Mode, View};

    fn ui(view: View, filter: &str) -> Ui {
        let overlay = Overlay::Help { scroll: 0, filter: filter.to_owned(), typing: false };
        Ui { view, overlay, ..Ui::new(Keymap::defaults(), Mode::Driver, Vec::new()) }
    }

    #[test]
    fn the_keys_of_the_open_view_come_first_and_none_is_left_out() {
        let all: usize = Context::ALL.into_iter().map(|context| Keymap::defaults().help(context).count()).sum();
        for view in View::ALL {
            let sections = sections(&ui(view, ""));
            assert_eq!(sections.iter().map(|section| section.lines.len()).sum::<usize>(), all);
            let works = Context::layers(view);
            let first = works.iter().find(|context| Keymap::defaults().help(**context).next().is_some());
            assert_eq!(sections.first().map(|section| section.context), first.copied(), "{}", view.name());
        }
    }

    #[test]
    fn keys_words_and_names_are_looked_for_in_any_case() {
        let table = [("BREAKER", "close-breaker"), ("ctrl-z", "suspend"), ("skip-window", "skip-window")];
        for (filter, name) in table {
            let found = sections(&ui(View::Overview, filter));
            assert!(found.iter().any(|section| section.lines.iter().any(|line| line.name == name)), "{filter}");
        }
        assert_eq!(sections(&ui(View::Overview, "nothing like that")), []);
        assert_eq!(height(&ui(View::Overview, "nothing like that")), 0);
        assert_eq!(height(&ui(View::Overview, "ctrl-z")), 2);
    }
}
