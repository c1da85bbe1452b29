//! Files that a step replaces, as the ledger keeps them.

use sqlx::postgres::PgConnection;

use super::record::number;
use crate::postgres::record::{FileRow, FileState, RecordError};
use crate::run::{RunId, StepIndex};

/// What a run's step has written down of these files, by their absolute paths.
pub(super) async fn of_paths(
    connection: &mut PgConnection,
    run: RunId,
    step: StepIndex,
    paths: &[String],
) -> Result<Vec<FileRow>, RecordError> {
    let rows: Vec<(String, String, String, String, Option<String>)> = sqlx::query_as(
        "SELECT path, state, before, after, backup FROM howdah.file WHERE run = $1 AND step = $2 AND path = ANY ($3)",
    )
    .bind(run.0)
    .bind(number(step.0))
    .bind(paths)
    .fetch_all(connection)
    .await?;
    let row = |(path, state, before, after, backup): (_, String, _, _, _)| {
        let state = file_state(&state).ok_or_else(|| {
            sqlx::Error::Decode(format!("howdah.file holds a state that this version does not know: {state}").into())
        })?;
        Ok(FileRow { path, state, before, after, backup })
    };
    rows.into_iter().map(row).collect()
}

/// The absolute paths of the files that a run's step has replaced, or may have, in the order of their bytes.
pub(super) async fn replaced_by(
    connection: &mut PgConnection,
    run: RunId,
    step: StepIndex,
) -> Result<Vec<String>, RecordError> {
    let paths = sqlx::query_scalar(
        "SELECT path FROM howdah.file WHERE run = $1 AND step = $2 AND state IN ('replaced', 'intended') \
         ORDER BY path COLLATE \"C\"",
    )
    .bind(run.0)
    .bind(number(step.0))
    .fetch_all(connection)
    .await?;
    Ok(paths)
}

/// Writes down what becomes of files.
pub(super) async fn write(
    tx: &mut PgConnection,
    run: RunId,
    epoch: i64,
    step: StepIndex,
    files: &[FileRow],
) -> Result<(), RecordError> {
    if files.is_empty() {
        return Ok(());
    }
    let texts = |text: fn(&FileRow) -> &str| files.iter().map(text).collect::<Vec<&str>>();
    sqlx::query(
        "INSERT INTO howdah.file AS f (run, step, epoch, path, state, before, after, backup) \
         SELECT $1, $2, $3, * FROM unnest($4::text[], $5::text[], $6::text[], $7::text[], $8::text[]) \
         ON CONFLICT (run, step, path) DO UPDATE SET epoch = excluded.epoch, state = excluded.state, \
             before = excluded.before, after = excluded.after, backup = excluded.backup, at = now()",
    )
    .bind(run.0)
    .bind(number(step.0))
    .bind(epoch)
    .bind(texts(|file| &file.path))
    .bind(texts(|file| file_word(file.state)))
    .bind(texts(|file| &file.before))
    .bind(texts(|file| &file.after))
    .bind(files.iter().map(|file| file.backup.as_deref()).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(())
}

/// The ledger's word for it.
fn file_word(state: FileState) -> &'static str {
    match state {
        FileState::Intended => "intended",
        FileState::Replaced => "replaced",
        FileState::Restored => "restored",
        FileState::Kept => "kept",
    }
}

fn file_state(word: &str) -> Option<FileState> {
    let all = [FileState::Intended, FileState::Replaced, FileState::Restored, FileState::Kept];
    all.into_iter().find(|state| file_word(*state) == word)
}
