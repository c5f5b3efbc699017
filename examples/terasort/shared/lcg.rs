//! The random numbers of gensort: a linear congruential generator of 128 bits that can skip ahead.

/// L'Ecuyer, "Tables of linear congruential generators of different sizes and good lattice structure", Mathematics of Computation 68 (1999).
const A: u128 = 0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645;
const C: u128 = 0x4a69_6d47_7261_7952_4950_2020_2020_2001;

/// A number and what follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lcg(pub u128);

impl Lcg {
    /// The next number.
    #[inline]
    pub fn step(self) -> Lcg {
        Lcg(self.0.wrapping_mul(A).wrapping_add(C))
    }

    /// The number that is `steps` further.
    #[must_use]
    pub fn skip(self, mut steps: u128) -> Lcg {
        // Of 2^k steps: x becomes a x + c.
        let (mut a, mut c) = (A, C);
        let mut x = self.0;
        while steps > 0 {
            if steps & 1 == 1 {
                x = x.wrapping_mul(a).wrapping_add(c);
            }
            c = c.wrapping_mul(a.wrapping_add(1));
            a = a.wrapping_mul(a);
            steps >>= 1;
        }
        Lcg(x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// From 0, after 2^k steps: constants that the original (`rand16.c`) has in a table.
    #[test]
    fn powers_of_two_are_those_of_the_original() {
        for (k, want) in [
            (0, 0x4a69_6d47_7261_7952_4950_2020_2020_2001),
            (1, 0x95e0_e482_62b3_edfe_0447_9485_c755_b646),
            (5, 0x89ca_67c2_9c93_97d5_9c61_2596_145d_b7e0),
            (20, 0x1b25_cb9c_fe5a_0c96_3174_f91a_97f0_0000),
            (64, 0xf0b1_944b_fd71_a97f_0000_0000_0000_0000),
        ] {
            assert_eq!(Lcg(0).skip(1 << k), Lcg(want), "2^{k}");
        }
    }

    proptest! {
        #[test]
        fn a_skip_is_so_many_steps(from: u128, steps in 0u128..300, far: u128) {
            let walked = (0..steps).fold(Lcg(from), |x, _| x.step());
            prop_assert_eq!(Lcg(from).skip(steps), walked);
            prop_assert_eq!(Lcg(from).skip(far).skip(steps), Lcg(from).skip(far.wrapping_add(steps)));
        }
    }
}
