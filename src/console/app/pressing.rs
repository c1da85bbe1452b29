//! Keys as actions: one by one, or in sequences, in the layers that are open.

use crokey::KeyCombination;
use crossterm::event::{KeyCode, KeyEvent};

use super::{App, redraw};
use crate::console::action::{Action, Effect};
use crate::console::keymap::{Context, Meaning, is_text, pending};
use crate::console::ui::{Overlay, View};

impl App {
    /// Takes in a key, and says what must follow, in order.
    pub fn press(&mut self, event: KeyEvent) -> Vec<Effect> {
        let key = KeyCombination::from(event);
        let goes_on = !self.pressed.is_empty();
        // The keys of a sequence that goes on are not typed, and text that is typed begins none.
        if !goes_on && self.is_typing() && is_text(key) {
            return self.update(Action::Typed(event));
        }
        let let_go = self.let_go();
        self.pressed.push(key);
        let meaning = self.ui.keymap.meaning(self.layers(), &self.pressed);
        if goes_on && event.code == KeyCode::Esc && !matches!(meaning, Meaning::Action(_)) {
            return self.no_key_came();
        }
        let mut effects = match meaning {
            Meaning::Prefix => {
                self.ui.pending = pending(&self.pressed);
                let mut effects = vec![Effect::AwaitKey];
                effects.extend(redraw());
                return effects;
            }
            Meaning::Action(action) => {
                self.no_key_came();
                self.update(action.clone())
            }
            Meaning::Nothing => {
                self.no_key_came();
                if self.is_typing() && !goes_on { self.update(Action::Typed(event)) } else { Vec::new() }
            }
        };
        let is_drawn = |effect: &Effect| matches!(effect, Effect::Redraw(_) | Effect::Repaint | Effect::Leave(_));
        if (let_go || goes_on) && !effects.iter().any(is_drawn) {
            effects.extend(redraw());
        }
        effects
    }

    /// Forgets a sequence that has begun.
    pub(super) fn no_key_came(&mut self) -> Vec<Effect> {
        self.ui.pending.clear();
        if std::mem::take(&mut self.pressed).is_empty() { Vec::new() } else { redraw() }
    }

    /// Whether keys that are text are typed into something.
    pub(super) fn is_typing(&self) -> bool {
        self.ui.prompt.is_some() || matches!(self.ui.overlay, Overlay::Help { typing: true, .. })
    }

    /// Where a key is looked for, the nearest layer first.
    fn layers(&self) -> &'static [Context] {
        if self.is_typing() {
            return &[Context::Prompt, Context::Global];
        }
        match &self.ui.overlay {
            Overlay::Help { .. } | Overlay::Quit { .. } | Overlay::Confirm(_) | Overlay::Detail { .. } => {
                &[Context::Dialogue, Context::Global]
            }
            // The outcome lies over the overview like a box, and the keys that close a box leave it as well.
            Overlay::None if self.is_over() && self.ui.view == View::Overview => {
                &[Context::Overview, Context::View, Context::Global, Context::Dialogue]
            }
            Overlay::None => Context::layers(self.ui.view),
        }
    }
}
