//! Looks at the database, and judges: the cheap part by the catalog alone, the rest by what the planner says.

use sqlx::Connection;
use sqlx::postgres::PgConnection;
use tokio::time::timeout;

use super::case::{Case, Pace};
use super::facts::{self, ANSWER, Facts, TableFacts};
use super::finding::{Finding, Severity};
use super::upkeep::Patience;
use super::walking::{self, Ask};
use super::work::{self, Does, TableName, Work};
use super::{database, locking, replication, rights, statements, upkeep, writing};
use crate::plan::model::{Backfill, Plan, StepKind, Store};
use crate::postgres::catalog;
use crate::postgres::deadline::within;
use crate::postgres::tokens::{self, Token};
use crate::postgres::whereabouts::{Whereabouts, free_disk_percent};
use crate::run::Cause;

/// What the cheap part has found, and read.
#[derive(Debug, Clone)]
pub struct Looked {
    /// What was found, not yet in order.
    pub findings: Vec<Finding>,
    /// What was read.
    pub facts: Facts,
    works: Vec<Work>,
}

/// The cheap part: reads the catalog and the statistics views, plans nothing, and looks at no row.
///
/// # Errors
/// The driver's error. After a deadline the connection is good for nothing.
pub async fn cheap(connection: &mut PgConnection, plan: &Plan, patience: Patience) -> Result<Looked, sqlx::Error> {
    let works = work::of_plan(plan);
    let facts = facts::read(connection, &works).await?;
    let findings = judged(plan, &works, &facts, patience);
    Ok(Looked { findings, facts, works })
}

/// What the planner and the disk say, of steps whose tables are there. What cannot be asked is a finding.
pub async fn rest(connection: &mut PgConnection, plan: &Plan, looked: &Looked) -> Vec<Finding> {
    let mut found = Vec::new();
    for work in &looked.works {
        let step = plan.steps.get(work.index).map(|step| &step.kind);
        let Some(StepKind::Backfill(backfill)) = step else { continue };
        match walk(connection, plan, looked, work, backfill).await {
            Ok(mut told) => {
                // What is not there yet cannot be planned with; that it will do is the plan's own claim.
                told.retain(|finding| finding.code != walking::NO_INDEX || !builds_one_before(plan, work));
                found.extend(told.into_iter().map(|finding| softened(finding, plan, work)));
            }
            Err(cause) => {
                let told = format!("the planner was not asked: {}", cause.headline());
                found.push(database::not_checked(Severity::Note, told));
                // An answer that never came would be waited for by every question after it.
                if within(ANSWER, connection.ping()).await.is_err() {
                    return found;
                }
            }
        }
    }
    found.extend(disk(connection, plan).await);
    found
}

/// Whether an earlier step of the plan builds an index on the table.
fn builds_one_before(plan: &Plan, work: &Work) -> bool {
    plan.steps.iter().take(work.index).any(|step| match &step.kind {
        StepKind::Index(index) => TableName::read(index.on.table()).is_some_and(|table| table.name == work.table.name),
        StepKind::Statement(statement) => {
            let tokens = tokens::tokens(&statement.sql.text);
            let has = |word: &str| tokens.contains(&Token::Word(word.to_owned()));
            let names =
                |token: &Token| matches!(token, Token::Word(name) | Token::Quoted(name) if *name == work.table.name);
            tokens.first() == Some(&Token::Word("create".to_owned())) && has("index") && tokens.iter().any(names)
        }
        _ => false,
    })
}

async fn walk(
    connection: &mut PgConnection,
    plan: &Plan,
    looked: &Looked,
    work: &Work,
    backfill: &Backfill,
) -> Result<Vec<Finding>, Cause> {
    // What is wrong with it the step's own check tells, or forgives.
    let looking = catalog::table(connection, &work.step, &backfill.table, &plan.source);
    let Ok(looked_up) = timeout(ANSWER, looking).await else {
        return Err(Cause::new(format!("step \"{}\": the server does not answer", work.step)));
    };
    let Ok(table) = looked_up else { return Ok(Vec::new()) };
    // Its largest partition stands for all of them.
    let rows = |oid: i64| looked.facts.tables.get(&oid).and_then(|facts| facts.rows).unwrap_or(0);
    let Some(part) = table.parts.iter().max_by_key(|part| rows(part.oid)) else { return Ok(Vec::new()) };
    let Some(facts) = looked.facts.tables.get(&part.oid) else { return Ok(Vec::new()) };
    let ask = Ask {
        step: &work.step,
        backfill,
        table: &table,
        part,
        source: &plan.source,
        indexes: &facts.indexes,
        has_hypopg: looked.facts.database.has_hypopg,
    };
    let asked = walking::ask(connection, &ask).await;
    let walked = asked.map_err(|e| crate::postgres::error::cause(&format!("step \"{}\"", work.step), &e))?;
    let pace = Pace::of(&plan.limits, plan.database.pool_max);
    let case = Case { work, table: facts, database: &looked.facts.database, pace };
    Ok(walking::of_backfill(&case, &walked))
}

/// Only of a server on this host, and where the plan has a limit.
async fn disk(connection: &mut PgConnection, plan: &Plan) -> Option<Finding> {
    let limit = plan.limits.signals.free_disk?.slow;
    let whereabouts = timeout(ANSWER, Whereabouts::ask(connection)).await.ok()?.ok()?;
    let free = tokio::task::spawn_blocking(move || {
        let data = whereabouts.data_directory.clone().filter(|_| whereabouts.is_here())?;
        free_disk_percent(&data).ok()
    });
    database::of_disk(free.await.ok().flatten()?, limit)
}

/// What the rules say of the facts.
fn judged(plan: &Plan, works: &[Work], facts: &Facts, patience: Patience) -> Vec<Finding> {
    let pace = Pace::of(&plan.limits, plan.database.pool_max);
    let mut found = rights::of_role(&facts.database, plan.store == Store::Postgres);
    for work in works {
        let Some(head) = facts.table(&work.table) else { continue };
        let parts = facts.parts(&work.table);
        let case = |table| Case { work, table, database: &facts.database, pace };
        let mut told = Vec::new();
        if !(work.by_part && head.is_partitioned) {
            told.extend(rights::of_table(&case(head), !head.is_partitioned));
        }
        told.extend(gathered(&parts, |table| {
            let case = Case { work, table, database: &facts.database, pace };
            let mut told = Vec::new();
            if work.by_part && head.is_partitioned {
                told.extend(rights::of_table(&case, true));
            }
            told.extend(writing::of_table(&case));
            told.extend(replication::of_table(&case));
            told.extend(upkeep::of_table(&case));
            told
        }));
        if head.is_partitioned {
            let indexes = parts.iter().map(|part| part.indexes.len()).sum();
            told.extend(database::of_partitions(&case(head), parts.len(), indexes));
        }
        found.extend(told.into_iter().map(|finding| softened(finding, plan, work)));
    }
    found.extend(locking::of_plan(plan));
    found.extend(statements::look(plan, &|table| rows_of(facts, table)));
    found.extend(upkeep::of_database_wide(&facts.database, &facts.sessions, patience));
    let writes = works.iter().any(|work| work.does.writes());
    found.extend(replication::of_server(&facts.database, &facts.sessions, writes));
    found.extend(database::of_server(&facts.database, pace));
    found
}

/// About how many rows a table has, all its partitions together.
fn rows_of(facts: &Facts, table: &str) -> Option<u64> {
    let parts = facts.parts(&TableName::read(table)?);
    parts.iter().map(|part| part.rows).sum()
}

/// The findings of a table's parts. What is found of several of them is told once, with all that mends it.
fn gathered(parts: &[&TableFacts], rule: impl Fn(&TableFacts) -> Vec<Finding>) -> Vec<Finding> {
    let mut told: Vec<(usize, usize, Finding)> = Vec::new();
    for part in parts {
        let found = rule(part);
        for (at, finding) in found.iter().enumerate() {
            let nth = found[..at].iter().filter(|earlier| earlier.code == finding.code).count();
            let same = told.iter_mut().find(|(of, _, first)| *of == nth && first.code == finding.code);
            match same {
                Some((_, more, first)) => {
                    *more += 1;
                    first.severity = first.severity.max(finding.severity);
                    first.mend.extend(finding.mend.iter().cloned());
                }
                None => told.push((nth, 0, finding.clone())),
            }
        }
    }
    let one = |(_, more, finding): (usize, usize, Finding)| match more {
        0 => finding,
        1 => Finding { what: format!("{}; so it is with 1 more partition", finding.what), ..finding },
        more => Finding { what: format!("{}; so it is with {more} more partitions", finding.what), ..finding },
    };
    told.into_iter().map(one).collect()
}

/// An error that an earlier statement of the plan may mend is a warning: it names the table.
fn softened(finding: Finding, plan: &Plan, work: &Work) -> Finding {
    let mut earlier = plan.steps.iter().take(work.index);
    let names_it = |sql: &str| {
        tokens::tokens(sql).iter().any(|token| match token {
            Token::Word(name) | Token::Quoted(name) => *name == work.table.name,
            Token::Symbol(_) | Token::Text => false,
        })
    };
    // What its words do not tell may be about any table.
    let may_be_any = |sql: &str| {
        let tokens = tokens::tokens(sql);
        let word = |at: usize, words: &[&str]| matches!(tokens.get(at), Some(Token::Word(word)) if words.contains(&word.as_str()));
        word(0, &["grant", "do", "call"]) || word(0, &["alter", "drop"]) && word(1, &["publication"])
    };
    let mends = |kind: &StepKind| matches!(kind, StepKind::Statement(statement) if names_it(&statement.sql.text) || may_be_any(&statement.sql.text));
    let statement = earlier.rfind(|step| mends(&step.kind));
    // A statement of the plan's own that is not understood may do something else than is taken for granted here.
    let is_guess = matches!(work.does, Does::Update { columns: None });
    match statement {
        None if finding.severity == Severity::Error && is_guess => Finding {
            severity: Severity::Warning,
            why: format!("{}, if the step's statement updates this table", finding.why),
            ..finding
        },
        Some(step) if finding.severity == Severity::Error => Finding {
            severity: Severity::Warning,
            why: format!("{}, unless step \"{}\" mends it", finding.why, step.name),
            ..finding
        },
        _ => finding,
    }
}

/// In the order in which they are told: what matters most first, then by step, then as they were found.
#[must_use]
pub fn in_order(mut findings: Vec<Finding>, plan: &Plan) -> Vec<Finding> {
    let place = |step: &Option<String>| match step {
        Some(name) => plan.steps.iter().position(|step| step.name == *name).unwrap_or(usize::MAX),
        None => usize::MAX,
    };
    // Of two steps that work on one table the second has nothing new to say of it.
    let mut told: Vec<Finding> = Vec::with_capacity(findings.len());
    findings.sort_by_key(|finding| (std::cmp::Reverse(finding.severity), place(&finding.step)));
    for finding in findings {
        let is_told = |other: &Finding| {
            other.code == finding.code && other.subject == finding.subject && other.what == finding.what
        };
        if !told.iter().any(is_told) {
            told.push(finding);
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::case::samples;
    use crate::check::facts::Identity;
    use crate::check::work::TableName;
    use crate::plan::load;

    fn plan(text: &str) -> Plan {
        load::from_text("p.toml", None, text, &|_| None).expect("a plan")
    }

    fn facts(tables: Vec<TableFacts>, partitioned: bool) -> Facts {
        let name = TableName { schema: None, name: "users".to_owned() };
        let head = TableFacts { oid: 99, is_partitioned: true, ..samples::table() };
        let oids: Vec<i64> = tables.iter().map(|table| table.oid).collect();
        let of = if partitioned { 99 } else { oids[0] };
        let tables = tables.into_iter().chain([head]).map(|table| (table.oid, table)).collect();
        Facts { database: samples::database(), tables, named: [(name, (of, oids))].into(), ..Facts::default() }
    }

    const BACKFILL: &str = "[[step]]\nname = 'emails'\nbackfill = 'users'\nset = { n = '1' }\n";

    fn published(oid: i64) -> TableFacts {
        let published_by = vec!["all".to_owned()];
        TableFacts { oid, name: format!("users_{oid}"), identity: Identity::Missing, published_by, ..samples::table() }
    }

    #[test]
    fn partitions_that_are_alike_are_told_once_with_all_that_mends_them() {
        let plan = plan(BACKFILL);
        let facts = facts(vec![published(1), published(2), published(3)], true);
        let found = judged(&plan, &work::of_plan(&plan), &facts, Patience::default());
        assert_eq!(samples::codes(&found), ["no-replica-identity"]);
        assert!(found[0].what.ends_with("so it is with 2 more partitions"), "{}", found[0].what);
        let altered = found[0].mend.iter().filter(|line| line.starts_with("ALTER TABLE")).count();
        assert_eq!(altered, 3);
    }

    #[test]
    fn an_index_that_the_plan_builds_before_is_not_asked_for() {
        let before = |first: &str| {
            let plan = plan(&format!("[[step]]\nname = 'first'\n{first}\n{BACKFILL}"));
            let works = work::of_plan(&plan);
            works.iter().find(|work| work.step == "emails").is_some_and(|work| builds_one_before(&plan, work))
        };
        assert!(before("statement = 'CREATE INDEX CONCURRENTLY i ON users (id) WHERE n = 0'"));
        assert!(before("index = { on = 'users (id)', where = 'n = 0' }"));
        assert!(!before("statement = 'CREATE INDEX i ON orders (id)'"));
        assert!(!before("statement = 'ALTER TABLE users ADD m int'"));
    }

    #[test]
    fn what_a_statement_of_the_plans_own_does_not_tell_refuses_no_run() {
        let facts = facts(vec![published(1)], false);
        let severity = |sql: &str| {
            let plan = plan(&format!("[[step]]\nname = 's'\nbackfill = 'users'\nsql = '{sql}'\n"));
            let found = judged(&plan, &work::of_plan(&plan), &facts, Patience::default());
            found.iter().find(|found| found.code.0 == "no-replica-identity").map(|found| found.severity)
        };
        assert_eq!(severity("UPDATE users SET n = 1 WHERE {batch}"), Some(Severity::Error));
        let moves = "WITH m AS (SELECT * FROM users WHERE {batch}) INSERT INTO archive SELECT * FROM m";
        assert_ne!(severity(moves), Some(Severity::Error));
        assert_ne!(severity("SELECT fix(id) FROM users WHERE {batch}"), Some(Severity::Error));
    }

    #[test]
    fn an_error_that_an_earlier_statement_may_mend_is_a_warning() {
        let mends = "[[step]]\nname = 'first'\nstatement = 'ALTER TABLE users REPLICA IDENTITY FULL'\n";
        let facts = facts(vec![published(1)], false);
        let severity = |text: &str| {
            let plan = plan(text);
            let found = judged(&plan, &work::of_plan(&plan), &facts, Patience::default());
            found.iter().find(|found| found.code.0 == "no-replica-identity").map(|found| found.severity)
        };
        assert_eq!(severity(BACKFILL), Some(Severity::Error));
        assert_eq!(severity(&format!("{mends}{BACKFILL}")), Some(Severity::Warning));
        assert_eq!(severity(&format!("{BACKFILL}{mends}")), Some(Severity::Error), "it comes too late");
        let drops = "[[step]]\nname = 'first'\nstatement = 'DROP PUBLICATION p'\n";
        assert_eq!(severity(&format!("{drops}{BACKFILL}")), Some(Severity::Warning));
    }

    #[test]
    fn findings_are_told_in_order_and_once() {
        let plan = plan(BACKFILL);
        let finding = |severity, step: Option<&str>| Finding {
            code: rights::MISSING_RIGHT,
            severity,
            step: step.map(str::to_owned),
            subject: format!("{severity:?}"),
            what: String::new(),
            why: String::new(),
            mend: Vec::new(),
        };
        let [note, error, of_step] =
            [(Severity::Note, None), (Severity::Error, None), (Severity::Note, Some("emails"))]
                .map(|(s, n)| finding(s, n));
        let order = in_order(vec![note.clone(), error.clone(), note, of_step.clone()], &plan);
        assert_eq!(order, [error, of_step]);
    }
}
