//! Parquet as JSON Lines: a stream of lines, one for each row, that an import reads as it reads a file of them.
//!
//! Values are exact: decimals and integers of every size are numbers with all their digits, times are ISO 8601 in UTC, bytes are
//! PostgreSQL's hex form, and what JSON has no number for (`NaN`) is a string that PostgreSQL takes.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::{DateTime, NaiveTime};
use parquet::data_type::Decimal;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row};

/// Days from the epoch of chrono's calendar to that of Unix.
const EPOCH_DAY: i32 = 719_163;

/// The rows of a Parquet file, as lines of JSON.
pub struct ParquetLines {
    rows: RowIter<'static>,
    /// In the whole file.
    all: u64,
    read: u64,
    /// The bytes of the file.
    size: u64,
    line: String,
    /// How much of `line` is handed out.
    handed: usize,
}

impl ParquetLines {
    /// Opens a file and reads its end, where Parquet says what is in it.
    ///
    /// # Errors
    /// It is not a Parquet file, or cannot be read.
    pub fn open(file: File) -> io::Result<Self> {
        let size = file.metadata()?.len();
        let reader = SerializedFileReader::new(file).map_err(io_error)?;
        let all = u64::try_from(reader.metadata().file_metadata().num_rows()).unwrap_or(0);
        let rows = RowIter::from_file_into(Box::new(reader));
        Ok(Self { rows, all, read: 0, size, line: String::new(), handed: 0 })
    }

    /// About how many bytes of the file are read: by rows, which Parquet keeps column by column.
    #[must_use]
    pub fn position(&self) -> u64 {
        let share = u128::from(self.size) * u128::from(self.read) / u128::from(self.all.max(1));
        u64::try_from(share).unwrap_or(self.size)
    }

    fn next_line(&mut self) -> io::Result<bool> {
        (self.handed, self.read) = (0, self.read + 1);
        self.line.clear();
        let Some(row) = self.rows.next() else { return Ok(false) };
        object(&mut self.line, &row.map_err(io_error)?);
        self.line.push('\n');
        Ok(true)
    }
}

/// [`ParquetLines`] that tell how far they are.
pub struct Placed {
    /// The lines.
    pub lines: ParquetLines,
    /// Told of [`ParquetLines::position`].
    pub read: Arc<AtomicU64>,
}

impl Read for Placed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.lines.read(into)?;
        self.read.store(self.lines.position(), Ordering::Relaxed);
        Ok(n)
    }
}

impl Read for ParquetLines {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() || (self.handed == self.line.len() && !self.next_line()?) {
            return Ok(0);
        }
        let left = &self.line.as_bytes()[self.handed..];
        let n = left.len().min(into.len());
        into[..n].copy_from_slice(&left[..n]);
        self.handed += n;
        Ok(n)
    }
}

fn io_error(e: ParquetError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, e)
}

fn object(line: &mut String, row: &Row) {
    list(line, ('{', '}'), row.get_column_iter(), |line, (name, value)| {
        string(line, name);
        line.push(':');
        field(line, value);
    });
}

fn list<T>(
    line: &mut String,
    (open, close): (char, char),
    items: impl Iterator<Item = T>,
    mut one: impl FnMut(&mut String, T),
) {
    line.push(open);
    for (at, item) in items.enumerate() {
        if at > 0 {
            line.push(',');
        }
        one(line, item);
    }
    line.push(close);
}

/// Writing to a String cannot fail.
fn put(line: &mut String, value: impl std::fmt::Display) {
    let _ = write!(line, "{value}");
}

fn string(line: &mut String, text: &str) {
    put(line, serde_json::Value::from(text));
}

fn field(line: &mut String, value: &Field) {
    match value {
        Field::Null => line.push_str("null"),
        Field::Bool(truth) => put(line, truth),
        Field::Byte(n) => put(line, n),
        Field::Short(n) => put(line, n),
        Field::Int(n) => put(line, n),
        Field::Long(n) => put(line, n),
        Field::UByte(n) => put(line, n),
        Field::UShort(n) => put(line, n),
        Field::UInt(n) => put(line, n),
        Field::ULong(n) => put(line, n),
        Field::Float16(n) => float(line, f64::from(*n), n),
        Field::Float(n) => float(line, f64::from(*n), n),
        Field::Double(n) => float(line, *n, n),
        Field::Decimal(n) => decimal(line, n),
        Field::Str(text) => string(line, text),
        Field::Bytes(bytes) => {
            line.push_str("\"\\\\x");
            bytes.data().iter().for_each(|byte| put(line, format_args!("{byte:02x}")));
            line.push('"');
        }
        Field::Date(days) => {
            let date = days.checked_add(EPOCH_DAY).and_then(chrono::NaiveDate::from_num_days_from_ce_opt);
            told(line, date);
        }
        Field::TimeMillis(ms) => time(line, i64::from(*ms) * 1000),
        Field::TimeMicros(us) => time(line, *us),
        Field::TimestampMillis(ms) => told(line, DateTime::from_timestamp_millis(*ms).map(|at| at.to_rfc3339())),
        Field::TimestampMicros(us) => told(line, DateTime::from_timestamp_micros(*us).map(|at| at.to_rfc3339())),
        Field::Group(row) => object(line, row),
        Field::ListInternal(items) => list(line, ('[', ']'), items.elements().iter(), field),
        Field::MapInternal(map) => list(line, ('{', '}'), map.entries().iter(), |line, (name, value)| {
            match name {
                Field::Str(name) => string(line, name),
                other => string(line, &other.to_string()),
            }
            line.push(':');
            field(line, value);
        }),
    }
}

/// A number where JSON has one for it.
fn float(line: &mut String, value: f64, text: &impl std::fmt::Display) {
    if value.is_finite() { put(line, text) } else { put(line, format_args!("\"{value}\"")) }
}

fn decimal(line: &mut String, value: &Decimal) {
    let text = Field::Decimal(value.clone()).to_string();
    line.push_str(text.strip_suffix('.').unwrap_or(&text));
}

fn time(line: &mut String, microseconds: i64) {
    let seconds = u32::try_from(microseconds.div_euclid(1_000_000)).ok();
    let nanoseconds = u32::try_from(microseconds.rem_euclid(1_000_000) * 1000).unwrap_or(0);
    told(line, seconds.and_then(|seconds| NaiveTime::from_num_seconds_from_midnight_opt(seconds, nanoseconds)));
}

/// In quotes. What no calendar holds is a text that PostgreSQL refuses, so that the row is set aside and not altered.
fn told(line: &mut String, value: Option<impl std::fmt::Display>) {
    match value {
        Some(value) => put(line, format_args!("\"{value}\"")),
        None => line.push_str("\"out of range\""),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Seek};
    use std::sync::Arc;

    use parquet::basic::Compression;
    use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int32Type, Int64Type};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    use super::*;

    fn written() -> File {
        let schema = "message people {
            REQUIRED INT64 id;
            OPTIONAL BYTE_ARRAY name (UTF8);
            REQUIRED INT64 price (DECIMAL(18, 2));
            REQUIRED INT32 born (DATE);
            REQUIRED INT64 seen (TIMESTAMP_MICROS);
            REQUIRED DOUBLE share;
            REQUIRED BYTE_ARRAY raw;
        }";
        let schema = Arc::new(parse_message_type(schema).expect("a schema"));
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let mut file = tempfile::tempfile().expect("a file");
        let clone = file.try_clone().expect("a handle");
        let mut writer = SerializedFileWriter::new(clone, schema, Arc::new(properties)).expect("a writer");
        for group in 0..2_i64 {
            let mut columns = writer.next_row_group().expect("a group");
            let mut next = 0;
            while let Some(mut column) = columns.next_column().expect("a column") {
                let first = group * 2;
                match next {
                    0 => column.typed::<Int64Type>().write_batch(&[first, i64::MAX - first], None, None),
                    1 => column.typed::<ByteArrayType>().write_batch(
                        &[ByteArray::from("a \"b\"\n")],
                        Some(&[1, 0]),
                        None,
                    ),
                    2 => column.typed::<Int64Type>().write_batch(&[-5, 1_234_567_890_123_456_789], None, None),
                    3 => column.typed::<Int32Type>().write_batch(&[0, -1], None, None),
                    4 => column.typed::<Int64Type>().write_batch(&[1, 1_700_000_000_000_000], None, None),
                    5 => column.typed::<DoubleType>().write_batch(&[0.1, f64::NAN], None, None),
                    _ => column.typed::<ByteArrayType>().write_batch(
                        &[ByteArray::from(vec![0, 255]), ByteArray::from(Vec::new())],
                        None,
                        None,
                    ),
                }
                .expect("written");
                column.close().expect("closed");
                next += 1;
            }
            columns.close().expect("closed");
        }
        writer.close().expect("closed");
        file.rewind().expect("rewound");
        file
    }

    #[test]
    fn every_row_is_a_line_and_no_digit_is_lost() {
        let mut lines = BufReader::new(ParquetLines::open(written()).expect("a Parquet file"));
        let mut read = Vec::new();
        let mut line = String::new();
        while lines.read_line(&mut line).expect("a line") > 0 {
            let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
            assert!(value.is_object());
            read.push(std::mem::take(&mut line));
        }
        assert_eq!(read.len(), 4);
        assert_eq!(
            read[0],
            "{\"id\":0,\"name\":\"a \\\"b\\\"\\n\",\"price\":-0.05,\"born\":\"1970-01-01\",\
             \"seen\":\"1970-01-01T00:00:00.000001+00:00\",\"share\":0.1,\"raw\":\"\\\\x00ff\"}\n"
        );
        assert!(
            read[1].contains("\"id\":9223372036854775807,\"name\":null,\"price\":12345678901234567.89"),
            "{}",
            read[1]
        );
        assert!(read[1].contains("\"born\":\"1969-12-31\"") && read[1].contains("\"share\":\"NaN\""), "{}", read[1]);
        let lines = lines.into_inner();
        assert!(lines.position() >= lines.size, "{} of {}", lines.position(), lines.size);
    }

    #[test]
    fn what_is_no_parquet_is_said_to_be_none() {
        let file = tempfile::tempfile().expect("a file");
        assert!(ParquetLines::open(file).is_err());
    }
}
