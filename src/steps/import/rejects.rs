//! `rejects = true`: the bad records of a file, in a file beside it.

use std::io::{self, Read, Write};
use std::path::Path;

use sqlx::postgres::PgConnection;

use super::files::Input;
use super::look::Looked;
use super::set_aside;
use crate::engine::ports::StepError;
use crate::run::{Cause, KeyText};
use crate::steps::{Workbench, trouble};

/// Records that are asked for at once.
const PAGE: u32 = 500;

/// Writes `FILE.rejects` for each file that has bad records; what was there before is replaced.
pub(super) async fn write(connection: &mut PgConnection, bench: &Workbench, looked: &Looked) -> Result<(), StepError> {
    let what = bench.what();
    for file in looked.files.iter().filter(|file| !file.input.is_stdin()) {
        let path = &file.input.path;
        let failed = |e: std::io::Error| {
            let told = crate::postgres::error::io_words(&e);
            StepError::Failed(
                Cause::new(format!("{what}: {path}.rejects cannot be written: {told}"))
                    .hint("everything is loaded; make room or rights beside the file and resume, or remove `rejects`"),
            )
        };
        let mut out: Option<tempfile::NamedTempFile> = None;
        let mut after: Option<KeyText> = None;
        loop {
            let page = bench.recorder.aside_page(connection, bench.index, path, after.as_ref(), PAGE).await;
            let page = page.map_err(|e| trouble::of_record(&e, &what))?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            for row in page.iter().filter_map(|(_, row)| row.as_deref()) {
                let record = match (set_aside::kept(row), set_aside::lies(row)) {
                    (Some(record), _) => record,
                    (None, Some(place)) => from_file(&file.input, place).await.map_err(failed)?,
                    (None, None) => continue,
                };
                if out.is_none() {
                    let beside = Path::new(path).parent().filter(|parent| !parent.as_os_str().is_empty());
                    out = Some(tempfile::NamedTempFile::new_in(beside.unwrap_or(Path::new("."))).map_err(failed)?);
                }
                if let Some(out) = &mut out {
                    out.write_all(&record).and_then(|()| out.write_all(&[file.framing.end()])).map_err(failed)?;
                }
            }
        }
        if let Some(out) = out {
            out.as_file().sync_all().map_err(failed)?;
            out.persist(format!("{path}.rejects")).map_err(|e| failed(e.error))?;
        }
    }
    Ok(())
}

/// A record that was too long for the quarantine, out of the file that it stands in.
async fn from_file(input: &Input, (offset, bytes): (u64, u64)) -> io::Result<Vec<u8>> {
    let input = input.clone();
    let read = tokio::task::spawn_blocking(move || {
        let mut record = Vec::new();
        input.open(offset)?.bytes.take(bytes).read_to_end(&mut record)?;
        Ok(record)
    });
    read.await.map_err(io::Error::other)?
}
