//! Every example plan runs, on the table that the demo fills.

use std::time::Duration;

use howdah::sandbox::users;

use crate::support::Lab;

#[tokio::test(flavor = "multi_thread")]
async fn every_example_plan_runs_to_its_end() {
    let plans: Vec<_> = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/plans"))
        .expect("assets/plans")
        .map(|entry| entry.expect("a file").path())
        .collect();
    assert!(plans.len() >= 3, "{plans:?}");
    let lab = Lab::open().await;
    for plan in plans {
        lab.sql("DROP TABLE IF EXISTS users").await;
        users::fill(&lab.pool, 5000, |_| {}).await.expect("users");
        if plan.ends_with("import-users.toml") {
            users::into_files(&lab.pool, lab.files.path(), 3).await.expect("files");
        }
        for n in 1..=3 {
            let text = format!("{{\"enabled\":true,\"timeout\":{n},\"version\":1}}");
            std::fs::write(lab.files.path().join(format!("settings-{n}.json")), text).expect("a file");
        }
        let plan = plan.to_str().expect("a path");
        let files = lab.files.path().to_str().expect("a path");
        let howdah = |arguments: &[&str]| {
            let mut howdah = lab.howdah(arguments).env("USERS_DIR", files).env("FILES_DIR", files);
            howdah.command.current_dir(files);
            howdah
        };
        let checked = howdah(&["check", plan]).run();
        assert_eq!(checked.code(), Some(0), "{plan}: {}", checked.stderr());
        let ended = howdah(&["run", plan, "--headless"]).run();
        assert_eq!(ended.code(), Some(0), "{plan}: {}", ended.stderr());
    }
    let left = lab
        .number("SELECT count(*) FROM pg_class WHERE relname IN ('users_todo', 'users_unseen', 'users_credit', 'users_statuses')")
        .await;
    assert_eq!(left, 0, "what a plan makes for itself it takes away");
    tokio::time::timeout(Duration::from_secs(5), lab.pool.close()).await.expect("closed");
}
