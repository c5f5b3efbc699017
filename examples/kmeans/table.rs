//! The table on standard output.

use std::fmt::Write;
use std::time::Duration;

use aeolian_examples::progress::seconds;
use aeolian_examples::svg::number;

use crate::job::Outcome;

/// Rows of a table on a terminal; files have them all.
const ROWS: usize = 40;
/// Coordinates of a centroid in a table.
const COLUMNS: usize = 4;

/// Head and rows of the table of clusters, largest first, as text. At most `limit` rows.
pub(crate) fn rows(outcome: &Outcome, limit: usize) -> (Vec<String>, Vec<Vec<String>>) {
    let d = outcome.summary.d;
    let digits = outcome.clusters.iter().any(|c| c.digit.is_some());
    let mut head: Vec<String> = ["cluster", "points", "share", "spread", "radius"].map(String::from).into();
    if digits {
        head.extend(["digit", "agree"].map(String::from));
    } else {
        head.extend((0..d.min(COLUMNS)).map(|j| match &outcome.names {
            Some(names) => names[j].chars().take(12).collect(),
            None => format!("x{}", j + 1),
        }));
        head.extend((d > COLUMNS).then(|| "...".to_owned()));
    }
    let mut order: Vec<usize> = (0..outcome.clusters.len()).collect();
    order.sort_by_key(|j| (std::cmp::Reverse(outcome.clusters[*j].points), *j));
    let rows = order.into_iter().take(limit).map(|j| {
        let c = &outcome.clusters[j];
        let mut row = vec![
            j.to_string(),
            c.points.to_string(),
            format!("{:.1} %", 100.0 * c.points as f64 / outcome.summary.n as f64),
            number((c.squares / c.points.max(1) as f64).sqrt()),
            number(c.radius),
        ];
        match c.digit {
            Some((digit, share)) => row.extend([digit.to_string(), format!("{:.0} %", 100.0 * share)]),
            None => {
                row.extend(c.centroid.iter().take(COLUMNS).map(|x| number(*x)));
                row.extend((d > COLUMNS).then(|| "...".to_owned()));
            }
        }
        row
    });
    let rows = rows.collect();
    (head, rows)
}

/// The whole text: what was done, the clusters, and where the results are.
pub(crate) fn text(outcome: &Outcome, files: &[String]) -> String {
    let s = &outcome.summary;
    let (head, rows) = rows(outcome, ROWS);
    let mut out = String::new();
    let plural = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let _ = writeln!(
        out,
        "{}: {} points x {} columns ({}), {} on {}, {} each, wires: {}",
        s.input,
        s.n,
        s.d,
        s.dtype,
        plural(s.ranks as usize, "rank"),
        plural(s.nodes, "node"),
        plural(s.threads, "thread"),
        s.transport
    );
    let time = |x: f64| seconds(Duration::from_secs_f64(x));
    let _ = writeln!(
        out,
        "k = {}, {} after {} (read {}, init {}, iterate {}), inertia {:.6e}\n",
        s.k,
        if s.converged { "converged" } else { "not converged yet" },
        plural(s.iterations, "iteration"),
        time(s.seconds.read),
        time(s.seconds.init),
        time(s.seconds.iterate),
        s.inertia
    );
    let widths: Vec<usize> = (0..head.len())
        .map(|i| rows.iter().chain([&head]).map(|r| r[i].chars().count()).max().unwrap_or(0))
        .collect();
    let mut line = |row: &[String]| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(c, w)| format!("{c:>w$}")).collect();
        let _ = writeln!(out, "  {}", cells.join("  "));
    };
    line(&head);
    line(&widths.iter().map(|w| "-".repeat(*w)).collect::<Vec<_>>());
    rows.iter().for_each(|row| line(row));
    if s.k > rows.len() {
        let _ = writeln!(out, "  ... and {} smaller ones", s.k - rows.len());
    }
    let _ = writeln!(out, "\n  spread: root mean square distance to the centroid; radius: largest distance");
    if outcome.clusters.iter().any(|c| c.digit.is_some()) {
        let right: f64 = outcome.clusters.iter().filter_map(|c| c.digit.map(|d| d.1 * c.points as f64)).sum();
        let _ = writeln!(
            out,
            "  digit: what most images of the cluster show (k-means was not told); agree: their share, {:.1} % overall",
            100.0 * right / s.n as f64
        );
    }
    if !files.is_empty() {
        let _ = writeln!(out, "\nwritten: {}", files.join(", "));
    }
    out
}
