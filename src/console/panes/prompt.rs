//! The line that is being typed, in the last row: its text with a cursor, what is wrong with it, what could stand next.

use ratatui::layout::Rect;
use ratatui::style::Modifier;
use ratatui::text::{Line, Span};

use super::super::canvas::Canvas;
use super::super::measure::width;
use super::super::theme::Role;
use super::super::ui::{Prompt, PromptKind};
use crate::run::text::clean;

pub(crate) fn render(canvas: &mut Canvas<'_>, area: Rect, prompt: &Prompt) {
    let sign = match prompt.kind {
        PromptKind::Command => ":",
        PromptKind::Filter => "/",
    };
    let mut line = Line::from(canvas.span(Role::Key, sign));
    // What is wrong has at least half of the row; the text is shown from where its cursor can be seen.
    let room = usize::from(area.width).saturating_sub(2);
    let beside = beside(canvas, prompt);
    let room =
        if beside.is_empty() { room } else { room.min(room.saturating_sub(beside_width(&beside)).max(room / 2)) };
    line.extend(typed(canvas, &prompt.text, prompt.cursor, room));
    if !beside.is_empty() {
        line.push_span(canvas.span(Role::Text, "  "));
        line.extend(beside);
    }
    canvas.line(area, 0, &line);
}

/// Text with a cursor at the character `cursor`: a cell in reverse, which needs no colour.
pub(super) fn typed(canvas: &Canvas<'_>, text: &str, cursor: usize, room: usize) -> Vec<Span<'static>> {
    let text = clean(text);
    let before: String = text.chars().take(cursor).collect();
    let mut rest = text.chars().skip(cursor);
    let under = rest.next().map_or_else(|| " ".to_owned(), String::from);
    let mut from = 0;
    while width(&before[from..]) + width(&under) > room {
        match before[from..].chars().next() {
            Some(c) => from += c.len_utf8(),
            None => break,
        }
    }
    let style = canvas.theme().style(Role::Text);
    vec![
        Span::styled(before[from..].to_owned(), style),
        Span::styled(under, style.add_modifier(Modifier::REVERSED)),
        Span::styled(rest.collect::<String>(), style),
    ]
}

fn beside(canvas: &Canvas<'_>, prompt: &Prompt) -> Vec<Span<'static>> {
    if let Some(error) = &prompt.error {
        return vec![canvas.span(Role::Warning, clean(error).into_owned())];
    }
    let mut spans = Vec::new();
    for (index, candidate) in prompt.completions.iter().enumerate() {
        let role = if index == 0 { Role::Key } else { Role::Dim };
        spans.push(canvas.span(role, format!("{}  ", clean(candidate))));
    }
    spans
}

fn beside_width(spans: &[Span<'_>]) -> usize {
    spans.iter().map(Span::width).sum::<usize>() + 2
}
