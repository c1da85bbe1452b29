//! Views, panes, lists, and the boxes that lie over them.

use ratatui::layout::Position;

use super::{App, redraw};
use crate::console::Leave;
use crate::console::action::Effect;
use crate::console::command_line::from_the_largest;
use crate::console::key_help;
use crate::console::listing;
use crate::console::ui::{List, ListId, Overlay, SegmentsPane, Ui, View};

/// The lines of a page. What the window holds is the view's to know.
const PAGE: isize = 10;
/// No more lines of a detail than these are ever scrolled away. The next frame says how many there are to scroll.
const MAX_DETAIL: usize = 10_000;

/// The rows that the open list had last, so that the neighbours of one that vanishes are known.
#[derive(Debug, Default)]
pub(super) struct Rows {
    list: Option<ListId>,
    keys: Vec<String>,
}

impl App {
    pub(super) fn goto(&mut self, view: View) -> Vec<Effect> {
        self.ui.view = view;
        self.ui.overlay = Overlay::None;
        self.ui.prompt = None;
        redraw()
    }

    /// The pane so many further to the right, around.
    pub(super) fn next_pane(&mut self, by: isize) -> Vec<Effect> {
        if self.ui.view != View::Segments {
            return Vec::new();
        }
        self.ui.pane = stepped(&SegmentsPane::ALL, self.ui.pane, by);
        redraw()
    }

    pub(super) fn charts(&mut self) -> Vec<Effect> {
        self.ui.charts = self.ui.view != View::Overview || !self.ui.charts;
        self.goto(View::Overview)
    }

    fn list_mut(&mut self) -> Option<(ListId, &mut List)> {
        let id = self.ui.list()?;
        Some((id, self.ui.lists.get_mut(id)))
    }

    /// By the next column; behind the last one in the list's own order again.
    pub(super) fn sort(&mut self) -> Vec<Effect> {
        let Some((id, list)) = self.list_mut() else { return Vec::new() };
        let next = list.sort.map_or(0, |(column, _)| column + 1);
        list.sort = listing::columns(id).get(next).map(|heading| (next, from_the_largest(heading)));
        self.say_order()
    }

    pub(super) fn reverse_sort(&mut self) -> Vec<Effect> {
        match self.list_mut() {
            Some((_, list)) if list.sort.is_some() => {
                list.sort = list.sort.map(|(column, descending)| (column, !descending));
                self.say_order()
            }
            Some(_) => self.say("the list is in its own order: sort it by a column first"),
            None => Vec::new(),
        }
    }

    pub(super) fn sort_by(&mut self, sort: Option<(usize, bool)>) -> Vec<Effect> {
        match self.list_mut() {
            Some((_, list)) => {
                list.sort = sort;
                self.say_order()
            }
            None => Vec::new(),
        }
    }

    fn say_order(&mut self) -> Vec<Effect> {
        let Some((id, list)) = self.list_mut() else { return redraw() };
        let columns = listing::columns(id);
        let text = match list.sort.and_then(|(column, descending)| Some((columns.get(column)?, descending))) {
            Some((column, true)) => format!("sorted by {column}, from the largest"),
            Some((column, false)) => format!("sorted by {column}"),
            None if columns.is_empty() => "this list has one order only".to_owned(),
            None => "in the list's own order".to_owned(),
        };
        self.say(text)
    }

    pub(super) fn level(&mut self) -> Vec<Effect> {
        match self.list_mut() {
            Some((ListId::Events | ListId::Log, list)) => {
                list.level = (list.level + 1) % 3;
                let words = ["every level", "warnings and worse", "only what is critical"];
                let text = words[usize::from(list.level) % words.len()];
                self.say(text)
            }
            Some(_) | None => Vec::new(),
        }
    }

    /// One line or choice further.
    pub(super) fn step(&mut self, by: isize) -> Vec<Effect> {
        if self.ui.prompt.is_some() {
            return self.recall(by);
        }
        match &mut self.ui.overlay {
            Overlay::Quit { selected } => {
                *selected = selected.step(by);
                redraw()
            }
            Overlay::Confirm(question) => {
                question.yes = by < 0;
                redraw()
            }
            Overlay::Help { .. } | Overlay::Detail { .. } | Overlay::None => self.walk(by),
        }
    }

    /// One page further.
    pub(super) fn page(&mut self, by: isize) -> Vec<Effect> {
        self.walk(by * PAGE)
    }

    /// To the first line, or to the last one.
    pub(super) fn go_to_end(&mut self, last: bool) -> Vec<Effect> {
        match self.ui.overlay {
            Overlay::Quit { .. } | Overlay::Confirm(_) => self.step(if last { 1 } else { -1 }),
            Overlay::Help { .. } | Overlay::Detail { .. } | Overlay::None => {
                self.walk(if last { isize::MAX } else { isize::MIN })
            }
        }
    }

    /// So many lines further.
    fn walk(&mut self, by: isize) -> Vec<Effect> {
        let most = match &self.ui.overlay {
            Overlay::Help { .. } => key_help::height(&self.ui).saturating_sub(1),
            Overlay::Detail { .. } => MAX_DETAIL,
            Overlay::None => return self.select(by),
            Overlay::Quit { .. } | Overlay::Confirm(_) => return Vec::new(),
        };
        if let Overlay::Help { scroll, .. } | Overlay::Detail { scroll } = &mut self.ui.overlay {
            *scroll = (*scroll).min(most).saturating_add_signed(by).min(most);
        }
        redraw()
    }

    /// Moves the selection. Without one a list shows its first rows, so the first is next; a log shows its last ones, so
    /// the last is before, and whoever goes on behind that follows the log again.
    fn select(&mut self, by: isize) -> Vec<Effect> {
        let Some(id) = self.ui.list() else { return Vec::new() };
        let keys = listing::keys(id, &self.scene());
        let follows = id == ListId::Log;
        let list = self.ui.lists.get_mut(id);
        let at = list.selected.as_ref().and_then(|selected| keys.iter().position(|key| key == selected));
        let to = match at {
            Some(at) => at.saturating_add_signed(by),
            None if follows => keys.len().saturating_add_signed(by),
            // From before the first row.
            None => 0_usize.saturating_add_signed(by.saturating_sub(1)),
        };
        list.selected = if follows && to >= keys.len() { None } else { keys.get(to).or(keys.last()).cloned() };
        redraw()
    }

    /// Selects the row that was clicked at, and its pane.
    pub(super) fn click(&mut self, x: u16, y: u16) -> Vec<Effect> {
        if self.ui.overlay != Overlay::None || self.ui.prompt.is_some() {
            return Vec::new();
        }
        let at = Position::new(x, y);
        let Some((_, key)) = self.seen.rows.iter().find(|(place, _)| place.contains(at)) else { return Vec::new() };
        let key = key.clone();
        // Only the segments have more than one list.
        let panes = if self.ui.view == View::Segments { &SegmentsPane::ALL[..] } else { &[self.ui.pane] };
        for pane in panes {
            let ui = Ui { pane: *pane, ..self.ui.clone() };
            let Some(id) = ui.list() else { continue };
            if listing::keys(id, &self.scene()).contains(&key) {
                self.ui.pane = *pane;
                self.ui.lists.get_mut(id).selected = Some(key);
                return redraw();
            }
        }
        Vec::new()
    }

    /// Whether there is a row whose detail can be shown: the selected one, or else the first one, of a log the last one.
    fn row_for_detail(&mut self) -> bool {
        let Some(id) = self.ui.list() else { return false };
        let keys = listing::keys(id, &self.scene());
        let list = self.ui.lists.get_mut(id);
        if !list.selected.as_ref().is_some_and(|selected| keys.contains(selected)) {
            list.selected = if id == ListId::Log { keys.last() } else { keys.first() }.cloned();
        }
        list.selected.is_some()
    }

    /// A selected row that vanishes passes the selection on to its neighbour, the one below first. A box that showed it is
    /// closed: it must not speak of another row all of a sudden.
    pub(super) fn keep_selection(&mut self) {
        let Some(id) = self.ui.list() else {
            self.rows = Rows::default();
            return;
        };
        let keys = listing::keys(id, &self.scene());
        // Nothing at all is a reading that failed, or a filter that nobody means to keep: what was selected comes back.
        if keys.is_empty() {
            return;
        }
        let before = std::mem::replace(&mut self.rows, Rows { list: Some(id), keys });
        let keys = &self.rows.keys;
        let list = self.ui.lists.get_mut(id);
        let Some(selected) = &list.selected else { return };
        if keys.contains(selected) {
            return;
        }
        let neighbour = (before.list == Some(id)).then(|| neighbour(&before.keys, selected, keys)).flatten();
        list.selected = neighbour;
        if matches!(self.ui.overlay, Overlay::Detail { .. }) {
            self.ui.overlay = Overlay::None;
        }
    }

    pub(super) fn confirm(&mut self) -> Vec<Effect> {
        if self.is_typing() {
            return self.enter();
        }
        match &self.ui.overlay {
            Overlay::Help { .. } | Overlay::Detail { .. } => self.close(),
            Overlay::Quit { selected } => self.leave_by(*selected),
            Overlay::Confirm(question) => self.answer(question.yes),
            Overlay::None if self.ui.view == View::Overview => self.leave_if_over(),
            Overlay::None => {
                if self.row_for_detail() {
                    self.ui.overlay = Overlay::Detail { scroll: 0 };
                }
                redraw()
            }
        }
    }

    pub(super) fn dismiss(&mut self) -> Vec<Effect> {
        if self.is_typing() {
            return self.leave_line();
        }
        match &mut self.ui.overlay {
            Overlay::Help { scroll, filter, .. } if !filter.is_empty() => {
                *scroll = 0;
                filter.clear();
                redraw()
            }
            Overlay::Help { .. } | Overlay::Quit { .. } | Overlay::Confirm(_) | Overlay::Detail { .. } => self.close(),
            Overlay::None => match self.list_mut() {
                None => self.leave_if_over(),
                Some((_, list)) => {
                    if list.filter.is_empty() {
                        list.selected = None;
                    } else {
                        list.filter.clear();
                    }
                    redraw()
                }
            },
        }
    }

    fn leave_if_over(&self) -> Vec<Effect> {
        if self.is_over() { vec![Effect::Leave(Leave::Over)] } else { Vec::new() }
    }

    pub(super) fn help(&mut self) -> Vec<Effect> {
        self.ui.prompt = None;
        self.ui.overlay = match self.ui.overlay {
            Overlay::None | Overlay::Quit { .. } | Overlay::Confirm(_) | Overlay::Detail { .. } => {
                Overlay::Help { scroll: 0, filter: String::new(), typing: false }
            }
            Overlay::Help { .. } => Overlay::None,
        };
        redraw()
    }

    pub(super) fn close(&mut self) -> Vec<Effect> {
        self.ui.overlay = Overlay::None;
        redraw()
    }
}

/// The row of `before` nearest to `gone` that is still in `now`, the rows below first.
fn neighbour(before: &[String], gone: &str, now: &[String]) -> Option<String> {
    let at = before.iter().position(|key| key == gone)?;
    let (above, below) = before.split_at(at);
    below.iter().chain(above.iter().rev()).find(|key| now.contains(key)).cloned()
}

/// The element so many further on, around.
pub(in crate::console) fn stepped<T: Copy + PartialEq>(all: &[T], from: T, by: isize) -> T {
    let at = all.iter().position(|one| *one == from).unwrap_or(0);
    let to = (at.cast_signed() + by).rem_euclid(all.len().cast_signed().max(1)).cast_unsigned();
    all.get(to).copied().unwrap_or(from)
}
