//! The line that is being typed: a command, a filter of a list, or what is looked for in the help.

use std::collections::VecDeque;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{App, redraw};
use crate::console::action::Effect;
use crate::console::command_line::{self, Completion, Order};
use crate::console::line_editor::edit;
use crate::console::ui::{Overlay, Prompt, PromptKind};

/// Commands that are remembered.
const REMEMBERED: usize = 50;

/// What is remembered from line to line, and from key to key.
#[derive(Debug, Default)]
pub(super) struct Typing {
    /// Commands that were entered, the newest last.
    history: VecDeque<String>,
    /// The place in the history that is shown, from the newest on, and what had been typed before.
    recalled: Option<(usize, String)>,
    /// The completion that is being walked through, and which of its candidates stands in the line.
    walked: Option<(Completion, usize)>,
}

impl App {
    /// Begins a line.
    pub(super) fn prompt(&mut self, kind: PromptKind) -> Vec<Effect> {
        let text = match (kind, &mut self.ui.overlay) {
            (PromptKind::Filter, Overlay::Help { typing, .. }) => {
                *typing = true;
                return redraw();
            }
            (PromptKind::Filter, Overlay::Quit { .. } | Overlay::Confirm(_) | Overlay::Detail { .. }) => {
                return Vec::new();
            }
            (PromptKind::Filter, Overlay::None) => match self.ui.list() {
                Some(id) => self.ui.lists.get(id).filter.clone(),
                None => return self.say("there is no list here to filter: the other views have one"),
            },
            (PromptKind::Command, _) => String::new(),
        };
        self.ui.overlay = Overlay::None;
        self.typing.recalled = None;
        self.set_line(kind, text);
        redraw()
    }

    /// Puts `text` into the line, the cursor behind it.
    fn set_line(&mut self, kind: PromptKind, text: String) {
        let cursor = text.chars().count();
        self.ui.prompt = Some(Prompt { kind, text, cursor, completions: Vec::new(), error: None });
        self.typing.walked = None;
        self.offer();
    }

    /// Shows what could stand at the cursor.
    fn offer(&mut self) {
        let completion = self.completion();
        if let Some(prompt) = &mut self.ui.prompt {
            prompt.completions = completion.candidates;
        }
    }

    fn completion(&self) -> Completion {
        match &self.ui.prompt {
            Some(Prompt { kind: PromptKind::Command, text, cursor, .. }) => {
                let typed: String = text.chars().take(*cursor).collect();
                command_line::complete(&typed, &self.scene())
            }
            Some(Prompt { kind: PromptKind::Filter, .. }) | None => Completion::default(),
        }
    }

    pub(super) fn typed(&mut self, key: KeyEvent) -> Vec<Effect> {
        if let Overlay::Help { scroll, filter, typing: true } = &mut self.ui.overlay {
            let cursor = filter.chars().count();
            let text = std::mem::take(filter);
            let mut line = Prompt { kind: PromptKind::Filter, text, cursor, completions: Vec::new(), error: None };
            edit(&mut line, key);
            (*scroll, *filter) = (0, line.text);
            return redraw();
        }
        let Some(prompt) = &mut self.ui.prompt else { return Vec::new() };
        prompt.error = None;
        let changed = edit(prompt, key);
        self.typing.walked = None;
        if changed {
            self.typing.recalled = None;
        }
        self.filter_by_line();
        self.offer();
        redraw()
    }

    /// Text goes into the line that is open, as one line. Nowhere else does it do anything: keys steer the run.
    pub(super) fn pasted(&mut self, text: &str) -> Vec<Effect> {
        if !self.is_typing() {
            return self.say("pasted text is no keys, and was not taken; `:` and `/` open a line for it");
        }
        for c in text.chars().map(|c| if c.is_whitespace() { ' ' } else { c }) {
            self.typed(KeyEvent::new(KeyCode::Char(c), KeyModifiers::NONE));
        }
        redraw()
    }

    /// A filter takes effect while it is typed.
    fn filter_by_line(&mut self) {
        if let (Some(Prompt { kind: PromptKind::Filter, text, .. }), Some(id)) = (&self.ui.prompt, self.ui.list()) {
            self.ui.lists.get_mut(id).filter.clone_from(text);
        }
    }

    /// Puts the next candidate into the line, or the one before.
    pub(super) fn complete(&mut self, back: bool) -> Vec<Effect> {
        let (completion, at) = if let Some((completion, at)) = self.typing.walked.take() {
            let count = completion.candidates.len();
            let at = if back { at + count - 1 } else { at + 1 } % count.max(1);
            (completion, at)
        } else {
            let completion = self.completion();
            let at = if back { completion.candidates.len().saturating_sub(1) } else { 0 };
            (completion, at)
        };
        let (Some(prompt), Some(candidate)) = (&mut self.ui.prompt, completion.candidates.get(at)) else {
            return Vec::new();
        };
        let is_only = completion.candidates.len() == 1;
        // A command that is complete goes on with a blank, and a setting with its value.
        let gap = if is_only && completion.start == 0 && command_line::goes_on(candidate) { " " } else { "" };
        let begin: String = prompt.text.chars().take(completion.start).collect();
        let rest: String = prompt.text.chars().skip(prompt.cursor).collect();
        prompt.text = format!("{begin}{candidate}{gap}");
        prompt.cursor = prompt.text.chars().count();
        prompt.text.push_str(&rest);
        prompt.error = None;
        if is_only {
            self.offer();
        } else {
            // The one that stands in the line comes first.
            prompt.completions.clone_from(&completion.candidates);
            prompt.completions.rotate_left(at);
            self.typing.walked = Some((completion, at));
        }
        redraw()
    }

    /// A newer command of the history, or an older one.
    pub(super) fn recall(&mut self, by: isize) -> Vec<Effect> {
        let Some(Prompt { kind: PromptKind::Command, text, .. }) = &self.ui.prompt else { return Vec::new() };
        let (at, typed) = self.typing.recalled.clone().unwrap_or_else(|| (0, text.clone()));
        // 0 is what had been typed, 1 the newest command.
        let at = at.saturating_add_signed(-by).min(self.typing.history.len());
        let line = match at {
            0 => typed.clone(),
            at => self.typing.history.iter().rev().nth(at - 1).cloned().unwrap_or_default(),
        };
        self.typing.recalled = (at > 0).then_some((at, typed));
        self.set_line(PromptKind::Command, line);
        redraw()
    }

    /// Takes the line as it is.
    pub(super) fn enter(&mut self) -> Vec<Effect> {
        if let Overlay::Help { typing, .. } = &mut self.ui.overlay {
            *typing = false;
            return redraw();
        }
        let Some(prompt) = &self.ui.prompt else { return Vec::new() };
        if prompt.kind == PromptKind::Filter {
            self.ui.prompt = None;
            return redraw();
        }
        let text = prompt.text.trim().to_owned();
        match command_line::parse(&text, &self.scene()) {
            Ok(orders) => {
                self.ui.prompt = None;
                self.remember(text);
                let mut effects = redraw();
                for order in orders {
                    effects.extend(self.carry_out(order));
                }
                effects
            }
            Err(error) => {
                if let Some(prompt) = &mut self.ui.prompt {
                    prompt.error = Some(error);
                    prompt.completions.clear();
                }
                redraw()
            }
        }
    }

    fn remember(&mut self, text: String) {
        self.typing.history.retain(|known| *known != text);
        if !text.is_empty() {
            self.typing.history.push_back(text);
        }
        while self.typing.history.len() > REMEMBERED {
            self.typing.history.pop_front();
        }
    }

    fn carry_out(&mut self, order: Order) -> Vec<Effect> {
        match order {
            Order::Do(action) => self.act(action),
            Order::Zoom(zoom) => {
                self.ui.zoom = zoom;
                redraw()
            }
            Order::Sort(sort) => self.sort_by(sort),
            Order::Filter(filter) => {
                if let Some(id) = self.ui.list() {
                    self.ui.lists.get_mut(id).filter = filter;
                }
                redraw()
            }
        }
    }

    /// Leaves the line; what it filtered is shown again.
    pub(super) fn leave_line(&mut self) -> Vec<Effect> {
        if let Overlay::Help { scroll, filter, typing } = &mut self.ui.overlay {
            (*scroll, *typing) = (0, false);
            filter.clear();
            return redraw();
        }
        if let (Some(Prompt { kind: PromptKind::Filter, .. }), Some(id)) = (&self.ui.prompt, self.ui.list()) {
            self.ui.lists.get_mut(id).filter.clear();
        }
        self.ui.prompt = None;
        redraw()
    }
}
