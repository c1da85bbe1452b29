//! Files through programs: each replaced exactly once, whatever dies and whenever, and put back as it was.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use howdah::engine::failpoint;
use nix::libc::SIGKILL;

use crate::support::{Dice, Howdah, Lab};

/// howdah, started where the files are.
fn howdah(lab: &Lab, arguments: &[&str]) -> Howdah {
    let mut howdah = lab.howdah(arguments);
    howdah.command.current_dir(lab.files.path());
    howdah
}

/// A plan that gives files to a program.
fn plan(lab: &Lab, step: &str) -> String {
    let text = format!("name = \"files\"\n[limits]\nworkers = 4\n[[step]]\nname = \"files\"\n{step}\n");
    lab.plan("plan.toml", &text).to_str().expect("a path").to_owned()
}

fn write(lab: &Lab, name: &str, bytes: &[u8]) -> PathBuf {
    let path = lab.files.path().join(name);
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
    std::fs::write(&path, bytes).expect("a file");
    path
}

fn read(lab: &Lab, name: &str) -> String {
    String::from_utf8_lossy(&std::fs::read(lab.files.path().join(name)).expect(name)).into_owned()
}

/// Some hundred files in two directories, all different.
fn many(lab: &Lab, files: u32) -> BTreeMap<PathBuf, String> {
    let file = |n| {
        let text = format!("file {n}\n").repeat(1 + n as usize % 40);
        (write(lab, &format!("d{}/{n:04}.txt", n % 2), text.as_bytes()), text)
    };
    (0..files).map(file).collect()
}

/// Nothing lies beside the files that is not theirs.
fn expect_clean(directory: &Path) {
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
        assert!(!name.contains(".howdah-"), "{name} is left in {}", directory.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_go_through_scripts_and_programs_whole_and_line_by_line() {
    let lab = Lab::open().await;
    let table = [
        ("rhai = 'text.to_upper()'", "a\nb", "A\nB"),
        ("rhai = 'line + \"!\"'\nby = 'line'", "a\r\nb\n\nc", "a!\r\nb!\n!\nc!"),
        ("rhai = 'if line == \"b\" { () } else { line }'\nby = 'line'", "a\nb\nc\n", "a\nc\n"),
        ("command = ['tr', 'a-z', 'A-Z']", "a\nb", "A\nB"),
        ("command = ['sed', 's/$/!/']\nby = 'line'", "a\nb\n", "a!\nb!\n"),
    ];
    for (step, before, after) in table {
        let path = write(&lab, "in/a.txt", before.as_bytes());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o4741)).expect("permissions");
        let plan = plan(&lab, &format!("files = 'in/*.txt'\n{step}"));
        howdah(&lab, &["run", &plan, "--new", "--headless"])
            .run()
            .expect_code(0)
            .expect_words(&["1 of 1 file replaced"]);
        assert_eq!(read(&lab, "in/a.txt"), after, "{step}");
        let mode = path.metadata().expect("a file").mode() & 0o7777;
        assert_eq!(mode, 0o4741, "{step}");
    }
    let rows = lab.text("SELECT string_agg(DISTINCT state, ',') FROM howdah.file").await;
    assert_eq!(rows, "replaced");
    expect_clean(&lab.files.path().join("in"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_comes_out_as_it_was_is_not_touched_and_one_that_cannot_be_read_is_set_aside() {
    let lab = Lab::open().await;
    let same = write(&lab, "in/same.txt", b"same\n");
    write(&lab, "in/new.txt", b"old\n");
    write(&lab, "in/binary.txt", b"\xff\xfe\x00old");
    write(&lab, "in/wrong.txt", b"wrong\n");
    std::os::unix::fs::symlink(&same, lab.files.path().join("in/link.txt")).expect("a link");
    let before = same.metadata().expect("a file");
    let script = "if text.contains(\"wrong\") { throw \"no good\" } text.replace(\"old\", \"new\"); text";
    let plan = plan(&lab, &format!("files = 'in/*.txt'\nrhai = '{script}'"));
    let said = howdah(&lab, &["run", &plan, "--headless"]).run().expect_code(4);
    let said =
        said.expect_words(&["1 of 4 files replaced, 2 set aside", "link.txt is left out: it is a symbolic link"]);
    drop(said);
    let after = same.metadata().expect("a file");
    assert_eq!((before.ino(), before.mtime_nsec()), (after.ino(), after.mtime_nsec()));
    assert_eq!(read(&lab, "in/new.txt"), "new\n");
    assert_eq!(std::fs::read(lab.files.path().join("in/binary.txt")).expect("a file"), b"\xff\xfe\x00old");
    let aside =
        lab.text("SELECT string_agg(key[1] || ': ' || message, '; ' ORDER BY key) FROM howdah.quarantine").await;
    assert!(
        aside.contains("in/binary.txt: it is not UTF-8")
            && aside.contains("in/wrong.txt: ")
            && aside.contains("no good"),
        "{aside}"
    );
    howdah(&lab, &["quarantine", "list"]).run().expect_code(0).expect_words(&["in/wrong.txt"]);
    expect_clean(&lab.files.path().join("in"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_fails_or_is_silent_leaves_the_file_and_knows_no_password() {
    let lab = Lab::open().await;
    for name in ["a", "bad", "mute"] {
        write(&lab, &format!("in/{name}.txt"), format!("{name}\n").as_bytes());
    }
    let script = "read x; case $x in bad) echo broken >&2; exit 3;; mute) sleep 60;; esac; env | grep -c -e ^PG -e ^DATABASE_URL; true";
    let step = format!("files = 'in/*.txt'\ncommand = ['sh', '-c', '{script}']\ntimeout = '1s'");
    let run = howdah(&lab, &["run", &plan(&lab, &step), "--headless"]).env("PGPASSWORD", "hunter2").run();
    let _ = run.expect_code(4);
    assert_eq!((read(&lab, "in/a.txt"), read(&lab, "in/bad.txt")), ("0\n".to_owned(), "bad\n".to_owned()));
    let aside = lab.text("SELECT string_agg(message, '; ' ORDER BY key) FROM howdah.quarantine").await;
    assert!(aside.contains("exit status: 3 and said: broken") && aside.contains("was silent for"), "{aside}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_cannot_work_is_refused_before_a_run_begins() {
    let lab = Lab::open().await;
    write(&lab, "in/a.txt", b"a");
    let table = [
        ("files = 'in/*.xml'\nrhai = 'text'", "no file fits `in/*.xml`"),
        ("files = 'in'\nrhai = 'text'", "in is a directory"),
        ("files = 'in/*.txt'\nrhai = 'text +'", "the script"),
        ("files = 'in/*.txt'\nrhai = 'line'", "the script"),
        ("files = 'in/*.txt'\nrhai = 'no.rhai'", "the script no.rhai cannot be read"),
        ("files = 'in/*.txt'\ncommand = ['no-such-program']", "there is no program `no-such-program`"),
    ];
    for (step, words) in table {
        let plan = plan(&lab, step);
        howdah(&lab, &["run", &plan, "--headless"]).run().expect_code(2).expect_words(&[words, "plan.toml"]);
    }
    assert_eq!(lab.runs("true").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pattern_goes_through_no_link_to_a_directory_and_says_so() {
    let lab = Lab::open().await;
    write(&lab, "in/sub/a.txt", b"a\n");
    write(&lab, "elsewhere/b.txt", b"b\n");
    let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, lab.files.path().join(name)).expect("a link");
    link("../elsewhere", "in/link");
    // Ways that lead back up have no end.
    link(".", "in/loop");
    link("..", "in/sub/up");
    let plan = plan(&lab, "files = 'in/**/*.txt'\nrhai = 'text + \"more\\n\"'");
    let said = howdah(&lab, &["run", &plan, "--headless"]).run().expect_code(0);
    let _ = said.expect_words(&["1 of 1 file replaced", "in/link is left out: it is a symbolic link to a directory"]);
    assert_eq!((read(&lab, "in/sub/a.txt"), read(&lab, "elsewhere/b.txt")), ("a\nmore\n".into(), "b\n".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_small_files_take_seconds() {
    let lab = Lab::open().await;
    let files = many(&lab, 2_000);
    let begun = std::time::Instant::now();
    let run = howdah(&lab, &["run", &plan(&lab, APPEND), "--headless"]).run().expect_code(0);
    let _ = run.expect_words(&["2,000 of 2,000 files replaced"]);
    // About two seconds where nothing else runs.
    assert!(begun.elapsed() < Duration::from_mins(1), "{:?}", begun.elapsed());
    assert_eq!(std::fs::read_dir(lab.files.path().join("d0")).expect("a directory").count() * 2, files.len());
}

const APPEND: &str = "files = 'd*/**/*.txt'\nbackup = true\nrhai = 'text + \"more\\n\"'";

/// Kills howdah `kills` times at random instants, resumes it each time, and returns how often the work was done in all.
async fn killed(lab: &Lab, begin: &[&str], kills: u32, longest: u64) -> u64 {
    let mut dice = Dice::of_test(20_261_126);
    let (mut killed, mut fresh, before) = (0, true, lab.runs("state = 'done'").await);
    while killed < kills {
        let arguments: &[&str] = if fresh { begin } else { &["resume", "--headless"] };
        let mut running = howdah(lab, arguments).start();
        // The instant of the kill is the point of these tests.
        std::thread::sleep(Duration::from_millis(20 + dice.below(longest)));
        running.kill_hard();
        let ended = running.wait();
        match (ended.signal(), ended.code()) {
            (Some(SIGKILL), _) => {
                killed += 1;
                lab.until_undriven().await;
                fresh = lab.unfinished().await == 0;
            }
            (_, Some(0)) => fresh = true,
            other => panic!("after {killed} kills: {other:?}\n{}", ended.stderr()),
        }
    }
    if lab.unfinished().await > 0 {
        howdah(lab, &["resume", "--headless"]).run().expect_code(0);
    }
    u64::try_from(lab.runs("state = 'done'").await - before).expect("runs")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_killed_thirty_times_at_random_instants_changes_each_file_once() {
    let lab = Lab::open().await;
    let files = many(&lab, 400);
    let plan = plan(&lab, APPEND);
    let done = killed(&lab, &["run", &plan, "--headless"], 30, 250).await;
    assert!(done >= 1);
    let more = "more\n".repeat(usize::try_from(done).expect("a few"));
    for (path, text) in &files {
        assert_eq!(std::fs::read_to_string(path).expect("a file"), format!("{text}{more}"), "{}", path.display());
    }
    for directory in ["d0", "d1"] {
        expect_clean(&lab.files.path().join(directory));
    }
    let sums = lab.text("SELECT format('%s %s', sum(rows_walked), sum(rows_changed)) FROM howdah.segment").await;
    assert_eq!(sums, format!("{0} {0}", 400 * done));
    let states = lab.text("SELECT format('%s %s', min(state), count(*)) FROM howdah.file").await;
    assert_eq!(states, format!("replaced {}", 400 * done));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_killed_at_any_failpoint_changes_each_file_once() {
    let lab = Lab::open().await;
    let plan = plan(&lab, APPEND);
    let batch = ["batch.begun", "batch.changed", "batch.recorded", "batch.committed", "sweep.planned", "step.counted"];
    for name in failpoint::FILES.iter().chain(&batch) {
        for occurrence in [1, 3] {
            if occurrence > 1 && ["sweep.planned", "step.counted"].contains(name) {
                continue;
            }
            let files = many(&lab, 30);
            let armed = format!("{name}=kill@{occurrence}");
            let run = howdah(&lab, &["run", &plan, "--new", "--headless"]).env("HOWDAH_FAILPOINTS", &armed).run();
            assert_eq!(run.signal(), Some(SIGKILL), "{armed} was not reached:\n{}", run.stderr());
            lab.until_undriven().await;
            howdah(&lab, &["resume", "--headless"]).run().expect_code(0).expect_words(&["30 of 30 files replaced"]);
            for (path, text) in &files {
                let now = std::fs::read_to_string(path).expect("a file");
                assert_eq!(now, format!("{text}more\n"), "{armed}: {}", path.display());
            }
            expect_clean(&lab.files.path().join("d0"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_somebody_changed_after_the_crash_is_not_overwritten() {
    let lab = Lab::open().await;
    write(&lab, "d/a.txt", b"a\n");
    write(&lab, "d/b.txt", b"b\n");
    let plan = plan(&lab, APPEND);
    let run = howdah(&lab, &["run", &plan, "--headless"]).env("HOWDAH_FAILPOINTS", "file.intended=kill@2").run();
    assert_eq!(run.signal(), Some(SIGKILL), "{}", run.stderr());
    lab.until_undriven().await;
    let path = lab.text("SELECT path FROM howdah.file WHERE state = 'intended' LIMIT 1").await;
    std::fs::write(&path, "mine\n").expect("written");
    howdah(&lab, &["resume", "--headless"]).run().expect_code(4).expect_words(&["1 set aside"]);
    assert_eq!(std::fs::read_to_string(&path).expect("a file"), "mine\n");
    assert_eq!(lab.number("SELECT count(*) FROM howdah.file WHERE state = 'kept'").await, 1);
    // A file that came in meanwhile, and a run that began elsewhere, are told apart.
    let run = howdah(&lab, &["run", &plan, "--new", "--headless"]).env("HOWDAH_FAILPOINTS", "sweep.planned=kill").run();
    assert_eq!(run.signal(), Some(SIGKILL));
    lab.until_undriven().await;
    write(&lab, "d/c.txt", b"c\n");
    howdah(&lab, &["resume", "--headless"]).run().expect_code(1).expect_words(&["3 now, 2 then"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undo_puts_the_originals_back_and_keeps_what_somebody_has_changed_since() {
    let lab = Lab::open().await;
    let files = many(&lab, 40);
    let first = files.keys().next().expect("a file");
    std::fs::set_permissions(first, std::fs::Permissions::from_mode(0o640)).expect("permissions");
    let was: BTreeMap<_, _> = files.keys().map(|path| (path, path.metadata().expect("a file"))).collect();
    let plan = plan(&lab, APPEND);
    howdah(&lab, &["run", &plan, "--headless"]).run().expect_code(0).expect_words(&["40 of 40 files replaced"]);
    let mine = files.keys().nth(7).expect("a file");
    std::fs::write(mine, "mine\n").expect("written");
    // From anywhere: the ledger has absolute paths.
    let run = lab.howdah(&["undo", "--yes", "--headless"]).run().expect_code(4);
    let _ = run.expect_words(&["39 files restored, 1 kept: changed by somebody since"]);
    for (path, text) in &files {
        let now = std::fs::read_to_string(path).expect("a file");
        if path == mine {
            assert_eq!(now, "mine\n");
            continue;
        }
        let (about, then) = (path.metadata().expect("a file"), &was[path]);
        assert_eq!(&now, text, "{}", path.display());
        assert_eq!((about.mode(), about.mtime_nsec()), (then.mode(), then.mtime_nsec()), "{}", path.display());
    }
    let states = lab.text("SELECT string_agg(s, ' ' ORDER BY s) FROM (SELECT state || count(*) AS s FROM howdah.file GROUP BY state) x").await;
    assert_eq!(states, "kept1 replaced40 restored39");
    howdah(&lab, &["undo", "--yes"]).run().expect_code(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undo_that_is_killed_goes_on_and_one_without_originals_is_refused() {
    let lab = Lab::open().await;
    let bare = plan(&lab, &APPEND.replace("true", "false"));
    let files = many(&lab, 20);
    howdah(&lab, &["run", &bare, "--headless"]).run().expect_code(0);
    howdah(&lab, &["undo", "--yes", "--headless"])
        .run()
        .expect_code(2)
        .expect_words(&["it kept no originals", "backup"]);
    for path in files.keys() {
        std::fs::remove_file(path).expect("removed");
    }
    let kept = plan(&lab, APPEND);
    for name in failpoint::FILES.iter().chain(&["batch.changed", "batch.recorded", "batch.committed"]) {
        let files = many(&lab, 30);
        howdah(&lab, &["run", &kept, "--new", "--headless"]).run().expect_code(0);
        let armed = format!("{name}=kill@2");
        let run = howdah(&lab, &["undo", "--yes", "--headless"]).env("HOWDAH_FAILPOINTS", &armed).run();
        assert_eq!(run.signal(), Some(SIGKILL), "{armed}:\n{}", run.stderr());
        lab.until_undriven().await;
        howdah(&lab, &["resume", "--headless"]).run().expect_code(0).expect_words(&["30 files restored"]);
        for (path, text) in &files {
            assert_eq!(&std::fs::read_to_string(path).expect("a file"), text, "{armed}: {}", path.display());
        }
    }
    // At random instants as well.
    let files = many(&lab, 300);
    howdah(&lab, &["run", &kept, "--new", "--headless"]).run().expect_code(0);
    let mut dice = Dice::of_test(20_261_127);
    let mut running = howdah(&lab, &["undo", "--yes", "--headless"]).start();
    for _ in 0..8 {
        std::thread::sleep(Duration::from_millis(20 + dice.below(150)));
        running.kill_hard();
        drop(running);
        lab.until_undriven().await;
        if lab.unfinished().await == 0 {
            running = howdah(&lab, &["status"]).start();
            break;
        }
        running = howdah(&lab, &["resume", "--headless"]).start();
    }
    let _ = running.wait().expect_code(0);
    if lab.runs("undoes IS NOT NULL AND state = 'done'").await < 8 {
        howdah(&lab, &["undo", "--yes", "--headless"]).run().expect_code(0);
    }
    for (path, text) in &files {
        assert_eq!(&std::fs::read_to_string(path).expect("a file"), text, "{}", path.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_set_aside_is_tried_again_once() {
    let lab = Lab::open().await;
    write(&lab, "d/a.txt", b"a\n");
    let bad = write(&lab, "d/b.txt", b"\xff\n");
    let plan = plan(&lab, APPEND);
    howdah(&lab, &["run", &plan, "--headless"]).run().expect_code(4);
    howdah(&lab, &["quarantine", "retry"]).run().expect_code(4).expect_words(&["path d/b.txt: it is not UTF-8"]);
    std::fs::write(&bad, "b\n").expect("written");
    for name in ["file.intended", "file.renamed", "retry.changed", "retry.recorded"] {
        let armed = format!("{name}=kill");
        let retry = howdah(&lab, &["quarantine", "retry"]).env("HOWDAH_FAILPOINTS", &armed).run();
        // Once it is replaced it is not again.
        let reached = retry.signal() == Some(SIGKILL) || !name.starts_with("retry");
        assert!(reached, "{armed}:\n{}", retry.stderr());
        lab.until_undriven().await;
    }
    howdah(&lab, &["quarantine", "retry"]).run();
    assert_eq!((read(&lab, "d/a.txt"), read(&lab, "d/b.txt")), ("a\nmore\n".to_owned(), "b\nmore\n".to_owned()));
    assert_eq!(lab.number("SELECT count(*) FROM howdah.quarantine WHERE resolved_at IS NULL").await, 0);
    howdah(&lab, &["undo", "--yes", "--headless"]).run().expect_code(0);
    assert_eq!((read(&lab, "d/a.txt"), read(&lab, "d/b.txt")), ("a\n".to_owned(), "b\n".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_shows_a_diff_of_the_first_files_and_changes_nothing() {
    let lab = Lab::open().await;
    for n in 0..9 {
        write(&lab, &format!("in/{n}.txt"), format!("head\n\x1b[31mred {n}\ntail").as_bytes());
    }
    write(&lab, "in/00.txt", b"\xff");
    let plan = plan(&lab, "files = 'in/*.txt'\nrhai = 'text.replace(\"red\", \"blue\"); text'");
    let said = howdah(&lab, &["run", &plan, "--dry-run"]).run().expect_code(0);
    let said = said.expect_words(&[
        "10 files",
        "--- in/0.txt",
        "-\u{fffd}[31mred 0",
        "+\u{fffd}[31mblue 0",
        "\\ No newline at end of file",
        "would be set aside: in/00.txt: it is not UTF-8",
        "tried on the first 4: 3 would change",
        "nothing was changed",
    ]);
    assert!(!said.stdout().contains('\x1b'), "{}", said.stdout());
    assert_eq!(read(&lab, "in/0.txt"), "head\n\x1b[31mred 0\ntail");
    assert_eq!(lab.runs("true").await, 0);
    expect_clean(&lab.files.path().join("in"));
}
