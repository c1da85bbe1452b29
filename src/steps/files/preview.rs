//! What would become of the first files of a step, without changing any.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::sync::Arc;
use std::time::Duration;

use similar::TextDiff;

use super::halt::Halt;
use super::list::Found;
use super::tool::Tool;
use super::{disk, list};
use crate::cache::Caches;
use crate::plan::model::PlanSource;
use crate::plan::movers::FileTransform;
use crate::postgres::error::io_words;
use crate::run::{ByteSize, Cause};
use crate::steps::program::asking::{self, Asking};

/// Files that are shown.
const SHOWN: usize = 3;
/// Files that are looked at for them, at most.
const LOOKED_AT: usize = 100;
/// Bytes of a file of which a diff is made, at most.
const LARGEST: u64 = 1 << 20;
/// How long is looked for the shortest diff.
const PATIENCE: Duration = Duration::from_secs(2);
/// Lines of a diff that are shown.
const LINES: usize = 200;

/// What would become of a step's files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Preview {
    /// Files that the step is for.
    pub files: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Files that the program was tried on.
    pub looked_at: u64,
    /// The first that would change.
    pub changes: Vec<Change>,
    /// Those that would be set aside, and why. Not cleaned.
    pub wrong: Vec<(String, String)>,
}

/// What would become of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its path. Not cleaned.
    pub path: String,
    /// The lines of a unified diff, or of what there is to say where there can be none. Not cleaned.
    pub lines: Vec<String>,
}

/// Tries the program on the first files, until three of them would change.
///
/// # Errors
/// The files or the program are not there, or wrong.
pub async fn preview(
    what: &str,
    files: &FileTransform,
    source: &PlanSource,
    caches: Option<&Arc<Caches>>,
) -> Result<Preview, Cause> {
    let (asking, mut answering) = caches.map(asking::both).unzip();
    let (what, files, source) = (what.to_owned(), Arc::new(files.clone()), Arc::new(source.clone()));
    let looking = tokio::task::spawn_blocking(move || look(&what, &files, &source, asking.as_ref()));
    let looked = asking::answered(answering.as_mut(), looking).await;
    looked.unwrap_or_else(|e| Err(Cause::bug(format!("looking at files: {e}"))))
}

fn look(what: &str, files: &FileTransform, source: &PlanSource, asking: Option<&Asking>) -> Result<Preview, Cause> {
    let Found { list, .. } = list::find(what, files, source)?;
    let mut tool = Tool::new(what, files, source, asking)?;
    let mut preview = Preview { files: list.len() as u64, bytes: list.bytes(), ..Preview::default() };
    for name in list.names(0..list.len().min(LOOKED_AT)) {
        if preview.changes.len() == SHOWN {
            break;
        }
        preview.looked_at += 1;
        match change(&mut tool, name) {
            Ok(Some(lines)) => preview.changes.push(Change { path: name.clone(), lines }),
            Ok(None) => {}
            Err(Halt::Wrong(told)) => preview.wrong.push((name.clone(), told)),
            Err(Halt::Fatal(cause)) => return Err(cause),
        }
    }
    Ok(preview)
}

fn change(tool: &mut Tool, name: &str) -> Result<Option<Vec<String>>, Halt> {
    let open = || File::open(name).map_err(|e| Halt::unreadable(&e));
    let aside = |e: std::io::Error| Halt::Fatal(Cause::new(format!("no temporary file: {}", io_words(&e))));
    let mut new = tempfile::tempfile().map_err(aside)?;
    let made = tool.make(name, open()?, &mut new)?;
    if made.before == made.after {
        return Ok(None);
    }
    new.flush().and_then(|()| new.seek(SeekFrom::Start(0))).map_err(aside)?;
    let size = |file: &File| file.metadata().map_or(0, |about| about.len());
    let old = open()?;
    let (before, after) = (size(&old), size(&new));
    let texts = |file: File| {
        let bytes = disk::whole(file, LARGEST).ok()??;
        String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'))
    };
    let (Some(old), Some(new)) = (texts(old), texts(new)) else {
        return Ok(Some(vec![format!("{} become {}, and cannot be shown", ByteSize(before), ByteSize(after))]));
    };
    Ok(Some(diff(name, &old, &new)))
}

/// A unified diff, line by line.
fn diff(name: &str, old: &str, new: &str) -> Vec<String> {
    let diff = TextDiff::configure().timeout(PATIENCE).diff_lines(old, new);
    let text = diff.unified_diff().context_radius(3).header(name, name).to_string();
    let mut lines: Vec<String> = text.split_inclusive('\n').map(without_newline).collect();
    if lines.len() > LINES {
        let more = lines.len() - LINES;
        lines.truncate(LINES);
        lines.push(format!("... {more} more lines"));
    }
    lines
}

fn without_newline(line: &str) -> String {
    line.strip_suffix('\n').unwrap_or(line).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diff_names_the_file_and_shows_what_differs() {
        let lines = diff("a.txt", "one\ntwo\nthree", "one\n2\nthree");
        assert_eq!(
            lines,
            [
                "--- a.txt",
                "+++ a.txt",
                "@@ -1,3 +1,3 @@",
                " one",
                "-two",
                "+2",
                " three",
                "\\ No newline at end of file"
            ]
        );
        let long = |word: &str| format!("{word}\n").repeat(500);
        let lines = diff("a.txt", &long("a"), &long("b"));
        assert_eq!(lines.len(), LINES + 1);
    }
}
