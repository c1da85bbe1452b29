//! The database as the monitor asks it, on a real server.

use std::time::{Duration, Instant};

use howdah::cli::probe::PoolSource;
use howdah::monitor::{DatabaseSample, DatabaseSource, TableSample};
use sqlx::Executor;
use tokio::task::JoinSet;

use crate::support::{DEADLINE, Lab};

fn called<'a>(sample: &'a DatabaseSample, name: &str) -> &'a TableSample {
    sample.tables.iter().find(|table| table.name == name).unwrap_or_else(|| panic!("{name} is not in {sample:?}"))
}

async fn sampled(source: &PoolSource) -> DatabaseSample {
    source.sample().await.expect("a sample")
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_have_their_sizes_but_nobody_waits_for_one_that_is_held() {
    let lab = Lab::open().await;
    lab.sql(
        "CREATE TABLE free (id int PRIMARY KEY, doc text); INSERT INTO free SELECT i, repeat('x', 100) FROM generate_series(1, 5000) i;
         CREATE TABLE held (id int PRIMARY KEY); CREATE TABLE half (id int PRIMARY KEY); CREATE SCHEMA app;
         CREATE TABLE app.busy (id int); INSERT INTO app.busy SELECT generate_series(1, 9000);
         CREATE SCHEMA howdah; CREATE TABLE howdah.segment (id int)",
    )
    .await;
    lab.until("SELECT n_tup_ins = 9000 FROM pg_stat_user_tables WHERE relname = 'busy'").await;
    let oid = |name: &str| format!("SELECT '{name}'::regclass::oid::bigint");
    let plan = vec![lab.number(&oid("held")).await, lab.number(&oid("free")).await];
    let mut session = lab.session().await;
    session.execute("BEGIN; LOCK TABLE held; LOCK TABLE ONLY half IN ACCESS SHARE MODE").await.expect("a lock");
    // It waits for whoever reads `half`, and everybody else would wait behind it.
    let mut waiter = lab.session().await;
    let mut waiting = JoinSet::new();
    waiting.spawn(async move { waiter.execute("ALTER TABLE half ADD x int").await.map(drop) });
    lab.until("SELECT count(*) = 1 FROM pg_locks WHERE NOT granted AND relation = 'half'::regclass").await;
    let source = PoolSource::new(lab.pool.clone(), plan);
    let began = Instant::now();
    let sample = sampled(&source).await;
    assert!(began.elapsed() < Duration::from_secs(2), "it waited: {:?}", began.elapsed());
    assert_eq!(called(&sample, "held").sizes, None);
    assert_eq!(called(&sample, "half").sizes, None);
    let (heap, indexes) = called(&sample, "free").sizes.expect("sizes");
    assert_eq!(i64::try_from(heap.0), Ok(lab.number("SELECT pg_table_size('free')").await));
    assert_eq!(i64::try_from(indexes.0), Ok(lab.number("SELECT pg_indexes_size('free')").await));
    let names: Vec<&str> = sample.tables.iter().map(|table| table.name.as_str()).collect();
    assert_eq!(names[..3], ["held", "free", "app.busy"], "the plan's first, then the busiest");
    assert!(names.iter().all(|name| !name.starts_with("howdah.")) && called(&sample, "held").in_plan);
    session.execute("COMMIT").await.expect("a commit");
    while waiting.join_next().await.is_some() {}
    for _ in 0..10 {
        sampled(&source).await;
    }
    assert!(called(&sampled(&source).await, "held").sizes.is_some(), "measured once it is free");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vacuum_is_seen_at_work() {
    let lab = Lab::open().await;
    lab.sql(
        "CREATE TABLE items (id int, doc text) WITH (autovacuum_enabled = off);
         INSERT INTO items SELECT i, repeat('x', 500) FROM generate_series(1, 20000) i; DELETE FROM items WHERE id % 2 = 0",
    )
    .await;
    let source = PoolSource::new(lab.pool.clone(), vec![lab.number("SELECT 'items'::regclass::oid::bigint").await]);
    assert_eq!(called(&sampled(&source).await, "items").vacuum, None);
    let mut vacuuming = JoinSet::new();
    let mut session = lab.session().await;
    session.execute("SET vacuum_cost_delay = 20; SET vacuum_cost_limit = 20").await.expect("a slow pace");
    vacuuming.spawn(async move { session.execute("VACUUM items").await.map(drop) });
    let end = Instant::now() + DEADLINE;
    loop {
        let sample = sampled(&source).await;
        if let Some(vacuum) = &called(&sample, "items").vacuum
            && let Some(fraction) = vacuum.fraction.filter(|fraction| *fraction > 0.0)
        {
            assert!(!vacuum.phase.is_empty() && fraction <= 1.0, "{vacuum:?}");
            break;
        }
        assert!(Instant::now() < end, "no vacuum was seen: {sample:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    lab.sql("SELECT pg_cancel_backend(pid) FROM pg_stat_progress_vacuum").await;
    while vacuuming.join_next().await.is_some() {}
}
