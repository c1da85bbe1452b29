//! An application that writes while a backfill runs: nothing of its own is lost, and every row that matches is changed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::postgres::PgConnection;
use tokio::task::JoinSet;

use crate::support::{Dice, Lab};

const ROWS: i64 = 120_000;
const SESSIONS: i64 = 4;

const PLAN: &str = r#"
name = "emails"
[limits]
workers = 4
batch = { start = 200, min = 50, max = 200, target = "500ms" }
[[step]]
name = "emails"
backfill = "users"
set = { email = "lower(email)", migrated_at = "now()", hits = "hits + 1" }
where = "migrated_at IS NULL"
"#;

/// What an application knows of one of its rows. Only one session writes to it, and howdah.
#[derive(Debug, Clone)]
struct Row {
    /// In the form in which it was last written.
    email: String,
    /// How often the application has counted up `seen`.
    seen: i32,
    /// Whether the application itself has written the new form.
    is_new_form: bool,
}

/// What one session has done, row by row. `None`: it has deleted it.
type Model = BTreeMap<i64, Option<Row>>;

/// Where the application stands.
#[derive(Default)]
struct Signals {
    /// It writes the new form only.
    deployed: AtomicBool,
    /// It ends.
    over: AtomicBool,
}

/// One session of the application, on every [`SESSIONS`]th row from `own` on, from 1. No statement of it may fail.
async fn work(mut session: PgConnection, own: i64, signals: Arc<Signals>, mut dice: Dice) -> Model {
    let mut model: Model = (1..=ROWS)
        .filter(|id| (id - own) % SESSIONS == 0)
        .map(|id| (id, Some(Row { email: format!("USER{id}@Example.com"), seen: 0, is_new_form: false })))
        .collect();
    let (mut next_below, mut next_above) = (own - SESSIONS * 10, own + SESSIONS * 10 + ROWS);
    let mut version = 0;
    while !signals.over.load(Ordering::SeqCst) {
        version += 1;
        let deployed = signals.deployed.load(Ordering::SeqCst);
        let drawn = i64::try_from(dice.below(u64::try_from(ROWS / SESSIONS).expect("positive"))).expect("a key");
        let id = drawn * SESSIONS + own;
        match dice.below(10) {
            // A new row, before all others or behind them; in the old form until the application knows better.
            0..=2 => {
                let id = if dice.below(2) == 0 { &mut next_below } else { &mut next_above };
                let email = if deployed { format!("new{id}@example.com") } else { format!("NEW{id}@Example.com") };
                sqlx::query("INSERT INTO users (id, email, migrated_at) VALUES ($1, $2, CASE WHEN $3 THEN now() END)")
                    .bind(*id)
                    .bind(&email)
                    .bind(deployed)
                    .execute(&mut session)
                    .await
                    .expect("an insert");
                model.insert(*id, Some(Row { email, seen: 0, is_new_form: deployed }));
                *id += if *id < 0 { -SESSIONS } else { SESSIONS };
            }
            3 => {
                let deleted = sqlx::query("DELETE FROM users WHERE id = $1").bind(id).execute(&mut session).await;
                let deleted = deleted.expect("a delete").rows_affected();
                let was = model.insert(id, None).flatten();
                assert_eq!(deleted, u64::from(was.is_some()), "row {id}");
            }
            // The columns that the backfill sets, in the new form.
            4..=5 => {
                let email = format!("v{version}.{id}@example.com");
                let updated = sqlx::query("UPDATE users SET email = $2, migrated_at = now() WHERE id = $1")
                    .bind(id)
                    .bind(&email)
                    .execute(&mut session)
                    .await
                    .expect("an update")
                    .rows_affected();
                let row = model.get_mut(&id).and_then(Option::as_mut);
                assert_eq!(updated, u64::from(row.is_some()), "row {id}");
                if let Some(row) = row {
                    (row.email, row.is_new_form) = (email, true);
                }
            }
            // Other columns.
            _ => {
                let updated = sqlx::query("UPDATE users SET seen = seen + 1 WHERE id = $1")
                    .bind(id)
                    .execute(&mut session)
                    .await
                    .expect("an update")
                    .rows_affected();
                let row = model.get_mut(&id).and_then(Option::as_mut);
                assert_eq!(updated, u64::from(row.is_some()), "row {id}");
                if let Some(row) = row {
                    row.seen += 1;
                }
            }
        }
    }
    model
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_writes_all_the_while_loses_nothing_and_every_row_that_matches_is_changed() {
    let lab = Lab::open().await;
    lab.sql(&format!(
        "CREATE TABLE users (id bigint PRIMARY KEY, email text NOT NULL, seen int NOT NULL DEFAULT 0,
                             migrated_at timestamptz, hits int NOT NULL DEFAULT 0);
         INSERT INTO users SELECT i, 'USER' || i || '@Example.com' FROM generate_series(1, {ROWS}) i;
         CREATE INDEX ON users (id) WHERE migrated_at IS NULL; ANALYZE users"
    ))
    .await;
    let signals = Arc::new(Signals::default());
    let mut sessions = JoinSet::new();
    for own in 1..=SESSIONS {
        let dice = Dice::of_test(400 + u64::try_from(own).expect("small"));
        sessions.spawn(work(lab.session().await, own, Arc::clone(&signals), dice));
    }
    lab.until("SELECT count(*) > 100 FROM users WHERE seen > 0").await;

    let plan = lab.plan("emails.toml", PLAN);
    let running = lab.howdah(&["run", plan.to_str().expect("a path"), "--headless"]).start();
    lab.until_walked(ROWS * 6 / 10).await;
    // From now on nothing that matches comes in: what has come in behind the cursors is for the next sweep to find.
    signals.deployed.store(true, Ordering::SeqCst);
    let ended = tokio::task::spawn_blocking(move || running.wait()).await.expect("it ends");
    // The application was at work to the end, and for a moment longer.
    tokio::time::sleep(Duration::from_millis(100)).await;
    signals.over.store(true, Ordering::SeqCst);
    let mut models = Model::new();
    for mut of_one in sessions.join_all().await {
        models.append(&mut of_one);
    }
    let _ = ended.expect_code(0).expect_words(&["came in behind the cursor", "0 left"]);

    let found: Vec<(i64, String, i32, bool, i32)> =
        sqlx::query_as("SELECT id, email, seen, migrated_at IS NOT NULL, hits FROM users ORDER BY id")
            .fetch_all(&lab.pool)
            .await
            .expect("the users");
    let alive: BTreeMap<i64, Row> = models.into_iter().filter_map(|(id, row)| Some((id, row?))).collect();
    let ids: Vec<i64> = found.iter().map(|row| row.0).collect();
    assert_eq!(ids, alive.keys().copied().collect::<Vec<_>>(), "no row came back, none is gone");
    for ((id, email, seen, migrated, hits), row) in found.into_iter().zip(alive.values()) {
        // Only what `set` says is done to it: the e-mail of the application, in small letters.
        assert_eq!((email, seen), (row.email.to_lowercase(), row.seen), "row {id}: {row:?}");
        assert!(migrated, "row {id} was left out: {row:?}");
        // What the application wrote in the new form may have been changed before that, and not after.
        let times = if row.is_new_form { 0..=1 } else { 1..=1 };
        assert!(times.contains(&hits), "row {id} was changed {hits} times: {row:?}");
    }
    assert!(lab.number("SELECT max(sweep)::bigint FROM howdah.segment").await >= 2);
}
