//! The scripts of a ledger on Redis, on a real one: what they refuse, and what they keep.

use howdah::ledger::redis::keys::{Keys, mark, of_segment, of_step, pack};
use howdah::ledger::redis::notes::{Hash, Notes, Writes};
use howdah::ledger::redis::record::RedisRecorder;
use howdah::postgres::record::{RecordError, Recorder, SetAside};
use howdah::redis::{Address, Link};
use howdah::run::{Advance, KeyText, RunId, Segment, SegmentNo, StepIndex, Tally};
use howdah::sandbox::redis::RedisServer;
use sqlx::Connection;
use sqlx::postgres::PgConnection;

use crate::support::{Dice, Lab};

const STEP: StepIndex = StepIndex(0);

fn key(n: u64) -> KeyText {
    vec![n.to_string()]
}

/// A run on Redis that nobody has begun.
async fn notes(redis: &RedisServer) -> Notes {
    let address = Address::resolve(Some(&redis.url()), None, &|_| None).expect("an address").expect("one");
    let link = Link::open(&address).await.expect("a link");
    let run = RunId(uuid::Uuid::now_v7());
    let keys = Keys::new(&address, run);
    let mut command = redis::cmd("HSET");
    command.arg(keys.run()).arg(&["epoch", "1", "token", "me", "state", "running", "steps", "1"]);
    link.query::<()>(&command).await.expect("a run");
    Notes { link, keys, run, epoch: 1, token: "me".to_owned() }
}

async fn field(notes: &Notes, key: &str, field: &str) -> Option<String> {
    notes.link.query(redis::cmd("HGET").arg(key).arg(field)).await.expect("an answer")
}

fn segment(lower: u64, upper: u64) -> Segment {
    Segment::new(1, SegmentNo(0), Some(key(lower)), Some(key(upper)))
}

fn step_to(to: u64, done: bool, walked: u64) -> Advance {
    let tally = Tally { walked, batches: 1, ..Tally::default() };
    Advance { cursor: Some(key(to)), done, tally, output: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_of_another_epoch_or_of_another_driver_of_the_same_is_refused_and_nothing_of_it_is_kept() {
    let redis = RedisServer::start(&[]).expect("a Redis");
    let mine = notes(&redis).await;
    let writes = Writes::default().set(Hash::Run, "state", "mine").set(Hash::Steps, of_step(STEP, "state"), "mine");
    assert!(mine.write(STEP, &writes).await.is_ok());
    let newer = Notes { epoch: 2, ..mine.clone() };
    let twin = Notes { token: "somebody else".to_owned(), ..mine.clone() };
    let other = Writes::default().set(Hash::Run, "state", "other");
    assert!(matches!(twin.write(STEP, &other).await, Err(RecordError::Fenced)));
    assert_eq!(field(&mine, mine.keys.run(), "state").await.as_deref(), Some("mine"));
    // Redis has forgotten that the run was taken over: who did goes on, and who was replaced does not.
    assert!(newer.write(STEP, &other).await.is_ok());
    assert_eq!(field(&mine, mine.keys.run(), "epoch").await.as_deref(), Some("2"));
    assert!(matches!(mine.write(STEP, &writes).await, Err(RecordError::Fenced)));
    assert_eq!(field(&mine, mine.keys.run(), "state").await.as_deref(), Some("other"));
    let lost = Notes { keys: Keys::new(mine.link.address(), RunId(uuid::Uuid::now_v7())), ..mine };
    let refused = lost.write(STEP, &other).await;
    let Err(RecordError::Store(None, cause)) = refused else { panic!("{refused:?}") };
    assert!(cause.message.contains("is gone from Redis"), "{}", cause.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_moves_from_where_it_stands_only_and_checks_come_before_every_write() {
    let redis = RedisServer::start(&[]).expect("a Redis");
    let notes = notes(&redis).await;
    let (before, name) = (segment(0, 10), "1:0");
    let segments = notes.keys.segments(STEP);
    let add = Writes::default().only_if_new(Hash::Segments, name).set(Hash::Segments, name, pack(&before));
    assert!(notes.write(STEP, &add).await.is_ok());
    assert!(matches!(notes.write(STEP, &add).await, Err(RecordError::Already)), "a sweep is planned once");
    let mut after = before.clone();
    after.apply(&step_to(5, false, 5));
    let advance = Writes::default().set(Hash::Aside, "row", "{}").only_if_at(name, mark(&before)).set(
        Hash::Segments,
        name,
        pack(&after),
    );
    assert!(notes.write(STEP, &advance).await.is_ok());
    assert_eq!(field(&notes, &segments, name).await, Some(pack(&after)));
    let again = Writes::default().set(Hash::Aside, "second", "{}").only_if_at(name, mark(&before));
    assert!(matches!(notes.write(STEP, &again).await, Err(RecordError::Already)));
    assert_eq!(field(&notes, &notes.keys.aside(STEP), "second").await, None, "all of it or nothing");
    // A mark that is the beginning of another's is another one.
    let short = mark(&after)[..4].to_owned();
    assert!(matches!(notes.write(STEP, &Writes::default().only_if_at(name, short)).await, Err(RecordError::Already)));
    let times = Writes::default().at_least(Hash::Run, "worked_ms", 7).now(Hash::Run, "heartbeat");
    assert!(notes.write(STEP, &times).await.is_ok());
    assert!(notes.write(STEP, &Writes::default().at_least(Hash::Run, "worked_ms", 3)).await.is_ok());
    assert_eq!(field(&notes, notes.keys.run(), "worked_ms").await.as_deref(), Some("7"));
    assert!(
        field(&notes, notes.keys.run(), "heartbeat").await.expect("a time").parse::<u64>().expect("ms")
            > 1_700_000_000_000
    );
}

async fn begin(connection: &mut PgConnection) -> sqlx::Transaction<'_, sqlx::Postgres> {
    connection.begin().await.expect("a transaction")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_batch_records_is_written_once_it_has_committed_and_never_when_it_was_rolled_back() {
    let (lab, redis) = (Lab::open().await, RedisServer::start(&[]).expect("a Redis"));
    let notes = notes(&redis).await;
    let recorder = RedisRecorder::new(notes.clone());
    let mut line = lab.session().await;
    let mut other = lab.session().await;
    let mut whole = segment(0, 100);
    let mut tx = begin(&mut line).await;
    recorder.add_sweep(&mut tx, STEP, &[whole.clone()], Some(100), "by id").await.expect("a sweep");
    tx.commit().await.expect("committed");
    let sweeps = recorder.sweeps(&mut other, STEP).await.expect("sweeps");
    assert_eq!(
        (sweeps.segments, sweeps.foretold, sweeps.walk.as_deref()),
        (vec![whole.clone()], Some(100), Some("by id"))
    );

    // Rolled back: neither the cursor nor the row that was set aside.
    let row =
        SetAside { part: None, key: key(3), row: Some("{}".to_owned()), sqlstate: None, message: "bad".to_owned() };
    let advance = Advance { tally: Tally { quarantined: 1, ..step_to(10, false, 10).tally }, ..step_to(10, false, 10) };
    let mut tx = begin(&mut line).await;
    assert!(recorder.set_aside(&mut tx, STEP, &row).await.expect("set aside"));
    recorder.advance(&mut tx, STEP, &whole, &advance).await.expect("recorded");
    tx.rollback().await.expect("rolled back");
    assert_eq!(recorder.segment(&mut line, STEP, &whole).await.expect("read"), Some(whole.clone()));
    assert_eq!(recorder.set_aside_of(&mut line, STEP).await.expect("counted"), 0);

    // Committed, and told so.
    let mut tx = begin(&mut line).await;
    assert!(recorder.set_aside(&mut tx, STEP, &row).await.expect("set aside"));
    assert!(!recorder.set_aside(&mut tx, STEP, &row).await.expect("set aside"), "once in one batch");
    recorder.advance(&mut tx, STEP, &whole, &advance).await.expect("recorded");
    tx.commit().await.expect("committed");
    assert_eq!(recorder.sweeps(&mut other, STEP).await.expect("sweeps").segments, vec![whole.clone()], "not yet");
    recorder.committed(STEP, Some(&whole)).await.expect("written");
    whole.apply(&advance);
    assert_eq!(recorder.sweeps(&mut other, STEP).await.expect("sweeps").segments, vec![whole.clone()]);
    assert_eq!(recorder.keys_set_aside(STEP, "").await.expect("keys"), Some(vec![key(3)]));

    // Committed, and nobody was told: the answer was lost.
    let advance = step_to(20, false, 10);
    let mut tx = begin(&mut line).await;
    recorder.advance(&mut tx, STEP, &whole, &advance).await.expect("recorded");
    tx.commit().await.expect("committed");
    let found = recorder.segment(&mut other, STEP, &whole).await.expect("found out").expect("it is there");
    whole.apply(&advance);
    assert_eq!(found, whole, "the server knows that it had committed");

    // A stale cursor is refused in the transaction already.
    let mut tx = begin(&mut line).await;
    let stale = recorder.advance(&mut tx, STEP, &segment(0, 100), &advance).await;
    assert!(matches!(stale, Err(RecordError::Already)), "{stale:?}");
    tx.rollback().await.expect("rolled back");

    // A step is done once.
    let mut tx = begin(&mut line).await;
    recorder.step_done(&mut tx, STEP, Some("20 rows")).await.expect("done");
    tx.commit().await.expect("committed");
    assert_eq!(recorder.is_done(&mut other, STEP).await.expect("asked"), Some(Some("20 rows".to_owned())));
    let mut tx = begin(&mut line).await;
    assert!(matches!(recorder.step_done(&mut tx, STEP, None).await, Err(RecordError::Already)));
}

/// Batches and splits in any order, each of which commits, is rolled back, or loses its answer; and drivers that die.
#[tokio::test(flavor = "multi_thread")]
async fn segments_cover_what_is_to_be_walked_and_never_stand_before_what_has_committed() {
    let (lab, redis) = (Lab::open().await, RedisServer::start(&[]).expect("a Redis"));
    let mut dice = Dice::of_test(20_261_126);
    let mut notes = notes(&redis).await;
    let mut recorder = RedisRecorder::new(notes.clone());
    let mut line = lab.session().await;
    let first = segment(0, 10_000);
    lab.sql("CREATE TABLE walked (key bigint)").await;
    let mut tx = begin(&mut line).await;
    recorder.add_sweep(&mut tx, STEP, std::slice::from_ref(&first), None, "by id").await.expect("a sweep");
    tx.commit().await.expect("committed");
    let mut segments = vec![first];
    let number = |key: &KeyText| key[0].parse::<u64>().expect("a number");
    for _ in 0..300 {
        let at = usize::try_from(dice.below(segments.len() as u64)).expect("small");
        let held = segments[at].clone();
        let (from, upper) = (number(held.from().expect("from")), number(held.upper.as_ref().expect("to")));
        if held.done || from + 2 > upper {
            continue;
        }
        let fate = dice.below(4);
        if dice.below(4) == 0 {
            let middle = from + 1 + dice.below(upper - from - 1);
            let no = SegmentNo(u32::try_from(segments.len()).expect("small"));
            let rest = Segment::new(1, no, Some(key(middle)), Some(key(upper)));
            let mut tx = begin(&mut line).await;
            recorder.split(&mut tx, STEP, &held, &rest).await.expect("split");
            tx.commit().await.expect("committed");
            segments[at].upper = rest.lower.clone();
            segments.push(rest);
            continue;
        }
        let to = (from + 1 + dice.below(50)).min(upper);
        let advance = step_to(to, to == upper, to - from);
        let mut tx = begin(&mut line).await;
        let walked = "INSERT INTO walked SELECT generate_series($1 + 1, $2)";
        let (low, high) = (i64::try_from(from).expect("small"), i64::try_from(to).expect("small"));
        sqlx::query(walked).bind(low).bind(high).execute(&mut *tx).await.expect("walked");
        recorder.advance(&mut tx, STEP, &held, &advance).await.expect("recorded");
        match fate {
            0 => tx.rollback().await.expect("rolled back"),
            _ => tx.commit().await.expect("committed"),
        }
        match fate {
            1 => recorder.committed(STEP, Some(&held)).await.expect("written"),
            // The driver dies between the commit and its record, and another takes over.
            2 => {
                let raise = redis::cmd("HINCRBY").arg(notes.keys.run()).arg("epoch").arg(1).to_owned();
                notes.epoch = notes.link.query(&raise).await.expect("an epoch");
                recorder = RedisRecorder::new(notes.clone());
            }
            // Rolled back, or its answer was lost: it is found out.
            _ => {}
        }
        segments[at] = recorder.segment(&mut line, STEP, &held).await.expect("read").expect("there");
    }
    let kept = recorder.sweeps(&mut line, STEP).await.expect("sweeps").segments;
    assert_eq!(kept, segments, "Redis has what its driver has");
    let mut ends: Vec<(u64, u64)> = kept
        .iter()
        .map(|segment| (number(segment.lower.as_ref().expect("from")), number(segment.upper.as_ref().expect("to"))))
        .collect();
    ends.sort_unstable();
    assert_eq!((ends.first().expect("one").0, ends.last().expect("one").1), (0, 10_000));
    assert!(ends.windows(2).all(|pair| pair[0].1 == pair[1].0), "{ends:?}");
    for segment in &kept {
        let (low, high) = (number(segment.lower.as_ref().expect("from")), number(segment.from().expect("from")));
        let walked =
            lab.number(&format!("SELECT count(DISTINCT key) FROM walked WHERE key > {low} AND key <= {high}")).await;
        assert_eq!(
            u64::try_from(walked).expect("a count"),
            high - low,
            "a cursor stands behind rows that were not walked"
        );
    }
    assert!(segments.len() > 10 && of_segment(&segments[0]) == "1:0");
}
