//! The colours of charts: by role. A style sheet gives each its shade on light and on dark ground.

use plotters::style::RGBColor;

/// Words and ends of axes.
pub const INK: RGBColor = RGBColor(0x1f, 0x29, 0x33);
/// Labels of ticks.
pub const DIM: RGBColor = RGBColor(0x5b, 0x67, 0x75);
/// Lines of the grid.
pub const GRID: RGBColor = RGBColor(0xdd, 0xe2, 0xe8);
/// The first series.
pub const FIRST: RGBColor = RGBColor(0x1f, 0x6f, 0xb2);
/// The second.
pub const SECOND: RGBColor = RGBColor(0xb8, 0x50, 0x14);
/// Spans in which the run stood still.
pub const PAUSE: RGBColor = RGBColor(0x8a, 0x8f, 0x98);
/// Spans in which batches waited.
pub const WAIT: RGBColor = RGBColor(0xd9, 0xa4, 0x00);
/// Alerts.
pub const ALERT: RGBColor = RGBColor(0xc6, 0x28, 0x28);
/// Ends of steps.
pub const STEP: RGBColor = RGBColor(0x7a, 0x4f, 0xb5);

/// Each role's shade on dark ground.
const ON_DARK: [(RGBColor, &str); 9] = [
    (INK, "#e6e9ed"),
    (DIM, "#a4aeba"),
    (GRID, "#2e3742"),
    (FIRST, "#6cb4f0"),
    (SECOND, "#f0a36c"),
    (PAUSE, "#9aa1ab"),
    (WAIT, "#e0b93a"),
    (ALERT, "#ff7b72"),
    (STEP, "#bd9df0"),
];

/// The style sheet that turns a chart's colours to those for dark ground, where the reader wants that.
#[must_use]
pub fn sheet() -> String {
    let mut rules = String::new();
    for (RGBColor(r, g, b), dark) in ON_DARK {
        let light = format!("#{r:02X}{g:02X}{b:02X}");
        for paint in ["fill", "stroke"] {
            rules.extend([format!("svg [{paint}=\"{light}\"]{{{paint}:{dark}}}")]);
        }
    }
    format!("@media screen and (prefers-color-scheme:dark){{{rules}}}")
}
