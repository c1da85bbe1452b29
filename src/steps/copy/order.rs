//! Which tables go before which: a row comes after the rows that it refers to. And names with stars in them. Pure.

/// Where each of `tables` tables stands: 0 before 1 before 2. `edges`: (who refers, to whom). A table may refer to itself.
///
/// # Errors
/// The tables of a cycle, in its order: none of them can go first.
pub(super) fn levels(tables: usize, edges: &[(usize, usize)]) -> Result<Vec<usize>, Vec<usize>> {
    let mut levels: Vec<Option<usize>> = vec![None; tables];
    let parents = |table: usize| edges.iter().filter(move |(child, parent)| *child == table && parent != child);
    loop {
        let mut is_more = false;
        for table in 0..tables {
            if levels[table].is_some() {
                continue;
            }
            let above: Option<Vec<usize>> = parents(table).map(|(_, parent)| levels[*parent]).collect();
            if let Some(above) = above {
                levels[table] = Some(above.into_iter().max().map_or(0, |level| level + 1));
                is_more = true;
            }
        }
        if !is_more {
            break;
        }
    }
    let Some(stuck) = levels.iter().position(Option::is_none) else {
        return Ok(levels.into_iter().flatten().collect());
    };
    // Each that is stuck refers to another that is: going on from one to the next must come back.
    let mut way = vec![stuck];
    loop {
        let last = way.last().copied().unwrap_or(stuck);
        let next = parents(last).map(|(_, parent)| *parent).find(|parent| levels[*parent].is_none());
        let Some(next) = next else { return Err(way) };
        if let Some(at) = way.iter().position(|table| *table == next) {
            return Err(way.split_off(at));
        }
        way.push(next);
    }
}

/// A pattern of names, as LIKE reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    /// Of the schema. `None`: those of the search path.
    pub(super) schema: Option<String>,
    /// Of the table.
    pub(super) table: String,
}

/// Reads `app.*`, `*`, `"Odd".order_?`: outside of quotes `*` stands for any characters and `?` for one. `None` where
/// neither is there: it is a name.
pub(super) fn pattern(written: &str) -> Option<Pattern> {
    let mut parts = vec![String::new()];
    let mut is_pattern = false;
    let mut quoted = false;
    let mut chars = written.trim().chars().peekable();
    while let Some(c) = chars.next() {
        let mut add = |text: &str| parts.iter_mut().last().map(|part| part.push_str(text));
        match c {
            '"' if quoted && chars.next_if_eq(&'"').is_some() => drop(add("\"")),
            '"' => quoted = !quoted,
            '*' | '?' if !quoted => {
                is_pattern = true;
                add(if c == '*' { "%" } else { "_" });
            }
            '%' | '_' | '\\' => drop(add(&format!("\\{c}"))),
            '.' if !quoted => parts.push(String::new()),
            c if quoted => drop(add(&c.to_string())),
            c => drop(add(&c.to_ascii_lowercase().to_string())),
        }
    }
    let table = parts.pop()?;
    let schema = parts.pop();
    (is_pattern && parts.is_empty()).then_some(Pattern { schema, table })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tables_go_behind_those_that_they_refer_to() {
        assert_eq!(levels(3, &[(0, 1), (1, 2)]), Ok(vec![2, 1, 0]));
        assert_eq!(levels(3, &[(0, 0), (2, 0)]), Ok(vec![0, 0, 1]), "a table may refer to itself");
        assert_eq!(levels(0, &[]), Ok(Vec::new()));
        assert_eq!(levels(4, &[(3, 0), (0, 1), (1, 2), (2, 0)]), Err(vec![0, 1, 2]));
    }

    #[test]
    fn stars_stand_for_names_outside_of_quotes() {
        let pattern_of = |schema: Option<&str>, table: &str| {
            Some(Pattern { schema: schema.map(str::to_owned), table: table.to_owned() })
        };
        assert_eq!(pattern("App.*"), pattern_of(Some("app"), "%"));
        assert_eq!(pattern("order_?"), pattern_of(None, "order\\__"));
        assert_eq!(pattern("\"Odd.%\".\"a*\"*"), pattern_of(Some("Odd.\\%"), "a*%"));
        for name in ["users", "app.users", "\"a*\"", "a.b.*.c"] {
            assert_eq!(pattern(name), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn every_reference_goes_upwards_or_there_is_a_cycle(edges in prop::collection::vec((0_usize..8, 0_usize..8), 0..20)) {
            match levels(8, &edges) {
                Ok(levels) => for (child, parent) in edges.into_iter().filter(|(child, parent)| child != parent) {
                    prop_assert!(levels[child] > levels[parent]);
                },
                Err(cycle) => for (at, table) in cycle.iter().enumerate() {
                    let next = cycle[(at + 1) % cycle.len()];
                    prop_assert!(edges.contains(&(*table, next)), "{cycle:?}");
                },
            }
        }
    }
}
