//! Every collective, blocking and not, against the sequential answer: types, combiners, ranks, roots, partitioners, shapes.

use crate::kinds::{
    Affines, Bytes, Differences, Digests, Doubles, Floats, Kind, Lists, Longs, Model, Permutations, Rng,
    Shorts, Texts, Words,
};
use crate::reference::{Output, expected};
use crate::steps::{KINDS, Size, Step, call, given, start};
use aeolian_harp::*;
use aeolian_net::World;
use proptest::prelude::*;

/// How many ranks.
pub(crate) const RANKS: [usize; 7] = [1, 2, 3, 5, 7, 8, 16];

/// All kinds of calls one after the other in one world, each in both forms.
fn all_agree<K: Kind>(n: usize, seed: u64, kinds: &[usize], size: Size) {
    let mut rng = Rng(seed);
    let plan: Vec<_> = kinds
        .iter()
        .map(|&which| {
            let step = Step::random(&mut rng, which, n);
            let given = given::<K>(&mut rng, &step, n, size);
            let want = expected::<K>(&step, &given);
            (step, given, want)
        })
        .collect();
    for share in [true, false] {
        run_all(&vec![0; n], &plan, share);
    }
    // On several nodes, of consecutive ranks or not.
    run_all(&layout(&mut rng, n, seed.is_multiple_of(2)), &plan, true);
}

/// The nodes of `n` ranks.
pub(crate) fn layout(rng: &mut Rng, n: usize, consecutive: bool) -> Vec<u32> {
    let count = 1 + rng.below(n);
    let mut nodes: Vec<u32> = (0..n).map(|_| rng.below(count) as u32).collect();
    if consecutive {
        nodes.sort_unstable();
    }
    nodes
}

/// Through shared memory, or by messages as between nodes.
#[expect(clippy::type_complexity, reason = "a call, what goes in and what comes out")]
fn run_all<K: Kind>(nodes: &[u32], plan: &[(Step, Vec<Vec<Model<K>>>, Vec<Output<K>>)], share: bool) {
    World::local_nodes(nodes, |mut world| {
        world.use_shared_memory(share);
        let me = world.rank() as usize;
        for (step, given, want) in plan {
            let got = call::<K>(step, &mut world, &given[me])?;
            want[me].check(&got, &format!("rank {me} on {nodes:?}, {step:?}, blocking"));
            let got = start::<K>(step, &world, &given[me])?.wait()?;
            want[me].check(&got, &format!("rank {me} on {nodes:?}, {step:?}, non-blocking"));
        }
        world.finish()
    })
    .unwrap();
}

fn all_kinds() -> Vec<usize> {
    (0..KINDS).collect()
}

macro_rules! agrees {
    ($($test:ident $kind:ident)*) => { $(
        proptest! {
            #![proptest_config(ProptestConfig { cases: 8, max_shrink_iters: 0, ..ProptestConfig::default() })]
            #[test]
            fn $test(n in prop::sample::select(RANKS.to_vec()), seed: u64) {
                all_agree::<$kind>(n, seed, &all_kinds(), Size::Any);
            }
        }
    )* };
}

agrees! {
    sums_of_u8 Bytes
    minima_of_i16 Shorts
    maxima_of_u32 Words
    products_of_i64 Longs
    sums_of_f32 Floats
    sums_of_f64 Doubles
    differences_of_f64_which_are_not_associative Differences
    compositions_of_a_users_struct_in_rank_order Affines
    digests_that_are_neither_associative_nor_commutative Digests
    permutations_that_cannot_be_combined_in_pieces Permutations
    texts_in_rank_order Texts
    lists_that_are_not_associative Lists
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3, max_shrink_iters: 0, ..ProptestConfig::default() })]

    #[test]
    fn partitions_of_some_mib(n in prop::sample::select(vec![2usize, 3, 5]), seed: u64) {
        all_agree::<Affines>(n, seed, &all_kinds(), Size::Large);
        all_agree::<Texts>(n, seed, &all_kinds(), Size::Large);
    }
}

/// Numbers of very different size, which every order of additions rounds differently.
#[test]
fn floating_point_sums_have_the_same_bits_on_all_ranks() {
    for n in RANKS {
        let sums = World::local(n as u32, |mut world| {
            let me = f64::from(world.rank());
            let mine: Vec<f64> =
                (0..5000).map(|i| (me * 31.7 + f64::from(i)).sin() * 10f64.powi(i % 30 - 15)).collect();
            let narrow: Vec<f32> = mine.iter().map(|&x| x as f32).collect();
            let (mut all, mut all_narrow) = (Table::<f64, Sum>::new(Sum), Table::<f32, Sum>::new(Sum));
            for id in [0, 5] {
                all.add(id, mine.clone())?;
                all_narrow.add(id, narrow.clone())?;
            }
            let mut gathered = all.clone();
            allreduce(&mut world, &mut all)?;
            allreduce(&mut world, &mut all_narrow)?;
            allgather(&mut world, &mut gathered)?;
            let mut slice = mine;
            allreduce_slice(&mut world, &mut slice, Sum)?;
            assert!(slice.iter().zip(&all.get(0).unwrap()[..]).all(|(a, b)| a.to_bits() == b.to_bits()));
            world.finish()?;
            let bits = |t: &Table<f64, Sum>| -> Vec<u64> {
                t.iter().flat_map(|(_, p)| p.iter().map(|x| x.to_bits()).collect::<Vec<_>>()).collect()
            };
            let narrow: Vec<u32> = all_narrow.get(5).unwrap().iter().map(|x| x.to_bits()).collect();
            Ok((bits(&all), bits(&gathered), narrow))
        })
        .unwrap();
        assert!(sums.windows(2).all(|two| two[0] == two[1]), "{n} ranks");
    }
}

/// The moving table is of another type than the one whose ids it follows.
#[test]
fn a_join_follows_the_ids_of_a_table_of_another_type() {
    for n in RANKS {
        World::local(n as u32, |mut world| {
            let (me, size) = (u64::from(world.rank()), u64::from(world.size()));
            // Rank r has the names of ids r, and r + 100 which the next rank has too: the lower has it.
            let mut names = Table::<Serde<String>, _>::new(Texts::combiner());
            names.add(me, me.to_string())?;
            names.add(100 + me, String::new())?;
            names.add(100 + (me + 1) % size, String::new())?;
            let mut numbers = Table::<u32, Sum>::new(Sum);
            for id in 0..size {
                numbers.add(id, vec![1])?;
                numbers.add(100 + id, vec![1])?;
            }
            numbers.add(1000, vec![7])?;
            join(&mut world, &mut numbers, &names, &ById::new("last", |_, size| size - 1))?;
            let ids: Vec<u64> = numbers.ids().collect();
            let lower = |id: u64| id.min((id + size - 1) % size);
            let mut want = vec![me];
            want.extend((0..size).filter(|id| lower(*id) == me).map(|id| 100 + id));
            want.extend((me == size - 1).then_some(1000));
            assert_eq!(ids, want);
            assert!(numbers.iter().all(|(id, p)| p[..] == [if id == 1000 { 7 } else { 1 } * size as u32]));
            world.finish()
        })
        .unwrap();
    }
}
