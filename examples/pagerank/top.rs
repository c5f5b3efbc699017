//! The vertices with the highest ranks, and the table that shows them.

use std::cmp::Ordering;
use std::fmt::Write;
use std::time::Duration;

use aeolian::World;
use aeolian::harp::{Custom, Serde, Table, gather};
use aeolian_examples::Result;
use aeolian_examples::names::order;
use aeolian_examples::progress::seconds;
use serde::{Deserialize, Serialize};

use crate::graph::InEdges;
use crate::job::Summary;
use crate::labels::Labels;

/// Characters of a name in the table.
const WIDE: usize = 48;

/// One of them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Vertex {
    pub(crate) name: String,
    pub(crate) rank: f64,
    /// Edges to it.
    pub(crate) edges_in: u64,
    /// Edges from it.
    pub(crate) edges_out: u64,
}

/// The first `n` of all ranks' vertices, by rank and then by name, on rank 0 (elsewhere nothing). Collective.
pub(crate) fn top(
    world: &mut World,
    labels: &Labels,
    ranks: &[f64],
    edges: &InEdges,
    out_degree: &[u32],
    n: usize,
) -> Result<Vec<Vertex>> {
    let higher = |a: &usize, b: &usize| -> Ordering {
        ranks[*b].total_cmp(&ranks[*a]).then_with(|| order(&labels.get(*a), &labels.get(*b)))
    };
    let mut best: Vec<usize> = (0..ranks.len()).collect();
    if n < best.len() {
        best.select_nth_unstable_by(n, higher);
        best.truncate(n);
    }
    let vertex = |v: &usize| Vertex {
        name: String::from_utf8_lossy(&labels.get(*v)).into_owned(),
        rank: ranks[*v],
        edges_in: edges.degree(*v) as u64,
        edges_out: u64::from(out_degree[*v]),
    };
    let mine: Vec<Vertex> = best.iter().map(vertex).collect();
    let mut table =
        Table::<Serde<Vec<Vertex>>, _>::new(Custom::new("append", |a: &mut Vec<Vertex>, b: &Vec<Vertex>| {
            a.extend_from_slice(b);
        }));
    table.add(0, mine)?;
    gather(world, &mut table, 0)?;
    if world.rank() != 0 {
        return Ok(Vec::new());
    }
    let mut all = table.remove(0).unwrap_or_default();
    all.sort_by(|a, b| b.rank.total_cmp(&a.rank).then_with(|| order(a.name.as_bytes(), b.name.as_bytes())));
    all.truncate(n);
    Ok(all)
}

/// The text on standard output: what was done, the first vertices, and where the others are.
pub(crate) fn text(s: &Summary, file: Option<String>) -> String {
    let mut out = String::new();
    let plural = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let _ = writeln!(
        out,
        "{}: {} vertices, {} edges, {} on {}, {} each, wires: {}",
        s.input,
        s.vertices,
        s.edges,
        plural(s.ranks as usize, "rank"),
        plural(s.nodes, "node"),
        plural(s.threads, "thread"),
        s.transport
    );
    let left = format!("{} duplicate edges dropped, {} vertices without out-edges", s.duplicates, s.dangling);
    let _ = writeln!(out, "{left}; exchange: {}", s.exchange.words());
    let time = |x: f64| seconds(Duration::from_secs_f64(x));
    let _ = writeln!(
        out,
        "damping {}, {} after {} (read {}, build {}, iterate {}), last change {:.2e}",
        s.damping,
        if s.converged { "converged" } else { "not converged yet" },
        plural(s.iterations, "iteration"),
        time(s.seconds.read),
        time(s.seconds.build),
        time(s.seconds.iterate),
        s.change
    );
    let head = ["", "vertex", "rank", "in", "out"].map(str::to_owned);
    // Names go to terminals: short, and without control characters.
    let shown = |name: &str| -> String { name.replace(char::is_control, " ").chars().take(WIDE).collect() };
    let row = |(i, v): (usize, &Vertex)| {
        [
            (i + 1).to_string(),
            shown(&v.name),
            format!("{:.6e}", v.rank),
            v.edges_in.to_string(),
            v.edges_out.to_string(),
        ]
    };
    let rows: Vec<[String; 5]> = s.top.iter().enumerate().map(row).collect();
    if !rows.is_empty() {
        let width = |i: usize| rows.iter().chain([&head]).map(|r| r[i].chars().count()).max().unwrap_or(0);
        let widths: [usize; 5] = std::array::from_fn(width);
        let rule = widths.map(|w| "-".repeat(w));
        let _ = writeln!(out);
        for r in [&head, &rule].into_iter().chain(&rows) {
            let [a, b, c, d, e] = widths;
            let _ = writeln!(out, "  {:>a$}  {:<b$}  {:>c$}  {:>d$}  {:>e$}", r[0], r[1], r[2], r[3], r[4]);
        }
    }
    if let Some(file) = file {
        let _ = writeln!(out, "\nwritten: {file}");
    }
    out
}
