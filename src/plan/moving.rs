//! The steps that move rows: `import`, `copy`, `transform`, `files`. That each has only keys of its kind is already known.

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use secrecy::SecretString;

use super::mistake::Mistake;
use super::model::Sql;
use super::movers::{
    Address, Comparison, Compression, Copy, Dialect, FileFormat, FileTransform, FileUnit, Import, OnConflict, Program,
    RowProgram, Sink, Source, Transform,
};
use super::raw::{Located, RawStep, Text};
use super::raw_value::RawTexts;
use super::steps::expressions;
use super::values::{LONGEST, Reader};
use crate::run::ByteSize;

const PART: ByteSize = ByteSize(16 << 20);
const MEMORY: ByteSize = ByteSize(16 << 20);
const OPERATIONS: u64 = 1_000_000;
const SILENCE: Duration = Duration::from_secs(30);
const CONCURRENCY: RangeInclusive<u64> = 1..=64;
const COUNT: RangeInclusive<u64> = 1..=1_000_000_000_000;

/// The standard input, in the place of a file.
pub const STDIN: &str = "-";

pub(super) fn import(reader: &mut Reader<'_>, files: Located<RawTexts>, raw: RawStep) -> Option<Import> {
    let place = files.span.clone();
    let files = texts(reader, "import", Some(files));
    if files.len() > 1
        && let Some(stdin) = files.iter().find(|file| file.text == STDIN)
    {
        reader.report(stdin.span.clone(), Mistake::StdinAmongFiles);
    }
    let into = needed(reader, "an import", "into", &place, raw.into);
    let dialect = Dialect {
        delimiter: one_byte(reader, "delimiter", raw.delimiter),
        quote: one_byte(reader, "quote", raw.quote),
        escape: one_byte(reader, "escape", raw.escape),
        null: raw.null.and_then(|null| reader.possibly_empty(&null)),
        header: raw.header.map(|header| header.value),
    };
    Some(Import {
        format: word(reader, "format", raw.format, &FileFormat::WORDS, &FileFormat::ALL),
        compression: word(reader, "compression", raw.compression, &Compression::WORDS, &Compression::ALL),
        dialect,
        fields: raw.fields.map(|fields| texts(reader, "fields", Some(fields))),
        skip: texts(reader, "skip", raw.skip),
        columns: raw.columns.map(|columns| expressions(reader, "columns", columns)).unwrap_or_default(),
        encoding: raw.encoding.and_then(|encoding| reader.text("encoding", encoding)),
        on_conflict: on_conflict(reader, raw.on_conflict),
        key: texts(reader, "key", raw.key),
        rejects: raw.rejects.is_some_and(|rejects| rejects.value),
        part: reader.size("part", raw.part).unwrap_or(PART),
        into: into?,
        files,
    })
}

pub(super) fn copy(reader: &mut Reader<'_>, tables: Located<RawTexts>, raw: RawStep) -> Option<Copy> {
    let place = tables.span.clone();
    let tables = texts(reader, "copy", Some(tables));
    let from = raw.from.and_then(|url| address(reader, "from", url));
    let database = raw.database.and_then(|url| address(reader, "database", url));
    let to = raw.to.and_then(|to| reader.text("to", to));
    if to.is_none() && from.is_none() && database.is_none() {
        reader.report(place, Mistake::NowhereToCopy);
        return None;
    }
    let verify = word(reader, "verify", raw.verify, &Comparison::WORDS, &Comparison::ALL);
    let repair = raw.repair.is_some_and(|repair| {
        if repair.value && verify.is_none() {
            reader.report(repair.span, Mistake::lacks("`repair`", "`verify`", "verify = \"checksum\""));
        }
        repair.value
    });
    Some(Copy {
        from,
        to,
        database,
        columns: raw.columns.map(|columns| expressions(reader, "columns", columns)).unwrap_or_default(),
        filter: raw.filter.and_then(|filter| reader.text("where", filter)),
        verify,
        repair,
        consistent: raw.consistent.is_some_and(|consistent| consistent.value),
        tables,
    })
}

pub(super) fn transform(reader: &mut Reader<'_>, source: Text, mut raw: RawStep) -> Option<Transform> {
    let place = source.span.clone();
    let source = reader.text("transform", source);
    let key = raw.key.take();
    let source = source.and_then(|sql| match (is_query(&sql.text), key) {
        (false, None) => Some(Source::Table(sql)),
        (false, Some(key)) => {
            reader.report(key.span, Mistake::apart("key", "a table", "a table is walked by its own key: remove it"));
            None
        }
        (true, Some(key)) => Some(Source::Query { sql, key: texts(reader, "key", Some(key)) }),
        (true, None) => {
            reader.report(sql.span, Mistake::lacks("a transform of a query", "`key`", "key = [\"id\"]"));
            None
        }
    });
    let read = texts(reader, "read", raw.read.take());
    let filter = raw.filter.take().and_then(|filter| reader.text("where", filter));
    let batch = reader.whole("batch", raw.batch.take(), &COUNT).map(|batch| batch.value);
    let linger = reader.duration("linger", raw.linger.take(), LONGEST).map(|linger| linger.value);
    let by = match raw.set.take() {
        Some(set) => {
            if let Some((key, span)) = program_key(&raw) {
                reader.report(span, Mistake::apart(key, "`set`", "keep one of them"));
                return None;
            }
            Some(RowProgram::Set(expressions(reader, "set", set)))
        }
        None => program(reader, "a transform", &place, &mut raw).map(RowProgram::Program),
    };
    let sink = sink(reader, &place, raw);
    let (source, by, sink) = (source?, by?, sink?);
    if matches!((&by, &sink), (RowProgram::Set(_), Sink::Update(_))) {
        reader
            .report(place, Mistake::apart("update", "`set`", "that is a backfill: `backfill = \"table\"` with `set`"));
        return None;
    }
    if matches!((&source, &sink), (Source::Query { .. }, Sink::Update(_))) {
        reader.report(place, Mistake::apart("update", "a query", "name the table, and its rows in `where`"));
        return None;
    }
    Some(Transform { source, read, filter, by, sink, batch, linger })
}

pub(super) fn files(reader: &mut Reader<'_>, files: Located<RawTexts>, mut raw: RawStep) -> Option<FileTransform> {
    let place = files.span.clone();
    let files = texts(reader, "files", Some(files));
    let by = word(reader, "by", raw.by.take(), &FileUnit::WORDS, &FileUnit::ALL).unwrap_or(FileUnit::File);
    let concurrency = reader.whole("concurrency", raw.concurrency.take(), &CONCURRENCY);
    let backup = raw.backup.take().is_some_and(|backup| backup.value);
    let program = program(reader, "a transform of files", &place, &mut raw)?;
    let concurrency = concurrency.and_then(|concurrency| u32::try_from(concurrency.value).ok()).unwrap_or(4);
    Some(FileTransform { files, program, by, concurrency, backup })
}

/// Whether it is a query, and not the name of a table.
fn is_query(text: &str) -> bool {
    let text = text.trim_start().trim_start_matches('(').trim_start();
    let word: String = text.chars().take_while(char::is_ascii_alphabetic).collect();
    let rest = &text[word.len()..];
    ["select", "with", "values", "table"].contains(&word.to_lowercase().as_str())
        && rest.starts_with(|c: char| c.is_whitespace() || c == '(')
}

fn program_key(raw: &RawStep) -> Option<(&'static str, Range<usize>)> {
    let rhai = raw.rhai.as_ref().map(|rhai| ("rhai", rhai.span.clone()));
    rhai.or_else(|| raw.command.as_ref().map(|command| ("command", command.span.clone())))
}

fn program(reader: &mut Reader<'_>, kind: &'static str, place: &Range<usize>, raw: &mut RawStep) -> Option<Program> {
    let operations = raw.operations.take();
    let memory = raw.memory.take();
    let timeout = raw.timeout.take();
    match (raw.rhai.take(), raw.command.take()) {
        (Some(_), Some(command)) => {
            reader.report(command.span, Mistake::apart("command", "`rhai`", "keep one of them"));
            None
        }
        (Some(rhai), None) => {
            if let Some(timeout) = timeout {
                let hint = "`operations` limits how long a script may take";
                reader.report(timeout.span, Mistake::apart("timeout", "`rhai`", hint));
            }
            let operations = reader.whole("operations", operations, &COUNT).map(|operations| operations.value);
            let memory = reader.size("memory", memory).unwrap_or(MEMORY);
            let script = reader.text("rhai", rhai)?;
            Some(Program::Rhai { script, operations: operations.unwrap_or(OPERATIONS), memory, caches: Vec::new() })
        }
        (None, Some(command)) => {
            for (key, span) in operations
                .map(|operations| ("operations", operations.span))
                .into_iter()
                .chain(memory.map(|memory| ("memory", memory.span)))
            {
                reader.report(span, Mistake::apart(key, "`command`", "it limits a `rhai` script: remove it"));
            }
            let timeout = reader.duration("timeout", timeout, LONGEST).map(|timeout| timeout.value);
            let argv = texts(reader, "command", Some(command));
            (!argv.is_empty()).then(|| Program::Command { argv, timeout: timeout.unwrap_or(SILENCE) })
        }
        (None, None) => {
            let example = "rhai = \"...\"` or `command = [\"program\"]";
            reader.report(place.clone(), Mistake::lacks(kind, "a program", example));
            None
        }
    }
}

fn sink(reader: &mut Reader<'_>, place: &Range<usize>, mut raw: RawStep) -> Option<Sink> {
    let mut given: Vec<(&'static str, Range<usize>)> = Vec::new();
    given.extend(raw.update.as_ref().map(|update| ("update", update.span.clone())));
    given.extend(raw.into.as_ref().map(|into| ("into", into.span.clone())));
    given.extend(raw.file.as_ref().map(|file| ("file", file.span.clone())));
    let sink = match given.as_slice() {
        [] => {
            let example = "update = [\"column\"]`, `into = \"table\"` or `file = \"out/{n}.csv\"";
            reader.report(place.clone(), Mistake::lacks("a transform", "somewhere to put its rows", example));
            return None;
        }
        [(sink, _)] => *sink,
        [(first, _), (second, span), ..] => {
            let first = if *first == "update" { "`update`" } else { "`into`" };
            reader.report(span.clone(), Mistake::apart(second, first, "keep one of them"));
            return None;
        }
    };
    let mut elsewhere: Vec<(&'static str, &'static str, Range<usize>)> = Vec::new();
    let mut only = |key, with, span: Option<Range<usize>>| elsewhere.extend(span.map(|span| (key, with, span)));
    if sink != "into" {
        only("on_conflict", "`into`", raw.on_conflict.as_ref().map(|field| field.span.clone()));
        only("conflict_key", "`into`", raw.conflict_key.as_ref().map(|field| field.span.clone()));
    }
    if sink != "file" {
        only("format", "`file`", raw.format.as_ref().map(|field| field.span.clone()));
        only("compression", "`file`", raw.compression.as_ref().map(|field| field.span.clone()));
        only("rotate", "`file`", raw.rotate.as_ref().map(|field| field.span.clone()));
    }
    for (key, with, span) in elsewhere {
        reader.report(span, Mistake::OnlyWith { key, with });
    }
    if let Some(update) = raw.update.take() {
        return Some(Sink::Update(texts(reader, "update", Some(update))));
    }
    if let Some(into) = raw.into.take() {
        let table = reader.text("into", into);
        let on_conflict = on_conflict(reader, raw.on_conflict);
        let key = texts(reader, "conflict_key", raw.conflict_key);
        return Some(Sink::Insert { table: table?, on_conflict, key });
    }
    file(reader, raw)
}

fn file(reader: &mut Reader<'_>, raw: RawStep) -> Option<Sink> {
    let format = word(reader, "format", raw.format, &FileFormat::WORDS[..3], &FileFormat::ALL[..3]);
    let compression = word(reader, "compression", raw.compression, &Compression::WORDS, &Compression::ALL);
    let rotate = reader.size("rotate", raw.rotate);
    let path = raw.file.and_then(|file| reader.text("file", file))?;
    if !path.text.contains("{n}") {
        reader.report(path.span, Mistake::NoNumber);
        return None;
    }
    let (by_name, compressed) = by_name(&path.text);
    let Some(format) = format.or(by_name).filter(|format| *format != FileFormat::Text) else {
        reader.report(path.span, Mistake::lacks("this `file`", "`format`", "format = \"csv\"` or `format = \"jsonl\""));
        return None;
    };
    Some(Sink::File { path, format, compression: compression.unwrap_or(compressed), rotate })
}

/// What a file of that name holds, by its last extension beside that of a compression, and how it is compressed.
#[must_use]
pub fn by_name(name: &str) -> (Option<FileFormat>, Compression) {
    let name = name.to_lowercase();
    let compressions = [(".gz", Compression::Gzip), (".zst", Compression::Zstd), (".zstd", Compression::Zstd)];
    let compressed = compressions.iter().find_map(|(suffix, by)| Some((name.strip_suffix(suffix)?, *by)));
    let (name, compression) = compressed.unwrap_or((&name, Compression::None));
    let formats = [
        (".csv", FileFormat::Csv),
        (".tsv", FileFormat::Text),
        (".txt", FileFormat::Text),
        (".copy", FileFormat::Text),
        (".jsonl", FileFormat::JsonLines),
        (".ndjson", FileFormat::JsonLines),
        (".parquet", FileFormat::Parquet),
    ];
    (formats.iter().find_map(|(suffix, format)| name.ends_with(suffix).then_some(*format)), compression)
}

fn on_conflict(reader: &mut Reader<'_>, field: Option<Text>) -> OnConflict {
    word(reader, "on_conflict", field, &OnConflict::WORDS, &OnConflict::ALL).unwrap_or_default()
}

fn word<T: std::marker::Copy>(
    reader: &mut Reader<'_>,
    key: &'static str,
    field: Option<Text>,
    words: &'static [&'static str],
    meanings: &[T],
) -> Option<T> {
    let place = reader.word(key, &field?, words)?;
    meanings.get(place).copied()
}

/// Texts that are not empty.
fn texts(reader: &mut Reader<'_>, key: &'static str, field: Option<Located<RawTexts>>) -> Vec<Sql> {
    let Some(field) = field else { return Vec::new() };
    let place = field.span.clone();
    let list = RawTexts::into_list(field);
    if list.is_empty() {
        let example = super::format::key_of(key).map_or("", |key| key.example);
        let advice = format!("write it like `{example}`, or remove it");
        reader.report(place, Mistake::Empty { key: key.to_owned(), advice });
    }
    list.into_iter().filter_map(|text| reader.text(key, text)).collect()
}

fn needed(
    reader: &mut Reader<'_>,
    kind: &'static str,
    key: &'static str,
    place: &Range<usize>,
    field: Option<Text>,
) -> Option<Sql> {
    if let Some(field) = field {
        return reader.text(key, field);
    }
    let example = super::format::key_of(key).map_or("", |key| key.example);
    reader.report(place.clone(), Mistake::Lacks { kind, wanted: "`into`", example });
    None
}

fn address(reader: &mut Reader<'_>, key: &'static str, field: Text) -> Option<Address> {
    let span = field.span.clone();
    let url: SecretString = super::options::address(reader, key, field)?;
    Some(Address { url, span })
}

/// One ASCII character that may stand between fields or around them.
fn one_byte(reader: &mut Reader<'_>, key: &'static str, field: Option<Text>) -> Option<u8> {
    let field = field?;
    match reader.possibly_empty(&field)?.as_bytes() {
        [byte] if byte.is_ascii() && !matches!(byte, b'\r' | b'\n' | 0) => Some(*byte),
        _ => {
            reader.report(field.span, Mistake::NotOneByte { key });
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::StepKind;
    use crate::plan::tests::load;

    #[test]
    fn what_is_not_written_has_its_default() {
        let plan = load(
            "[[step]]\nname = 'i'\nimport = 'a.csv'\ninto = 't'\n[[step]]\nname = 'c'\ncopy = 't'\nto = 'u'\nverify = 'count'\n\
             [[step]]\nname = 't'\ntransform = 't'\ncommand = ['cat']\nfile = 'o-{n}.jsonl.gz'\n\
             [[step]]\nname = 'f'\nfiles = ['*.json', 'b']\nrhai = 'text'",
        )
        .expect("a good plan");
        let kinds: Vec<&str> = plan.steps.iter().map(|step| step.kind.word()).collect();
        assert_eq!(kinds, ["import", "copy", "transform", "files"]);
        let [StepKind::Import(import), StepKind::Copy(copy), StepKind::Transform(transform), StepKind::Files(files)] =
            [0, 1, 2, 3].map(|at: usize| plan.steps[at].kind.clone())
        else {
            panic!("{kinds:?}");
        };
        assert_eq!((import.part, import.dialect, import.on_conflict), (PART, Dialect::default(), OnConflict::Error));
        assert_eq!((import.fields, import.format, import.rejects), (None, None, false));
        assert_eq!((copy.verify, copy.repair, copy.consistent), (Some(Comparison::Count), false, false));
        let Sink::File { format, compression, rotate, .. } = transform.sink else { panic!("a file") };
        assert_eq!((format, compression, rotate), (FileFormat::JsonLines, Compression::Gzip, None));
        let RowProgram::Program(Program::Command { timeout, .. }) = transform.by else { panic!("a command") };
        assert_eq!((timeout, transform.batch, transform.linger), (SILENCE, None, None));
        assert_eq!((files.by, files.concurrency, files.backup, files.files.len()), (FileUnit::File, 4, false, 2));
        let Program::Rhai { operations, memory, .. } = files.program else { panic!("a script") };
        assert_eq!((operations, memory), (OPERATIONS, MEMORY));
    }

    #[test]
    fn a_query_is_told_from_the_name_of_a_table() {
        for query in ["SELECT 1", " select\n1", "WITH x AS (SELECT 1) TABLE x", "(VALUES (1))", "values(1)", "TABLE t"]
        {
            assert!(is_query(query), "{query}");
        }
        for table in ["users", "app.users", "\"select\"", "selection", "with_x", "table_1", "select.t"] {
            assert!(!is_query(table), "{table}");
        }
    }

    #[test]
    fn a_file_is_known_by_its_name() {
        let table = [
            ("a/B.CSV", Some(FileFormat::Csv), Compression::None),
            ("b.csv.gz", Some(FileFormat::Csv), Compression::Gzip),
            ("b.ndjson.zst", Some(FileFormat::JsonLines), Compression::Zstd),
            ("b.tsv", Some(FileFormat::Text), Compression::None),
            ("b.gz", None, Compression::Gzip),
            ("csv", None, Compression::None),
        ];
        for (name, format, compression) in table {
            assert_eq!(by_name(name), (format, compression), "{name}");
        }
    }
}
