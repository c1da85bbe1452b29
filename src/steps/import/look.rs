//! What is known of an import before its first record: the table, each file's fields, and the SQL that loads them.

use std::sync::Arc;

use sqlx::postgres::PgConnection;

use super::feed::Place;
use super::files::{self, Input};
use super::loading::{self, Facts, Fields, LoadSql, Refusal};
use super::records::{self, Framing};
use crate::plan::model::PlanSource;
use crate::plan::movers::{FileFormat, Import};
use crate::postgres::catalog::{self, Table, Writes};
use crate::postgres::error;
use crate::run::{Cause, human};

const BOM: &[u8] = b"\xef\xbb\xbf";

/// A file, ready to be loaded.
#[derive(Debug, Clone)]
pub struct Planned {
    /// The file.
    pub input: Input,
    /// How its records stand.
    pub framing: Framing,
    /// Where the first one begins: behind a byte order mark and a header.
    pub start: Place,
    /// How they are loaded.
    pub sql: Arc<LoadSql>,
    /// Rows that it is thought to hold.
    pub rows: Option<u64>,
    /// Whether it is to be UTF-8.
    pub is_utf8: bool,
}

/// Everything that is known of the step.
#[derive(Debug, Clone)]
pub struct Looked {
    /// The table.
    pub table: Table,
    /// What there is to know of it beside its columns.
    pub facts: Facts,
    /// The files, in the order of their paths.
    pub files: Vec<Planned>,
}

impl Looked {
    /// What an operator should know before anything is loaded.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        for file in &self.files {
            let unknown = &file.sql.unknown;
            // One file tells it for all that are laid out in the same way.
            let is_first =
                self.files.iter().find(|other| Arc::ptr_eq(&other.sql, &file.sql)).map(|first| &first.input.path);
            if unknown.is_empty() || is_first != Some(&file.input.path) {
                continue;
            }
            let shown: Vec<String> = unknown.iter().take(8).map(|key| format!("`{key}`")).collect();
            let more = if unknown.len() > shown.len() { ", ..." } else { "" };
            notes.push(format!(
                "{}: {}{more} {} no column in `{}` and {} not loaded",
                file.input.path,
                shown.join(", "),
                if unknown.len() == 1 { "has" } else { "have" },
                self.table.label(),
                if unknown.len() == 1 { "is" } else { "are" },
            ));
        }
        notes
    }

    /// The file that a segment names.
    #[must_use]
    pub fn file(&self, part: Option<&str>) -> Option<&Planned> {
        self.files.iter().find(|file| Some(file.input.path.as_str()) == part)
    }
}

/// Looks at the table and at the files.
///
/// # Errors
/// The table or a file is not there; a field has no column: with the place in the plan.
pub async fn look(
    connection: &mut PgConnection,
    step: &str,
    import: &Import,
    source: &PlanSource,
) -> Result<Looked, Cause> {
    let what = format!("step \"{step}\"");
    let table = catalog::table(connection, step, &import.into, source).await?;
    let facts = facts(connection, &table).await.map_err(|e| error::cause(&what, &e))?;
    let (words, wanted, named) = (what.clone(), import.clone(), source.clone());
    // Reading may take its time: on a thread for that.
    let read = tokio::task::spawn_blocking(move || read(&words, &wanted, &named)).await;
    let heads = read.map_err(|e| Cause::bug(format!("reading the files' heads: {e}")))??;
    let encoding = import.encoding.as_ref().map(|encoding| encoding.text.to_lowercase().replace(['-', '_'], ""));
    let is_utf8 = encoding.is_none_or(|encoding| encoding == "utf8" || encoding == "unicode");
    let mut known: Vec<(FileFormat, Fields, Arc<LoadSql>)> = Vec::new();
    let mut files = Vec::new();
    for head in heads {
        let fields = match &head.fields {
            Some(fields) => fields.clone(),
            None => Fields::Ordered(own_fields(&table)),
        };
        let format = head.input.format;
        let shared = known.iter().find(|(of, names, _)| (*of, names) == (format, &fields));
        let sql = if let Some((_, _, sql)) = shared {
            Arc::clone(sql)
        } else {
            let planned = loading::plan(&table, &facts, import, format, &fields, known.len());
            let sql = Arc::new(planned.map_err(|refusal| refused(&what, &head.input.path, refusal, import, source))?);
            known.push((format, fields, Arc::clone(&sql)));
            sql
        };
        let Head { input, framing, start, rows, .. } = head;
        files.push(Planned { input, framing, start, sql, rows, is_utf8 });
    }
    Ok(Looked { table, facts, files })
}

fn refused(what: &str, path: &str, refusal: Refusal, import: &Import, source: &PlanSource) -> Cause {
    let mut cause = Cause::usage(format!("{what}, {path}: {}", refusal.message));
    if !refusal.hint.is_empty() {
        cause = cause.hint(refusal.hint);
    }
    cause.details = source.excerpt_in_sql(refusal.place.as_ref().unwrap_or(&import.into), 0);
    cause
}

/// The columns that a file without names is thought to hold.
fn own_fields(table: &Table) -> Vec<String> {
    let own = table.columns.iter().filter(|column| column.writes != Writes::Generated);
    own.map(|column| column.name.clone()).collect()
}

async fn facts(connection: &mut PgConnection, table: &Table) -> Result<Facts, sqlx::Error> {
    let defaults = sqlx::query_as(
        "SELECT a.attname::text, CASE WHEN a.attidentity <> '' \
                THEN format('nextval(%L::regclass)', pg_get_serial_sequence(a.attrelid::regclass::text, a.attname)) \
                ELSE pg_get_expr(d.adbin, d.adrelid) END \
         FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum \
         WHERE a.attrelid = $1::int8::oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' \
               AND (d.adbin IS NOT NULL OR a.attidentity <> '') ORDER BY a.attnum",
    )
    .bind(table.oid)
    .persistent(false)
    .fetch_all(&mut *connection)
    .await?;
    let primary_key = sqlx::query_scalar(
        "SELECT a.attname::text FROM pg_index i, unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, at), pg_attribute a \
         WHERE i.indrelid = $1::int8::oid AND i.indisprimary AND a.attrelid = i.indrelid AND a.attnum = k.attnum \
         ORDER BY k.at",
    )
    .bind(table.oid)
    .persistent(false)
    .fetch_all(&mut *connection)
    .await?;
    let denied = sqlx::query_scalar(
        "SELECT attname::text FROM pg_attribute WHERE attrelid = $1::int8::oid AND attnum > 0 AND NOT attisdropped \
                AND NOT has_column_privilege(attrelid, attnum, 'INSERT')",
    )
    .bind(table.oid)
    .persistent(false)
    .fetch_all(connection)
    .await?;
    Ok(Facts { defaults, primary_key, denied })
}

/// What the beginning of a file shows.
struct Head {
    input: Input,
    framing: Framing,
    start: Place,
    /// `None`: the table's columns.
    fields: Option<Fields>,
    rows: Option<u64>,
}

fn read(what: &str, import: &Import, source: &PlanSource) -> Result<Vec<Head>, Cause> {
    let inputs = files::find(what, import, source)?;
    inputs.into_iter().map(|input| head(what, import, input)).collect()
}

fn head(what: &str, import: &Import, input: Input) -> Result<Head, Cause> {
    let bytes = input.beginning().map_err(|e| {
        Cause::usage(format!("{what}, {}: {}", input.path, files::words(&e)))
            .hint("is it what its name says? `format` and `compression` say otherwise")
    })?;
    if input.format != FileFormat::Parquet && (bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff")) {
        return Err(Cause::usage(format!("{what}, {}: it is UTF-16, which PostgreSQL does not read", input.path))
            .hint("make it UTF-8 first: iconv -f UTF-16 -t UTF-8 < FILE > ANOTHER"));
    }
    let dialect = &import.dialect;
    let mut start = Place { offset: 0, line: 1 };
    if bytes.starts_with(BOM) {
        start.offset = BOM.len() as u64;
    }
    let body = &bytes[usize::try_from(start.offset).unwrap_or(0)..];
    let quote = dialect.quote.unwrap_or(b'"');
    let (framing, header) = match input.format {
        FileFormat::Csv => {
            let escape = dialect.escape.unwrap_or(quote);
            let end = records::end_of_line(body, Some((quote, escape)));
            (Framing::Csv { quote, escape, end }, dialect.header.unwrap_or(true))
        }
        FileFormat::Text => (Framing::Text { end: records::end_of_line(body, None) }, dialect.header.unwrap_or(false)),
        FileFormat::JsonLines | FileFormat::Parquet => (Framing::Lines, false),
    };
    let mut fields =
        import.fields.as_ref().map(|fields| Fields::Ordered(fields.iter().map(|f| f.text.clone()).collect()));
    let mut records = body;
    if header {
        let whole = u64::try_from(body.len()).unwrap_or(u64::MAX) < 1 << 20;
        let cut = framing.cut(body, 1, whole);
        let names = names(records::without_end(&body[..cut.bytes]), framing, dialect.delimiter);
        start = Place { offset: start.offset + cut.bytes as u64, line: start.line + cut.lines };
        records = &body[cut.bytes..];
        if fields.is_none() && !names.is_empty() {
            if let Some(twice) = names.iter().enumerate().find(|(at, name)| names[..*at].contains(name)) {
                return Err(Cause::usage(format!("{what}, {}: the header names `{}` twice", input.path, twice.1))
                    .hint("name the fields yourself: `fields = [\"a\", \"b\"]`"));
            }
            fields = Some(Fields::Ordered(names));
        }
    }
    if framing == Framing::Lines {
        fields = Some(Fields::Keyed(keys(records)));
    }
    let rows = rows(&input, framing, records);
    Ok(Head { input, framing, start, fields, rows })
}

/// The names in a header.
fn names(header: &[u8], framing: Framing, delimiter: Option<u8>) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    match framing {
        Framing::Csv { quote, escape, .. } => {
            let mut reader = csv::ReaderBuilder::new();
            reader.has_headers(false).delimiter(delimiter.unwrap_or(b',')).quote(quote);
            if escape != quote {
                reader.escape(Some(escape)).double_quote(false);
            }
            let mut record = csv::ByteRecord::new();
            let read = reader.from_reader(header).read_byte_record(&mut record);
            if matches!(read, Ok(true)) { record.iter().map(text).collect() } else { Vec::new() }
        }
        Framing::Text { .. } | Framing::Lines => {
            header.split(|byte| *byte == delimiter.unwrap_or(b'\t')).map(text).filter(|name| !name.is_empty()).collect()
        }
    }
}

/// The keys of the documents at the beginning, in the order in which they come.
fn keys(records: &[u8]) -> Vec<String> {
    let mut keys: Vec<String> = Vec::new();
    for line in records.split(|byte| *byte == b'\n') {
        let Ok(serde_json::Value::Object(document)) = serde_json::from_slice(line) else { continue };
        for key in document.keys() {
            if !keys.contains(key) {
                keys.push(key.clone());
            }
        }
    }
    keys
}

/// Rows of a plain file, by the length of those at its beginning.
fn rows(input: &Input, framing: Framing, records: &[u8]) -> Option<u64> {
    if !input.is_plain() {
        return None;
    }
    let cut = framing.cut(records, u64::MAX, false);
    if cut.records == 0 {
        return None;
    }
    let rows = u128::from(input.size) * u128::from(cut.records) / u128::try_from(cut.bytes.max(1)).unwrap_or(1);
    u64::try_from(rows).ok()
}

/// What secondary indexes of an empty table cost. `None`: it is not empty, or has none.
///
/// # Errors
/// The driver's error.
pub async fn index_advice(connection: &mut PgConnection, table: &Table) -> Result<Option<String>, sqlx::Error> {
    let sql = format!("SELECT NOT EXISTS (SELECT FROM {})", table.quoted());
    let is_empty: bool =
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).persistent(false).fetch_one(&mut *connection).await?;
    if !is_empty {
        return Ok(None);
    }
    let indexes: Vec<String> = sqlx::query_scalar(
        "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = $1::int8::oid AND NOT indisprimary ORDER BY 1",
    )
    .bind(table.oid)
    .persistent(false)
    .fetch_all(connection)
    .await?;
    if indexes.is_empty() {
        return Ok(None);
    }
    let (many, them) = match indexes.len() {
        1 => ("1 index".to_owned(), "it"),
        n => (format!("{} indexes", human::count(n as u64)), "them"),
    };
    Ok(Some(format!(
        "{many} beside the primary key of the empty table `{}` ({}): dropping {them} before the load and making {them} again \
         after it saves a write to each for every row",
        table.label(),
        indexes.join(", ")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_as_the_records_are() {
        let csv = |escape| Framing::Csv { quote: b'"', escape, end: b'\n' };
        assert_eq!(names(b"id,\"a, b\", c ", csv(b'"'), None), ["id", "a, b", "c"]);
        assert_eq!(names(b"id;\"a\\\"b\"", csv(b'\\'), Some(b';')), ["id", "a\"b"]);
        assert_eq!(names(b"id\tname", Framing::Text { end: b'\n' }, None), ["id", "name"]);
        assert_eq!(keys(b"{\"b\":1}\n\n{\"a\":null,\"b\":2}\nnonsense"), ["b", "a"]);
    }
}
