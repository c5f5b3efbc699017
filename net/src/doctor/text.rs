//! The report for people.

use super::page::Page;
use super::{Candidate, Outcome, Report, count};
use crate::bytes::Bytes;
use crate::launcher::Launcher;
use crate::scratch::Scratch;
use crate::topology::CpuSet;
use std::path::Path;

/// Ranks whose places are shown one by one at most; JSON has them all.
const PLACES: usize = 32;

/// Writes the report: ASCII (but for names that are not), no line wider than 80 columns, warnings last.
pub fn render_text(report: &Report) -> String {
    let mut page = Page::default();
    page.line(&format!("Aeolian {} on {} ({})", report.version, report.host, report.system));
    start(report, &mut page);
    mpi(report, &mut page);
    cores(report, &mut page);
    memory(report, &mut page);
    limits(report, &mut page);
    scratch(report, &mut page);
    network(report, &mut page);
    slurm(report, &mut page);
    warnings(report, &mut page);
    page.finish()
}

fn start(report: &Report, page: &mut Page) {
    page.section("Start");
    match &report.launch {
        Some(l) if l.launcher == Launcher::Nobody => page.entry("started by", &l.launcher.to_string()),
        Some(l) if l.size == 0 => page.entry("started by", &format!("{}, rank {}", l.launcher, l.rank)),
        Some(l) => page.entry("started by", &format!("{}, as rank {} of {}", l.launcher, l.rank, l.size)),
        None => page.entry("started by", "not clear: see the warnings"),
    }
    let ranks = &report.ranks;
    page.entry("ranks here", &format!("{} ({})", ranks.here, ranks.source));
    page.entry("node id", report.node.as_str());
    for (number, (name, value)) in report.settings.iter().enumerate() {
        page.entry(if number == 0 { "settings" } else { "" }, &format!("{name}={value}"));
    }
}

fn mpi(report: &Report, page: &mut Page) {
    page.section("MPI");
    let mpi = &report.mpi;
    for (number, choice) in mpi.choices.iter().enumerate() {
        let found = mpi.candidates.iter().find(|c| Some(&c.path) == choice.path.as_ref());
        let what = match (found.map(|c| &c.outcome), mpi.setting.as_deref()) {
            (Some(Outcome::Works(loaded)), _) if !choice.fits => {
                format!(
                    "{}, which does not know it: programs would end with an error",
                    loaded.short_version()
                )
            }
            (Some(Outcome::Works(loaded)), _) => loaded.short_version().to_owned(),
            (Some(_), _) => choice.path.clone().unwrap_or_default(),
            (None, Some("none" | "off")) => "no MPI (AEOLIAN_MPI says so), Aeolian's own wires".into(),
            (None, _) => "no MPI, Aeolian's own wires".into(),
        };
        let label = if number == 0 { "would use" } else { "" };
        page.entry(label, &format!("under {}: {what}", choice.launcher));
    }
    for candidate in &mpi.candidates {
        match &candidate.outcome {
            Outcome::Works(loaded) => {
                page.entry("works", &format!("{} ({})", candidate.path, loaded.short_version()));
            }
            Outcome::Refused { reason } => page.entry("cannot", &format!("{}: {reason}", candidate.path)),
            Outcome::Untried => page.entry("not tried", &candidate.path),
            Outcome::Missing => {}
        }
    }
    for (number, text) in missing(&mpi.candidates).iter().enumerate() {
        page.entry(if number == 0 { "not there" } else { "" }, text);
    }
    match (&mpi.pmix, &mpi.pmix_missing) {
        (Some(version), _) => page.entry("PMIx", version),
        (None, Some(why)) => page.entry("PMIx", &format!("no library: {why}")),
        (None, None) => {}
    }
}

/// What is not there, by directory: the same three names in each, most often.
fn missing(candidates: &[Candidate]) -> Vec<String> {
    let mut by_dir: Vec<(String, Vec<String>)> = Vec::new();
    for candidate in candidates.iter().filter(|c| c.outcome == Outcome::Missing) {
        let path = Path::new(&candidate.path);
        let dir = path.parent().map(|d| d.to_string_lossy().into_owned()).unwrap_or_default();
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        match by_dir.iter_mut().find(|(known, _)| *known == dir) {
            Some((_, names)) => names.push(name),
            None => by_dir.push((dir, vec![name])),
        }
    }
    let mut by_names: Vec<(Vec<String>, Vec<String>)> = Vec::new();
    for (dir, names) in by_dir {
        match by_names.iter_mut().find(|(known, _)| *known == names) {
            Some((_, dirs)) => dirs.push(dir),
            None => by_names.push((names, vec![dir])),
        }
    }
    let text = |(names, dirs): (Vec<String>, Vec<String>)| {
        let names = names.join(", ");
        if dirs == [""] {
            format!("{names} (where the dynamic linker looks)")
        } else {
            format!("{names} in {}", dirs.join(", "))
        }
    };
    by_names.into_iter().map(text).collect()
}

fn cores(report: &Report, page: &mut Page) {
    page.section("Cores");
    let t = &report.topology;
    page.entry(
        "machine",
        &format!(
            "{}, {}, {}, {} ({})",
            count(t.packages.len(), "package"),
            count(t.numa_nodes.len(), "NUMA node"),
            count(t.cores.len(), "core"),
            count(t.cores.iter().map(|c| c.cpus.len()).sum(), "CPU"),
            t.source
        ),
    );
    page.entry(
        "allowed",
        &format!("{} on {}: {}", count(t.allowed.len(), "CPU"), count(t.allowed_cores(), "core"), t.allowed),
    );
    let caches: Vec<_> = [2, 3]
        .into_iter()
        .filter_map(|level| Some(format!("L{level} {}", Bytes(t.cache_bytes(level)?))))
        .collect();
    if !caches.is_empty() {
        page.entry("caches", &caches.join(", "));
    }
    if t.numa_nodes.len() > 1 {
        for node in &t.numa_nodes {
            let memory = match node.memory_bytes {
                0 => String::new(),
                bytes => format!(", {}", Bytes(bytes)),
            };
            let cpus = if node.cpus.is_empty() { "no CPUs".into() } else { format!("CPUs {}", node.cpus) };
            page.entry(&format!("NUMA {}", node.id), &format!("{cpus}{memory}"));
        }
    }
    if report.binding.is_empty() {
        page.entry("binding", "done by the launcher: this process may use the allowed CPUs");
    } else {
        page.entry("--bind core", &places(&report.binding));
    }
    for note in &t.notes {
        page.entry("note", note);
    }
}

/// `rank 0: 0-3, rank 1: 4-7`; neighbours with the same place together.
fn places(binding: &[CpuSet]) -> String {
    let mut runs: Vec<(usize, usize, &CpuSet)> = Vec::new();
    for (rank, cpus) in binding.iter().enumerate() {
        match runs.last_mut() {
            Some((_, last, known)) if *known == cpus => *last = rank,
            _ => runs.push((rank, rank, cpus)),
        }
    }
    let mut all: Vec<String> = runs
        .iter()
        .take(PLACES)
        .map(|(first, last, cpus)| {
            let ranks = if first == last { format!("rank {first}") } else { format!("ranks {first}-{last}") };
            format!("{ranks}: {} {cpus}", if cpus.len() == 1 { "CPU" } else { "CPUs" })
        })
        .collect();
    if let Some((first, ..)) = runs.get(PLACES) {
        all.push(format!("and so on from rank {first} (--json has all)"));
    }
    all.join("; ")
}

fn memory(report: &Report, page: &mut Page) {
    page.section("Memory of a rank");
    let Some(budget) = &report.memory else {
        page.entry("budget", "not clear: see the warnings");
        return;
    };
    page.entry("budget", &format!("{}: {}", Bytes(budget.bytes), budget.source));
    for (number, (source, bytes)) in budget.candidates.iter().skip(1).enumerate() {
        page.entry(if number == 0 { "others" } else { "" }, &format!("{}: {source}", Bytes(*bytes)));
    }
}

fn limits(report: &Report, page: &mut Page) {
    page.section("Limits");
    let mut rows = vec![["", "allowed", "needed", ""].map(String::from).to_vec()];
    rows.extend(report.limits.iter().map(|l| {
        let verdict = match (l.verdict.is_ok(), l.needed) {
            (false, _) => "WARNING",
            (true, Some(_)) => "ok",
            (true, None) => "",
        };
        vec![l.name.clone(), l.value_text(), l.needed_text(), verdict.into()]
    }));
    page.table(&rows);
}

fn scratch(report: &Report, page: &mut Page) {
    page.section("Scratch directories");
    for s in &report.scratch {
        let warned = report.warnings.iter().any(|w| s.verdict.problem() == Some(&w.problem));
        let label = match (&s.not_writable, warned) {
            (Some(_), _) => "cannot",
            (None, true) => "warning",
            (None, false) => "ok",
        };
        page.entry(label, &format!("{} ({}): {}", s.path, s.source, state(s)));
    }
}

fn state(s: &Scratch) -> String {
    let free = s.free_bytes.map_or_else(String::new, |b| format!(", {} free", Bytes(b)));
    match &s.not_writable {
        Some(why) => why.clone(),
        None => format!("{}{free}", s.file_system),
    }
}

fn network(report: &Report, page: &mut Page) {
    page.section("Network");
    let rows: Vec<_> = report
        .interfaces
        .iter()
        .map(|i| {
            let state = match (i.loopback, i.up) {
                (_, false) => "down",
                (true, true) => "this host only",
                (false, true) => "up",
            };
            vec![i.name.clone(), i.address.to_string(), state.into()]
        })
        .collect();
    page.table(&rows);
    match &report.reachable {
        Some(r) => page.entry("other hosts", &format!("use {} of {} ({})", r.address, r.name, r.why)),
        None if report.warnings.iter().any(|w| w.about == "network") => {
            page.entry("other hosts", "not clear: see the warnings");
        }
        None => page.entry("other hosts", "cannot reach this one: jobs stay on it"),
    }
}

fn slurm(report: &Report, page: &mut Page) {
    if report.slurm.is_empty() {
        return;
    }
    page.section("Slurm");
    let rows: Vec<_> = report.slurm.iter().map(|(name, value)| vec![name.clone(), value.clone()]).collect();
    page.table(&rows);
    if report.launch.as_ref().is_some_and(|l| l.launcher == Launcher::Nobody) {
        page.entry(
            "note",
            "This is not a step: a program started like this is alone; srun ./program starts all ranks.",
        );
    }
}

fn warnings(report: &Report, page: &mut Page) {
    if report.warnings.is_empty() {
        page.section("No warnings.");
        return;
    }
    page.section(&count(report.warnings.len(), "warning"));
    for (number, warning) in report.warnings.iter().enumerate() {
        page.entry(&format!("{}. {}", number + 1, warning.about), &warning.problem);
        page.entry("   help", &warning.help);
    }
}
