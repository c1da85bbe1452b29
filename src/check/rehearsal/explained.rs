//! What EXPLAIN (ANALYZE, BUFFERS, WAL, SETTINGS, FORMAT JSON) says of a statement, as values.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::check::json::{maybe_seconds, seconds};

/// What a statement did and cost, by the server's own account.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Explained {
    /// Time that planning took.
    #[serde(rename = "planning_seconds", serialize_with = "seconds")]
    pub planning: Duration,
    /// Time that the statement ran, triggers included.
    #[serde(rename = "execution_seconds", serialize_with = "seconds")]
    pub execution: Duration,
    /// WAL that it wrote. What AFTER triggers write is not in it.
    pub wal: Wal,
    /// Pages of shared buffers.
    pub buffers: Buffers,
    /// The triggers that fired, constraints' among them.
    pub triggers: Vec<Trigger>,
    /// Settings that shape plans and are not the server's defaults.
    pub settings: Vec<(String, String)>,
    /// Tables that were read from one end to the other.
    pub sequential: Vec<String>,
}

/// WAL that a statement wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Wal {
    /// Bytes, full page images included.
    pub bytes: u64,
    /// Records.
    pub records: u64,
    /// Full page images: the first change of a page after a checkpoint.
    pub full_pages: u64,
}

/// Pages of shared buffers that a statement used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Buffers {
    /// Found there.
    pub hit: u64,
    /// Read from the system.
    pub read: u64,
    /// Changed first by this statement.
    pub dirtied: u64,
    /// Written out by this statement, to make room.
    pub written: u64,
}

/// A trigger that fired.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trigger {
    /// Its name; of a constraint's, the constraint's.
    pub name: String,
    /// The table.
    pub relation: String,
    /// How often.
    pub calls: u64,
    /// Time in it. `None`: it was not timed.
    #[serde(rename = "took_seconds", serialize_with = "maybe_seconds")]
    pub took: Option<Duration>,
}

impl Explained {
    /// Reads the server's answer. `None`: it is of another shape.
    #[must_use]
    pub fn read(answer: &Value) -> Option<Self> {
        let top = answer.get(0)?;
        let plan = top.get("Plan")?;
        let count = |key: &str| plan.get(key).and_then(Value::as_u64).unwrap_or(0);
        let mut sequential = Vec::new();
        scans(plan, &mut sequential);
        Some(Self {
            planning: milliseconds(top.get("Planning Time")).unwrap_or_default(),
            execution: milliseconds(top.get("Execution Time")).unwrap_or_default(),
            wal: Wal { bytes: count("WAL Bytes"), records: count("WAL Records"), full_pages: count("WAL FPI") },
            buffers: Buffers {
                hit: count("Shared Hit Blocks"),
                read: count("Shared Read Blocks"),
                dirtied: count("Shared Dirtied Blocks"),
                written: count("Shared Written Blocks"),
            },
            triggers: top
                .get("Triggers")
                .and_then(Value::as_array)
                .map(|all| all.iter().filter_map(trigger).collect())
                .unwrap_or_default(),
            settings: settings(top),
            sequential,
        })
    }
}

fn settings(top: &Value) -> Vec<(String, String)> {
    let Some(all) = top.get("Settings").and_then(Value::as_object) else { return Vec::new() };
    all.iter().map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned())).collect()
}

fn trigger(told: &Value) -> Option<Trigger> {
    let word = |key: &str| told.get(key).and_then(Value::as_str).map(str::to_owned);
    Some(Trigger {
        name: word("Constraint Name").or_else(|| word("Trigger Name"))?,
        relation: word("Relation").unwrap_or_default(),
        // A float from PostgreSQL 18 on.
        calls: told.get("Calls").and_then(Value::as_f64).map_or(0, whole),
        took: milliseconds(told.get("Time")),
    })
}

fn scans(plan: &Value, into: &mut Vec<String>) {
    if plan.get("Node Type").and_then(Value::as_str) == Some("Seq Scan")
        && let Some(table) = plan.get("Relation Name").and_then(Value::as_str)
    {
        into.push(table.to_owned());
    }
    for child in plan.get("Plans").and_then(Value::as_array).into_iter().flatten() {
        scans(child, into);
    }
}

fn milliseconds(value: Option<&Value>) -> Option<Duration> {
    value.and_then(Value::as_f64).and_then(|ms| Duration::try_from_secs_f64(ms / 1e3).ok())
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count, checked to be in range")]
fn whole(n: f64) -> u64 {
    if (0.0..1e18).contains(&n) { n as u64 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_answer_of_the_server_is_read_with_its_triggers_and_scans() {
        let answer = json!([{
            "Plan": {"Node Type": "ModifyTable", "WAL Records": 30, "WAL FPI": 2, "WAL Bytes": 18_000, "Shared Hit Blocks": 7,
                     "Shared Read Blocks": 1, "Shared Dirtied Blocks": 2,
                     "Plans": [{"Node Type": "Nested Loop", "Plans": [{"Node Type": "Seq Scan", "Relation Name": "rates"}]}]},
            "Settings": {"jit": "off"},
            "Planning Time": 0.5, "Execution Time": 12.25,
            "Triggers": [{"Trigger Name": "audit", "Relation": "users", "Time": 3.5, "Calls": 100},
                         {"Trigger Name": "RI_ConstraintTrigger_c_1", "Constraint Name": "fk", "Relation": "users", "Calls": 100.0}]
        }]);
        let read = Explained::read(&answer).expect("an answer");
        assert_eq!(read.execution, Duration::from_micros(12_250));
        assert_eq!(read.wal, Wal { bytes: 18_000, records: 30, full_pages: 2 });
        assert_eq!(read.sequential, ["rates"]);
        assert_eq!(read.settings, [("jit".to_owned(), "off".to_owned())]);
        let triggers: Vec<_> = read.triggers.iter().map(|t| (t.name.as_str(), t.calls, t.took)).collect();
        assert_eq!(triggers, [("audit", 100, Some(Duration::from_micros(3_500))), ("fk", 100, None)]);
        assert_eq!(Explained::read(&json!({})), None);
    }
}
