//! [`Key`]: what records are told apart, grouped and sorted by.

use crate::record::Record;
use std::any::Any;
use std::cmp::Ordering;
use std::hash::Hasher;

/// What records are grouped and sorted by: numbers, `bool`, `char`, strings, and options, arrays, vectors and tuples of keys; a type of
/// a program's own that has `Hash` and `Ord` with one line, [`key!`](crate::key!).
///
/// Equality and order are one: two keys are the same if [`Key::order`] says so, and then their hashes are the same. Both are the same
/// on all ranks and in all runs.
///
/// Of floating-point numbers `-0.0` and `0.0` are the same key; all NaN are one key, which comes after infinity. `None` comes before
/// all others.
///
/// ```
/// use aeolian_ops::Key;
/// assert!((-0.0f64).order(&0.0).is_eq() && f64::NAN.order(&-f64::NAN).is_eq());
/// assert!(f64::INFINITY.order(&f64::NAN).is_lt());
/// assert_eq!(f64::NAN.hash(7), (-f64::NAN).hash(7));
///
/// #[derive(serde::Serialize, serde::Deserialize, PartialEq, Eq, PartialOrd, Ord, Hash)]
/// enum Country { Ch, Is, Other(String) }
/// aeolian_ops::serde_record!(Country);
/// aeolian_ops::key!(Country);
/// ```
pub trait Key: Record {
    /// A hash whose bits are all good; another `seed`, another hash.
    fn hash(&self, seed: u64) -> u64;

    /// Its place among others: a total order.
    fn order(&self, other: &Self) -> Ordering;

    /// Whether both are the same key: what [`Key::order`] says, sooner.
    #[inline]
    fn same(&self, other: &Self) -> bool {
        self.order(other).is_eq()
    }

    /// Some first bits of its place: if the prefixes of two keys differ, they tell their order. (All 0 is one, but helps nobody.)
    fn prefix(&self) -> u64 {
        0
    }

    /// Whether [`Key::prefix`] tells all: keys with the same prefix are the same.
    const PREFIX_IS_ALL: bool = false;

    /// The key with this prefix, of types of which each has another one: they are sorted without looking at them again. (Others, `None`.)
    fn from_prefix(prefix: u64) -> Option<Self> {
        let _ = prefix;
        None
    }
}

/// Makes keys of records that have `Hash` and `Ord`.
#[macro_export]
macro_rules! key {
    ($($t:ty),+ $(,)?) => {$(
        impl $crate::Key for $t {
            fn hash(&self, seed: u64) -> u64 {
                $crate::key::std_hash(self, seed)
            }

            fn order(&self, other: &Self) -> std::cmp::Ordering {
                Ord::cmp(self, other)
            }
        }
    )+};
}

#[doc(hidden)]
pub fn std_hash<T: std::hash::Hash>(value: &T, seed: u64) -> u64 {
    let mut hasher = hasher(seed);
    value.hash(&mut hasher);
    hasher.finish()
}

/// The hash of bytes.
#[inline]
pub fn hash_bytes(bytes: &[u8], seed: u64) -> u64 {
    let mut hasher = hasher(seed);
    hasher.write(bytes);
    // foldhash leaves it to others to mix the length in.
    mix(hasher.finish() ^ bytes.len() as u64, seed)
}

fn hasher(seed: u64) -> foldhash::quality::FoldHasher<'static> {
    use std::hash::BuildHasher;
    foldhash::quality::FixedState::with_seed(seed).build_hasher()
}

/// The two halves of a product of 128 bits, folded: as good as it is short (wyhash, foldhash).
#[inline]
fn mix(x: u64, seed: u64) -> u64 {
    let fold = |a: u64, b: u64| {
        let product = u128::from(a) * u128::from(b);
        product as u64 ^ (product >> 64) as u64
    };
    fold(fold(x ^ 0x9e37_79b9_7f4a_7c15, seed ^ 0xa076_1d64_78bd_642f) ^ seed, 0xe703_7ed1_a0b4_28db)
}

macro_rules! numbers {
    ($($t:ty as $unsigned:ty, $flip:expr, $back:expr;)+) => {$(
        impl Key for $t {
            const PREFIX_IS_ALL: bool = true;

            #[inline]
            fn hash(&self, seed: u64) -> u64 {
                mix(*self as u64, seed)
            }

            #[inline]
            fn order(&self, other: &Self) -> Ordering {
                self.cmp(other)
            }

            #[inline]
            fn prefix(&self) -> u64 {
                u64::from((*self as $unsigned) ^ $flip)
            }

            #[inline]
            fn from_prefix(prefix: u64) -> Option<$t> {
                let back: fn($unsigned) -> Option<$t> = $back;
                back(<$unsigned>::try_from(prefix).ok()? ^ $flip)
            }
        }
    )+};
}

numbers! {
    u8 as u8, 0, Some;
    u16 as u16, 0, Some;
    u32 as u32, 0, Some;
    u64 as u64, 0, Some;
    i8 as u8, 1 << 7, |n| Some(n as i8);
    i16 as u16, 1 << 15, |n| Some(n as i16);
    i32 as u32, 1 << 31, |n| Some(n as i32);
    i64 as u64, 1 << 63, |n| Some(n as i64);
    bool as u8, 0, |n| (n < 2).then_some(n == 1);
    char as u32, 0, char::from_u32;
}

macro_rules! as_another {
    ($($t:ty as $other:ty;)+) => {$(
        impl Key for $t {
            const PREFIX_IS_ALL: bool = <$other>::PREFIX_IS_ALL;

            #[inline]
            fn hash(&self, seed: u64) -> u64 {
                (*self as $other).hash(seed)
            }

            #[inline]
            fn order(&self, other: &Self) -> Ordering {
                self.cmp(other)
            }

            #[inline]
            fn prefix(&self) -> u64 {
                (*self as $other).prefix()
            }

            #[inline]
            fn from_prefix(prefix: u64) -> Option<$t> {
                <$t>::try_from(<$other>::from_prefix(prefix)?).ok()
            }
        }
    )+};
}

as_another! {
    usize as u64;
    isize as i64;
}

impl Key for u128 {
    fn hash(&self, seed: u64) -> u64 {
        mix(*self as u64, mix((*self >> 64) as u64, seed))
    }

    fn order(&self, other: &u128) -> Ordering {
        self.cmp(other)
    }

    fn prefix(&self) -> u64 {
        (*self >> 64) as u64
    }
}

impl Key for i128 {
    fn hash(&self, seed: u64) -> u64 {
        (*self as u128).hash(seed)
    }

    fn order(&self, other: &i128) -> Ordering {
        self.cmp(other)
    }

    fn prefix(&self) -> u64 {
        (*self >> 64) as u64 ^ 1 << 63
    }
}

impl Key for () {
    const PREFIX_IS_ALL: bool = true;

    fn hash(&self, seed: u64) -> u64 {
        mix(0, seed)
    }

    fn order(&self, (): &()) -> Ordering {
        Ordering::Equal
    }
}

impl Key for f64 {
    const PREFIX_IS_ALL: bool = true;

    #[inline]
    fn hash(&self, seed: u64) -> u64 {
        mix(self.prefix(), seed)
    }

    #[inline]
    fn order(&self, other: &f64) -> Ordering {
        self.prefix().cmp(&other.prefix())
    }

    /// The bits, with those of negative numbers turned round.
    #[inline]
    fn prefix(&self) -> u64 {
        if self.is_nan() {
            return u64::MAX;
        }
        // (-0.0 + 0.0 is 0.0.)
        let bits = (*self + 0.0).to_bits();
        bits ^ ((bits as i64 >> 63) as u64 | 1 << 63)
    }
}

impl Key for f32 {
    const PREFIX_IS_ALL: bool = true;

    #[inline]
    fn hash(&self, seed: u64) -> u64 {
        f64::from(*self).hash(seed)
    }

    #[inline]
    fn order(&self, other: &f32) -> Ordering {
        f64::from(*self).order(&f64::from(*other))
    }

    #[inline]
    fn prefix(&self) -> u64 {
        f64::from(*self).prefix()
    }
}

impl Key for String {
    #[inline]
    fn hash(&self, seed: u64) -> u64 {
        hash_bytes(self.as_bytes(), seed)
    }

    #[inline]
    fn order(&self, other: &String) -> Ordering {
        self.cmp(other)
    }

    #[inline]
    fn same(&self, other: &String) -> bool {
        self == other
    }

    #[inline]
    fn prefix(&self) -> u64 {
        prefix_of_bytes(self.as_bytes())
    }
}

impl<K: Key> Key for Box<K> {
    const PREFIX_IS_ALL: bool = K::PREFIX_IS_ALL;

    fn hash(&self, seed: u64) -> u64 {
        K::hash(self, seed)
    }

    fn order(&self, other: &Box<K>) -> Ordering {
        K::order(self, other)
    }

    fn prefix(&self) -> u64 {
        K::prefix(self)
    }
}

impl<K: Key> Key for Option<K> {
    fn hash(&self, seed: u64) -> u64 {
        match self {
            Some(key) => key.hash(mix(1, seed)),
            None => mix(0, seed),
        }
    }

    fn order(&self, other: &Option<K>) -> Ordering {
        match (self, other) {
            (Some(a), Some(b)) => a.order(b),
            _ => self.is_some().cmp(&other.is_some()),
        }
    }

    fn prefix(&self) -> u64 {
        self.as_ref().map_or(0, |key| 1 << 63 | key.prefix() >> 1)
    }
}

/// Hash of a sequence: of each with that of those before it.
fn hash_all<K: Key>(keys: &[K], seed: u64) -> u64 {
    keys.iter().fold(mix(keys.len() as u64, seed), |seed, key| key.hash(seed))
}

/// Lexicographic.
fn order_all<K: Key>(a: &[K], b: &[K]) -> Ordering {
    let first = a.iter().zip(b).map(|(a, b)| a.order(b)).find(|order| order.is_ne());
    first.unwrap_or_else(|| a.len().cmp(&b.len()))
}

/// Of an empty one 0, of others the first bits of the first after a 1.
fn prefix_all<K: Key>(keys: &[K]) -> u64 {
    keys.first().map_or(0, |key| 1 << 63 | key.prefix() >> 1)
}

/// Of bytes the first eight.
#[inline]
fn prefix_of_bytes(bytes: &[u8]) -> u64 {
    match bytes.first_chunk() {
        Some(first) => u64::from_be_bytes(*first),
        None => bytes.iter().zip(1..).fold(0, |all, (byte, at)| all | u64::from(*byte) << (64 - 8 * at)),
    }
}

/// These as bytes, if they are some: then all are hashed and compared at once. (The compiler knows which types are.)
fn as_bytes<A: Any, B: AsRef<[u8]> + Any>(all: &A) -> Option<&[u8]> {
    (all as &dyn Any).downcast_ref::<B>().map(B::as_ref)
}

impl<K: Key> Key for Vec<K> {
    fn hash(&self, seed: u64) -> u64 {
        match as_bytes::<Vec<K>, Vec<u8>>(self) {
            Some(bytes) => hash_bytes(bytes, seed),
            None => hash_all(self, seed),
        }
    }

    fn order(&self, other: &Vec<K>) -> Ordering {
        match (as_bytes::<Vec<K>, Vec<u8>>(self), as_bytes::<Vec<K>, Vec<u8>>(other)) {
            (Some(a), Some(b)) => a.cmp(b),
            _ => order_all(self, other),
        }
    }

    fn same(&self, other: &Vec<K>) -> bool {
        self.len() == other.len() && self.iter().zip(other).all(|(a, b)| a.same(b))
    }

    fn prefix(&self) -> u64 {
        as_bytes::<Vec<K>, Vec<u8>>(self).map_or_else(|| prefix_all(self), prefix_of_bytes)
    }
}

impl<K: Key, const N: usize> Key for [K; N] {
    #[inline]
    fn hash(&self, seed: u64) -> u64 {
        match as_bytes::<[K; N], [u8; N]>(self) {
            Some(bytes) => hash_bytes(bytes, seed),
            None => hash_all(self, seed),
        }
    }

    #[inline]
    fn order(&self, other: &[K; N]) -> Ordering {
        match (as_bytes::<[K; N], [u8; N]>(self), as_bytes::<[K; N], [u8; N]>(other)) {
            (Some(a), Some(b)) => a.cmp(b),
            _ => order_all(self, other),
        }
    }

    fn prefix(&self) -> u64 {
        as_bytes::<[K; N], [u8; N]>(self).map_or_else(|| prefix_all(self), prefix_of_bytes)
    }
}

macro_rules! tuples {
    ($(($first:ident 0 $(, $t:ident $at:tt)*))+) => {$(
        impl<$first: Key, $($t: Key),*> Key for ($first, $($t,)*) {
            #[inline]
            fn hash(&self, seed: u64) -> u64 {
                let seed = self.0.hash(seed);
                $(let seed = self.$at.hash(seed);)*
                seed
            }

            #[inline]
            fn order(&self, other: &Self) -> Ordering {
                self.0.order(&other.0)$(.then_with(|| self.$at.order(&other.$at)))*
            }

            #[inline]
            fn prefix(&self) -> u64 {
                self.0.prefix()
            }
        }
    )+};
}

tuples! { (A 0) (A 0, B 1) (A 0, B 1, C 2) (A 0, B 1, C 2, D 3) }

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// That hash, order and prefix agree with one another, and with what the order should be.
    fn agree<K: Key + std::fmt::Debug>(a: &K, b: &K, want: Ordering) {
        assert_eq!((a.order(b), b.order(a)), (want, want.reverse()), "{a:?} {b:?}");
        assert!(a.order(a).is_eq() && a.same(a));
        assert_eq!((a.same(b), b.same(a)), (want.is_eq(), want.is_eq()), "{a:?} {b:?}");
        match a.prefix().cmp(&b.prefix()) {
            Ordering::Equal => assert!(!K::PREFIX_IS_ALL || want.is_eq(), "{a:?} {b:?}"),
            told => assert_eq!(told, want, "{a:?} {b:?}"),
        }
        assert!(K::from_prefix(a.prefix()).is_none_or(|key| key.same(a) && K::PREFIX_IS_ALL), "{a:?}");
        assert!(want.is_ne() || [0, 1, u64::MAX].iter().all(|s| a.hash(*s) == b.hash(*s)), "{a:?} {b:?}");
    }

    proptest! {
        #[test]
        fn hash_order_and_prefix_agree(
            (a, b) in any::<(u64, u64)>(),
            (s, t) in ("[ab\u{0}\u{e4}]{0,10}", "[ab\u{0}\u{e4}]{0,10}"),
            (v, w) in (prop::collection::vec(0u8..3, 0..5), prop::collection::vec(0u8..3, 0..5)),
        ) {
            agree(&a, &b, a.cmp(&b));
            agree(&(a as i64), &(b as i64), (a as i64).cmp(&(b as i64)));
            agree(&(a as i8), &(b as i8), (a as i8).cmp(&(b as i8)));
            agree(&(a as i16), &(b as i16), (a as i16).cmp(&(b as i16)));
            let wide = |x: u64| i128::from(x as i64) << 60 ^ i128::from(x);
            agree(&wide(a), &wide(b), wide(a).cmp(&wide(b)));
            let (x, y) = (f64::from_bits(a), f64::from_bits(b));
            if let Some(want) = x.partial_cmp(&y) {
                agree(&x, &y, want);
            }
            agree(&s, &t, s.cmp(&t));
            agree(&v, &w, v.cmp(&w));
            agree(&Some(s.clone()), &Some(t.clone()), s.cmp(&t));
            agree(&(v.clone(), a % 2), &(w.clone(), b % 2), (&v, a % 2).cmp(&(&w, b % 2)));
            agree(&[v.len(), 1], &[w.len(), 1], v.len().cmp(&w.len()));
            agree(&a.to_be_bytes(), &b.to_be_bytes(), a.cmp(&b));
            let ten = |x: u64| -> [u8; 10] { std::array::from_fn(|i| (x >> (i * 5) & 1) as u8) };
            agree(&ten(a), &ten(b), ten(a).cmp(&ten(b)));
            let texts = (vec![s.clone(), t.clone()], vec![t.clone()]);
            agree(&texts.0, &texts.1, texts.0.cmp(&texts.1));
        }
    }

    #[test]
    fn the_odd_ones() {
        let floats =
            [f64::NEG_INFINITY, f64::MIN, -1.0, -f64::MIN_POSITIVE, -0.0, 0.0, 5e-324, 1.5, f64::INFINITY];
        for (i, a) in floats.iter().enumerate() {
            for (j, b) in floats.iter().enumerate() {
                let want = if a == b { Ordering::Equal } else { i.cmp(&j) };
                agree(a, b, want);
                agree(&(*a as f32), &(*b as f32), (*a as f32).partial_cmp(&(*b as f32)).unwrap());
            }
            agree(a, &f64::NAN, Ordering::Less);
            agree(&Some(*a), &None, Ordering::Greater);
        }
        agree(&f64::NAN, &-f64::from_bits(0x7ff0_0000_0000_0001), Ordering::Equal);
        agree(&f32::NAN, &-f32::NAN, Ordering::Equal);
        agree(&i64::MIN, &i64::MAX, Ordering::Less);
        agree(&i32::MIN, &0, Ordering::Less);
        agree(&String::new(), &"\u{0}".into(), Ordering::Less);
        agree(&Vec::<u8>::new(), &vec![0], Ordering::Less);
        agree(&(), &(), Ordering::Equal);
        agree(&'a', &'\u{10ffff}', Ordering::Less);
    }

    /// Hashes of a simple sequence fill 64 places evenly, by their upper and by their lower bits.
    #[test]
    fn hashes_spread() {
        for (name, hash) in [
            ("u64", (|i| Key::hash(&i, 0)) as fn(u64) -> u64),
            ("multiples", |i| Key::hash(&(i << 32), 0)),
            ("f64", |i| Key::hash(&(i as f64), 3)),
            ("String", |i| Key::hash(&format!("key {i}"), 0)),
            ("tuple", |i| Key::hash(&(i / 100, i % 100), 0)),
        ] {
            for shift in [0, 29, 58] {
                let mut places = [0; 64];
                (0..64_000).for_each(|i| places[(hash(i) >> shift) as usize % 64] += 1);
                let (low, high) = (places.iter().min(), places.iter().max());
                assert!(
                    low > Some(&800) && high < Some(&1200),
                    "{name} by bits from {shift}: {low:?} to {high:?}"
                );
            }
        }
    }
}
