//! Families of metrics as text.
//!
//! Sources: Prometheus, Exposition formats, version 0.0.4; OpenMetrics 1.0, section 5.

use std::fmt::Write as _;

use prometheus::TextEncoder;
use prometheus::proto::MetricFamily;

/// Which text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus, version 0.0.4.
    Prometheus,
    /// OpenMetrics, version 1.0.0.
    OpenMetrics,
}

impl Format {
    /// The one that a client accepts, by its `Accept` header.
    #[must_use]
    pub fn accepted(header: &str) -> Self {
        let wants = |range: &str| {
            let mut parts = range.split(';').map(str::trim);
            let open = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/openmetrics-text"));
            open && !parts.any(|part| part.strip_prefix("q=").and_then(|q| q.parse().ok()) == Some(0.0_f64))
        };
        if header.split(',').any(wants) { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// For the `Content-Type` header.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

pub(super) fn render(families: &[MetricFamily], format: Format) -> String {
    let text = match TextEncoder::new().encode_to_string(families) {
        Ok(text) => text,
        // Only a family without a name or a value is refused, and none is made.
        Err(error) => {
            tracing::error!("metrics cannot be written: {error}");
            String::new()
        }
    };
    match format {
        Format::Prometheus => text,
        Format::OpenMetrics => open(&text),
    }
}

/// OpenMetrics names a counter's family without the `_total` of its values, and says where the text ends.
fn open(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        let meta = ["# HELP ", "# TYPE "].into_iter().find_map(|word| Some((word, line.strip_prefix(word)?)));
        // Writing to a String cannot fail.
        let _ = match meta.and_then(|(word, rest)| Some((word, rest.split_once(' ')?))) {
            Some((word, (name, rest))) => {
                writeln!(out, "{word}{} {rest}", name.strip_suffix("_total").unwrap_or(name))
            }
            None => writeln!(out, "{line}"),
        };
    }
    out.push_str("# EOF\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openmetrics_is_told_to_whom_asks_for_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let table = [
            (prometheus, Format::OpenMetrics),
            ("Application/OpenMetrics-Text", Format::OpenMetrics),
            ("application/openmetrics-text; q=0, text/plain", Format::Prometheus),
            ("*/*", Format::Prometheus),
            ("", Format::Prometheus),
        ];
        for (header, expected) in table {
            assert_eq!(Format::accepted(header), expected, "{header}");
        }
    }

    #[test]
    fn a_counters_family_loses_its_total_in_openmetrics_and_the_text_its_open_end() {
        let text = "# HELP h_x_total Rows.\n# TYPE h_x_total counter\nh_x_total{a=\"# TYPE b_total c\"} 1\n";
        let expected = "# HELP h_x Rows.\n# TYPE h_x counter\nh_x_total{a=\"# TYPE b_total c\"} 1\n# EOF\n";
        assert_eq!(open(text), expected);
    }
}
