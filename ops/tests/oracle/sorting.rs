//! All records in one order.

use crate::keyed::{Skew, all_pairs, by_target, number, skews, value};
use crate::trial::{Trial, trials};
use aeolian_ops::{Ascending, ByKey, Descending, Key, Sort, SortBy};
use proptest::prelude::*;
use std::cmp::Ordering;
use std::fmt::Debug;

type Pair<K> = (K, (u32, u32, String));

fn sorted<K, S>(trial: &Trial, by: S, make: impl Fn(u64) -> K + Sync, skew: Skew)
where
    K: Key + Clone + Send + Debug,
    S: SortBy<Pair<K>, Key = K> + Copy + Sync,
{
    let record = |s, r, p| (make(number(skew, s, r, p)), value(s, p));
    let rounds = trial.run(|flow, plan, moody| Sort::new(flow, plan, by, moody), record);
    let order = |a: &K, b: &K| if S::DESCENDING { b.order(a) } else { a.order(b) };
    let rank = |pair: &Pair<K>| trial.sources[pair.1.0 as usize];
    for (round, by_rank) in (0..).zip(&rounds) {
        let got = by_target(trial, by_rank).concat();
        for two in got.windows(2) {
            let (a, b) = (&two[0], &two[1]);
            match order(&a.0, &b.0) {
                Ordering::Less => {}
                Ordering::Equal => {
                    assert!(rank(a) <= rank(b), "{trial:?}: {a:?} before {b:?}");
                    assert!(a.1.0 != b.1.0 || a.1.1 < b.1.1, "{trial:?}: {a:?} before {b:?}");
                }
                Ordering::Greater => panic!("{trial:?}: {a:?} before {b:?}"),
            }
        }
        // Which sources' records come first on one rank is open: what is there is compared without that.
        let all = |mut pairs: Vec<Pair<K>>| {
            pairs.sort_by(|a, b| a.0.order(&b.0).then_with(|| a.1.cmp(&b.1)));
            pairs
        };
        let want = all_pairs(trial, round, |s, r, p| (make(number(skew, s, r, p)), p as u64));
        let want = want.into_iter().map(|(s, (key, place))| (key, value(s, place as usize))).collect();
        let (got, want): (Vec<Pair<K>>, Vec<Pair<K>>) = (all(got), all(want));
        assert_eq!(got.len(), want.len(), "{trial:?}");
        for (got, want) in got.iter().zip(&want) {
            assert!(got.0.same(&want.0) && got.1 == want.1, "{trial:?}: {got:?}, not {want:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn pairs_by_number(trial in trials(), skew in skews()) {
        sorted(&trial, ByKey, |n| n, skew);
        sorted(&trial, Descending(ByKey), |n| n as i32 - 5, skew);
    }

    #[test]
    fn pairs_by_text(trial in trials(), skew in skews()) {
        sorted(&trial, ByKey, |n| "x".repeat((n % 19) as usize) + &n.to_string(), skew);
        sorted(&trial, Descending(ByKey), |n| n.to_string(), skew);
    }

    #[test]
    fn pairs_by_odd_keys(trial in trials(), skew in skews()) {
        let odd = [0.0, -0.0, f64::NAN, -f64::NAN, f64::INFINITY, f64::MIN];
        sorted(&trial, ByKey, |n| odd.get(n as usize).copied().unwrap_or(n as f64), skew);
        sorted(&trial, ByKey, |_| (), skew);
        sorted(&trial, Descending(ByKey), |n| (Some([n as u8]), Vec::<u16>::new()), skew);
    }

    #[test]
    fn whole_records(trial in trials(), skew in skews()) {
        let record = |s, r, p| number(skew, s, r, p);
        let ascending = trial.run(|flow, plan, moody| Sort::new(flow, plan, Ascending, moody), record);
        let descending =
            trial.run(|flow, plan, moody| Sort::new(flow, plan, Descending(Ascending), moody), record);
        for (round, (ascending, descending)) in (0..).zip(ascending.iter().zip(&descending)) {
            let all = all_pairs(&trial, round, |s, r, p| (record(s, r, p), 0)).into_iter();
            let mut want: Vec<u64> = all.map(|(_, (n, _))| n).collect();
            want.sort_unstable();
            prop_assert_eq!(&by_target(&trial, ascending).concat(), &want);
            want.reverse();
            prop_assert_eq!(&by_target(&trial, descending).concat(), &want);
        }
        let units = trial.run(|flow, plan, moody| Sort::new(flow, plan, Ascending, moody), |_, _, _| ());
        for (round, by_rank) in (0..).zip(&units) {
            let want = all_pairs(&trial, round, |_, _, _| ((), 0)).len();
            prop_assert_eq!(by_target(&trial, by_rank).concat().len(), want);
        }
    }
}
