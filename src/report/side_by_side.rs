//! Two runs side by side, as one HTML page.

use maud::{Markup, PreEscaped, html};

use super::chart::Undrawn;
use super::compare::{Comparison, Group};
use super::html::tone;
use super::page::{number, page, table};
use crate::run::dossier::Dossier;
use crate::run::text::clean;

impl Comparison {
    /// The comparison as a page.
    ///
    /// # Errors
    /// A chart cannot be drawn.
    pub fn html(&self) -> Result<String, Undrawn> {
        let (first, second) = (&self.first, &self.second);
        let svg = self.svg()?;
        let body = html! {
            header {
                h1 { (clean(&second.report.plan)) " against " (clean(&first.report.plan)) }
                p { (run(second)) " held against " (run(first)) }
            }
            section aria-labelledby="course" {
                h2 id="course" { "Throughput" }
                figure { (PreEscaped(svg)) }
            }
            @for group in &self.groups { (self.group(group)) }
        };
        let title = format!("{} against {}", second.report.run, first.report.run);
        let foot = format!(
            "howdah {} · a ratio is the second run's value by the first one's; below 1 a time is shorter",
            env!("CARGO_PKG_VERSION")
        );
        Ok(page(&title, &body, &foot))
    }

    fn group(&self, group: &Group) -> Markup {
        let rows = html! {
            @for measure in &group.measures {
                @let [first, second, ratio] = measure.told();
                tr {
                    th scope="row" { (clean(&measure.what)) }
                    (number(&first)) (number(&second)) (number(&ratio))
                }
            }
        };
        let names = [&self.first, &self.second].map(|dossier| clean(&dossier.report.run).into_owned());
        let headings = [("", false), (names[0].as_str(), true), (names[1].as_str(), true), ("ratio", true)];
        let title =
            group.step.as_deref().map_or_else(|| "The whole run".to_owned(), |step| format!("Step {}", clean(step)));
        html! {
            section {
                h2 { (title) }
                @if group.measures.is_empty() { p class="dim" { "Nothing was measured." } }
                @else { (table("", &headings, &rows, None)) }
            }
        }
    }
}

fn run(dossier: &Dossier) -> Markup {
    let (glyph, tone) = tone(&dossier.state);
    let began = dossier.report.started_at.map(|at| at.format("%Y-%m-%d %H:%M UTC").to_string()).unwrap_or_default();
    html! {
        span class=(format!("badge {tone}")) { (glyph) " " (clean(&dossier.report.run)) " " (dossier.state) }
        span class="dim" { "of " (began) }
    }
}
