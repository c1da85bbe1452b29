//! Draws the picture of the console that README shows: `cargo bench --bench picture`.
//!
//! Runs `howdah demo` in a pseudo-terminal, waits until the backfill is past two thirds, and writes what the terminal shows
//! as `assets/console-dark.svg` and, from a second run with `--theme light`, `assets/console-light.svg`. A third run is a tour
//! through the views: `assets/console.cast`, for `asciinema play`.

#![allow(clippy::print_stdout, reason = "it says what it wrote")]
#![allow(clippy::expect_used, reason = "a picture that cannot be made stops")]

#[path = "lab/pty.rs"]
mod pty;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use pty::Pty;
use vt100::Color;

const HOWDAH: &str = env!("CARGO_BIN_EXE_howdah");
const COLUMNS: u16 = 120;
const ROWS: u16 = 34;
const CELL: (f64, f64) = (8.4, 17.0);
const MARGIN: f64 = 12.0;

struct Paper {
    theme: &'static str,
    ink: &'static str,
    ground: &'static str,
}

fn main() {
    for paper in [
        Paper { theme: "dark", ink: "#d4d7dd", ground: "#14171c" },
        Paper { theme: "light", ink: "#24292f", ground: "#ffffff" },
    ] {
        let screen = watch(paper.theme);
        let path = format!("{}/assets/console-{}.svg", env!("CARGO_MANIFEST_DIR"), paper.theme);
        std::fs::write(&path, svg(&screen, &paper)).expect("the picture");
        println!("wrote {path}");
    }
    let path = format!("{}/assets/console.cast", env!("CARGO_MANIFEST_DIR"));
    std::fs::write(&path, tour()).expect("the tour");
    println!("wrote {path}");
}

/// The terminal's screen when two thirds of the rows are done.
fn watch(theme: &str) -> vt100::Screen {
    let home = tempfile::tempdir().expect("a directory");
    let mut console = Pty::start(HOWDAH, &["demo", "--theme", theme], (COLUMNS, ROWS), home.path());
    let screen = until_done(&console, 66.0);
    leave(&mut console);
    screen
}

/// Waits until so many percent of the second step are done.
fn until_done(console: &Pty, percent: f64) -> vt100::Screen {
    let end = Instant::now() + Duration::from_mins(3);
    loop {
        let mut parser = vt100::Parser::new(ROWS, COLUMNS, 0);
        for (_, bytes) in console.written() {
            parser.process(&bytes);
        }
        let screen = parser.screen().clone();
        let done = screen.contents().split('%').next().and_then(|text| {
            text.rsplit(|c: char| !(c.is_ascii_digit() || c == '.'))
                .next()
                .and_then(|number| number.parse::<f64>().ok())
        });
        if screen.contents().contains("emails") && done.is_some_and(|done| (percent..100.0).contains(&done)) {
            return screen;
        }
        assert!(Instant::now() < end, "the demo did not get that far:\n{}", screen.contents());
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn leave(console: &mut Pty) {
    for _ in 0..2 {
        console.press("\x03");
        std::thread::sleep(Duration::from_millis(300));
    }
    console.child.wait().expect("a status");
}

/// A tour through the views of a real run, as an asciicast of version 2.
fn tour() -> String {
    let home = tempfile::tempdir().expect("a directory");
    let mut console = Pty::start(HOWDAH, &["demo", "--rows", "3000000"], (COLUMNS, ROWS), home.path());
    until_done(&console, 10.0);
    let began = console.began.elapsed();
    let rest = |ms| std::thread::sleep(Duration::from_millis(ms));
    rest(1500);
    for (keys, ms) in
        [("2", 2000), ("3", 2500), ("4", 3000), ("5", 1500), ("1", 500), ("c", 2500), ("z", 1500), ("c", 500)]
    {
        console.press(keys);
        rest(ms);
    }
    for letter in ":set workers=1".chars() {
        console.press(&letter.to_string());
        rest(70);
    }
    console.press("\r");
    rest(2500);
    console.press(" ");
    rest(2500);
    console.press(" ");
    rest(2500);
    let ended = console.began.elapsed();
    leave(&mut console);
    let header = serde_json::json!({
        "version": 2, "width": COLUMNS, "height": ROWS, "title": "howdah", "env": { "TERM": "xterm-256color" },
    });
    // What had been drawn before stands in the first frame.
    let mut lines = vec![header.to_string()];
    let mut held: Vec<u8> = Vec::new();
    for (at, bytes) in console.written().into_iter().filter(|(at, _)| *at <= ended) {
        held.extend_from_slice(&bytes);
        let whole = held.len() - unfinished(&held);
        let text = String::from_utf8_lossy(&held[..whole]).into_owned();
        held.drain(..whole);
        let seconds = (at.saturating_sub(began).as_secs_f64() * 1e3).round() / 1e3;
        lines.push(serde_json::json!([seconds, "o", text]).to_string());
    }
    lines.join("\n") + "\n"
}

/// Bytes at the end that begin a character and do not end it.
fn unfinished(bytes: &[u8]) -> usize {
    std::str::from_utf8(bytes).err().filter(|e| e.error_len().is_none()).map_or(0, |e| bytes.len() - e.valid_up_to())
}

fn svg(screen: &vt100::Screen, paper: &Paper) -> String {
    let (width, height) = (f64::from(COLUMNS) * CELL.0 + 2.0 * MARGIN, f64::from(ROWS) * CELL.1 + 2.0 * MARGIN);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
         height=\"{height:.0}\" font-family=\"ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace\" \
         font-size=\"14\">\n<rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"{}\"/>\n",
        paper.ground
    );
    for y in 0..ROWS {
        let mut x = 0;
        while x < COLUMNS {
            let run = run(screen, x, y);
            draw(&mut out, screen, (x, y), run, paper);
            x += run;
        }
    }
    out.push_str("</svg>\n");
    out
}

/// Cells from `x` on that look alike.
fn run(screen: &vt100::Screen, x: u16, y: u16) -> u16 {
    let look = |x: u16| {
        screen.cell(y, x).map(|cell| {
            (cell.fgcolor(), cell.bgcolor(), cell.bold(), cell.dim(), cell.inverse(), block(cell.contents()).is_some())
        })
    };
    let first = look(x);
    (x..COLUMNS).take_while(|x| look(*x) == first).count().try_into().unwrap_or(1)
}

fn draw(out: &mut String, screen: &vt100::Screen, (x, y): (u16, u16), cells: u16, paper: &Paper) {
    let Some(first) = screen.cell(y, x) else { return };
    let (left, top) = (MARGIN + f64::from(x) * CELL.0, MARGIN + f64::from(y) * CELL.1);
    let width = f64::from(cells) * CELL.0;
    let (mut ink, mut ground) = (colour(first.fgcolor(), paper.ink), colour(first.bgcolor(), paper.ground));
    if first.inverse() {
        std::mem::swap(&mut ink, &mut ground);
    }
    if ground != paper.ground {
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{:.1}\" fill=\"{ground}\"/>",
            CELL.1
        );
    }
    let opacity = if first.dim() { " opacity=\"0.62\"" } else { "" };
    if block(first.contents()).is_some() {
        for at in x..x + cells {
            let Some((part, wide, shade)) = screen.cell(y, at).and_then(|cell| block(cell.contents())) else {
                continue;
            };
            let left = MARGIN + f64::from(at) * CELL.0;
            let (w, h) = if wide { (CELL.0 * part, CELL.1 * 0.8) } else { (CELL.0, CELL.1 * part) };
            let above = if wide { CELL.1 * 0.1 } else { CELL.1 - h };
            let _ = writeln!(
                out,
                "<rect x=\"{left:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{h:.1}\" fill=\"{ink}\" opacity=\"{shade}\"/>",
                top + above,
                w + if (part - 1.0).abs() < 1e-9 { 0.3 } else { 0.0 }
            );
        }
        return;
    }
    let text: String = (x..x + cells)
        .map(|x| screen.cell(y, x).map_or(" ", |cell| if cell.contents().is_empty() { " " } else { cell.contents() }))
        .collect();
    if text.trim().is_empty() {
        return;
    }
    let weight = if first.bold() { " font-weight=\"bold\"" } else { "" };
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let _ = writeln!(
        out,
        "<text x=\"{left:.1}\" y=\"{:.1}\" textLength=\"{width:.1}\" lengthAdjust=\"spacingAndGlyphs\" fill=\"{ink}\"{weight}{opacity} xml:space=\"preserve\">{escaped}</text>",
        top + CELL.1 * 0.76
    );
}

/// A block character: the part of the cell that it fills, whether from the left (else from below), and how dark.
fn block(symbol: &str) -> Option<(f64, bool, f64)> {
    let c = symbol.chars().next()?;
    let eighths = |n: u32| f64::from(n) / 8.0;
    match c {
        '█' => Some((1.0, true, 1.0)),
        '░' => Some((1.0, true, 0.22)),
        '▉'..='▏' => Some((eighths(8 - (c as u32 - '█' as u32)), true, 1.0)),
        '▁'..='▇' => Some((eighths(c as u32 - '▀' as u32), false, 1.0)),
        _ => None,
    }
}

fn colour(colour: Color, default: &str) -> String {
    const SIXTEEN: [&str; 16] = [
        "#000000", "#c0392b", "#27ae60", "#c98a00", "#2f74c0", "#8e44ad", "#16a085", "#bdc3c7", "#7f8c8d", "#e74c3c",
        "#2ecc71", "#f1c40f", "#5dade2", "#bb8fce", "#48c9b0", "#ecf0f1",
    ];
    match colour {
        Color::Default => default.to_owned(),
        Color::Rgb(r, g, b) => format!("#{r:02x}{g:02x}{b:02x}"),
        Color::Idx(index @ 0..=15) => SIXTEEN[usize::from(index)].to_owned(),
        Color::Idx(index @ 16..=231) => {
            let level = |n: u8| if n == 0 { 0 } else { 55 + 40 * n };
            let n = index - 16;
            format!("#{:02x}{:02x}{:02x}", level(n / 36), level(n / 6 % 6), level(n % 6))
        }
        Color::Idx(index) => {
            let grey = 8 + 10 * (index - 232);
            format!("#{grey:02x}{grey:02x}{grey:02x}")
        }
    }
}
