//! The collectives of key-value tables, blocking, started and several under way, against answers that are made row by row.

use crate::each::{RANKS, layout};
use crate::kinds::{Affine, Affines, Digests, Kind, Rng, Texts};
use aeolian_harp::*;
use aeolian_net::World;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::hash::Hash;

/// A type of key-value table, and, written down once more, what its combiner should do.
trait Pairing: Sized + 'static {
    type K: Field<Value: Hash + Ord + Debug + Send + Sync>;
    type V: Field<Value: PartialEq + Debug + Send + Sync>;
    type C: Combiner<<Self::V as Field>::Unit> + 'static;

    fn combiner() -> Self::C;
    fn key(number: u64) -> Key<Self>;
    fn value(rng: &mut Rng) -> Value<Self>;
    fn fold(into: &mut Value<Self>, other: &Value<Self>);
}

type Key<P> = <<P as Pairing>::K as Field>::Value;
type Value<P> = <<P as Pairing>::V as Field>::Value;
type TableOf<P> = KvTable<<P as Pairing>::K, <P as Pairing>::V, <P as Pairing>::C>;
type Rows<P> = Vec<(Key<P>, Value<P>)>;
/// What a rank has after a call: of a table one value of each key, of groups all.
type Model<P> = BTreeMap<Key<P>, Vec<Value<P>>>;

macro_rules! pairings {
    ($($(#[$doc:meta])* $name:ident: $k:ty => $v:ty, $c:ty = $combiner:expr, |$number:ident| $key:expr, |$rng:ident| $value:expr, |$a:ident, $b:ident| $fold:expr;)*) => { $(
        $(#[$doc])*
        struct $name;

        impl Pairing for $name {
            type K = $k;
            type V = $v;
            type C = $c;

            fn combiner() -> $c {
                $combiner
            }

            fn key($number: u64) -> Key<Self> {
                $key
            }

            fn value($rng: &mut Rng) -> Value<Self> {
                $value
            }

            fn fold($a: &mut Value<Self>, $b: &Value<Self>) {
                $fold
            }
        }
    )* };
}

pairings! {
    /// Whole numbers, of which no order of additions rounds.
    Numbers: u64 => f64, Sum = Sum, |n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15), |rng| rng.below(1000) as f64, |a, b| *a += b;
    /// Neither associative nor commutative.
    Chains: u32 => i64, <Digests as Kind>::C = Digests::combiner(), |n| n as u32, |rng| rng.next() as i64, |a, b| *a = a.wrapping_mul(31) ^ b;
    /// A user's struct, whose order counts, under narrow keys.
    Maps: u8 => Affine, <Affines as Kind>::C = Affines::combiner(), |n| n as u8, |rng| Affines::part(rng, 1)[0], |a, b| *a = a.then(*b);
    /// Keys that no alignment fits, and values that want 16 bytes'.
    Maxima: [u8; 3] => u128, Max = Max, |n| [n as u8, (n >> 8) as u8, (n >> 16) as u8], |rng| u128::from(rng.next()) << 40, |a, b| *a = (*a).max(*b);
    /// Keys of all lengths, also of none.
    Counts: Serde<String> => u32, Sum = Sum, |n| if n == 0 { String::new() } else { n.to_string() }, |rng| rng.below(9) as u32, |a, b| *a += b;
    /// Values that are put together: the order of ranks and rows can be read.
    Sayings: u64 => Serde<String>, <Texts as Kind>::C = Texts::combiner(), |n| n, |rng| { let len = rng.below(12); Texts::part(rng, len) }, |a, b| a.push_str(b);
    /// Sets: values without bytes.
    Sets: u32 => Serde<()>, Custom<fn(&mut (), &())> = Custom::new("once", |_, _| {}), |n| n as u32, |_rng| (), |_a, _b| ();
    /// No column moves as it lies.
    Listings: Serde<(u16, String)> => Serde<String>, <Texts as Kind>::C = Texts::combiner(), |n| (n as u16, "k".repeat(n as usize % 5)), |rng| Texts::part(rng, 2), |a, b| a.push_str(b);
}

/// A call.
#[derive(Debug, Clone, Copy)]
enum Pairwise {
    Regroup,
    Allreduce,
    Reduce(u32),
    Broadcast(u32),
    Group,
}

impl Pairwise {
    fn all(rng: &mut Rng, n: usize) -> Vec<Pairwise> {
        let mut root = || rng.below(n) as u32;
        let (to, from) = (root(), root());
        let all = [
            Pairwise::Regroup,
            Pairwise::Allreduce,
            Pairwise::Reduce(to),
            Pairwise::Broadcast(from),
            Pairwise::Group,
        ];
        rng.shuffled(all.len()).into_iter().map(|at| all[at as usize]).collect()
    }
}

/// A call with each rank's rows and what should come of it.
struct Plan<P: Pairing> {
    step: Pairwise,
    rows: Vec<Rows<P>>,
    want: Want<P>,
}

enum Want<P: Pairing> {
    /// On each rank.
    Each(Vec<Model<P>>),
    /// Of all ranks together, every key on one of them.
    Spread(Model<P>),
}

impl<P: Pairing> Plan<P> {
    fn new(step: Pairwise, rows: Vec<Rows<P>>) -> Plan<P> {
        let ranks = 0..rows.len();
        let want = match step {
            Pairwise::Regroup => Want::Spread(merged::<P>(&rows)),
            Pairwise::Group => Want::Spread(listed::<P>(rows.iter().flatten())),
            Pairwise::Allreduce => Want::Each(vec![merged::<P>(&rows); rows.len()]),
            Pairwise::Reduce(root) => {
                let all = |rank| if rank == root as usize { merged::<P>(&rows) } else { Model::<P>::new() };
                Want::Each(ranks.map(all).collect())
            }
            Pairwise::Broadcast(root) => {
                // A rank's own values come first.
                let from = |rank| if rank == root as usize { vec![rank] } else { vec![rank, root as usize] };
                let added = |rank| merged::<P>(from(rank).into_iter().map(|rank| &rows[rank]));
                Want::Each(ranks.map(added).collect())
            }
        };
        Plan { step, rows, want }
    }

    /// All kinds of calls.
    fn all(rng: &mut Rng, n: usize) -> Vec<Plan<P>> {
        Pairwise::all(rng, n).into_iter().map(|step| Plan::new(step, rows::<P>(rng, n))).collect()
    }

    /// Of what all ranks got.
    fn check(&self, got: &[&Model<P>], owners: &mut Owners<P>, what: &str) {
        let what = format!("{:?}, {what}", self.step);
        match &self.want {
            Want::Each(want) => {
                for (rank, (got, want)) in got.iter().zip(want).enumerate() {
                    assert!(*got == want, "rank {rank}, {what}");
                }
            }
            Want::Spread(want) => {
                for (rank, part) in got.iter().enumerate() {
                    for (key, values) in *part {
                        let owner = *owners.entry(key.clone()).or_insert(rank);
                        assert_eq!(owner, rank, "the rank of key {key:?}, {what}");
                        assert_eq!(Some(values), want.get(key), "key {key:?} on rank {rank}, {what}");
                    }
                }
                assert_eq!(got.iter().map(|part| part.len()).sum::<usize>(), want.len(), "{what}");
            }
        }
    }
}

/// Rows of each rank: none anywhere, all on one rank, the same keys on all, or any; seldom thousands.
fn rows<P: Pairing>(rng: &mut Rng, n: usize) -> Vec<Rows<P>> {
    let (shape, only) = (rng.below(8), rng.below(n));
    let most = if rng.below(12) == 0 { 6_000 / n } else { rng.pick(&[1, 2, 30, 150]) };
    let keys = rng.pick(&[1, 5, 100, 1 << 40]);
    let mut all = Vec::new();
    for rank in 0..n {
        let count = match shape {
            0 => 0,
            1 if rank != only => 0,
            1 | 2 => most,
            _ => rng.below(most + 1),
        };
        let number = |row: usize, rng: &mut Rng| if shape == 2 { row as u64 } else { rng.next() % keys };
        all.push((0..count).map(|row| (P::key(number(row, rng)), P::value(rng))).collect());
    }
    all
}

/// A table to which the rows were added.
fn table<P: Pairing>(rows: &Rows<P>) -> TableOf<P> {
    let mut table = KvTable::new(P::combiner());
    for (key, value) in rows {
        table.add(key.clone(), value.clone());
    }
    table
}

/// What is in a table, every key once and found by its index.
fn model<P: Pairing>(table: &TableOf<P>) -> Model<P> {
    assert!(table.iter().all(|(key, value)| table.get(key) == Some(value)));
    let model: Model<P> = table.iter().map(|(key, value)| (key.clone(), vec![value.clone()])).collect();
    assert_eq!((model.len(), model.is_empty()), (table.len(), table.is_empty()), "a key is there twice");
    model
}

fn groups<P: Pairing>(groups: &Groups<P::K, P::V>) -> Model<P> {
    let model: Model<P> = groups.iter().map(|(key, values)| (key.clone(), values.to_vec())).collect();
    assert_eq!((model.len(), model.is_empty()), (groups.len(), groups.is_empty()), "a key is there twice");
    model
}

/// All values of each key, in the order of the rows.
fn listed<'a, P: Pairing>(rows: impl IntoIterator<Item = &'a (Key<P>, Value<P>)>) -> Model<P> {
    let mut all = Model::<P>::new();
    for (key, value) in rows {
        all.entry(key.clone()).or_default().push(value.clone());
    }
    all
}

/// The same with the values of each key combined.
fn folded<'a, P: Pairing>(rows: impl IntoIterator<Item = &'a (Key<P>, Value<P>)>) -> Model<P> {
    let mut all = listed::<P>(rows);
    for values in all.values_mut() {
        let rest = values.split_off(1);
        rest.iter().for_each(|value| P::fold(&mut values[0], value));
    }
    all
}

/// What tables of these rows, combined in this order, come to.
fn merged<'a, P: Pairing>(tables: impl IntoIterator<Item = &'a Rows<P>>) -> Model<P> {
    let rows: Vec<_> = tables
        .into_iter()
        .flat_map(folded::<P>)
        .flat_map(|(key, values)| values.into_iter().map(move |value| (key.clone(), value)))
        .collect();
    folded::<P>(&rows)
}

/// The rank on which each key was found by a call that gives it to one: always the same.
type Owners<P> = BTreeMap<Key<P>, usize>;

fn call<P: Pairing>(step: Pairwise, world: &mut World, rows: &Rows<P>) -> Result<Model<P>> {
    let mut table = table::<P>(rows);
    match step {
        Pairwise::Regroup => regroup_kv(world, &mut table)?,
        Pairwise::Allreduce => allreduce_kv(world, &mut table)?,
        Pairwise::Reduce(root) => reduce_kv(world, &mut table, root)?,
        Pairwise::Broadcast(root) => broadcast_kv(world, &mut table, root)?,
        Pairwise::Group => {
            let (keys, values) = rows.iter().cloned().unzip();
            return Ok(groups::<P>(&group_by_key(world, keys, values)?));
        }
    }
    Ok(model::<P>(&table))
}

/// One under way.
enum Flying<P: Pairing> {
    Table(Pending<TableOf<P>>),
    Groups(Pending<Groups<P::K, P::V>>),
}

impl<P: Pairing> Flying<P> {
    fn start(step: Pairwise, world: &World, rows: &Rows<P>) -> Result<Flying<P>> {
        let table = table::<P>(rows);
        Ok(Flying::Table(match step {
            Pairwise::Regroup => iregroup_kv(world, table)?,
            Pairwise::Allreduce => iallreduce_kv(world, table)?,
            Pairwise::Reduce(root) => ireduce_kv(world, table, root)?,
            Pairwise::Broadcast(root) => ibroadcast_kv(world, table, root)?,
            Pairwise::Group => {
                let (keys, values) = rows.iter().cloned().unzip();
                return Ok(Flying::Groups(igroup_by_key(world, keys, values)?));
            }
        }))
    }

    fn wait(self) -> Result<Model<P>> {
        Ok(match self {
            Flying::Table(pending) => model::<P>(&pending.wait()?),
            Flying::Groups(pending) => groups::<P>(&pending.wait()?),
        })
    }
}

const FORMS: [&str; 3] = ["blocking", "started", "all under way at a time"];

/// All calls in all forms, through shared memory or by messages as between nodes.
fn run_all<P: Pairing>(nodes: &[u32], share: bool, plans: &[Plan<P>], owners: &mut Owners<P>) {
    let got = World::local_nodes(nodes, |mut world| {
        world.use_shared_memory(share);
        let me = world.rank() as usize;
        let mut got = Vec::new();
        for Plan { step, rows, .. } in plans {
            let blocking = call::<P>(*step, &mut world, &rows[me])?;
            got.push(vec![blocking, Flying::<P>::start(*step, &world, &rows[me])?.wait()?]);
        }
        let mut flying = Vec::new();
        for (at, Plan { step, rows, .. }) in plans.iter().enumerate() {
            flying.push((at, Flying::<P>::start(*step, &world, &rows[me])?));
        }
        // Waited for in another order on each rank.
        let mut rng = Rng(me as u64);
        while !flying.is_empty() {
            let (at, one) = flying.swap_remove(rng.below(flying.len()));
            got[at].push(one.wait()?);
        }
        world.finish()?;
        Ok(got)
    })
    .unwrap();
    for (at, plan) in plans.iter().enumerate() {
        for (form, name) in FORMS.iter().enumerate() {
            let got: Vec<_> = got.iter().map(|of_rank| &of_rank[at][form]).collect();
            plan.check(&got, owners, &format!("{name}, on {nodes:?}, shared: {share}"));
        }
    }
}

/// All kinds of calls one after the other in one world.
fn all_agree<P: Pairing>(n: usize, seed: u64) {
    let mut rng = Rng(seed);
    let plans = Plan::<P>::all(&mut rng, n);
    let mut owners = Owners::<P>::new();
    for share in [true, false] {
        run_all::<P>(&vec![0; n], share, &plans, &mut owners);
    }
    // On several nodes, of consecutive ranks or not.
    run_all::<P>(&layout(&mut rng, n, seed.is_multiple_of(2)), true, &plans, &mut owners);
}

macro_rules! agrees {
    ($($test:ident $pairing:ident)*) => { $(
        proptest! {
            #![proptest_config(ProptestConfig { cases: 8, max_shrink_iters: 0, ..ProptestConfig::default() })]
            #[test]
            fn $test(n in prop::sample::select(RANKS.to_vec()), seed: u64) {
                all_agree::<$pairing>(n, seed);
            }
        }
    )* };
}

agrees! {
    sums_under_u64 Numbers
    digests_that_are_neither_associative_nor_commutative_under_u32 Chains
    compositions_of_a_users_struct_in_rank_order_under_u8 Maps
    maxima_under_three_bytes Maxima
    counts_under_texts Counts
    texts_in_rank_order_under_u64 Sayings
    sets_of_u32 Sets
    texts_in_rank_order_under_serde_values Listings
}

/// Two calls under way and one between them, the later waited for first.
fn two_at_a_time<P: Pairing, Q: Pairing>(n: usize, seed: u64) {
    let mut rng = Rng(seed);
    let nodes = layout(&mut rng, n, seed.is_multiple_of(2));
    let (first, second) = (Plan::<P>::all(&mut rng, n).remove(0), Plan::<Q>::all(&mut rng, n).remove(0));
    let got = World::local_nodes(&nodes, |mut world| {
        world.use_shared_memory(!seed.is_multiple_of(3));
        let me = world.rank() as usize;
        let one = Flying::<P>::start(first.step, &world, &first.rows[me])?;
        let two = Flying::<Q>::start(second.step, &world, &second.rows[me])?;
        let between = call::<P>(first.step, &mut world, &first.rows[me])?;
        let two = two.wait()?;
        let one = one.wait()?;
        assert!(one == between, "both forms of {:?}", first.step);
        world.finish()?;
        Ok((one, two))
    })
    .unwrap();
    let (ones, twos): (Vec<_>, Vec<_>) = got.iter().map(|(one, two)| (one, two)).unzip();
    first.check(&ones, &mut Owners::<P>::new(), &format!("first of two, on {nodes:?}"));
    second.check(&twos, &mut Owners::<Q>::new(), &format!("second of two, on {nodes:?}"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, max_shrink_iters: 0, ..ProptestConfig::default() })]

    #[test]
    fn two_of_other_types_the_later_waited_for_first(n in prop::sample::select(RANKS.to_vec()), seed: u64) {
        match seed % 3 {
            0 => two_at_a_time::<Sayings, Numbers>(n, seed),
            1 => two_at_a_time::<Chains, Counts>(n, seed),
            _ => two_at_a_time::<Maps, Sayings>(n, seed),
        }
    }
}

/// More rows than are sent in their order: those of a key keep theirs all the same.
#[test]
fn so_many_rows_that_they_are_sent_region_by_region() {
    let (mut rng, mut owners) = (Rng(7), Owners::<Chains>::new());
    let mut rows = || (0..70_000).map(|_| ((rng.next() % (1 << 18)) as u32, rng.next() as i64)).collect();
    let rows: Vec<Rows<Chains>> = vec![rows(), rows()];
    for step in [Pairwise::Regroup, Pairwise::Group] {
        let plan = Plan::<Chains>::new(step, rows.clone());
        for share in [true, false] {
            let got = World::local(2, |mut world| {
                world.use_shared_memory(share);
                let me = world.rank() as usize;
                let got = call::<Chains>(step, &mut world, &plan.rows[me])?;
                world.finish()?;
                Ok(got)
            });
            plan.check(&got.unwrap().iter().collect::<Vec<_>>(), &mut owners, "region by region");
        }
    }
}

/// What comes back is a table like any other, also where its memory was kept.
#[test]
fn one_table_goes_through_all_calls() {
    for n in RANKS {
        for share in [true, false] {
            let rows = rows::<Sayings>(&mut Rng(n as u64), n);
            let once = merged::<Sayings>(&rows);
            World::local(n as u32, |mut world| {
                world.use_shared_memory(share);
                let (me, root) = (world.rank(), n as u32 - 1);
                let mut table = table::<Sayings>(&rows[me as usize]);
                regroup_kv(&mut world, &mut table)?;
                regroup_kv(&mut world, &mut table)?;
                allreduce_kv(&mut world, &mut table)?;
                assert!(model::<Sayings>(&table) == once, "all of what had a rank for each key, {n} ranks");
                reduce_kv(&mut world, &mut table, root)?;
                assert_eq!(table.is_empty(), me != root || once.is_empty());
                broadcast_kv(&mut world, &mut table, root)?;
                assert_eq!(table.len(), once.len());
                assert!(table.iter().all(|(key, value)| *value == once[key][0].repeat(n)), "{n} ranks");
                world.finish()
            })
            .unwrap();
        }
    }
}

/// Wrong on all ranks: they hear of it, and go on.
#[test]
fn roots_that_do_not_exist_and_columns_of_two_lengths() {
    World::local(3, |mut world| {
        let mut table = table::<Sayings>(&vec![(1, "a".to_string())]);
        let no_root = |told: Result<()>| assert!(matches!(told, Err(HarpError::Root { root: 3, size: 3 })));
        no_root(reduce_kv(&mut world, &mut table, 3));
        no_root(broadcast_kv(&mut world, &mut table, 3));
        let uneven = group_by_key::<u8, u8>(&mut world, vec![1, 2], vec![3]).map(drop).unwrap_err();
        assert!(uneven.to_string().contains("2 keys with 1 values"), "{uneven}");
        allreduce_kv(&mut world, &mut table)?;
        assert_eq!(table.get(&1).unwrap(), "aaa");
        world.finish()
    })
    .unwrap();
}
