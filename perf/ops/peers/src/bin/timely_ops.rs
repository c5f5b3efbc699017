//! The workloads of perf/ops written by hand for timely: input handles that send batches, one exchange, an operator that gathers what comes, and
//! the worker's own loop over it when its input has ended. One process, `-w` worker threads: nothing is serialised.
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

use aeolian_peers::*;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use timely::ExchangeData;
use timely::dataflow::InputHandle;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::Operator;
use timely::worker::Worker;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Items of a batch that is sent before the worker takes a step.
const BATCH: usize = 16 << 10;
/// Parts within a worker, so that each part's table fits the cache.
const PARTS: usize = 256;

/// Sends what `items` yields to the worker that `route` names; each worker gives what came to `take`.
fn exchange<T: ExchangeData + Clone>(
    worker: &mut Worker,
    mut items: impl Iterator<Item = T>,
    route: impl Fn(&T) -> u64 + 'static,
    mut take: impl FnMut(T) + 'static,
) {
    let mut input = InputHandle::new();
    worker.dataflow::<usize, _, _>(|scope| {
        input.to_stream(scope).sink(Exchange::new(route), "Take", move |(input, _)| {
            input.for_each(|_, data: &mut Vec<T>| data.drain(..).for_each(&mut take));
        });
    });
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        batch.extend(items.by_ref().take(BATCH));
        if batch.is_empty() {
            break;
        }
        input.send_batch(&mut batch);
        batch.clear();
        worker.step();
    }
    input.close();
    while worker.has_dataflows() {
        worker.step_or_park(None);
    }
}

/// The state that an operator fills, when its dataflow is gone.
fn take<T>(state: Rc<RefCell<T>>) -> T {
    Rc::try_unwrap(state).ok().expect("the dataflow has ended").into_inner()
}

fn part(hash: u64) -> usize {
    // The low bits are the exchange's.
    (hash >> 32) as usize * PARTS >> 32
}

type Sums = HashMap<u64, f64, FixedState>;

fn groupby(worker: &mut Worker, rows: &[Row], out: &str, combine: bool) -> (Instant, Instant) {
    let (me, peers) = (worker.index(), worker.peers());
    let mine = rows[share(rows.len(), me, peers)].iter().copied();
    let sums: Rc<RefCell<Sums>> = Rc::default();
    let to = sums.clone();
    let take_row = move |r: Row| *to.borrow_mut().entry(r.key).or_default() += f64::from_bits(r.value);
    if combine {
        let mut own = Sums::default();
        for r in mine {
            *own.entry(r.key).or_default() += f64::from_bits(r.value);
        }
        exchange(
            worker,
            own.into_iter().map(|(key, sum)| Row { key, value: sum.to_bits() }),
            |r| hash64(r.key),
            take_row,
        );
    } else {
        exchange(worker, mine, |r| hash64(r.key), take_row);
    }
    let result: Vec<Row> =
        take(sums).into_iter().map(|(key, sum)| Row { key, value: sum.to_bits() }).collect();
    let computed = Instant::now();
    write_part(out, me, &result);
    (computed, Instant::now())
}

fn join(worker: &mut Worker, left: &[Row], right: &[Row], out: &str, full: bool) -> (Instant, Instant) {
    let (me, peers) = (worker.index(), worker.peers());
    let mut sides = [left, right].map(|side| {
        let parts: Rc<RefCell<Vec<Vec<Row>>>> = Rc::new(RefCell::new(vec![Vec::new(); PARTS]));
        let to = parts.clone();
        let mine = side[share(side.len(), me, peers)].iter().copied();
        exchange(worker, mine, |r| hash64(r.key), move |r: Row| to.borrow_mut()[part(hash64(r.key))].push(r));
        take(parts)
    });
    let mut result: Vec<Joined> = Vec::new();
    // Chains of the left rows of a key, counted from 1.
    let mut heads: HashMap<u64, u32, FixedState> = HashMap::default();
    let (mut next, mut matched) = (Vec::new(), Vec::new());
    for p in 0..PARTS {
        let (l, r) = (std::mem::take(&mut sides[0][p]), std::mem::take(&mut sides[1][p]));
        heads.clear();
        next.clear();
        next.push(0u32);
        for (i, row) in l.iter().enumerate() {
            next.push(heads.insert(row.key, i as u32 + 1).unwrap_or(0));
        }
        if full {
            matched.clear();
            matched.resize(l.len() + 1, false);
        }
        for row in &r {
            let mut at = heads.get(&row.key).copied().unwrap_or(0);
            if full && at == 0 {
                result.push(Joined { key: row.key, left: NONE, right: row.value });
            }
            while at != 0 {
                result.push(Joined { key: row.key, left: l[at as usize - 1].value, right: row.value });
                if full {
                    matched[at as usize] = true;
                }
                at = next[at as usize];
            }
        }
        if full {
            let alone = l.iter().zip(&matched[1..]).filter(|(_, m)| !**m);
            result.extend(alone.map(|(row, _)| Joined { key: row.key, left: row.value, right: NONE }));
        }
    }
    let computed = Instant::now();
    write_part(out, me, &result);
    (computed, Instant::now())
}

fn wordcount(worker: &mut Worker, text: &'static [u8], kind: [bool; 256], out: &str) -> (Instant, Instant) {
    let (me, peers) = (worker.index(), worker.peers());
    let mut own: HashMap<Word, u64, FixedState> = HashMap::default();
    for word in Words::new(text, kind, share(text.len(), me, peers)) {
        *own.entry(word).or_default() += 1;
    }
    let counts: Rc<RefCell<HashMap<Word, u64, FixedState>>> = Rc::default();
    let to = counts.clone();
    use std::hash::BuildHasher;
    let route = |w: &(Word, u64)| FixedState::with_seed(7).hash_one(w.0);
    exchange(worker, own.into_iter(), route, move |(word, count)| {
        *to.borrow_mut().entry(word).or_default() += count
    });
    let computed = Instant::now();
    write_words(out, me, take(counts).into_iter());
    (computed, Instant::now())
}

fn terasort(
    worker: &mut Worker,
    records: &[Record],
    splitters: &[(u64, u16)],
    out: &str,
) -> (Instant, Instant) {
    let (me, peers) = (worker.index(), worker.peers());
    let mine = records[share(records.len(), me, peers)].iter().copied();
    let came: Rc<RefCell<Vec<Record>>> = Rc::default();
    let to = came.clone();
    let splitters = splitters.to_vec();
    let route = move |r: &Record| splitters.partition_point(|s| *s <= r.key()) as u64;
    exchange(worker, mine, route, move |r| to.borrow_mut().push(r));
    let came = take(came);
    let order = sort_records(&came);
    let computed = Instant::now();
    write_sorted(out, me, &came, &order);
    (computed, Instant::now())
}

fn main() {
    let (workers, arguments) = arguments();
    let argument = |i: usize| arguments.get(i).cloned().unwrap_or_default();
    let start = Instant::now();
    let what = arguments[0].as_str();
    type Run = Box<dyn Fn(&mut Worker) -> (Instant, Instant) + Send + Sync>;
    let (name, of, out, run): (String, Of, String, Run) = match what {
        "groupby" => {
            let (rows, out, combine) = (map(&argument(1)), argument(2), argument(3) == "combine");
            let name = format!("groupby {}", if combine { "combine" } else { "ship" });
            (name, Of::Rows, out.clone(), Box::new(move |w| groupby(w, rows, &out, combine)))
        }
        "join" => {
            let (left, right, out, full) =
                (map(&argument(1)), map(&argument(2)), argument(3), argument(4) == "full");
            (
                format!("join {}", argument(4)),
                Of::Joined,
                out.clone(),
                Box::new(move |w| join(w, left, right, &out, full)),
            )
        }
        "wordcount" => {
            let (text, out, kind) = (map(&argument(1)), argument(2), kinds(&argument(3)));
            set_text(text);
            (
                format!("wordcount {}", argument(3)),
                Of::Words,
                out.clone(),
                Box::new(move |w| wordcount(w, text, kind, &out)),
            )
        }
        "terasort" => {
            let (records, out) = (map(&argument(1)), argument(2));
            let between = splitters(records, workers);
            (
                "terasort".into(),
                Of::Records,
                out.clone(),
                Box::new(move |w| terasort(w, records, &between, &out)),
            )
        }
        _ => panic!("what to do: groupby, join, wordcount or terasort"),
    };
    let read = Instant::now();
    remove_parts(&out);
    let moments = timely::execute(timely::Config::process(workers), move |worker| run(worker)).unwrap();
    let (mut computed, mut written) = (read, read);
    for moment in moments.join() {
        let (c, w) = moment.unwrap();
        (computed, written) = (computed.max(c), written.max(w));
    }
    report(&name, "timely", workers, of, &out, &Times { start, read, computed, written }.seconds());
}
