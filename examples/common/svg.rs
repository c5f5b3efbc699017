//! Small SVG pictures: shapes in a fixed canvas, and a line chart.

use std::fmt::Write;

/// Ten colours that are told apart also by people who see few colours (Okabe and Ito's, two greys).
pub const PALETTE: [&str; 10] = [
    "#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#8c6d00", "#7f3c8d", "#555555",
    "#a0a0a0",
];

/// The colour of class `i`.
pub fn colour(i: usize) -> &'static str {
    PALETTE[i % PALETTE.len()]
}

/// A picture in the making. All coordinates are pixels from the upper left corner.
pub struct Svg {
    body: String,
    width: f64,
    height: f64,
    title: String,
}

impl Svg {
    /// An empty picture with a white ground; `title` is what screen readers say.
    pub fn new(width: f64, height: f64, title: &str) -> Self {
        Svg { body: String::new(), width, height, title: escape(title) }
    }

    /// A filled rectangle.
    pub fn rect(&mut self, x: f64, y: f64, w: f64, h: f64, fill: &str) {
        let _ = writeln!(
            self.body,
            r#"<rect x="{x:.2}" y="{y:.2}" width="{w:.2}" height="{h:.2}" fill="{fill}"/>"#
        );
    }

    /// A frame.
    pub fn frame(&mut self, x: f64, y: f64, w: f64, h: f64, stroke: &str) {
        let _ = writeln!(
            self.body,
            r#"<rect x="{x:.2}" y="{y:.2}" width="{w:.2}" height="{h:.2}" fill="none" stroke="{stroke}"/>"#
        );
    }

    /// A filled circle with some transparency and a white rim of width `rim`.
    pub fn dot(&mut self, x: f64, y: f64, r: f64, fill: &str, opacity: f64, rim: f64) {
        let rim = if rim > 0.0 { format!(r##" stroke="#fff" stroke-width="{rim}""##) } else { String::new() };
        let _ = writeln!(
            self.body,
            r#"<circle cx="{x:.1}" cy="{y:.1}" r="{r}" fill="{fill}" fill-opacity="{opacity}"{rim}/>"#
        );
    }

    /// A line through `points`.
    pub fn line(&mut self, points: &[(f64, f64)], stroke: &str, width: f64, opacity: f64) {
        let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(
            self.body,
            r#"<polyline points="{}" fill="none" stroke="{stroke}" stroke-width="{width}" stroke-opacity="{opacity}" stroke-linejoin="round"/>"#,
            points.join(" ")
        );
    }

    /// Text; `anchor` is `start`, `middle` or `end`.
    pub fn text(&mut self, x: f64, y: f64, size: f64, anchor: &str, fill: &str, text: &str) {
        let _ = writeln!(
            self.body,
            r#"<text x="{x:.1}" y="{y:.1}" font-size="{size}" text-anchor="{anchor}" fill="{fill}">{}</text>"#,
            escape(text)
        );
    }

    /// The whole document.
    pub fn finish(self) -> String {
        let Svg { body, width, height, title } = self;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
             height=\"{height}\" role=\"img\" font-family=\"system-ui, sans-serif\">\n<title>{title}</title>\n<rect \
             width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n{body}</svg>\n"
        )
    }
}

/// The axes of a chart: maps numbers to pixels and draws ticks.
pub struct Axes {
    x: (f64, f64),
    y: (f64, f64),
    area: (f64, f64, f64, f64),
}

impl Axes {
    /// Axes for the ranges `x` and `y` in the rectangle `area` (left, top, width, height), with round ticks and labels.
    pub fn draw(
        svg: &mut Svg,
        x: (f64, f64),
        y: (f64, f64),
        area: (f64, f64, f64, f64),
        names: (&str, &str),
    ) -> Axes {
        let widen = |(lo, hi): (f64, f64)| if hi > lo { (lo, hi) } else { (lo - 0.5, hi + 0.5) };
        let axes = Axes { x: widen(x), y: widen(y), area };
        let (left, top, width, height) = area;
        for t in ticks(axes.x) {
            let px = axes.at(t, axes.y.0).0;
            svg.line(&[(px, top), (px, top + height)], "#e4e4e4", 1.0, 1.0);
            svg.text(px, top + height + 16.0, 11.0, "middle", "#444", &number(t));
        }
        for t in ticks(axes.y) {
            let py = axes.at(axes.x.0, t).1;
            svg.line(&[(left, py), (left + width, py)], "#e4e4e4", 1.0, 1.0);
            svg.text(left - 6.0, py + 4.0, 11.0, "end", "#444", &number(t));
        }
        svg.frame(left, top, width, height, "#888");
        svg.text(left + width / 2.0, top + height + 34.0, 12.0, "middle", "#222", names.0);
        svg.text(left, top - 8.0, 12.0, "start", "#222", names.1);
        axes
    }

    /// Where a point lies on the canvas.
    pub fn at(&self, x: f64, y: f64) -> (f64, f64) {
        let (left, top, width, height) = self.area;
        let share =
            |v: f64, (lo, hi): (f64, f64)| ((v / 2.0 - lo / 2.0) / (hi / 2.0 - lo / 2.0)).clamp(0.0, 1.0);
        (left + share(x, self.x) * width, top + (1.0 - share(y, self.y)) * height)
    }
}

/// Four to nine round numbers in a range.
pub fn ticks((lo, hi): (f64, f64)) -> Vec<f64> {
    let raw = (hi - lo) / 5.0;
    if !raw.is_finite() || raw <= 0.0 {
        return vec![lo];
    }
    let unit = 10f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * unit).find(|s| *s >= raw * 0.999).unwrap_or(raw);
    let first = (lo / step).ceil() as i64;
    (first..first + 12).map(|i| i as f64 * step).take_while(|t| *t <= hi + step * 1e-9).collect()
}

/// A number for people: four significant digits, powers of ten only when far from 1.
///
/// ```
/// use aeolian_examples::svg::number;
/// assert_eq!((number(0.5), number(1200.0), number(1.23456e9)), ("0.5".into(), "1200".into(), "1.235e9".into()));
/// ```
pub fn number(x: f64) -> String {
    if x == 0.0 {
        return "0".into();
    }
    if !(1e-3..1e6).contains(&x.abs()) {
        let text = format!("{x:.3e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        return format!("{}e{exponent}", mantissa.trim_end_matches('0').trim_end_matches('.'));
    }
    let digits = (3 - x.abs().log10().floor() as i32).max(0) as usize;
    let text = format!("{x:.digits$}");
    if digits == 0 { text } else { text.trim_end_matches('0').trim_end_matches('.').to_owned() }
}

/// Text inside SVG or HTML.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // Control characters are not allowed in XML at all.
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        for (range, want) in [((0.0, 10.0), vec![0.0, 2.0, 4.0, 6.0, 8.0, 10.0]), ((3.0, 3.0), vec![3.0])] {
            assert_eq!(ticks(range), want);
        }
        for (lo, hi) in [(1e-9, 2e-9), (-5.0, 1e12), (0.13, 0.14), (f64::MIN, f64::MAX)] {
            let ticks = ticks((lo, hi));
            assert!(
                !ticks.is_empty() && ticks.iter().all(|t| *t >= lo - 1e-9 * hi.abs()),
                "{lo} {hi} {ticks:?}"
            );
        }
    }

    #[test]
    fn text_is_escaped() {
        let mut svg = Svg::new(10.0, 10.0, "a<b");
        svg.text(0.0, 0.0, 9.0, "start", "#000", "\"x\" & \u{1}<script>");
        let text = svg.finish();
        assert!(text.contains("a&lt;b") && text.contains("&quot;x&quot; &amp;  &lt;script&gt;"), "{text}");
    }
}
