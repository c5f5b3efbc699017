//! The page of `--report`.

use aeolian_examples::html::Page;
use aeolian_examples::svg::{Axes, Svg, number};
use std::time::Duration;

use crate::job::Outcome;
use crate::table;

/// Everything about the run on one page; `picture` is the SVG of the clusters.
pub(crate) fn page(outcome: &Outcome, picture: &str) -> String {
    let s = &outcome.summary;
    let mut page = Page::new(
        &format!("k-means: {} clusters of {}", s.k, s.input),
        &format!("{} points of {} numbers, on {} ranks. Aeolian {}.", s.n, s.d, s.ranks, s.version),
    );
    let time = |x: f64| aeolian_examples::progress::seconds(Duration::from_secs_f64(x));
    page.facts([
        ("inertia", number(s.inertia)),
        (
            "iterations",
            format!("{} ({})", s.iterations, if s.converged { "converged" } else { "not converged yet" }),
        ),
        (
            "first centroids",
            if s.init == "first" { s.init.clone() } else { format!("{}, seed {}", s.init, s.seed) },
        ),
        ("numbers", s.dtype.to_owned()),
        ("ranks on nodes", format!("{} on {}", s.ranks, s.nodes)),
        ("threads in a rank", s.threads.to_string()),
        ("computation model", s.model.name()),
        ("wires", s.transport.clone()),
        ("largest rank", format!("{:.1} MiB", s.peak_rss_bytes as f64 / (1 << 20) as f64)),
        ("reading", time(s.seconds.read)),
        ("first centroids in", time(s.seconds.init)),
        ("iterations in", time(s.seconds.iterate)),
        ("one iteration", time(s.seconds.per_iteration)),
    ]);
    page.heading("Clusters");
    page.picture(picture);
    let (head, rows) = table::rows(outcome, 1000);
    page.table(&head, &rows);
    if s.k > rows.len() {
        page.paragraph(&format!("... and {} smaller clusters, which --output has.", s.k - rows.len()));
    }
    page.paragraph(
        "Spread is the root mean square distance of a cluster's points to its centroid, radius the largest one.",
    );
    page.heading("Inertia by iteration");
    page.picture(&course(&outcome.history));
    page.paragraph("The sum of squared distances to the nearest centroid, at the start of each iteration.");
    page.heading("Command");
    let words = std::env::args_os().map(|w| w.to_string_lossy().into_owned());
    let words = words.map(|w| if w.contains([' ', '\'', '"']) { format!("{w:?}") } else { w });
    page.code(&words.collect::<Vec<_>>().join(" "));
    page.finish()
}

/// Inertia over iterations.
fn course(history: &[f64]) -> String {
    let mut svg = Svg::new(720.0, 300.0, "Inertia by iteration");
    let lo = history.iter().copied().fold(f64::INFINITY, f64::min);
    let hi = history.iter().copied().fold(lo, f64::max);
    let area = (76.0, 34.0, 620.0, 214.0);
    let axes =
        Axes::draw(&mut svg, (1.0, history.len().max(2) as f64), (lo, hi), area, ("iteration", "inertia"));
    let points: Vec<_> = history.iter().enumerate().map(|(i, y)| axes.at((i + 1) as f64, *y)).collect();
    svg.line(&points, "#0072b2", 2.0, 1.0);
    if points.len() <= 60 {
        points.iter().for_each(|(x, y)| svg.dot(*x, *y, 2.6, "#0072b2", 1.0, 0.0));
    }
    svg.finish()
}
