//! Pictures of the clusters: digits as images, points on a line or plane as points, others as lines over the columns.

use aeolian_examples::svg::{Axes, Svg, colour, number};

use crate::job::{Cluster, Outcome};

/// Lines in a picture of lines.
const LINES: usize = 12;

/// The picture that suits the data.
pub(crate) fn draw(outcome: &Outcome, digits: bool) -> String {
    match outcome.summary.d {
        64 if digits => images(&outcome.clusters),
        1 | 2 => points(outcome),
        _ => lines(outcome),
    }
}

/// Each centroid as the 8 x 8 image that it is, ordered by digit.
fn images(clusters: &[Cluster]) -> String {
    const PIXEL: f64 = 14.0;
    const CELL: (f64, f64) = (8.0 * PIXEL + 24.0, 8.0 * PIXEL + 58.0);
    let columns = clusters.len().clamp(1, 5);
    let lines = clusters.len().div_ceil(columns);
    let (width, height) = (columns as f64 * CELL.0 + 24.0, lines as f64 * CELL.1 + 44.0);
    let mut svg = Svg::new(width, height, "Centroids of handwritten digits");
    svg.text(24.0, 28.0, 15.0, "start", "#222", "What k-means found in 1797 handwritten digits");
    let mut order: Vec<&Cluster> = clusters.iter().collect();
    order.sort_by_key(|c| c.digit.map(|d| d.0));
    for (i, cluster) in order.into_iter().enumerate() {
        let (x, y) = (24.0 + (i % columns) as f64 * CELL.0, 46.0 + (i / columns) as f64 * CELL.1);
        for (p, value) in cluster.centroid.iter().enumerate() {
            let grey = 255 - (value.clamp(0.0, 16.0) / 16.0 * 255.0).round() as u8;
            let fill = format!("#{grey:02x}{grey:02x}{grey:02x}");
            // A little overlap, so that no hair lines show between the pixels.
            svg.rect(x + (p % 8) as f64 * PIXEL, y + (p / 8) as f64 * PIXEL, PIXEL + 0.3, PIXEL + 0.3, &fill);
        }
        svg.frame(x, y, 8.0 * PIXEL, 8.0 * PIXEL, "#999");
        if let Some((digit, share)) = cluster.digit {
            let under = y + 8.0 * PIXEL;
            svg.text(x, under + 17.0, 13.0, "start", "#222", &format!("mostly {digit}"));
            let detail = format!("{} images, {:.0} %", cluster.points, 100.0 * share);
            svg.text(x, under + 32.0, 11.0, "start", "#666", &detail);
        }
    }
    svg.finish()
}

fn name(outcome: &Outcome, j: usize) -> String {
    outcome.names.as_ref().and_then(|n| n.get(j).cloned()).unwrap_or_else(|| format!("x{}", j + 1))
}

fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (lo, hi) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), x| (lo.min(x), hi.max(x)));
    if lo > hi { (0.0, 1.0) } else { (lo, hi) }
}

/// A sample of the points in their clusters' colours, and the centroids. One column: by value and cluster number.
fn points(outcome: &Outcome) -> String {
    let d = outcome.summary.d;
    let place = |x: &[f64], label: f64| (x[0], if d == 1 { label } else { x[1] });
    let dots: Vec<_> = outcome.sample.chunks_exact(d + 1).map(|r| (place(r, r[d]), r[d] as usize)).collect();
    let centres: Vec<_> =
        outcome.clusters.iter().enumerate().map(|(j, c)| place(&c.centroid, j as f64)).collect();
    let all = || dots.iter().map(|p| p.0).chain(centres.iter().copied());
    let mut svg = Svg::new(720.0, 540.0, "Clusters");
    let y_name = if d == 1 { "cluster".to_owned() } else { name(outcome, 1) };
    let area = (64.0, 50.0, 630.0, 430.0);
    let names = (name(outcome, 0), y_name);
    let axes = Axes::draw(
        &mut svg,
        range(all().map(|p| p.0)),
        range(all().map(|p| p.1)),
        area,
        (&names.0, &names.1),
    );
    let many = outcome.clusters.len() > 200;
    for ((x, y), label) in &dots {
        let (x, y) = axes.at(*x, *y);
        svg.dot(x, y, 1.8, colour(*label), 0.55, 0.0);
    }
    for (j, (x, y)) in centres.iter().enumerate() {
        let (x, y) = axes.at(*x, *y);
        svg.dot(
            x,
            y,
            if many { 2.6 } else { 6.0 },
            if many { "#111" } else { colour(j) },
            1.0,
            if many { 0.6 } else { 1.8 },
        );
    }
    let shown = outcome.sample.len() / (d + 1);
    let title = format!(
        "{} of {} points in {} clusters; large dots are centroids",
        shown, outcome.summary.n, outcome.summary.k
    );
    svg.text(694.0, 24.0, 12.0, "end", "#444", &title);
    svg.finish()
}

/// Centroids as lines over the columns, each column scaled to the range of the centroids in it.
fn lines(outcome: &Outcome) -> String {
    let d = outcome.summary.d;
    let mut order: Vec<usize> = (0..outcome.clusters.len()).collect();
    order.sort_by_key(|j| (std::cmp::Reverse(outcome.clusters[*j].points), *j));
    order.truncate(LINES);
    let mut svg = Svg::new(860.0, 460.0, "Centroids over the columns");
    let (left, top, width, height) = (50.0, 56.0, 650.0, 340.0);
    let x_of = |j: usize| left + width * j as f64 / (d - 1).max(1) as f64;
    let ranges: Vec<(f64, f64)> =
        (0..d).map(|j| range(outcome.clusters.iter().map(|c| c.centroid[j]))).collect();
    // Labels need room: at most 16 columns get one.
    let step = d.div_ceil(16);
    for j in (0..d).step_by(if d > 200 { step } else { 1 }) {
        let x = x_of(j);
        svg.line(&[(x, top), (x, top + height)], if j % step == 0 { "#bbb" } else { "#eee" }, 1.0, 1.0);
        if j % step == 0 {
            let short: String = name(outcome, j).chars().take(8).collect();
            svg.text(x, top + height + 18.0, 10.0, "middle", "#444", &short);
            if d <= 8 {
                svg.text(x, top - 5.0, 10.0, "middle", "#666", &number(ranges[j].1));
                svg.text(x, top + height + 32.0, 10.0, "middle", "#666", &number(ranges[j].0));
            }
        }
    }
    for (i, j) in order.iter().enumerate() {
        let cluster = &outcome.clusters[*j];
        let y_of = |(x, (lo, hi)): (&f64, &(f64, f64))| {
            let share = if hi > lo { (x / 2.0 - lo / 2.0) / (hi / 2.0 - lo / 2.0) } else { 0.5 };
            top + height * (1.0 - share)
        };
        let line: Vec<_> =
            cluster.centroid.iter().zip(&ranges).map(y_of).enumerate().map(|(c, y)| (x_of(c), y)).collect();
        svg.line(&line, colour(i), 1.8, 0.9);
        let y = top + 8.0 + 20.0 * i as f64;
        svg.rect(left + width + 20.0, y - 8.0, 14.0, 4.0, colour(i));
        svg.text(left + width + 40.0, y, 11.0, "start", "#333", &format!("{j}: {} points", cluster.points));
    }
    let title = match order.len() {
        n if n < outcome.clusters.len() => format!("The {n} largest of {} centroids", outcome.clusters.len()),
        n => format!("{n} centroids"),
    };
    svg.text(
        left,
        26.0,
        14.0,
        "start",
        "#222",
        &format!("{title} over the {d} columns, lowest to highest centroid in each"),
    );
    svg.finish()
}
