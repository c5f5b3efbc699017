//! The workloads of perf/ops in Renoir: a parallel source over the mapped file, its own operators, and a sink that each replica writes as a part.
//! One process, `-w` replicas.
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use aeolian_peers::*;
use renoir::block::group_by_hash;
use renoir::prelude::*;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What a replica has gathered for its part; it is written when the replica ends and drops it.
struct Part<T: 'static> {
    rows: Vec<T>,
    shared: Arc<Shared<T>>,
}
type Write<T> = Box<dyn Fn(usize, Vec<T>) -> Instant + Send + Sync>;
struct Shared<T> {
    parts: AtomicUsize,
    moments: Mutex<Vec<(Instant, Instant)>>,
    write: Write<T>,
}
impl<T> Part<T> {
    /// `write` gets the number of a part and its rows, and says when it began to write.
    fn new(write: impl Fn(usize, Vec<T>) -> Instant + Send + Sync + 'static) -> Self {
        let shared = Shared { parts: AtomicUsize::new(0), moments: Mutex::default(), write: Box::new(write) };
        Part { rows: Vec::new(), shared: Arc::new(shared) }
    }
}
impl<T> Clone for Part<T> {
    fn clone(&self) -> Self {
        Part { rows: Vec::new(), shared: self.shared.clone() }
    }
}
impl<T> Drop for Part<T> {
    fn drop(&mut self) {
        if !self.rows.is_empty() {
            let part = self.shared.parts.fetch_add(1, Relaxed);
            let began = (self.shared.write)(part, std::mem::take(&mut self.rows));
            self.shared.moments.lock().unwrap().push((began, Instant::now()));
        }
    }
}

fn main() {
    let (workers, arguments) = arguments();
    let argument = |i: usize| arguments.get(i).cloned().unwrap_or_default();
    let start = Instant::now();
    let env = StreamContext::new(RuntimeConfig::local(workers as u64).unwrap());
    let read;
    let (name, of, out, moments);
    macro_rules! run {
        ($part:expr) => {{
            let shared = $part.shared.clone();
            drop($part);
            remove_parts(&out);
            env.execute_blocking();
            moments = std::mem::take(&mut *shared.moments.lock().unwrap());
        }};
    }
    macro_rules! parts {
        ($rows:expr) => {{
            let rows = $rows;
            env.stream_par_iter(move |i, n| rows[share(rows.len(), i as usize, n as usize)].iter().copied())
                .batch_mode(BatchMode::fixed(4096))
        }};
    }
    match arguments[0].as_str() {
        "groupby" => {
            let rows = map::<Row>(&argument(1));
            read = Instant::now();
            (name, of, out) = ("groupby".to_string(), Of::Rows, argument(2));
            let path = out.clone();
            let part = Part::new(move |k, rows: Vec<Row>| {
                let began = Instant::now();
                write_part(&path, k, &rows);
                began
            });
            let mut to = part.clone();
            parts!(rows)
                .group_by_sum(|r| r.key, |r| f64::from_bits(r.value))
                .unkey()
                .for_each(move |(key, sum)| to.rows.push(Row { key, value: sum.to_bits() }));
            run!(part);
        }
        "join" => {
            let (left, right) = (map::<Row>(&argument(1)), map::<Row>(&argument(2)));
            read = Instant::now();
            let (kind, hash) = (argument(4), argument(5) == "hash");
            (name, of, out) = (
                format!("join {kind} {}", if hash { "hash" } else { "sort-merge" }),
                Of::Joined,
                argument(3),
            );
            let path = out.clone();
            let part = Part::new(move |k, rows: Vec<Joined>| {
                let began = Instant::now();
                write_part(&path, k, &rows);
                began
            });
            let mut to = part.clone();
            let sides = parts!(left).join_with(parts!(right), |r| r.key, |r| r.key).ship_hash();
            let inner = |(key, (l, r)): (u64, (Row, Row))| Joined { key, left: l.value, right: r.value };
            let outer = |(key, (l, r)): (u64, (Option<Row>, Option<Row>))| Joined {
                key,
                left: l.map_or(NONE, |l| l.value),
                right: r.map_or(NONE, |r| r.value),
            };
            match (kind.as_str(), hash) {
                ("inner", false) => {
                    sides.local_sort_merge().inner().unkey().for_each(move |r| to.rows.push(inner(r)))
                }
                ("inner", true) => {
                    sides.local_hash().inner().unkey().for_each(move |r| to.rows.push(inner(r)))
                }
                ("full", false) => {
                    sides.local_sort_merge().outer().unkey().for_each(move |r| to.rows.push(outer(r)))
                }
                ("full", true) => {
                    sides.local_hash().outer().unkey().for_each(move |r| to.rows.push(outer(r)))
                }
                _ => panic!("a join is inner or full"),
            }
            run!(part);
        }
        "wordcount" => {
            let text = map::<u8>(&argument(1));
            set_text(text);
            let kind = kinds(&argument(3));
            read = Instant::now();
            (name, of, out) = (format!("wordcount {}", argument(3)), Of::Words, argument(2));
            let path = out.clone();
            let part = Part::new(move |k, words: Vec<(Word, u64)>| {
                let began = Instant::now();
                write_words(&path, k, words.into_iter());
                began
            });
            let mut to = part.clone();
            env.stream_par_iter(move |i: u64, n: u64| {
                Words::new(text, kind, share(text.len(), i as usize, n as usize))
            })
            .batch_mode(BatchMode::fixed(4096))
            .group_by_fold(|w| *w, 0u64, |count, _| *count += 1, |count, more| *count += more)
            .unkey()
            .for_each(move |word| to.rows.push(word));
            run!(part);
        }
        "terasort" => {
            let records = map::<Record>(&argument(1));
            let between = splitters(records, workers);
            read = Instant::now();
            (name, of, out) = ("terasort".to_string(), Of::Records, argument(2));
            let (path, edges) = (out.clone(), between.clone());
            // Renoir hashes what `repartition_by` is given: names of the ranges whose hashes lead to one replica each.
            let names: Vec<u64> = (0..workers as u64)
                .map(|k| (0..).find(|name: &u64| group_by_hash(name) % workers as u64 == k).unwrap())
                .collect();
            let bucket = move |r: &Record| names[between.partition_point(|s| *s <= r.key())];
            // Its own `sorted_by` would move whole records about: here keys and numbers are sorted.
            let part = Part::new(move |_, came: Vec<Record>| {
                let order = sort_records(&came);
                let began = Instant::now();
                let k = edges.partition_point(|s| *s <= came[0].key());
                write_sorted(&path, k, &came, &order);
                began
            });
            let mut to = part.clone();
            parts!(records).repartition_by(Replication::Unlimited, bucket).for_each(move |r| to.rows.push(r));
            run!(part);
        }
        _ => panic!("what to do: groupby, join, wordcount or terasort"),
    }
    let computed = moments.iter().map(|m| m.0).max().unwrap_or(read);
    let written = moments.iter().map(|m| m.1).max().unwrap_or(read);
    report(&name, "renoir", workers, of, &out, &Times { start, read, computed, written }.seconds());
}
