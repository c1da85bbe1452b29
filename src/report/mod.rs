//! Reports that are looked at: one HTML file, an SVG. Text and JSON are [`crate::run::report`]'s.
