//! What the tables of these tests are made of: a type of partition, its combiner, and, written down once more and apart from
//! it, what the combiner should do.

use aeolian_harp::{Combiner, Custom, Data, Max, Min, Minus, Product, Serde, Sum, Table};
use bytemuck::{Pod, Zeroable};
use std::collections::BTreeMap;
use std::fmt::Debug;

/// SplitMix64: the same numbers on every rank and machine.
#[derive(Clone, Debug)]
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub(crate) fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }

    pub(crate) fn shuffled(&mut self, len: usize) -> Vec<u32> {
        let mut list: Vec<u32> = (0..len as u32).collect();
        for at in (1..len).rev() {
            list.swap(at, self.below(at + 1));
        }
        list
    }
}

pub(crate) type Part<K> = <<K as Kind>::D as Data>::Part;
pub(crate) type Unit<K> = <<K as Kind>::D as Data>::Unit;
pub(crate) type TableOf<K> = Table<<K as Kind>::D, <K as Kind>::C>;
/// A table as the oracle has it.
pub(crate) type Model<K> = BTreeMap<u64, Part<K>>;

/// A type of table.
pub(crate) trait Kind: Sized + 'static {
    type D: Data<Part: Clone + PartialEq + Debug + Send + Sync>;
    type C: Combiner<Unit<Self>> + 'static;
    /// Bytes of an element, about.
    const WIDTH: usize;

    fn combiner() -> Self::C;
    fn part(rng: &mut Rng, len: usize) -> Part<Self>;
    /// What the combiner should do.
    fn fold(into: &mut Part<Self>, other: &Part<Self>);
    /// The function of an aggregate.
    fn touch(id: u64, unit: &mut Unit<Self>);
}

/// The table of a model.
pub(crate) fn table<K: Kind>(model: &Model<K>) -> TableOf<K> {
    let mut table = Table::new(K::combiner());
    for (id, part) in model {
        table.insert(*id, part.clone());
    }
    table
}

/// The model of a table.
pub(crate) fn model<K: Kind>(table: &TableOf<K>) -> Model<K> {
    table.iter().map(|(id, part)| (id, part.clone())).collect()
}

macro_rules! elementwise {
    ($($(#[$doc:meta])* $name:ident: $t:ty, $c:ty = $combiner:expr, |$rng:ident| $value:expr, |$a:ident, $b:ident| $fold:expr;)*) => { $(
        $(#[$doc])*
        pub(crate) struct $name;

        impl Kind for $name {
            type D = $t;
            type C = $c;
            const WIDTH: usize = size_of::<$t>();

            fn combiner() -> $c {
                $combiner
            }

            fn part($rng: &mut Rng, len: usize) -> Part<Self> {
                (0..len).map(|_| $value).collect::<Vec<$t>>().into()
            }

            fn fold(into: &mut Part<Self>, other: &Part<Self>) {
                assert_eq!(into.len(), other.len());
                for ($a, $b) in into.iter_mut().zip(other.iter().copied()) {
                    *$a = $fold;
                }
            }

            fn touch(id: u64, unit: &mut [$t]) {
                if !unit.is_empty() {
                    unit.rotate_left(id as usize % unit.len());
                }
            }
        }
    )* };
}

/// A user's own type: the map x -> factor * x + shift, with an element that is no power of two long.
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Affine {
    factor: u32,
    shift: u32,
    steps: u32,
}

impl Affine {
    /// First this one, then the other.
    pub(crate) fn then(self, other: Affine) -> Affine {
        Affine {
            factor: self.factor.wrapping_mul(other.factor),
            shift: self.shift.wrapping_mul(other.factor).wrapping_add(other.shift),
            steps: self.steps.wrapping_add(other.steps),
        }
    }
}

elementwise! {
    Bytes: u8, Sum = Sum, |rng| rng.below(10) as u8, |a, b| *a + b;
    Shorts: i16, Min = Min, |rng| rng.next() as i16, |a, b| (*a).min(b);
    Words: u32, Max = Max, |rng| rng.next() as u32, |a, b| (*a).max(b);
    Longs: i64, Product = Product, |rng| 1 + rng.below(9) as i64, |a, b| *a * b;
    /// Whole numbers, so that no order of additions rounds.
    Floats: f32, Sum = Sum, |rng| rng.below(1000) as f32, |a, b| *a + b;
    Doubles: f64, Sum = Sum, |rng| rng.below(1000) as f64, |a, b| *a + b;
    /// Not associative.
    Differences: f64, Minus = Minus, |rng| rng.below(1000) as f64, |a, b| *a - b;
    /// Associative, not commutative.
    Affines: Affine, Custom<fn(&mut [Affine], &[Affine])> = Custom::new("affine", compose as fn(&mut [Affine], &[Affine])).elementwise(),
        |rng| Affine { factor: rng.next() as u32, shift: rng.next() as u32, steps: 1 }, |a, b| a.then(b);
    /// Neither associative nor commutative.
    Digests: i64, Custom<fn(&mut [i64], &[i64])> = Custom::new("digest", digest as fn(&mut [i64], &[i64])).elementwise().in_sequence(),
        |rng| rng.next() as i64, |a, b| a.wrapping_mul(31) ^ b;
}

fn compose(into: &mut [Affine], other: &[Affine]) {
    into.iter_mut().zip(other).for_each(|(a, b)| *a = a.then(*b));
}

fn digest(into: &mut [i64], other: &[i64]) {
    into.iter_mut().zip(other).for_each(|(a, b)| *a = a.wrapping_mul(31) ^ b);
}

/// Permutations, which are composed: associative, neither commutative nor element by element.
pub(crate) struct Permutations;

fn permute(into: &mut [u32], other: &[u32]) {
    into.iter_mut().for_each(|at| *at = other[*at as usize]);
}

impl Kind for Permutations {
    type D = u32;
    type C = Custom<fn(&mut [u32], &[u32])>;
    const WIDTH: usize = 4;

    fn combiner() -> Self::C {
        Custom::new("permute", permute as fn(&mut [u32], &[u32]))
    }

    fn part(rng: &mut Rng, len: usize) -> Part<Self> {
        rng.shuffled(len).into()
    }

    fn fold(into: &mut Part<Self>, other: &Part<Self>) {
        let composed: Vec<u32> = into.iter().map(|&at| other[at as usize]).collect();
        *into = composed.into();
    }

    fn touch(_: u64, unit: &mut [u32]) {
        unit.reverse();
    }
}

/// Text, which is put together: the order of the ranks can be read.
pub(crate) struct Texts;

fn text(rng: &mut Rng, len: usize) -> String {
    let first = rng.next();
    (0..len).map(|at| char::from(b'a' + (first.wrapping_mul(at as u64 + 7) >> 32) as u8 % 26)).collect()
}

impl Kind for Texts {
    type D = Serde<String>;
    type C = Custom<fn(&mut String, &String)>;
    const WIDTH: usize = 1;

    fn combiner() -> Self::C {
        Custom::new("append", |into, other| into.push_str(other))
    }

    fn part(rng: &mut Rng, len: usize) -> String {
        text(rng, len)
    }

    fn fold(into: &mut String, other: &String) {
        *into = format!("{into}{other}");
    }

    fn touch(id: u64, unit: &mut String) {
        unit.push_str(&id.to_string());
    }
}

type Pairs = Vec<(u32, String)>;

/// Lists, of which the second is put into the first as one item: not associative.
pub(crate) struct Lists;

fn nest(into: &mut Pairs, other: &Pairs) {
    into.push((other.len() as u32, other.iter().map(|(n, s)| format!("{n}{s}")).collect()));
}

impl Kind for Lists {
    type D = Serde<Pairs>;
    type C = Custom<fn(&mut Pairs, &Pairs)>;
    const WIDTH: usize = 8;

    fn combiner() -> Self::C {
        Custom::new("nest", nest as fn(&mut Pairs, &Pairs)).in_sequence()
    }

    fn part(rng: &mut Rng, len: usize) -> Pairs {
        (0..len).map(|at| (rng.next() as u32, text(rng, at % 12))).collect()
    }

    fn fold(into: &mut Pairs, other: &Pairs) {
        let mut inner = String::new();
        for (n, s) in other {
            inner = inner + &n.to_string() + s;
        }
        into.push((other.len() as u32, inner));
    }

    fn touch(id: u64, unit: &mut Pairs) {
        unit.insert(0, (id as u32, String::new()));
    }
}
