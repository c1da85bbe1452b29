//! The steps that move rows: where they come from, what becomes of them, where they go. Checked, with every default
//! filled in.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::model::{CachedLookup, Sql};
use crate::run::ByteSize;

/// `import = "data/*.csv.gz"`: files into a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// `import`: paths, globs, directories; `-` alone is the standard input. Relative paths are relative to the working
    /// directory. At least one.
    pub files: Vec<Sql>,
    /// `into`: the table, as it is written in SQL.
    pub into: Sql,
    /// `format`. `None`: by each file's name.
    pub format: Option<FileFormat>,
    /// `compression`. `None`: by each file's name.
    pub compression: Option<Compression>,
    /// `delimiter`, `quote`, `escape`, `null`, `header`.
    pub dialect: Dialect,
    /// `fields`: the names of the file's fields, in their order. `None`: the header's, else the table's columns.
    pub fields: Option<Vec<Sql>>,
    /// `skip`: fields that are not loaded.
    pub skip: Vec<Sql>,
    /// `columns`: column as written in SQL, and an expression over the file's fields.
    pub columns: Vec<(String, Sql)>,
    /// `encoding`: as PostgreSQL names it. Default `UTF8`.
    pub encoding: Option<Sql>,
    /// `on_conflict`.
    pub on_conflict: OnConflict,
    /// `key`: the columns that conflict. Empty: the primary key.
    pub key: Vec<Sql>,
    /// `rejects`: bad records are also written to `FILE.rejects`.
    pub rejects: bool,
    /// `part`: a batch is at most about so many bytes of a file, after decompression. Default 16 MiB.
    pub part: ByteSize,
}

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileFormat {
    /// `"csv"`: RFC 4180, as PostgreSQL reads it.
    Csv,
    /// `"text"`: PostgreSQL's own: fields between tabs, backslash escapes, `\N`.
    Text,
    /// `"jsonl"`: one JSON object a line.
    JsonLines,
    /// `"parquet"`.
    Parquet,
}

impl FileFormat {
    /// The plan's words, in the order of [`FileFormat::ALL`].
    pub const WORDS: [&'static str; 4] = ["csv", "text", "jsonl", "parquet"];
    /// Every format.
    pub const ALL: [Self; 4] = [Self::Csv, Self::Text, Self::JsonLines, Self::Parquet];
}

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// `"none"`.
    None,
    /// `"gzip"`, of any number of members.
    Gzip,
    /// `"zstd"`, of any number of frames.
    Zstd,
}

impl Compression {
    /// The plan's words, in the order of [`Compression::ALL`].
    pub const WORDS: [&'static str; 3] = ["none", "gzip", "zstd"];
    /// Every compression.
    pub const ALL: [Self; 3] = [Self::None, Self::Gzip, Self::Zstd];
}

/// How fields stand in a file. What is `None` has its format's default: that of PostgreSQL's COPY.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dialect {
    /// `delimiter`: one byte. Default `,` for CSV and a tab for text.
    pub delimiter: Option<u8>,
    /// `quote`: one byte. Default `"`. CSV only.
    pub quote: Option<u8>,
    /// `escape`: one byte. Default: the quote. CSV only.
    pub escape: Option<u8>,
    /// `null`: what stands for NULL. Default: nothing, unquoted, for CSV; `\N` for text.
    pub null: Option<String>,
    /// `header`: whether the first record names the fields. Default: true for CSV, false for text.
    pub header: Option<bool>,
}

/// What happens to a row whose key is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnConflict {
    /// `"error"`: it is wrong data, and set aside.
    #[default]
    Error,
    /// `"skip"`: it is left out.
    Skip,
    /// `"update"`: the row that is there takes its values.
    Update,
}

impl OnConflict {
    /// The plan's words, in the order of [`OnConflict::ALL`].
    pub const WORDS: [&'static str; 3] = ["error", "skip", "update"];
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Error, Self::Skip, Self::Update];
}

/// The address of a database in a step.
#[derive(Debug, Clone)]
pub struct Address {
    /// A `postgres://` URL.
    pub url: SecretString,
    /// Where it stands in the plan.
    pub span: std::ops::Range<usize>,
}

impl PartialEq for Address {
    fn eq(&self, other: &Self) -> bool {
        self.url.expose_secret() == other.url.expose_secret()
    }
}

impl Eq for Address {}

/// `copy = "table"`: rows of tables into tables, here or from another server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// `copy`: tables as written in SQL, or globs of them (`app.*`). At least one.
    pub tables: Vec<Sql>,
    /// `from`: the database that they lie in. `None`: the run's own.
    pub from: Option<Address>,
    /// `to`: the table, for one table; `schema.*` for several. `None`: the same name, which takes `from` or `database`.
    pub to: Option<Sql>,
    /// `database`: the database that they go to. `None`: the run's own.
    pub database: Option<Address>,
    /// `columns`: column of the target as written in SQL, and an expression over the source. Empty: every column that
    /// both have by name.
    pub columns: Vec<(String, Sql)>,
    /// `where`: rows of the source that are copied.
    pub filter: Option<Sql>,
    /// `verify`: how the two are compared at the end. `None`: they are not.
    pub verify: Option<Comparison>,
    /// `repair`: ranges that differ are copied again.
    pub repair: bool,
    /// `consistent`: all workers read one snapshot.
    pub consistent: bool,
}

/// How two tables are compared, range by range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `"count"`: rows.
    Count,
    /// `"checksum"`: rows, and a checksum over all values that does not hang on the order of rows.
    Checksum,
}

impl Comparison {
    /// The plan's words, in the order of [`Comparison::ALL`].
    pub const WORDS: [&'static str; 2] = ["count", "checksum"];
    /// Every one.
    pub const ALL: [Self; 2] = [Self::Count, Self::Checksum];
}

/// `transform = "table"`: rows out of a table or a query, through a program, to somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transform {
    /// `transform`: where rows come from.
    pub source: Source,
    /// `read`: the columns that are read. Empty: all.
    pub read: Vec<Sql>,
    /// `where`: rows that are read.
    pub filter: Option<Sql>,
    /// `set`, `rhai` or `command`: what becomes of a row.
    pub by: RowProgram,
    /// `update`, `into` or `file`: where it goes.
    pub sink: Sink,
    /// `batch`: rows gather until there are so many. `None`: as many as the governor says.
    pub batch: Option<u64>,
    /// `linger`: or until the first of them has waited for so long. `None`: they never go early.
    pub linger: Option<Duration>,
}

/// Where the rows of a transform come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A table, as written in SQL, walked by its own key.
    Table(Sql),
    /// A query: it begins with SELECT, WITH, VALUES or TABLE.
    Query {
        /// The query.
        sql: Sql,
        /// `key`: the columns of its answer that tell its rows apart and are never NULL. At least one.
        key: Vec<Sql>,
    },
}

/// What makes new rows out of rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowProgram {
    /// `set`: column as written in SQL, and expression. The server does it.
    Set(Vec<(String, Sql)>),
    /// `rhai` or `command`.
    Program(Program),
}

/// A program of the plan's author.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// `rhai`: a script, in the plan itself or, where it ends in `.rhai`, in a file.
    Rhai {
        /// The script.
        script: Sql,
        /// `operations`: the most operations for one row (or one file). Default 1,000,000.
        operations: u64,
        /// `memory`: the most bytes of one string, and a hundredth of that many elements of an array or a map.
        /// Default 16 MiB.
        memory: ByteSize,
        /// The `[cache.NAME]` that it may look up, in the order of their names.
        caches: Vec<CachedLookup>,
    },
    /// `command`: a program and its arguments; no shell reads them. At least one.
    Command {
        /// The program and its arguments.
        argv: Vec<Sql>,
        /// `timeout`: how long it may be silent while an answer is awaited. Default 30 s.
        timeout: Duration,
    },
}

/// Where rows of a transform go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sink {
    /// `update`: these columns of the rows that they came from.
    Update(Vec<Sql>),
    /// `into`: a table.
    Insert {
        /// The table, as written in SQL.
        table: Sql,
        /// `on_conflict`.
        on_conflict: OnConflict,
        /// `conflict_key`: the columns that conflict. Empty: the primary key.
        key: Vec<Sql>,
    },
    /// `file`: files.
    File {
        /// The path, in which `{n}` stands for the number of the file: `out/people-{n}.csv.gz`.
        path: Sql,
        /// By its name, or `format`: CSV or JSON Lines.
        format: FileFormat,
        /// By its name, or `compression`.
        compression: Compression,
        /// `rotate`: a file that has grown to so many bytes is followed by another.
        rotate: Option<ByteSize>,
    },
}

/// `files = "src/**/*.json"`: files through a program, each replaced by what comes out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileTransform {
    /// `files`: paths and globs. At least one.
    pub files: Vec<Sql>,
    /// `rhai` or `command`.
    pub program: Program,
    /// `by`: what the program is given at once.
    pub by: FileUnit,
    /// `concurrency`: files at once. Default 4.
    pub concurrency: u32,
    /// `backup`: the originals are kept, so that the step can be undone.
    pub backup: bool,
}

/// What a program of a [`FileTransform`] is given at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileUnit {
    /// `"file"`: a whole file.
    File,
    /// `"line"`: one line after the other.
    Line,
}

impl FileUnit {
    /// The plan's words, in the order of [`FileUnit::ALL`].
    pub const WORDS: [&'static str; 2] = ["file", "line"];
    /// Every one.
    pub const ALL: [Self; 2] = [Self::File, Self::Line];
}
