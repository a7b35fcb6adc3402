//! Medians, spreads, and ratios of rates that were measured in turn.

/// The middle of some figures, and how far they lie apart.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Spread {
    /// Of `figures`; none of nothing.
    pub(crate) fn of(figures: &[f64]) -> Option<Self> {
        let mut sorted = figures.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let (least, most) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len().is_multiple_of(2) {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        } else {
            sorted[middle]
        };
        Some(Self { median, least, most })
    }

    /// Of the ratios round by round. Each round measures both within seconds, so a machine that slows
    /// down over the minutes moves both sides of a ratio and not the ratio.
    pub(crate) fn of_ratios(ours: &[f64], theirs: &[f64]) -> Option<Self> {
        let ratios: Vec<f64> = ours.iter().zip(theirs).map(|(a, b)| a / b).collect();
        Self::of(&ratios)
    }
}

/// A rate for readers: three digits that mean something, thousands apart.
pub(crate) fn rate(value: f64) -> String {
    let digits = value.abs().max(1.0).log10().floor();
    let unit = 10_f64.powf((digits - 2.0).max(0.0));
    let whole = format!("{:.0}", (value / unit).round() * unit);
    let mut spaced = String::new();
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) {
            spaced.push(' ');
        }
        spaced.push(digit);
    }
    spaced
}

/// A ratio for readers, with the digits that a goal needs.
pub(crate) fn ratio(value: f64) -> String {
    if value >= 10.0 { format!("{value:.1}") } else { format!("{value:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle_whatever_the_order() {
        let odd = Spread::of(&[5.0, 1.0, 3.0]).unwrap();
        assert_eq!((odd.median, odd.least, odd.most), (3.0, 1.0, 5.0));
        let even = Spread::of(&[4.0, 1.0, 2.0, 100.0]).unwrap();
        assert_eq!((even.median, even.least, even.most), (3.0, 1.0, 100.0));
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn a_drift_that_hits_both_leaves_the_ratio() {
        let ours = [100.0, 50.0, 25.0, 12.5, 200.0];
        let theirs: Vec<f64> = ours.iter().map(|r| r / 2.0).collect();
        let ratio = Spread::of_ratios(&ours, &theirs).unwrap();
        assert_eq!((ratio.median, ratio.least, ratio.most), (2.0, 2.0, 2.0));
        // The ratio of the medians would call a round's disturbance of one side a gain.
        let disturbed = Spread::of_ratios(&[10.0, 10.0, 10.0], &[10.0, 1.0, 10.0]).unwrap();
        assert_eq!((disturbed.median, disturbed.most), (1.0, 10.0));
    }

    #[test]
    fn figures_are_written_for_readers() {
        let written: Vec<String> = [33_412.7, 999.6, 1_000.0, 1_610_499.0, 7.4, 0.0].map(rate).into();
        assert_eq!(written, ["33 400", "1 000", "1 000", "1 610 000", "7", "0"]);
        assert_eq!([25.04, 0.799, 1.0].map(ratio), ["25.0", "0.80", "1.00"]);
    }
}
