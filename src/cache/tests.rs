use std::sync::Mutex;

use super::*;
use crate::plan::model::Sql;
use crate::run::{Cause, Trouble};

/// A database that knows two countries, and counts how often it is asked.
#[derive(Default)]
struct Countries {
    asked: AtomicU64,
    fails: Mutex<Option<LookError>>,
}

#[async_trait::async_trait]
impl Source for Countries {
    async fn identity(&self) -> Result<Identity, LookError> {
        Ok(Identity { database: "d".to_owned(), reader: "r".to_owned() })
    }

    async fn look(&self, _: &CachedLookup, arguments: &[Option<String>]) -> Result<Option<String>, LookError> {
        one_more(&self.asked);
        tokio::time::sleep(Duration::from_millis(20)).await;
        if let Some(e) = self.fails.lock().expect("no panic").clone() {
            return Err(e);
        }
        Ok(match arguments {
            [Some(code)] if code == "DE" => Some("\"Germany\"".to_owned()),
            [Some(code)] if code.starts_with('n') => Some(code[1..].to_owned()),
            _ => None,
        })
    }
}

fn plan(ttl: Duration, most: u64) -> Vec<CachedLookup> {
    let sql = Sql { text: "SELECT name FROM countries WHERE code = $1".to_owned(), span: 0..0 };
    vec![CachedLookup { name: "countries".to_owned(), sql, ttl, most }]
}

fn text(text: &str) -> Arguments {
    vec![Some(text.to_owned())]
}

fn caches(ttl: Duration, most: u64) -> (Arc<Caches>, Arc<Countries>) {
    let source = Arc::new(Countries::default());
    (Arc::new(Caches::new(&plan(ttl, most), None, Arc::clone(&source) as Arc<dyn Source>)), source)
}

#[tokio::test]
async fn what_was_asked_once_is_known_at_once_also_that_there_is_nothing() {
    let (caches, source) = caches(Duration::from_hours(1), 100);
    for (code, answer) in [("DE", "\"Germany\""), ("XX", "null")] {
        assert_eq!(caches.known("countries", &text(code)), None);
        for _ in 0..3 {
            assert_eq!(&*caches.look("countries", text(code)).await.expect("an answer"), answer);
        }
        assert_eq!(caches.known("countries", &text(code)).as_deref(), Some(answer));
    }
    assert_eq!(source.asked.load(Ordering::Relaxed), 2);
    let view = CacheView { asked: 8, process: 6, database: 2, nothing: 1, ..caches.views()[0].clone() };
    assert_eq!(caches.views(), [view]);
    assert!(caches.look("cities", text("DE")).await.is_err());
}

#[tokio::test]
async fn of_those_who_ask_the_same_at_once_one_asks() {
    let (caches, source) = caches(Duration::from_hours(1), 100);
    let asked = (0..200).map(|_| caches.look("countries", text("DE")));
    for answer in futures_util::future::join_all(asked).await {
        assert_eq!(&*answer.expect("an answer"), "\"Germany\"");
    }
    assert_eq!(source.asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn an_answer_holds_for_its_time_and_no_longer() {
    let (caches, source) = caches(Duration::from_millis(200), 100);
    caches.look("countries", text("DE")).await.expect("an answer");
    tokio::time::sleep(Duration::from_millis(250)).await;
    assert_eq!(caches.known("countries", &text("DE")), None);
    caches.look("countries", text("DE")).await.expect("an answer");
    assert_eq!(source.asked.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_failure_is_told_to_all_who_wait_and_not_kept() {
    let (caches, source) = caches(Duration::from_hours(1), 100);
    let failure = LookError::Passing(Trouble::Outage, Cause::new("away"));
    *source.fails.lock().expect("no panic") = Some(failure.clone());
    assert_eq!(caches.look("countries", text("DE")).await, Err(failure));
    *source.fails.lock().expect("no panic") = None;
    assert_eq!(&*caches.look("countries", text("DE")).await.expect("an answer"), "\"Germany\"");
    assert_eq!((caches.views()[0].errors, caches.views()[0].database), (1, 1));
}

#[tokio::test]
async fn no_more_answers_are_kept_than_the_plan_says() {
    let (caches, _) = caches(Duration::from_hours(1), 10);
    futures_util::future::join_all((0..200).map(|n| caches.look("countries", text(&format!("n{n}"))))).await;
    caches.all["countries"].kept.run_pending_tasks().await;
    assert!(caches.all["countries"].kept.entry_count() <= 10);
}
