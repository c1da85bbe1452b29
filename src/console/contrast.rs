//! How well colours are told apart: from their background, and from each other by eyes that see two kinds of light.
//!
//! Sources: contrast, WCAG 2.2 (<https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio>). Colour vision deficiency: Machado, Oliveira
//! and Fernandes, "A Physiologically-based Model for Simulation of Color Vision Deficiency", IEEE TVCG 15 (6), 2009, the
//! matrices for a severity of 1.0, on linear RGB. Distance: Euclid's in CIELAB (CIE 1976) under D65; about 2 is the least that
//! can be seen side by side.

/// Red, green and blue of sRGB.
pub(crate) type Rgb = (u8, u8, u8);

/// How an eye sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Eye {
    /// With all three kinds of cones.
    Usual,
    /// Without those for long waves: red.
    Protanope,
    /// Without those for middle waves: green. The most frequent of the three.
    Deuteranope,
    /// Without those for short waves: blue.
    Tritanope,
}

impl Eye {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Usual, Self::Protanope, Self::Deuteranope, Self::Tritanope];

    /// The field's word.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Usual => "usual sight",
            Self::Protanope => "protanopia",
            Self::Deuteranope => "deuteranopia",
            Self::Tritanope => "tritanopia",
        }
    }

    fn matrix(self) -> [[f64; 3]; 3] {
        match self {
            Self::Usual => [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
            Self::Protanope => [
                [0.152_286, 1.052_583, -0.204_868],
                [0.114_503, 0.786_281, 0.099_216],
                [-0.003_882, -0.048_116, 1.051_998],
            ],
            Self::Deuteranope => [
                [0.367_322, 0.860_646, -0.227_968],
                [0.280_085, 0.672_501, 0.047_413],
                [-0.011_820, 0.042_940, 0.968_881],
            ],
            Self::Tritanope => [
                [1.255_528, -0.076_749, -0.178_779],
                [-0.078_411, 0.930_809, 0.147_602],
                [0.004_733, 0.691_367, 0.303_900],
            ],
        }
    }
}

/// The contrast ratio of two colours: 1 to 21. Text needs 4.5, lines and areas need 3.
pub(crate) fn ratio(a: Rgb, b: Rgb) -> f64 {
    let (a, b) = (luminance(a), luminance(b));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

/// How far two colours are apart for an eye.
pub(crate) fn distance(a: Rgb, b: Rgb, eye: Eye) -> f64 {
    let (a, b) = (lab(seen(linear(a), eye)), lab(seen(linear(b), eye)));
    a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
}

fn luminance(rgb: Rgb) -> f64 {
    dot([0.2126, 0.7152, 0.0722], linear(rgb))
}

fn linear((r, g, b): Rgb) -> [f64; 3] {
    [r, g, b].map(|channel| {
        let share = f64::from(channel) / 255.0;
        if share <= 0.040_45 { share / 12.92 } else { ((share + 0.055) / 1.055).powf(2.4) }
    })
}

fn seen(light: [f64; 3], eye: Eye) -> [f64; 3] {
    eye.matrix().map(|row| dot(row, light).clamp(0.0, 1.0))
}

fn lab(light: [f64; 3]) -> [f64; 3] {
    let root = |share: f64| {
        if share > 216.0 / 24_389.0 { share.cbrt() } else { (24_389.0 / 27.0 * share + 16.0) / 116.0 }
    };
    let x = root(dot([0.412_456_4, 0.357_576_1, 0.180_437_5], light) / 0.950_47);
    let y = root(dot([0.212_672_9, 0.715_152_2, 0.072_175_0], light));
    let z = root(dot([0.019_333_9, 0.119_192_0, 0.950_304_1], light) / 1.088_83);
    [116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)]
}

fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn black_on_white_is_the_most_and_a_colour_on_itself_the_least() {
        assert!((ratio((0, 0, 0), (255, 255, 255)) - 21.0).abs() < 1e-9);
        assert!((ratio((10, 20, 30), (10, 20, 30)) - 1.0).abs() < 1e-9);
        // The W3C's own example of a grey that just passes.
        assert!((ratio((0x76, 0x76, 0x76), (255, 255, 255)) - 4.54).abs() < 0.01);
    }

    #[test]
    fn white_has_a_lightness_of_a_hundred_for_every_eye() {
        for eye in Eye::ALL {
            let [lightness, a, b] = lab(seen(linear((255, 255, 255)), eye));
            assert!((lightness - 100.0).abs() < 0.1 && a.abs() < 0.2 && b.abs() < 0.2, "{}", eye.name());
        }
    }

    #[test]
    fn red_and_green_come_together_for_those_who_miss_either_and_blue_and_green_for_the_third() {
        let (red, green, blue) = ((200, 60, 40), (120, 120, 0), (0, 128, 160));
        for eye in [Eye::Protanope, Eye::Deuteranope] {
            assert!(distance(red, green, eye) < 0.6 * distance(red, green, Eye::Usual), "{}", eye.name());
        }
        assert!(distance(blue, (0, 140, 90), Eye::Tritanope) < 0.6 * distance(blue, (0, 140, 90), Eye::Usual));
    }
}
