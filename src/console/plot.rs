//! Lines and dots over time on a small field of cells: braille, two dots across and four up in a cell, or ASCII.

/// The bits of a braille cell: from the left, and from the bottom.
const BITS: [[u32; 4]; 2] = [[0x40, 0x04, 0x02, 0x01], [0x80, 0x20, 0x10, 0x08]];
const BRAILLE: u32 = 0x2800;

/// A field of dots.
pub(crate) struct Plot {
    width: usize,
    height: usize,
    ascii: bool,
    /// Of braille, the bits of each cell; of ASCII, its sign. Row by row, from the top.
    cells: Vec<u32>,
}

impl Plot {
    /// Nothing drawn, in so many cells.
    pub(crate) fn new(width: usize, height: usize, ascii: bool) -> Self {
        Self { width, height, ascii, cells: vec![0; width * height] }
    }

    /// Dots from left to right.
    pub(crate) fn across(&self) -> usize {
        self.width * if self.ascii { 1 } else { 2 }
    }

    /// Dots from bottom to top.
    pub(crate) fn up(&self) -> usize {
        self.height * if self.ascii { 1 } else { 4 }
    }

    /// A line through the shares of the height, 0 to 1, one for each dot across. It breaks where there is none.
    pub(crate) fn line(&mut self, shares: &[Option<f64>]) {
        let mut before: Option<usize> = None;
        for (x, share) in shares.iter().enumerate() {
            let y = share.and_then(|share| self.level(share));
            if let Some(y) = y {
                let from = before.unwrap_or(y);
                // What lies between two levels belongs to the later one.
                let between = if from < y { from + 1..y } else { y + 1..from };
                between.for_each(|between| self.put(x, between, '|'));
                self.put(x, y, '*');
            }
            before = y;
        }
    }

    /// Every other dot of such a line, so that it is told from one without colour.
    pub(crate) fn dotted(&mut self, shares: &[Option<f64>]) {
        let every = if self.ascii { 1 } else { 3 };
        for (x, share) in shares.iter().enumerate().step_by(every) {
            if let Some(y) = share.and_then(|share| self.level(share)) {
                self.put(x, y, '.');
            }
        }
    }

    /// The rows, from the top.
    pub(crate) fn rows(&self) -> impl Iterator<Item = String> {
        let sign = |cell: &u32| match (*cell, self.ascii) {
            (0, _) => ' ',
            (bits, true) => char::from_u32(bits).unwrap_or(' '),
            (bits, false) => char::from_u32(BRAILLE + bits).unwrap_or(' '),
        };
        self.cells.chunks(self.width.max(1)).map(move |row| row.iter().map(sign).collect())
    }

    fn level(&self, share: f64) -> Option<usize> {
        let top = self.up().checked_sub(1)?;
        share.is_finite().then(|| nearest(share, top))
    }

    fn put(&mut self, x: usize, y: usize, sign: char) {
        let (across, up) = if self.ascii { (1, 1) } else { (2, 4) };
        let (column, from_bottom) = (x / across, y / up);
        if column >= self.width || from_bottom >= self.height {
            return;
        }
        let cell = &mut self.cells[(self.height - 1 - from_bottom) * self.width + column];
        if self.ascii {
            // The line lies over its links, and both over dots.
            let rank = |sign: u32| [' ', '.', '|', '*'].iter().position(|c| *c as u32 == sign);
            if rank(sign as u32) >= rank(*cell) {
                *cell = sign as u32;
            }
        } else {
            *cell |= BITS[x % 2][y % 4];
        }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and `top`")]
#[expect(clippy::cast_precision_loss, reason = "`top` is a number of dots")]
fn nearest(share: f64, top: usize) -> usize {
    (share.clamp(0.0, 1.0) * top as f64).round() as usize
}

/// The least of 1, 2, 3 and 5 times a power of ten that is not below `most`: an axis that seldom moves.
pub(crate) fn ceiling(most: f64) -> f64 {
    if !most.is_finite() || most <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(most.log10().floor());
    [1.0, 2.0, 3.0, 5.0, 10.0].into_iter().map(|step| step * power).find(|top| *top >= most * 0.999_999).unwrap_or(most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn drawn(ascii: bool, shares: &[Option<f64>], width: usize, height: usize) -> Vec<String> {
        let mut plot = Plot::new(width, height, ascii);
        plot.line(shares);
        plot.rows().collect()
    }

    #[test]
    fn a_line_links_its_levels() {
        assert_eq!(drawn(false, &[Some(0.0), Some(0.0), Some(1.0), Some(1.0)], 2, 1), ["⣀⠏"]);
        assert_eq!(drawn(true, &[Some(0.0), Some(1.0), None, Some(0.5)], 4, 3), [" *  ", " | *", "*   "]);
    }

    #[test]
    fn an_axis_ends_at_a_round_number() {
        for (most, top) in
            [(48_210.0, 50_000.0), (0.13, 0.2), (1000.0, 1000.0), (5001.0, 10_000.0), (0.0, 1.0), (f64::NAN, 1.0)]
        {
            assert!((ceiling(most) - top).abs() < top * 1e-9, "{most}: {}", ceiling(most));
        }
    }

    proptest! {
        #[test]
        fn any_values_fit_any_field(shares in proptest::collection::vec(proptest::option::of(any::<f64>()), 0..300), width in 0_usize..40, height in 0_usize..9, ascii in any::<bool>()) {
            let mut plot = Plot::new(width, height, ascii);
            plot.line(&shares);
            plot.dotted(&shares);
            prop_assert!(plot.rows().all(|row| row.chars().count() <= width.max(1)));
        }

        #[test]
        fn a_ceiling_is_never_far_above(most in 1e-9_f64..1e18) {
            let top = ceiling(most);
            prop_assert!(top >= most * 0.999 && top <= most * 2.01);
        }
    }
}
