//! Colours and signs: `howdah theme`, and the console on terminals that show few of them.

use crate::screen::{PLAN, Screen};
use crate::support::{Lab, bare};

/// What `howdah theme` says with these arguments, and its exit code.
fn theme(home: &std::path::Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = bare(home).arg("theme").args(arguments).output().expect("howdah runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_swatch_is_plain_text_in_a_pipe_and_says_what_is_hard_to_see() {
    let home = tempfile::tempdir().expect("a directory");
    for name in ["dark", "light", "mono"] {
        let (code, swatch, _) = theme(home.path(), &[name]);
        assert_eq!(code, Some(0), "{name}");
        assert!(!swatch.contains('\u{1b}') && swatch.contains("critical") && swatch.contains("look now"), "{swatch}");
        assert!(!swatch.contains("hard to see"), "{swatch}");
    }
    let themes = home.path().join(".config/howdah/themes");
    std::fs::create_dir_all(&themes).expect("a directory");
    std::fs::write(themes.join("mine.toml"), "base = \"light\"\nwarning = { fg = \"#ffe0a0\" }\n").expect("a theme");
    let (_, list, _) = theme(home.path(), &["--list"]);
    assert!(list.starts_with("dark\nlight\nmono\n") && list.contains("themes/mine.toml"), "{list}");
    let (code, swatch, _) = theme(home.path(), &["mine"]);
    assert_eq!(code, Some(0));
    let line = swatch.lines().find(|line| line.starts_with("warning")).expect("a line");
    assert!(line.ends_with("look when you can (hard to see: it needs 4.5:1)"), "{line}");
    let (code, _, error) = theme(home.path(), &["solarized"]);
    assert_eq!(code, Some(2));
    assert!(error.contains("there is no theme `solarized`") && error.contains("hint: "), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_console_of_linux_gets_sixteen_colours_and_signs_that_its_font_has() {
    let lab = Lab::open().await;
    lab.items(2000).await;
    let plan = lab.plan("watched.toml", PLAN).display().to_string();
    // Both promise more than it has: the variables came from elsewhere.
    let mut screen = Screen::open(&lab, &["run", &plan], &[("TERM", "linux"), ("COLORTERM", "truecolor")]);
    for view in ["1", "2", "3", "4", "5", "6", "?"] {
        screen.press(view);
        let text = screen.until_shown("watched");
        let odd: String = text.chars().filter(|c| !c.is_ascii() && !"─│┌┐└┘├┤┬┴┼█▄░▒▓■·→←↑↓°±".contains(*c)).collect();
        assert!(odd.is_empty(), "view {view} shows {odd:?}:\n{text}");
    }
    let bytes = String::from_utf8_lossy(&screen.seen.lock().expect("seen").bytes).into_owned();
    assert!(!bytes.contains("38;2;") && !bytes.contains("38;5;"), "colours beyond the sixteen");
    assert!(bytes.contains(";96m") || bytes.contains("[96m"), "and the sixteen are used");
    screen.press("\u{1b}");
    screen.until_shown("DONE");
    screen.press("q");
    assert_eq!(screen.child.wait().expect("a status").exit_code(), 0);
}
