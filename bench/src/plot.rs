//! Bars in SVG: one group for each number of callers, one bar for each entrant, a whisker from the least
//! round to the most.

use crate::race::{Outcome, Role};
use crate::stats::rate;

const WIDTH: f64 = 860.0;
const LABELS: f64 = 300.0;
const BARS: f64 = 430.0;
const BAR: f64 = 18.0;
const HEADING: f64 = 30.0;
const TOP: f64 = 46.0;

/// A plot of `outcomes`, all on one scale.
pub(crate) fn bars(title: &str, outcomes: &[&Outcome]) -> String {
    let most = outcomes.iter().flat_map(|o| &o.lines).map(|line| line.rate.most).fold(1.0, f64::max);
    let scale = BARS / most;
    let mut body = String::new();
    let mut y = TOP;
    for outcome in outcomes {
        let callers =
            if outcome.callers == 1 { "1 caller".to_owned() } else { format!("{} callers", outcome.callers) };
        body.push_str(&text(16.0, y + 20.0, "start", "600", &format!("{}, {callers}", outcome.work.name())));
        y += HEADING;
        for line in &outcome.lines {
            let (width, middle) = ((line.rate.median * scale).max(1.0), y + BAR / 2.0);
            let colour = colour(line.role);
            body.push_str(&text(LABELS - 8.0, middle + 4.0, "end", "400", &line.label));
            body.push_str(&format!(
                "<rect x=\"{LABELS}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{:.1}\" fill=\"{colour}\"/>\n",
                y + 1.0,
                BAR - 3.0
            ));
            let (least, most) = (LABELS + line.rate.least * scale, LABELS + line.rate.most * scale);
            body.push_str(&format!(
                "<path d=\"M{least:.1} {middle:.1}H{most:.1}M{least:.1} {:.1}v6M{most:.1} {:.1}v6\" stroke=\"#24292f\" fill=\"none\"/>\n",
                middle - 3.0,
                middle - 3.0
            ));
            let after = (LABELS + width).max(most) + 8.0;
            body.push_str(&text(after, middle + 4.0, "start", "400", &rate(line.rate.median)));
            y += BAR;
        }
        y += 6.0;
    }
    let height = y + 14.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\" role=\"img\">\n\
         <title>{}</title>\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n",
        escaped(title)
    );
    svg.push_str(&format!(
        "<text x=\"16\" y=\"28\" font-size=\"16\" font-weight=\"600\" fill=\"#24292f\">{}</text>\n",
        escaped(title)
    ));
    svg.push_str(&body);
    svg.push_str("</svg>\n");
    svg
}

fn colour(role: Role) -> &'static str {
    match role {
        Role::Ours => "#1f6feb",
        Role::Limit => "#8c959f",
        Role::Peer => "#d4a72c",
    }
}

fn text(x: f64, y: f64, anchor: &str, weight: &str, content: &str) -> String {
    format!(
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" font-weight=\"{weight}\" fill=\"#24292f\">{}</text>\n",
        escaped(content)
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Work;
    use crate::race::Line;
    use crate::stats::Spread;

    #[test]
    fn the_longest_bar_fits_and_labels_are_escaped() {
        let rate = |median| Spread { median, least: median * 0.5, most: median };
        let line = |label: &str, median| Line {
            label: label.to_owned(),
            role: Role::Peer,
            rate: rate(median),
            ratio: None,
            goal: None,
        };
        let outcome =
            Outcome { work: Work::Cycle, callers: 64, lines: vec![line("a<b", 100.0), line("c", 50.0)] };
        let svg = bars("t & t", &[&outcome]);
        assert!(svg.contains("a&lt;b") && svg.contains("t &amp; t"), "{svg}");
        assert!(svg.contains("width=\"430.0\"") && svg.contains("width=\"215.0\""), "{svg}");
    }
}
