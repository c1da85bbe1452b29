//! Where a rehearsal tries batches: at three places of the key space, by sampled keys.

use serde::Serialize;
use sqlx::postgres::PgConnection;

use super::subject::{Part, Subject};
use crate::postgres::key::End;
use crate::run::KeyText;

/// Pieces that the key space is cut into; the last place begins at the last of them.
const PIECES: u32 = 16;
/// Places at most.
const PLACES: usize = 3;

/// Where in the key space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Where {
    /// At its first row.
    Beginning,
    /// In its middle.
    Middle,
    /// Near its end.
    End,
}

impl Where {
    /// In a sentence.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Beginning => "at the beginning",
            Self::Middle => "in the middle",
            Self::End => "near the end",
        }
    }
}

/// A place of one part.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// Which part of the subject.
    pub(super) part: usize,
    /// Where in it.
    pub(super) at: Where,
    /// The key before its first row. `None`: the first row.
    pub(super) from: Option<KeyText>,
    /// Its last key: the next place begins behind it.
    pub(super) upper: Option<KeyText>,
}

/// The places of a subject: three of one table, or of the largest partitions.
pub(super) async fn find(connection: &mut PgConnection, subject: &Subject) -> Result<Vec<Place>, sqlx::Error> {
    // One each of three partitions; two of the first where there are two.
    let per_part: &[usize] = match subject.parts.len() {
        0 => &[],
        1 => &[PLACES],
        2 => &[2, 1],
        _ => &[1; PLACES],
    };
    let mut places = Vec::new();
    for (index, (part, most)) in subject.parts.iter().zip(per_part).enumerate() {
        places.extend(of_part(connection, index, part, *most).await?);
    }
    Ok(places)
}

async fn of_part(
    connection: &mut PgConnection,
    index: usize,
    part: &Part,
    most: usize,
) -> Result<Vec<Place>, sqlx::Error> {
    let Some(last) = part.keys.end(connection, End::Last).await? else { return Ok(Vec::new()) };
    let cuts = part.keys.cuts(connection, None, &last, PIECES).await?;
    Ok(choose(index, &cuts, &last, most))
}

/// Of the cuts of a key space up to `last`: where batches are tried.
fn choose(part: usize, cuts: &[KeyText], last: &KeyText, most: usize) -> Vec<Place> {
    let mut starts: Vec<(Where, Option<KeyText>)> = vec![(Where::Beginning, None)];
    let middle = cuts.get(cuts.len() / 2);
    let end = cuts.last().filter(|end| Some(*end) != middle);
    match most {
        1 => starts = middle.map_or(starts, |middle| vec![(Where::Middle, Some(middle.clone()))]),
        _ => starts.extend(middle.map(|middle| (Where::Middle, Some(middle.clone())))),
    }
    if most > 2 {
        starts.extend(end.map(|end| (Where::End, Some(end.clone()))));
    }
    let uppers: Vec<Option<KeyText>> =
        starts.iter().skip(1).map(|(_, from)| from.clone()).chain([Some(last.clone())]).collect();
    starts.into_iter().zip(uppers).map(|((at, from), upper)| Place { part, at, from, upper }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u32) -> KeyText {
        vec![n.to_string()]
    }

    #[test]
    fn three_places_of_a_table_never_overlap() {
        let cuts: Vec<KeyText> = (1..16).map(|n| key(n * 100)).collect();
        let places = choose(0, &cuts, &key(1_600), 3);
        let told: Vec<_> = places.iter().map(|p| (p.at, p.from.clone(), p.upper.clone())).collect();
        assert_eq!(
            told,
            [
                (Where::Beginning, None, Some(key(800))),
                (Where::Middle, Some(key(800)), Some(key(1_500))),
                (Where::End, Some(key(1_500)), Some(key(1_600))),
            ]
        );
    }

    #[test]
    fn a_table_that_is_not_cut_has_one_place() {
        for most in [1, 2, 3] {
            let places = choose(4, &[], &key(9), most);
            assert_eq!(places.len(), 1);
            assert_eq!((places[0].part, places[0].at, &places[0].upper), (4, Where::Beginning, &Some(key(9))));
        }
        let one = choose(0, &[key(5)], &key(9), 3);
        assert_eq!(one.iter().map(|p| p.at).collect::<Vec<_>>(), [Where::Beginning, Where::Middle]);
        assert_eq!(choose(0, &[key(5)], &key(9), 1)[0].at, Where::Middle);
    }
}
