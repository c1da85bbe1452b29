//! A page that stands for itself: one HTML file without anything from a network, for screens of either ground and for paper.
//! It is well-formed as XML as well.

use maud::{Markup, PreEscaped, html};

use super::colour;
use crate::run::text::clean;

const STYLE: &str = include_str!("style.css");

/// What a browser may load for the page: nothing.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// The page: `title` is the tab's.
#[must_use]
pub fn page(title: &str, body: &Markup, foot: &str) -> String {
    let head = format!(
        "<!DOCTYPE html>\n<html lang=\"en\" xmlns=\"http://www.w3.org/1999/xhtml\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\"/>\n\
         <meta name=\"referrer\" content=\"no-referrer\"/>\n"
    );
    let markup = html! {
        title { (clean(title)) }
        style { (PreEscaped(STYLE)) (PreEscaped(colour::sheet())) }
    };
    let rest = html! {
        main { (body) }
        footer { (clean(foot)) }
    };
    format!("{head}{}\n</head>\n<body>\n{}\n</body>\n</html>\n", markup.into_string(), rest.into_string())
}

/// A table that scrolls by itself where the page is narrow. `headings`: the text, and whether the column holds numbers.
#[must_use]
pub fn table(caption: &str, headings: &[(&str, bool)], rows: &Markup, foot: Option<&Markup>) -> Markup {
    html! {
        div class="scroll" {
            table {
                caption { (caption) }
                thead {
                    tr {
                        @for (heading, is_number) in headings {
                            th scope="col" class=(if *is_number { "n" } else { "" }) { (heading) }
                        }
                    }
                }
                tbody { (rows) }
                @if let Some(foot) = foot { tfoot { (foot) } }
            }
        }
    }
}

/// A cell with a number.
#[must_use]
pub fn number(text: &str) -> Markup {
    html! { td class="n" { (text) } }
}

/// A cell with words from outside.
#[must_use]
pub fn words(text: &str) -> Markup {
    html! { td class="w" { (clean(text)) } }
}

/// A fact of a list: what, and how it is. Nothing where there is nothing to say.
#[must_use]
pub fn fact(what: &str, is: Option<&str>) -> Markup {
    html! {
        @if let Some(is) = is.filter(|is| !is.is_empty()) {
            dt { (what) }
            dd { (clean(is)) }
        }
    }
}

/// A number that stands out.
#[must_use]
pub fn card(is: &str, what: &str) -> Markup {
    html! { li { b { (is) } span { (what) } } }
}
