//! What an update sets off beside the row itself: indexes, triggers, foreign keys, constraints.

use super::case::{Case, listed, mended};
use super::facts::{ForeignKey, Index};
use super::finding::{Code, Finding, Severity};
use super::work::Does;
use crate::postgres::ident;

/// An update writes a column that an index holds.
pub const INDEXED_COLUMN: Code = Code("indexed-column-set");
/// Pages are written full, so that updates leave them.
pub const FILLFACTOR: Code = Code("fillfactor-full");
/// Triggers fire.
pub const TRIGGERS: Code = Code("triggers-fire");
/// A foreign key of the table is checked for each row.
pub const KEY_CHECKED: Code = Code("foreign-key-checked");
/// A foreign key of another table acts, or is checked, for each row.
pub const KEY_FIRES: Code = Code("foreign-key-fires");
/// That other table has no index for it.
pub const KEY_UNINDEXED: Code = Code("foreign-key-without-index");
/// An index was not built to its end.
pub const INVALID_INDEX: Code = Code("invalid-index");
/// A constraint is NOT VALID.
pub const NOT_VALIDATED: Code = Code("constraint-not-validated");

/// Codes of this file.
pub const CODES: [Code; 8] =
    [INDEXED_COLUMN, FILLFACTOR, TRIGGERS, KEY_CHECKED, KEY_FIRES, KEY_UNINDEXED, INVALID_INDEX, NOT_VALIDATED];

/// What a step's work sets off.
#[must_use]
pub fn of_table(case: &Case<'_>) -> Vec<Finding> {
    if !case.work.does.writes() {
        return Vec::new();
    }
    let mut found = Vec::new();
    let stopping = stopping(case);
    found.extend(indexed(case, &stopping));
    found.extend(triggers(case));
    found.extend(checked(case));
    found.extend(fires(case));
    found.extend(fillfactor(case, &stopping));
    found.extend(invalid(case));
    found.extend(unvalidated(case));
    found
}

/// The indexes that keep the step's updates from being HOT.
fn stopping<'a>(case: &Case<'a>) -> Vec<&'a Index> {
    let set = case.work.does.columns();
    let stops = |index: &&Index| index.stops_hot && index.columns.iter().any(|column| set.contains(column));
    case.table.indexes.iter().filter(stops).collect()
}

fn indexed(case: &Case<'_>, stopping: &[&Index]) -> Option<Finding> {
    if stopping.is_empty() {
        return None;
    }
    let set: Vec<&str> = case
        .work
        .does
        .columns()
        .iter()
        .filter(|column| stopping.iter().any(|index| index.columns.contains(column)))
        .map(String::as_str)
        .collect();
    let what = format!(
        "it sets {}, which {} {} or {} by: no update can be HOT",
        listed(set),
        listed(stopping.iter().map(|index| index.name.as_str())),
        if stopping.len() == 1 { "holds" } else { "hold" },
        if stopping.len() == 1 { "chooses rows" } else { "choose rows" },
    );
    let why = format!(
        "each changed row gets a new entry in every index of the table ({}): more WAL, and more to vacuum",
        case.table.indexes.len()
    );
    // What keeps rows unique, or is used by a constraint, has to stay.
    let droppable: Vec<&&Index> = stopping.iter().filter(|index| !index.is_needed && index.is_valid).collect();
    let drop = |index: &&&Index| format!("DROP INDEX CONCURRENTLY {}", case.table.beside(&index.name));
    let build = |index: &&&Index| index.definition.replacen(" INDEX ", " INDEX CONCURRENTLY ", 1);
    let mend = if droppable.is_empty() {
        Vec::new()
    } else {
        let before = std::iter::once("-- before the step, where nothing needs it meanwhile".to_owned());
        let after = std::iter::once("-- after the step".to_owned());
        before.chain(droppable.iter().map(drop)).chain(after).chain(droppable.iter().map(build)).collect()
    };
    Some(mended(case.finds(INDEXED_COLUMN, case.by_size(), what, &why), mend))
}

fn fillfactor(case: &Case<'_>, stopping: &[&Index]) -> Option<Finding> {
    let Does::Update { columns: Some(_) } = &case.work.does else { return None };
    let is_large = case.by_size() == Severity::Warning;
    if !stopping.is_empty() || case.table.indexes.is_empty() || case.table.fillfactor < 100 || !is_large {
        return None;
    }
    let what = "its pages are filled to 100 % (fillfactor), and its updates could be HOT".to_owned();
    let why = "an update is HOT only where its page has room: the first change of a full page goes to another page, and \
               into every index";
    let mend = vec![
        format!("ALTER TABLE {} SET (fillfactor = 90)", case.table.quoted()),
        "-- it holds for pages that are written from then on; pages that are there get room by VACUUM FULL or pg_repack"
            .to_owned(),
    ];
    Some(mended(case.finds(FILLFACTOR, Severity::Note, what, why), mend))
}

fn triggers(case: &Case<'_>) -> Option<Finding> {
    let (does, as_replica) = (&case.work.does, case.database.is_replica_role);
    let firing: Vec<String> = case
        .table
        .triggers
        .iter()
        .filter(|trigger| if as_replica { trigger.fires_as_replica } else { trigger.fires_as_origin })
        .filter(|trigger| match does {
            Does::Update { columns } => {
                let named = |columns: &Vec<String>| columns.iter().any(|column| trigger.of_columns.contains(column));
                trigger.on_update && (trigger.of_columns.is_empty() || columns.as_ref().is_none_or(named))
            }
            Does::Delete => trigger.on_delete,
            Does::Insert { updates } => trigger.on_insert || *updates && trigger.on_update,
            Does::Read | Does::Define => false,
        })
        .map(|trigger| format!("{}: {}, {}", trigger.name, trigger.when, trigger.function))
        .collect();
    if firing.is_empty() {
        return None;
    }
    let what = format!(
        "{} fire{} on its rows: {}",
        if firing.len() == 1 { "a trigger".to_owned() } else { format!("{} triggers", firing.len()) },
        if firing.len() == 1 { "s" } else { "" },
        listed(firing.iter().map(String::as_str))
    );
    let why = "what they do is done once more for every row, in the batch's transaction, and `howdah undo` does not take it back";
    Some(case.finds(TRIGGERS, Severity::Warning, what, why))
}

/// Foreign keys of the table itself.
fn checked(case: &Case<'_>) -> Option<Finding> {
    let touches = |key: &&ForeignKey| match &case.work.does {
        Does::Update { columns: Some(set) } => key.columns.iter().any(|column| set.contains(column)),
        Does::Insert { .. } => true,
        Does::Update { columns: None } | Does::Delete | Does::Read | Does::Define => false,
    };
    let keys: Vec<String> = case
        .table
        .references
        .iter()
        .filter(touches)
        .map(|key| format!("{} to {} ({})", key.name, key.other, key.referred.join(", ")))
        .collect();
    if keys.is_empty() {
        return None;
    }
    let what = format!("each row is looked up by {}", listed(keys.iter().map(String::as_str)));
    let why = "each row costs a look-up, and a lock on the row that it refers to until the batch commits";
    Some(case.finds(KEY_CHECKED, Severity::Note, what, why))
}

/// Foreign keys of other tables.
fn fires(case: &Case<'_>) -> Vec<Finding> {
    let deletes = case.work.does == Does::Delete;
    let touched =
        |key: &&ForeignKey| deletes || key.referred.iter().any(|column| case.work.does.columns().contains(column));
    let mut found = Vec::new();
    for key in case.table.referenced_by.iter().filter(touched) {
        let (event, action) = if deletes { ("DELETE", &key.on_delete) } else { ("UPDATE", &key.on_update) };
        let what = format!("foreign key `{}` of `{}` fires for each row: ON {event} {action}", key.name, key.other);
        let why = "rows of another table are read, locked or changed in the batch's transaction";
        found.push(case.finds(KEY_FIRES, Severity::Warning, what, why));
        if key.is_indexed {
            continue;
        }
        let columns: Vec<String> = key.columns.iter().map(|column| ident::quote(column)).collect();
        let what = format!("`{}` has no index for foreign key `{}` ({})", key.other, key.name, key.columns.join(", "));
        let why = "for each changed row all of that table is read";
        let mend = vec![format!("CREATE INDEX CONCURRENTLY ON {} ({})", key.other_quoted, columns.join(", "))];
        found.push(mended(case.finds(KEY_UNINDEXED, Severity::Warning, what, why), mend));
    }
    found
}

fn invalid(case: &Case<'_>) -> Option<Finding> {
    let left: Vec<&Index> =
        case.table.indexes.iter().filter(|index| !index.is_valid && !index.is_being_built).collect();
    if left.is_empty() {
        return None;
    }
    let what = format!(
        "{} {} left INVALID by a build that failed",
        listed(left.iter().map(|index| index.name.as_str())),
        if left.len() == 1 { "was" } else { "were" }
    );
    let why = "no query uses it, and every change of a row still keeps it up";
    let remark = "-- once it is sure that nobody builds it, nor attaches its parts".to_owned();
    let drops = left.iter().map(|index| format!("DROP INDEX CONCURRENTLY {}", case.table.beside(&index.name)));
    let mend = std::iter::once(remark).chain(drops).collect();
    Some(mended(case.finds(INVALID_INDEX, Severity::Warning, what, why), mend))
}

fn unvalidated(case: &Case<'_>) -> Option<Finding> {
    // A new version of a row is checked by every CHECK, whichever columns were set; by a foreign key only where its own were.
    let set = case.work.does.columns();
    let matters = |is_foreign_key: bool, columns: &[String]| match &case.work.does {
        Does::Update { columns: None } | Does::Insert { updates: true } => true,
        Does::Update { .. } => !is_foreign_key || columns.iter().any(|column| set.contains(column)),
        Does::Insert { updates: false } | Does::Delete | Does::Read | Does::Define => false,
    };
    let constraints: Vec<&str> = case
        .table
        .unvalidated
        .iter()
        .filter(|constraint| matters(constraint.is_foreign_key, &constraint.columns))
        .map(|constraint| constraint.name.as_str())
        .collect();
    if constraints.is_empty() {
        return None;
    }
    let what = format!("rows that are there may break {}, which is NOT VALID", listed(constraints.iter().copied()));
    let why =
        "such a row is refused when it is changed, whatever is changed of it (SQLSTATE 23514 or 23503), and set aside";
    let validate =
        |name: &&str| format!("ALTER TABLE {} VALIDATE CONSTRAINT {}", case.table.quoted(), ident::quote(name));
    let mend = constraints.iter().map(validate).collect();
    Some(mended(case.finds(NOT_VALIDATED, Severity::Warning, what, why), mend))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::case::samples::{case, codes, database, table, update, work};
    use crate::check::facts::{Database, TableFacts, Trigger, Unvalidated};
    use crate::check::work::Work;

    fn index(name: &str, columns: &[&str]) -> Index {
        Index {
            name: name.to_owned(),
            columns: columns.iter().map(|column| (*column).to_owned()).collect(),
            is_valid: true,
            stops_hot: true,
            definition: format!("CREATE INDEX {name} ON public.users USING btree ({})", columns.join(", ")),
            ..Index::default()
        }
    }

    fn found(work: &Work, facts: &TableFacts) -> Vec<Finding> {
        of_table(&case(work, facts, &database()))
    }

    #[test]
    fn a_column_that_an_index_holds_makes_updates_cold() {
        let key = Index { is_needed: true, ..index("users_pkey", &["id"]) };
        let facts = TableFacts { indexes: vec![key, index("users_email_idx", &["email"])], ..table() };
        let told = found(&update(&["email", "n"]), &facts);
        assert_eq!(codes(&told), ["indexed-column-set"]);
        assert_eq!(
            told[0].what,
            "it sets `email`, which `users_email_idx` holds or chooses rows by: no update can be HOT"
        );
        assert_eq!(told[0].severity, Severity::Warning);
        assert_eq!(
            told[0].mend[1..],
            [
                "DROP INDEX CONCURRENTLY \"public\".\"users_email_idx\"",
                "-- after the step",
                "CREATE INDEX CONCURRENTLY users_email_idx ON public.users USING btree (email)",
            ]
        );
        assert_eq!(found(&update(&["n"]), &facts), []);
        let small = TableFacts { rows: Some(10), ..facts.clone() };
        assert_eq!(found(&update(&["email"]), &small)[0].severity, Severity::Note);
        let brin = TableFacts { indexes: vec![Index { stops_hot: false, ..index("b", &["email"]) }], ..table() };
        assert_eq!(found(&update(&["email"]), &brin), []);
    }

    #[test]
    fn full_pages_matter_only_where_updates_could_be_hot() {
        let facts = TableFacts { fillfactor: 100, indexes: vec![index("users_pkey", &["id"])], ..table() };
        assert_eq!(codes(&found(&update(&["n"]), &facts)), ["fillfactor-full"]);
        assert_eq!(codes(&found(&update(&["id"]), &facts)), ["indexed-column-set"]);
        assert_eq!(found(&update(&["n"]), &TableFacts { rows: Some(500), ..facts.clone() }), []);
        assert_eq!(found(&work(Does::Delete), &facts), []);
    }

    #[test]
    fn triggers_fire_by_event_by_column_and_by_the_sessions_role() {
        let audit = Trigger {
            name: "audit".to_owned(),
            function: "public.audit".to_owned(),
            when: "AFTER each row".to_owned(),
            on_update: true,
            of_columns: vec!["email".to_owned()],
            fires_as_origin: true,
            ..Trigger::default()
        };
        let facts = TableFacts { triggers: vec![audit], ..table() };
        let table: [(Work, bool); 6] = [
            (update(&["email"]), true),
            (update(&["n"]), false),
            (work(Does::Update { columns: None }), true),
            (work(Does::Delete), false),
            (work(Does::Insert { updates: true }), true),
            (work(Does::Insert { updates: false }), false),
        ];
        for (work, fires) in table {
            let told = found(&work, &facts);
            assert_eq!(codes(&told) == ["triggers-fire"], fires, "{work:?}: {told:?}");
        }
        let replica = Database { is_replica_role: true, ..database() };
        assert_eq!(of_table(&case(&update(&["email"]), &facts, &replica)), []);
    }

    #[test]
    fn foreign_keys_are_told_where_their_columns_change() {
        let out = ForeignKey {
            name: "users_city".to_owned(),
            other: "cities".to_owned(),
            columns: vec!["city".to_owned()],
            referred: vec!["id".to_owned()],
            is_indexed: true,
            ..ForeignKey::default()
        };
        let into = ForeignKey {
            name: "orders_user".to_owned(),
            other: "orders".to_owned(),
            other_quoted: "public.orders".to_owned(),
            columns: vec!["email".to_owned()],
            referred: vec!["email".to_owned()],
            on_update: "CASCADE".to_owned(),
            on_delete: "NO ACTION".to_owned(),
            is_indexed: false,
        };
        let facts = TableFacts { references: vec![out], referenced_by: vec![into.clone()], ..table() };
        assert_eq!(codes(&found(&update(&["city"]), &facts)), ["foreign-key-checked"]);
        assert_eq!(found(&update(&["n"]), &facts), []);
        let told = found(&update(&["email"]), &facts);
        assert_eq!(codes(&told), ["foreign-key-fires", "foreign-key-without-index"]);
        assert_eq!(told[1].mend, ["CREATE INDEX CONCURRENTLY ON public.orders (\"email\")"]);
        assert!(told[0].what.ends_with("ON UPDATE CASCADE"));
        let indexed = TableFacts { referenced_by: vec![ForeignKey { is_indexed: true, ..into }], ..table() };
        assert_eq!(codes(&found(&work(Does::Delete), &indexed)), ["foreign-key-fires"]);
    }

    #[test]
    fn what_is_half_built_or_half_checked_is_told() {
        let half = Index { is_valid: false, ..index("users_half", &["x"]) };
        let building = Index { is_being_built: true, ..half.clone() };
        let facts = TableFacts { indexes: vec![half], ..table() };
        assert_eq!(codes(&found(&update(&["n"]), &facts)), ["invalid-index"]);
        assert_eq!(found(&update(&["n"]), &TableFacts { indexes: vec![building], ..table() }), []);
        let key = Unvalidated { name: "k".to_owned(), is_foreign_key: true, columns: vec!["city".to_owned()] };
        let check = Unvalidated { name: "c".to_owned(), is_foreign_key: false, columns: vec!["city".to_owned()] };
        let facts = TableFacts { unvalidated: vec![key], ..table() };
        assert_eq!(found(&update(&["n"]), &facts), []);
        assert_eq!(codes(&found(&update(&["city"]), &facts)), ["constraint-not-validated"]);
        let facts = TableFacts { unvalidated: vec![check], ..table() };
        let told = found(&update(&["n"]), &facts);
        assert_eq!(told[0].mend, ["ALTER TABLE \"public\".\"users\" VALIDATE CONSTRAINT \"c\""]);
    }
}
